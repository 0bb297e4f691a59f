"""The table of a sweep: for a terminal, as Markdown, CSV and JSON, and the marks of its figure, all from the same lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from latentthought.evaluation.replicates import OverSeeds, Span
from latentthought.evaluation.samples import write_json
from latentthought.evaluation.tables import percent, plain_table, span
from latentthought.reporting.document import (
    Block,
    Items,
    Lines,
    Picture,
    Table,
    Text,
    to_markdown,
    write_text,
)
from latentthought.reporting.metrics import write_csv
from latentthought.reporting.sweep_figure import Mark, draw
from latentthought.sweeping.grid import short_names
from latentthought.sweeping.plan import Sweep
from latentthought.sweeping.results import VALIDATION, Found, Line, point_rows, state_of

TABLE, FIGURE = "table", "figure"
_SPANS = ("seeds", "rows", "both")
MEANINGS = {
    "seeds": "over seeds: what another seed would give on the same questions (Student's t over the runs)",
    "rows": "over rows: what other questions would give these very runs (Wilson or bootstrap)",
    "both": "over seeds and rows: what another seed and other questions would give",
}
# what is shown behind the accuracy, where it was measured: key -> heading and form
_COSTS = {
    "loss": ("loss", "{:.4g}"),
    VALIDATION: ("validation", "{:.1%}"),
    "training_seconds": ("training, s", "{:,.0f}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"),
    "thoughts": ("thoughts", "{:.1f}"),
    "tokens": ("tokens", "{:.1f}"),
    "milliseconds": ("ms", "{:.1f}"),
}


def write_tables(
    sweep: Sweep, lines: Sequence[Line], found: Sequence[Found], folder: Path, command: str
) -> list[Path]:
    """Write `table.json`, `table.csv` and `table.md` into the sweep's folder, each whole or not at all."""
    values = {
        "recipe": sweep.recipe,
        "command": command,
        "meanings": MEANINGS,
        "lines": [line.dump() for line in lines],
        "points": point_rows(found),
    }
    write_json(folder / f"{TABLE}.json", values)
    write_csv(folder / f"{TABLE}.csv", *_flat(lines))
    blocks: list[Block] = [
        Text(_introduction(sweep)),
        Table(_headings(lines, names_of(sweep)), [_cells(line, lines) for line in lines], left=_words(lines)),
        Items(remarks_of(sweep, lines, found)),
    ]
    if (folder / f"{FIGURE}.png").is_file():
        blocks.append(Picture(f"{FIGURE}.png", "the accuracies as a figure"))
    blocks.append(Lines(command))
    write_text(folder / f"{TABLE}.md", to_markdown(f"Sweep of {sweep.recipe}", blocks))
    return [folder / f"{TABLE}{suffix}" for suffix in (".md", ".csv", ".json")]


def render(sweep: Sweep, lines: Sequence[Line], width: int = 120) -> Any:
    """The table for a terminal (rich). Where it would be wider than `width` characters it does without what the files have too:
    milliseconds, tokens, the task's own metrics, the loss."""
    from rich.console import Console

    headings = _headings(lines, names_of(sweep))
    rows = [_cells(line, lines) for line in lines]
    ruler = Console(width=10 * width)
    table = _rendered(f"{sweep.recipe}, {sweep.size}", headings, rows, _words(lines))
    for heading in ("ms", "tokens", *map(_spoken, _metrics_of(lines)), "loss"):
        if ruler.measure(table).maximum <= width:
            break
        if heading in headings[_words(lines) :]:
            place = headings.index(heading, _words(lines))
            headings = headings[:place] + headings[place + 1 :]
            rows = [row[:place] + row[place + 1 :] for row in rows]
            table = _rendered(f"{sweep.recipe}, {sweep.size}", headings, rows, _words(lines))
    return table


