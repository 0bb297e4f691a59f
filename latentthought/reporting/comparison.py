"""The report of a comparison of two runs: the differences with their intervals, then what either run costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from latentthought.errors import ConfigError
from latentthought.evaluation.comparison import (
    COST_HEADINGS,
    HEADINGS,
    Comparison,
    costs_of,
    remarks_on,
    rows_of,
)
from latentthought.evaluation.tables import signed
from latentthought.reporting.charts import Bar
from latentthought.reporting.document import (
    Bars,
    Block,
    Heading,
    Items,
    Table,
    Text,
    to_html,
    to_markdown,
    write_text,
)

FORMATS = (".md", ".html", ".json")


def check_format(path: Path) -> None:
    """Raise `ConfigError` for a file name that does not say which form it is to have."""
    if path.suffix not in FORMATS:
        raise ConfigError(f"--output {path}: the name must end in {', '.join(FORMATS)}")


def write_comparison(path: Path, comparisons: Sequence[Comparison], name_a: str, name_b: str) -> Path:
    """Write a comparison as Markdown, HTML or JSON, by the file's ending. Raises `ConfigError` for another ending."""
    check_format(path)
    if path.suffix == ".json":
        return write_text(path, to_json(comparisons) + "\n")
    blocks = list(_blocks(comparisons, name_a, name_b))
    form = to_markdown if path.suffix == ".md" else to_html
    return write_text(path, form("Two runs compared", blocks))


def to_json(comparisons: Sequence[Comparison]) -> str:
    """The comparisons as JSON, every number unrounded."""
    return json.dumps([comparison.dump() for comparison in comparisons], indent=2)


def _blocks(comparisons: Sequence[Comparison], name_a: str, name_b: str) -> Iterator[Block]:
    yield Items([f"A: {name_a}", f"B: {name_b}"])
    yield Text("A - B in points, on the questions that both answered:")
    yield Bars(
        [
            Bar(
                " ".join((found.task, found.control, metric)),
                d.difference,
                d.low,
                d.high,
                signed(d),
                difference=True,
            )
            for found in comparisons
            for metric, d in {"accuracy": found.difference, **found.metrics}.items()
        ]
    )
    yield Table(HEADINGS, rows_of(comparisons), left=3)
    yield Items(remarks_on(comparisons))
    yield Heading("Costs of an answer")
    yield Table(COST_HEADINGS, costs_of(comparisons), left=2)
