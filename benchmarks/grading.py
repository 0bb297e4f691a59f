"""The grader against what was promised of it, beside math-verify as it ships.

    python -m benchmarks grading --output results.json --accepted pairs.txt

Speed is that of one process and one core on texts that it has not seen: rounds have rows of their own, so that no cache helps
that would not help in use. Agreement is with the labels of tests/grading/cases, three-way for ours; math-verify knows no
"ungradable", so there everything but "correct" counts as agreement with it. Random pairs of golds that were accepted go to
a file, to be read: no program can say whether they are right.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks import answers, rival_grader
from benchmarks.findings import Findings, Table
from benchmarks.hostile import HOSTILE
from benchmarks.report import ROOT, Target
from benchmarks.settings import Settings
from latentthought.grading import GradePolicy, grade
from latentthought.grading.workers.pool import GradingPool

CASES = ROOT / "tests" / "grading" / "cases"
DEADLINE = 5.5
STRANGERS = 10_000


def run(settings: Settings) -> Findings:
    rows = answers.load(150 if settings.quick else None, settings.seed)
    rounds = settings.rounds_or(5)
    data: dict[str, Any] = {"source": rows.source}
    skipped = {} if rival_grader.installed() else {"math-verify": "not installed (the extra eval)"}
    tables, targets = [], []
    for part in (
        lambda: speed(rows, rounds, settings),
        lambda: agreement(settings),
        lambda: themselves(rows, settings),
        lambda: unrelated(rows, settings),
        lambda: hostile(settings),
        lambda: imports(settings.rounds_or(7)),
    ):
        table, wanted, found = part()
        tables.append(table)
        targets += wanted
        data |= found
    title = f"{rows.source}: {len(rows.gsm8k):,} answers of GSM8K, {len(rows.math):,} of MATH"
    return Findings("grading", title, tables, targets, data, skipped)


Part = tuple[Table, list[Target], dict[str, Any]]


# ----------------------------------------------------------------------------------------------------------- speed
def speed(rows: answers.Answers, rounds: int, settings: Settings) -> Part:
    """Verdicts a second, in this process and through a pool of one worker."""
    table, targets, found = [], [], {}
    for name, own, wanted in (("GSM8K", rows.gsm8k, 5000), ("MATH", rows.math, 300)):
        pairs = answers.pairs(own, settings.seed)
        with GradingPool(workers=1, cache=0) as pool:
            pool.grade("1", "1")  # starts the worker
            here = rates(pairs, rounds, lambda part: [grade(*pair) for pair in part])
            there = rates(pairs, rounds, pool.grade_many)
        settings.progress(f"{name}: {statistics.median(here):,.0f} verdicts/s")
        table += [row_of(f"{name}, grade", here), row_of(f"{name}, GradingPool of one worker", there)]
        targets.append(Target.at_least("grade", f"verdicts/s on {name}", statistics.median(here), wanted))
        found[f"rates_{name}"] = {"grade": here, "pool": there}
    return Table("Speed", ("answers", "verdicts/s", "slowest round"), table), targets, found


def rates(pairs: list[tuple[str, str]], rounds: int, judge: Callable[[list], Any]) -> list[float]:
    """Pairs a second for each of `rounds` equal shares of the pairs."""
    found = []
    for number in range(rounds):
        part = pairs[number::rounds]
        begun = time.perf_counter()
        judge(part)
        found.append(len(part) / (time.perf_counter() - begun))
    return found


def row_of(name: str, values: list[float]) -> list[str]:
    return [name, f"{statistics.median(values):,.0f}", f"{min(values):,.0f}"]


# ------------------------------------------------------------------------------------------------------- agreement
@dataclass
class Tally:
    """How one grader did on labelled cases. negatives: cases that are not to be accepted."""

    cases: int = 0
    agreed: int = 0
    negatives: int = 0
    false_accepts: int = 0
    misses: int = 0
    others: int = 0  # wrong for ungradable, or the reverse
    failures: int = 0  # no verdict: an exception, or no end
    examples: list[str] = field(default_factory=list)

    def add(self, case: dict[str, Any], status: str, three_way: bool) -> None:
        label = case["label"]
        self.cases += 1
        self.negatives += label != "correct"
        self.failures += status in ("error", "hangs")
        if status == label or (not three_way and "correct" not in (status, label)):
            self.agreed += 1
            return
        self.false_accepts += status == "correct"
        self.misses += label == "correct"
        self.others += "correct" not in (status, label)
        self.examples.append(f"{case['prediction']!r} for {case['gold']!r}: {status}, not {label}")

    @property
    def cells(self) -> list[str]:
        return [
            f"{self.agreed / self.cases:.1%}",
            str(self.false_accepts),
            str(self.misses),
            str(self.failures),
        ]


def agreement(settings: Settings) -> Part:
    """Labelled cases, all of them, by file, and by kind where something differs (every kind is in the JSON); the rival sees the
    same pairs, without policies, which it has none of."""
    ours: defaultdict[str, Tally] = defaultdict(Tally)
    theirs: defaultdict[str, Tally] = defaultdict(Tally)
    cases = labelled_cases()[:: 20 if settings.quick else 1]
    rival = rival_grader.Rival() if rival_grader.installed() else None
    for number, case in enumerate(cases):
        policy = GradePolicy.parse(case.get("policy") or {})
        kinds = ("all", f"{case['file']}: all", f"{case['file']}: {case['kind']}")
        status = grade(case["prediction"], case["gold"], policy).status
        for kind in kinds:
            ours[kind].add(case, status, three_way=True)
        if rival:
            status, _ = rival.judge(case["prediction"], case["gold"])
            for kind in kinds:
                theirs[kind].add(case, status, three_way=False)
        if number % 200 == 0:
            settings.progress(f"labelled cases: {number} of {len(cases)}")
    if rival:
        rival.close()
    rows = [
        [kind, str(tally.cases), *tally.cells[:3], *(theirs[kind].cells if rival else [""] * 4)]
        for kind, tally in sorted(ours.items(), key=lambda item: (": " in item[0], item[0]))
        if kind.endswith("all") or tally.agreed < tally.cases
    ]
    columns = ("labelled cases", "number", "agreement", "false accepts", "misses")
    beside = tuple(f"math-verify: {name}" for name in ("agreement", "false accepts", "misses", "no verdict"))
    total = ours["all"]
    targets = [
        Target.at_least("grade", "agreement on labelled cases", total.agreed / max(total.cases, 1), 0.97),
        Target.at_most(
            "grade", "false accepts of negatives", total.false_accepts / max(total.negatives, 1), 0.01
        ),
    ]
    found = {
        "grade": {k: asdict(v) for k, v in ours.items()},
        "math-verify": {k: asdict(v) for k, v in theirs.items()},
    }
    return Table("Agreement with labels", columns + beside, rows), targets, {"agreement": found}


def labelled_cases() -> list[dict[str, Any]]:
    """All lines of tests/grading/cases, each with the name of its file."""
    return [
        {**json.loads(line), "file": path.stem}
        for path in sorted(CASES.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]


# ----------------------------------------------------------------------------------------------------- real answers
def themselves(rows: answers.Answers, settings: Settings) -> Part:
    """Every gold against itself and against itself in other clothes."""
    table, failed = [], []
    for name, own in (("GSM8K", rows.gsm8k), ("MATH", rows.math)):
        golds = list(dict.fromkeys(answer.gold for answer in own))
        tried = [(gold, gold) for gold in golds] + [
            (form, gold) for gold in golds for form in answers.dressed(gold)
        ]
        bad = [pair for pair in tried if not grade(*pair).correct]
        table.append([name, f"{len(own):,}", f"{len(golds):,}", f"{len(tried):,}", str(len(bad))])
        failed += bad
        settings.progress(f"{name} golds against themselves: {len(bad)} of {len(tried)} fail")
    columns = ("golds against themselves, re-formatted", "golds", "different ones", "pairs", "not correct")
    target = Target.at_most("grade", "golds that do not equal themselves", len(failed), 0)
    return Table("The same answer", columns, table), [target], {"not_themselves": failed}


def unrelated(rows: answers.Answers, settings: Settings) -> Part:
    """Random pairs of MATH golds within a subject that are accepted, each to be read."""
    pairs = answers.strangers(rows.math, 300 if settings.quick else STRANGERS, settings.seed)
    accepted = [(a, b, verdict.reason) for a, b in pairs if (verdict := grade(a, b)).correct]
    if settings.accepted:
        lines = ["\t".join(part.replace("\n", " ") for part in one) for one in accepted]
        settings.accepted.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    reasons = Counter(reason for *_, reason in accepted)
    settings.progress(f"random pairs: {len(accepted)} of {len(pairs)} accepted")
    table = [
        ["all", f"{len(pairs):,}", str(len(accepted))],
        *[[why, "", str(n)] for why, n in reasons.most_common()],
    ]
    columns = ("random pairs of MATH answers within a subject", "pairs", "accepted")
    return Table("Different texts", columns, table), [], {"accepted": accepted}


# ------------------------------------------------------------------------------------------------- time and hostility
def hostile(settings: Settings) -> Part:
    """The slowest verdict on hostile inputs, as prediction and as gold."""
    names = list(HOSTILE)[:: 8 if settings.quick else 1]
    times: dict[str, dict[str, float]] = {"grade": {}, "GradingPool": {}}
    verdicts = 0
    with GradingPool(workers=1, cache=0) as pool:
        pool.grade("1", "1")
        for name in names:
            for graders, judge in (("grade", grade), ("GradingPool", pool.grade)):
                taken = []
                for pair in (
                    (HOSTILE[name], "5"),
                    ("5", HOSTILE[name]),
                    (HOSTILE[name] + "+1", HOSTILE[name]),
                ):
                    begun = time.perf_counter()
                    verdicts += judge(*pair).status in ("correct", "wrong", "ungradable")
                    taken.append(time.perf_counter() - begun)
                times[graders][name] = max(taken)
    table = []
    if rival_grader.installed():
        times["math-verify"] = rival_times(names, settings)
    for graders, slow in times.items():
        worst = max(slow, key=slow.__getitem__)
        late = sum(seconds > DEADLINE for seconds in slow.values())
        table.append([graders, str(len(slow)), f"{slow[worst]:.2f} s", worst, str(late)])
    targets = [
        Target.at_most(name, "seconds for a hostile input", max(times[name].values()), DEADLINE)
        for name in ("grade", "GradingPool")
    ]
    columns = ("hostile inputs", "inputs", "slowest", "which", f"over {DEADLINE} s")
    return Table("Hostile inputs", columns, table), targets, {"hostile": times, "hostile_verdicts": verdicts}


def rival_times(names: Iterable[str], settings: Settings) -> dict[str, float]:
    rival, found = rival_grader.Rival(), {}
    for name in names:
        found[name] = rival.judge(HOSTILE[name], "5")[1]
        settings.progress(f"math-verify on {name}: {found[name]:.1f} s")
    rival.close()
    return found


def imports(rounds: int) -> Part:
    """Seconds that `from latentthought import grade` takes in a fresh process, without the start of Python."""
    code = "import time; t = time.perf_counter(); from latentthought import grade; print(time.perf_counter() - t)"
    taken = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(rounds + 1)
    ][1:]  # the first writes byte code
    median = statistics.median(taken)
    table = [["from latentthought import grade", f"{median * 1000:.0f} ms", f"{max(taken) * 1000:.0f} ms"]]
    target = Target.at_most("grade", "seconds to import", median, 0.3)
    return (
        Table("Import", ("in a fresh process", "median", "slowest"), table),
        [target],
        {"import_seconds": taken},
    )