def _rendered(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> Any:
    from rich.markup import escape

    table = plain_table(title)
    for place, heading in enumerate(headings):
        folded = heading.replace("95 % over ", "95 % over\n").replace(" (", "\n(").replace(", s", ",\ns")
        table.add_column(escape(folded), justify="left" if place < words else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def names_of(sweep: Sweep) -> dict[str, str]:
    """Axis -> what a heading calls it: the least part of the key that is clear, tied keys one after the other."""
    short = short_names([key for axis in sweep.swept for key in axis.keys])
    return {axis.name: ", ".join(short[key] for key in axis.keys) for axis in sweep.swept}


def remarks_of(sweep: Sweep, lines: Sequence[Line], found: Sequence[Found]) -> list[str]:
    """What a reader of the table must know."""
    shown = _spans_of(lines)
    remarks = [f"95 % {MEANINGS[name]}." for name in shown]
    if any(line.difference for line in lines):
        differing = "Differences from the baseline are in points, taken seed by seed and question by question"
        name = _span(lines, "accuracy")
        if any(line.difference and getattr(line.difference, name) for line in lines):
            differing += f"; their interval is over {name}"
        remarks.append(f"{differing}.")
    if any(
        line.accuracy is not None and line.task is not None and VALIDATION in line.means for line in lines
    ):
        remarks.append(
            "Choose by the validation, report the rest: the best of many on the test rows is partly luck."
        )
    alike = [
        line for line in lines if line.accuracy and len(set(line.accuracy.values)) == 1 < len(line.seeds)
    ]
    if alike:
        remarks.append(
            f"{len(alike)} {'line has' if len(alike) == 1 else 'lines have'} the same accuracy under every seed: "
            "an interval over seeds that is a point says no more than that."
        )
    for one in found:
        state = state_of(one)
        if state == "failed":
            remarks.append(f"{one.point.name} failed: {one.record.error}")
        elif state == "stopped":
            remarks.append(f"{one.point.name} was stopped and goes on with --resume.")
        elif one.record.remark:
            remarks.append(f"{one.point.name}: {one.record.remark}")
    return remarks


def write_figure(sweep: Sweep, lines: Sequence[Line], folder: Path) -> list[Path]:
    """Draw `figure.png`, `.svg` and `.csv`; [] where there is nothing to draw. Raises `MissingExtraError` without matplotlib."""
    marks = list(_marks(sweep, lines))
    if not marks:
        return []
    names = list(names_of(sweep).values())
    drawn = _drawn(lines)
    return draw(
        marks,
        key=names[0] if names else "",
        groups="; ".join(names[1:]),
        quantity=drawn,
        bars=f"95 % over {_span(lines, drawn)}" if any(mark.interval for mark in marks) else "",
        stem=folder / FIGURE,
    )


def _marks(sweep: Sweep, lines: Sequence[Line]) -> Iterator[Mark]:
    """A mark for every line: the first swept axis is where it stands, the others say which group it is of."""
    swept = [place for place, axis in enumerate(sweep.axes) if axis.swept]
    settings, drawn = sweep.settings, _drawn(lines)
    span = _span(lines, drawn)
    for number, line in enumerate(lines):
        quantity = getattr(line, drawn)
        if quantity is None:
            continue
        choices = [settings[number % len(settings)].choices[place] for place in swept]
        yield Mark(
            panel=_panel(line),
            group="; ".join(choice.text for choice in choices[1:]),
            x=choices[0].values[0] if choices else "",
            label=choices[0].text if choices else "",
            value=quantity.value,
            interval=getattr(quantity, span),  # of one kind: a setting whose other seeds failed has none
            seeds=quantity.values,
        )


def _panel(line: Line) -> str:
    if line.task is None:
        return "validation" if line.accuracy else "training"
    return line.task if line.control == "none" else f"{line.task}, {line.control}"


def _introduction(sweep: Sweep) -> str:
    seeds = ", ".join(map(str, sweep.seeds))
    smoke = " A smoke run: a few steps of tiny models, the numbers mean nothing." if sweep.smoke else ""
    return f"Recipe {sweep.recipe}, {sweep.size} ({seeds}).{smoke}"


def _spans_of(lines: Sequence[Line]) -> list[str]:
    """The intervals that the table shows: of seeds and of both where there are several seeds, else of rows."""
    there = [name for name in _SPANS if any(getattr(line.accuracy, name, None) for line in lines)]
    return [name for name in there if name != "rows" or "both" not in there]


def _drawn(lines: Sequence[Line]) -> str:
    """What the figure shows: `accuracy`, or `loss` where nothing was scored."""
    return "accuracy" if any(line.accuracy for line in lines) else "loss"


def _span(lines: Sequence[Line], quantity: str) -> str:
    """What the intervals of a quantity are over."""
    there = [found for line in lines if (found := getattr(line, quantity)) is not None]
    return "seeds" if any(one.seeds for one in there) else "rows"


def _costs_of(lines: Sequence[Line]) -> list[str]:
    own = {name for line in lines for name in line.means}
    return [key for key in _COSTS if key in own and not (key == VALIDATION and lines[0].task is None)]


def _metrics_of(lines: Sequence[Line]) -> list[str]:
    """The tasks' own metrics: what is measured and neither a cost nor of the training."""
    known = (*_COSTS, "steps", "evaluation_seconds")
    named = dict.fromkeys(name for line in lines for name in line.means)
    return [n for n in named if n not in known and not n.startswith(("loss_", "train_", "validation_"))]


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _with_controls(lines: Sequence[Line]) -> bool:
    return any(line.control not in (None, "none") for line in lines)


def _words(lines: Sequence[Line]) -> int:
    """How many of the first columns hold words."""
    return len(lines[0].settings) + (lines[0].task is not None) + _with_controls(lines)


def _headings(lines: Sequence[Line], names: dict[str, str]) -> list[str]:
    task = lines[0].task
    headings = [names[axis] for axis in lines[0].settings]
    headings += [*(["task"] if task is not None else []), *(["control"] if _with_controls(lines) else [])]
    headings += ["seeds", "accuracy" if task is not None else "validation accuracy"]
    headings += [
        {"seeds": "95 % over seeds", "rows": "95 % over rows", "both": "95 % over seeds and rows"}[name]
        for name in _spans_of(lines)
    ]
    if any(line.difference for line in lines):
        headings.append("minus baseline (95 %)")
    headings += map(_spoken, _metrics_of(lines))
    return headings + [_COSTS[key][0] for key in _costs_of(lines)]


def _cells(line: Line, lines: Sequence[Line]) -> list[str]:
    cells = list(line.settings.values())
    cells += [line.task] if line.task is not None else []
    cells += [str(line.control)] if _with_controls(lines) else []
    cells += [
        _seeds(line),
        percent(line.accuracy.value) if line.accuracy else ("failed" if line.failed else "-"),
    ]
    cells += [_spanned(getattr(line.accuracy, name, None)) for name in _spans_of(lines)]
    if any(other.difference for other in lines):
        cells.append("baseline" if line.baseline else _differing(line.difference, _span(lines, "accuracy")))
    cells += [percent(line.means[n]) if n in line.means else "" for n in _metrics_of(lines)]
    return cells + [
        _COSTS[key][1].format(line.means[key]).replace("%", " %") if key in line.means else ""
        for key in _costs_of(lines)
    ]


def _seeds(line: Line) -> str:
    """`3`, or `2 of 3, 1 failed`."""
    total = len(line.seeds) + len(line.failed) + len(line.missing)
    text = str(total) if len(line.seeds) == total else f"{len(line.seeds)} of {total}"
    return text + (f", {len(line.failed)} failed" if line.failed else "")


def _spanned(interval: Span | None) -> str:
    return span(*interval) if interval else ""


def _differing(difference: OverSeeds | None, name: str) -> str:
    if difference is None:
        return ""
    interval: Span | None = getattr(difference, name)
    text = f"{100 * difference.value:+.1f}"
    return f"{text} ({span(*interval, sign=True)})" if interval else text


def _flat(lines: Sequence[Line]) -> tuple[list[str], list[list[Any]]]:
    """Heading and rows of the CSV: every number unrounded."""
    keys = list(lines[0].settings)
    means = list(dict.fromkeys(name for line in lines for name in line.means))
    header = [*keys, "task", "control", "baseline", "seeds", "failed", "questions"]
    for quantity in ("accuracy", "difference"):
        header += [quantity, *(f"{quantity}_{name}_{end}" for name in _SPANS for end in ("low", "high"))]
    rows = []
    for line in lines:
        accuracy = line.accuracy
        row: list[Any] = [line.settings[key] for key in keys]
        row += [line.task or "", line.control or "", int(line.baseline), len(line.seeds), len(line.failed)]
        row.append(accuracy.questions if accuracy else "")
        for found in (accuracy, line.difference):
            row.append(found.value if found else "")
            for name in _SPANS:
                row += getattr(found, name, None) or ("", "")
        rows.append([*row, *(line.means.get(name, "") for name in means)])
    return [*header, *means], rows
