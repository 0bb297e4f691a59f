"""One line for each figure that was promised: what was measured, what was wanted, and whether it was met. Misses stay in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.findings import Findings, Table
from benchmarks.report import SPREAD, Report


@dataclass(frozen=True)
class Line:
    """One figure, or a side or benchmark that was skipped. verdict: met, MISSED, or why there is none."""

    benchmark: str
    what: str
    measured: float | None
    wanted: str
    verdict: str


def lines_of(reports: Sequence[Report | Findings], quick: bool = False) -> list[Line]:
    """Every figure of every benchmark, then what it skipped."""
    lines = []
    for report in reports:
        for target in report.targets:
            verdict = "not judged" if quick and target.met is not None else target.verdict
            what = f"{target.side}: {target.what}"
            lines.append(Line(report.name, what, target.value, target.wanted, verdict))
        # a figure that says itself why it is missing needs no second line
        told = {target.why for target in report.targets}
        lines += [
            Line(report.name, what, None, "", f"skipped: {why}")
            for what, why in report.skipped.items()
            if why not in told
        ]
    return lines


def as_entries(reports: Sequence[Report | Findings], quick: bool) -> list[dict[str, Any]]:
    """For the JSON file."""
    return [asdict(line) for line in lines_of(reports, quick)]


def summary_markdown(where: Mapping[str, Any], reports: Sequence[Report | Findings]) -> str:
    """The table of all lines under where and when they arose."""
    lines = lines_of(reports, where["quick"])
    rows = [
        [
            line.what,
            line.benchmark,
            "" if line.measured is None else f"{line.measured:.3f}",
            line.wanted,
            f"**{line.verdict}**" if line.verdict == "MISSED" else line.verdict,
        ]
        for line in lines
    ]
    verdicts = [line.verdict for line in lines if line.wanted]
    tally = f"{verdicts.count('met')} of {len(verdicts)} met, {verdicts.count('MISSED')} missed"
    title = f"Promised figures: {'tiny sizes, not judged' if where['quick'] else tally}"
    parts = [
        f"`{where['command']}`",
        f"{where['date']}, commit {where['commit']}; {where['machine']}, {where['threads']} threads, {where['dtype']}.",
        *_doubts(where, reports),
        str(Table(title, ("figure", "benchmark", "measured", "wanted", "verdict"), rows)),
    ]
    return "\n\n".join(parts) + "\n"


def _doubts(where: Mapping[str, Any], reports: Sequence[Report | Findings]) -> list[str]:
    """Why times are not to be relied on, if so."""
    if where["quick"]:
        return []
    floors = [(report.name, report.floor_row) for report in reports if isinstance(report, Report)]
    unsteady = [name for name, floor in floors if floor is not None and floor.spread > SPREAD]
    found = [f"the machine was busy with other work (cores in use: {where['load_before']:.1f})"] * where[
        "disturbed"
    ]
    found += [f"the floor varied by more than {SPREAD:.0%} in {', '.join(unsteady)}"] * bool(unsteady)
    return [f"**Times are not to be relied on: {'; '.join(found)}.**"] * bool(found)
