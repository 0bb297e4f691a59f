"""Two runs on the same questions: the paired difference, not two intervals held side by side.

Accuracy is compared over all samples that either run has. With several samples a question on both sides, pass@k and maj@k are
compared too, each at the same k (the expectation over subsets makes runs of different sizes comparable). Answers vote together
under the policy that the results name; option texts of single rows are not in a results folder, so an option's letter and its
text count as two wrong answers there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from latentthought.config import Config
from latentthought.errors import ConfigError, DataError, MissingFileError
from latentthought.evaluation.measures import correctness, measure
from latentthought.evaluation.results import Costs, Results, find_results, keyed
from latentthought.evaluation.samples import SAMPLES, Sample, read_samples
from latentthought.evaluation.statistics import PairedDifference, Values, paired_difference
from latentthought.evaluation.tables import p_value, percent, plain_table, signed
from latentthought.grading import GradePolicy

HEADINGS = ("task", "control", "metric", "A", "B", "A - B (95 %)", "only A / only B", "p", "questions")
COST_HEADINGS = ("task", "control", "thoughts A", "B", "tokens A", "B", "ms A", "B")


# what a comparison is about, or shows in columns of its own
_COMPARED = ("task", "version", "control", "model", "weights", "questions", "data")


class Comparison(Config):
    """One task, run A against run B. unmatched: questions that only one of the runs has, left out of every difference.

    metrics: the same for other metrics that both have (pass@k, maj@k, shares of right cells). costs_a, costs_b: beside them.
    settings: what else differed between the runs (samples, temperature, prompt, ...), as (of A, of B).
    """

    task: str
    version: int
    control_a: str
    control_b: str
    difference: PairedDifference
    unmatched: int
    metrics: dict[str, PairedDifference] = {}
    costs_a: Costs
    costs_b: Costs
    settings: dict[str, tuple[Any, Any]] = {}

    @property
    def control(self) -> str:
        """The control of both, or `a / b`."""
        if self.control_a == self.control_b:
            return self.control_a
        return f"{self.control_a} / {self.control_b}"


def compare(run_a: str | Path, run_b: str | Path) -> list[Comparison]:
    """Compare two runs (run folders, or single result folders or files) on the tasks that both have.

    Single results are compared whatever their controls; run folders by task and control. Raises `MissingFileError` for a
    run without results, `DataError` when nothing matches, the versions differ, or the questions do.
    """
    sides = []
    for run in (run_a, run_b):
        if not Path(run).exists():
            raise MissingFileError(f"no such run: {run}")
        if Path(run).is_file() and Path(run).suffix != ".json":
            raise DataError(
                f"{run}: not a results.json; give the run folder or the folder of results it lies in"
            )
        found = find_results(run)
        if not found:
            raise MissingFileError(
                f"{run}: no results.json here or below; run `latentthought evaluate` on it first"
            )
        sides.append(keyed(found))
        if len(sides[-1]) < len(found):
            raise DataError(f"{run}: several runs lie below it; name one of them ({_first_twice(found)})")
    a, b = sides
    if len(a) == len(b) == 1:
        pairs = [(next(iter(a.values())), next(iter(b.values())))]
    else:
        pairs = [(a[key], b[key]) for key in a if key in b]
    if not pairs:
        raise DataError(f"nothing to compare: {run_a} has {_listed(a)}, {run_b} has {_listed(b)}")
    return [_compare(*first, *second) for first, second in pairs]


def _compare(path_a: Path, a: Results, path_b: Path, b: Results) -> Comparison:
    if (a.task, a.version) != (b.task, b.version):
        raise DataError(
            f"cannot compare {a.task} version {a.version} ({path_a}) with {b.task} version {b.version} ({path_b}): "
            "run both on the same task"
        )
    samples_a, samples_b = read_samples(path_a.with_name(SAMPLES)), read_samples(path_b.with_name(SAMPLES))
    gold = {sample.id: sample.gold for sample in samples_a}
    for sample in samples_b:
        if gold.get(sample.id, sample.gold) != sample.gold:
            raise DataError(
                f"question {sample.id!r} has another answer in {path_b} than in {path_a}: they are not the same data"
            )
    right_a, right_b = correctness(samples_a), correctness(samples_b)
    return Comparison(
        task=a.task,
        version=a.version,
        control_a=a.control,
        control_b=b.control,
        difference=paired_difference(right_a, right_b),
        unmatched=len(right_a.keys() ^ right_b.keys()),
        metrics=_metrics(a, samples_a, b, samples_b),
        costs_a=a.costs,
        costs_b=b.costs,
        settings=_differing(a.settings, b.settings),
    )


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What else was not the same in two runs, beside what is compared; inside a block by its own keys (`format.prompt`)."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in a:
        if name in _COMPARED or name not in b or a[name] == b[name]:
            continue
        if isinstance(a[name], Mapping) and isinstance(b[name], Mapping):
            inner = a[name].keys() | b[name].keys()
            pairs = {key: (a[name].get(key), b[name].get(key)) for key in sorted(inner)}
            found |= {f"{name}.{key}": pair for key, pair in pairs.items() if pair[0] != pair[1]}
        else:
            found[name] = (a[name], b[name])
    return found


def _metrics(
    a: Results, samples_a: Sequence[Sample], b: Results, samples_b: Sequence[Sample]
) -> dict[str, PairedDifference]:
    """The paired differences of all metrics but accuracy (and avg@k, which is the same) that both runs have."""
    # a score is in the samples whatever the results call it, and an "@" is made from them
    scores = [{name for sample in samples for name in sample.scores} for samples in (samples_a, samples_b)]
    names = sorted(scores[0] & scores[1])
    values_a = _measured(a, samples_a, names)
    values_b = _measured(b, samples_b, names)
    shared = [
        name
        for name, values in values_a.items()
        if not name.startswith("avg@") and values.keys() & values_b.get(name, {}).keys()
    ]
    return {name: paired_difference(values_a[name], values_b[name]) for name in shared}


def _measured(results: Results, samples: Sequence[Sample], names: Iterable[str]) -> dict[str, Values]:
    try:
        policy = GradePolicy.parse(results.grading.get("policy", {}))
    except ConfigError:  # written by another version, with other settings
        policy = GradePolicy()
    return dict(measure(samples, names, lambda _: policy))


def rows_of(comparisons: Iterable[Comparison]) -> list[tuple[str, ...]]:
    """The comparisons as texts, under `HEADINGS`: a line per task, control and metric."""
    return [
        (
            found.task,
            found.control,
            metric,
            percent(d.a),
            percent(d.b),
            signed(d),
            "" if d.only_a is None else f"{d.only_a} / {d.only_b}",
            p_value(d.p_value),
            str(d.n),
        )
        for found in comparisons
        for metric, d in {"accuracy": found.difference, **found.metrics}.items()
    ]


def costs_of(comparisons: Iterable[Comparison]) -> list[tuple[str, ...]]:
    """What an answer cost in either run, as texts under `COST_HEADINGS`."""
    return [
        (
            found.task,
            found.control,
            *(
                f"{getattr(costs, name):.1f}"
                for name in ("thoughts", "tokens", "milliseconds")
                for costs in (found.costs_a, found.costs_b)
            ),
        )
        for found in comparisons
    ]


def remarks_on(comparisons: Iterable[Comparison]) -> list[str]:
    """What a reader of the tables must know: which test, and the questions that were left out."""
    comparisons = list(comparisons)
    tests = {d.test for found in comparisons for d in (found.difference, *found.metrics.values())}
    named = {"mcnemar": "McNemar's exact test", "sign-flip": "a sign-flip test of the questions' differences"}
    remarks = [f"p is from {' or '.join(named[test] for test in sorted(tests))}, two-sided."] if tests else []
    remarks += [
        f"{found.task} ({found.control}): {found.unmatched} questions are in one run only and were left out."
        for found in comparisons
        if found.unmatched
    ]
    for found in comparisons:
        if found.settings:
            listed = "; ".join(
                f"{name}: {_brief(a)} in A, {_brief(b)} in B" for name, (a, b) in found.settings.items()
            )
            remarks.append(f"{found.task} ({found.control}): asked differently. {listed}.")
    return remarks


def _brief(value: Any) -> str:
    """A setting in a few characters; of a list how many, of anything long that it is."""
    if isinstance(value, list):
        return str(len(value))
    text = str(value)
    return text if len(text) <= 40 else "(long)"


def render_comparison(comparisons: Iterable[Comparison], name_a: str = "A", name_b: str = "B") -> Any:
    """A rich group of tables: a line per task, control and metric, then the costs of both runs."""
    from rich.console import Group
    from rich.markup import escape

    comparisons = list(comparisons)
    table = plain_table(f"A: {name_a}\nB: {name_b}")
    for column in HEADINGS:
        table.add_column(column, justify="left" if column in HEADINGS[:3] else "right", no_wrap=True)
    for row in rows_of(comparisons):
        table.add_row(*map(escape, row))
    costs = plain_table("costs of an answer")
    for column in COST_HEADINGS:
        costs.add_column(column, justify="left" if column in COST_HEADINGS[:2] else "right")
    for row in costs_of(comparisons):
        costs.add_row(*map(escape, row))
    return Group(table, costs, *map(escape, remarks_on(comparisons)))


def _first_twice(found: Mapping[Path, Results]) -> str:
    """The first two files that hold the same task under the same control."""
    known: dict[tuple[str, str], Path] = {}
    for path, row in found.items():
        other = known.setdefault((row.task, row.control), path)
        if other != path:
            return f"{row.task}/{row.control} is in {other} and in {path}"
    return ""


def _listed(side: dict[tuple[str, str], Any]) -> str:
    return ", ".join(f"{task}/{control}" for task, control in side)
