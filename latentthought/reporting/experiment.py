"""The report of an experiment with several arms: one table with intervals and costs, examples, curves, how to repeat it.

Every figure in it is read from result files, none is typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentthought.reporting.document import (
    Block,
    Heading,
    Items,
    Lines,
    Picture,
    Table,
    Text,
    write_document,
)

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
    return list(write_document(experiment.title, list(_blocks(experiment, folder)), folder))


def _blocks(experiment: Experiment, folder: Path) -> Iterator[Block]:
    yield Text(experiment.introduction)
    yield Table(HEADINGS, [line.cells() for line in experiment.lines], left=2)
    yield from map(Text, experiment.remarks)
    if experiment.examples:
        yield Heading("Examples")
    for shown in experiment.examples:
        rows = [f"question  {shown.question}"]
        rows += [f"thought {number} {text}" for number, text in enumerate(shown.thought_texts(), 1)]
        yield Lines("\n".join([*rows, f"answer    {shown.answer}", f"the way   {shown.gold}"]))
    if experiment.figures:
        yield Heading("Figures")
    for figure in experiment.figures:
        yield Picture(figure.relative_to(folder).as_posix(), figure.stem)
    yield Heading("How it was made")
    yield Items([f"{name}: {value}" for name, value in experiment.facts])
    yield Lines("\n".join(experiment.commands))
