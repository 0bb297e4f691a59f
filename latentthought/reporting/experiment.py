"""The report of an experiment with several arms: one table with intervals and costs, examples, curves, how to repeat it.

The same content is written as Markdown (for a repository) and as HTML (for a browser); whatever a model wrote is escaped in
both. Every figure in it is read from result files, none is typed.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HEADINGS = ("arm", "what it is", "accuracy", "95 % interval", "thoughts", "tokens", "ms", "steps", "training")
MEANING = 1


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. accuracy and its interval: shares of 1. thoughts, tokens, milliseconds: means per answer.
    steps, seconds: of the training; None for a control, which trains nothing."""

    name: str
    meaning: str
    accuracy: float
    low: float
    high: float
    questions: int
    thoughts: float
    tokens: float
    milliseconds: float
    steps: int | None = None
    seconds: float | None = None

    def cells(self) -> tuple[str, ...]:
        """The line as texts, in the order of `HEADINGS`."""
        return (
            self.name,
            self.meaning,
            f"{100 * self.accuracy:.1f} %",
            f"{100 * self.low:.1f} to {100 * self.high:.1f}",
            f"{self.thoughts:.1f}",
            f"{self.tokens:.1f}",
            f"{self.milliseconds:.1f}",
            "" if self.steps is None else f"{self.steps:,}",
            "" if self.seconds is None else f"{self.seconds:.0f} s",
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """One answered question. thoughts: for each thought the words it is closest to, with their probabilities."""

    question: str
    answer: str
    gold: str
    thoughts: tuple[tuple[tuple[str, float], ...], ...] = ()

    def thought_texts(self) -> list[str]:
        """A text for each thought: `'g' 0.98  'b' 0.01`."""
        return ["  ".join(f"{word!r} {chance:.2f}" for word, chance in words) for words in self.thoughts]


@dataclass(frozen=True, slots=True)
class Experiment:
    """Everything that a report says. figures: PNG files below the report's folder."""

    title: str
    introduction: str
    lines: Sequence[Line]
    examples: Sequence[Shown] = ()
    figures: Sequence[Path] = ()
    facts: Sequence[tuple[str, str]] = ()
    commands: Sequence[str] = ()
    remarks: Sequence[str] = field(default=())


def table(lines: Iterable[Line], title: str = "") -> object:
    """The table for a terminal (rich), without the meanings, for which a terminal is too narrow."""
    from rich import box
    from rich.table import Table

    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for place, heading in enumerate(HEADINGS):
        if place != MEANING:
            made.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for line in lines:
        made.add_row(*(cell for place, cell in enumerate(line.cells()) if place != MEANING))
    return made


def write_report(experiment: Experiment, folder: Path) -> list[Path]:
    """Write `report.md` and `report.html` into a folder."""
    written = []
    for name, text in (
        ("report.md", _markdown(experiment, folder)),
        ("report.html", _html(experiment, folder)),
    ):
        temporary = folder / f"{name}.tmp"
        temporary.write_text(text, encoding="utf-8", errors="replace")
        written.append(temporary.replace(folder / name))
    return written


def _markdown(experiment: Experiment, folder: Path) -> str:
    parts = [f"# {experiment.title}", experiment.introduction, _markdown_table(experiment.lines)]
    parts += [*experiment.remarks]
    if experiment.examples:
        parts.append("## Examples")
    for shown in experiment.examples:
        rows = [f"question  {shown.question}"]
        rows += [f"thought {number} {text}" for number, text in enumerate(shown.thought_texts(), 1)]
        rows += [f"answer    {shown.answer}", f"the way   {shown.gold}"]
        # four spaces make a block that no model text can break out of
        parts.append("\n".join("    " + part for row in rows for part in row.splitlines() or [""]))
    if experiment.figures:
        parts.append("## Figures")
        parts += [
            f"![{figure.stem}]({figure.relative_to(folder).as_posix()})" for figure in experiment.figures
        ]
    parts.append("## How it was made")
    parts.append("\n".join(f"- {name}: {value}" for name, value in experiment.facts))
    parts.append("\n".join("    " + command for command in experiment.commands))
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(lines: Sequence[Line]) -> str:
    rows = [HEADINGS, ("---", "---", *["---:"] * (len(HEADINGS) - 2)), *(line.cells() for line in lines)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;font-size:.92rem}td,th{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:right}
td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}tbody tr:first-child{font-weight:600}
pre{background:#f5f5f5;padding:.8rem;overflow-x:auto;white-space:pre-wrap}img{max-width:100%}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e6e6e6}td,th{border-color:#444}pre{background:#222}img{background:#fff}}"""


def _html(experiment: Experiment, folder: Path) -> str:
    safe = html.escape
    head = "".join(f"<th>{safe(heading)}</th>" for heading in HEADINGS)
    body = "".join(
        "<tr>" + "".join(f"<td>{safe(cell)}</td>" for cell in line.cells()) + "</tr>\n"
        for line in experiment.lines
    )
    parts = [
        f"<h1>{safe(experiment.title)}</h1>",
        f"<p>{safe(experiment.introduction)}</p>",
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>",
        *(f"<p>{safe(remark)}</p>" for remark in experiment.remarks),
    ]
    if experiment.examples:
        parts.append("<h2>Examples</h2>")
    for shown in experiment.examples:
        rows = [f"question  {shown.question}"]
        rows += [f"thought {number} {text}" for number, text in enumerate(shown.thought_texts(), 1)]
        rows += [f"answer    {shown.answer}", f"the way   {shown.gold}"]
        parts.append(f"<pre>{safe(chr(10).join(rows))}</pre>")
    if experiment.figures:
        parts.append("<h2>Figures</h2>")
        parts += [
            f'<img src="{safe(figure.relative_to(folder).as_posix())}" alt="{safe(figure.stem)}">'
            for figure in experiment.figures
        ]
    parts.append("<h2>How it was made</h2><ul>")
    parts += [f"<li>{safe(name)}: {safe(value)}</li>" for name, value in experiment.facts]
    parts.append(f"</ul><pre>{safe(chr(10).join(experiment.commands))}</pre>")
    title = safe(experiment.title)
    page = "\n".join(parts)
    head = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n<style>{_STYLE}</style>'
    return f"{head}\n<body>\n{page}\n</body></html>\n"
