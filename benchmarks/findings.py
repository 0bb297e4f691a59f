"""Results that are no contest of times: tables of counts, with the figures that were promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.report import Target


@dataclass(frozen=True)
class Table:
    """Rows of text under `columns`; all but the first column are right-aligned."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [
            f"**{self.title}**",
            "",
            _row(self.columns),
            _row(["---", *["---:"] * (len(self.columns) - 1)]),
            *map(_row, self.rows),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Findings:
    """One benchmark; `data` is everything that was found, for the JSON file, `files` what else --write-docs writes, by its
    path in the repository."""

    name: str
    title: str
    tables: list[Table]
    targets: list[Target] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


def findings_markdown(where: Mapping[str, Any], findings: Findings) -> str:
    """All tables, with what is needed to repeat them."""
    parts = [
        f"`{where['command']}`",
        f"{where['date']}, commit {where['commit']}; {where['machine']}; Python {where['python']}; {findings.title}.",
    ]
    if where["quick"]:
        parts.append("Few rows: shows that everything runs; the figures mean nothing and are not judged.")
    elif where["disturbed"]:
        parts.append(
            f"**The machine was busy with other work (cores in use: {where['load_before']:.1f}): times are not to be relied on.**"
        )
    parts += [str(table) for table in findings.tables]
    parts += findings.notes
    parts += [f"Skipped: {what}: {reason}." for what, reason in findings.skipped.items()]
    if not where["quick"]:
        parts.append("\n".join(f"- {target}" for target in findings.targets))
    return "\n\n".join(parts) + "\n"


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
