"""The figure of a sweep: the accuracy (or the loss) by the first key that is swept, a line or a colour for the rest.

A key whose values are numbers gets an axis with lines, on a logarithmic scale where they span a factor of 8; anything else gets
grouped bars. Whiskers are the 95 % intervals that the table has, and every seed is a dot, so that three seeds look like three. A
panel for each task and control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentthought.reporting.figures.canvas import colour, dash, marker, pyplot, quiet, write

_WIDE = 8.0
# the least that an axis of accuracies spans, in points: half a point of difference is not to look like a cliff
_LEAST_POINTS = 10.0
_COLUMNS = 3


@dataclass(frozen=True, slots=True)
class Mark:
    """One setting in one panel. x: value of the first swept key, label: as it was given; group: the values of the others.
    seeds: the value of each seed; interval: None where there is nothing to go by."""

    panel: str
    group: str
    x: Any
    label: str
    value: float
    interval: tuple[float, float] | None
    seeds: tuple[float, ...]


def draw(marks: Sequence[Mark], *, key: str, groups: str, quantity: str, bars: str, stem: Path) -> list[Path]:
    """Draw all marks as one figure: PNG, SVG, and CSV with what was drawn.

    key, groups: names of the first swept key and of the others. quantity: `accuracy` (shares of 1) or another name. bars: what
    the whiskers are; "" without any. Raises `MissingExtraError` without matplotlib.
    """
    plt = pyplot()
    panels = list(dict.fromkeys(mark.panel for mark in marks))
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(4.2 * columns + (1.6 if columns == 1 else 0.0), 3.5 * rows),
        squeeze=False,
        layout="constrained",
    )
    places = [axis for line in axes for axis in line]
    share = 100.0 if quantity == "accuracy" else 1.0
    named = list(dict.fromkeys(mark.group for mark in marks))
    for axis, panel in zip(places, panels, strict=False):
        shown = [mark for mark in marks if mark.panel == panel]
        (_lines if _is_scale(marks) else _bars)(axis, shown, named, share)
        axis.set_title(panel, loc="left", fontsize=10)
        axis.set_xlabel(key)
        axis.set_ylabel(("accuracy, %" if share > 1 else quantity) + (f"\n(bars: {bars})" if bars else ""))
        quiet(axis)
    for axis in places[len(panels) :]:
        axis.set_visible(False)
    if len(named) > 1:
        # a group may have no results in the first panel
        handles = {
            text: one for axis in places for one, text in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        own = [text for text in named if text in handles]
        places[0].legend(
            [handles[text] for text in own], own, title=groups, frameon=False, fontsize=8, title_fontsize=8
        )
    table = [
        (
            mark.panel,
            mark.label,
            mark.group,
            mark.value,
            *(mark.interval or ("", "")),
            " ".join(map(repr, mark.seeds)),
        )
        for mark in marks
    ]
    return write(figure, stem, ("panel", key or "setting", "group", quantity, "low", "high", "seeds"), table)


def _is_scale(marks: Sequence[Mark]) -> bool:
    """Whether the marks stand at numbers, at least two of them, and a number for each label: of tied keys only the first is x."""
    if not all(isinstance(mark.x, int | float) and not isinstance(mark.x, bool) for mark in marks):
        return False
    return 1 < len({mark.label for mark in marks}) == len({float(mark.x) for mark in marks})


def _lines(axis: Any, marks: Sequence[Mark], groups: Sequence[str], share: float) -> None:
    xs = sorted({float(mark.x) for mark in marks})
    wide = xs[0] > 0 and xs[-1] / xs[0] >= _WIDE
    # groups stand a little beside one another, so that their whiskers can be told apart
    step = (xs[-1] / xs[0]) ** 0.012 if wide else 0.012 * (xs[-1] - xs[0])
    for number, group in enumerate(groups):
        own = sorted((mark for mark in marks if mark.group == group), key=lambda mark: float(mark.x))
        if not own:
            continue
        away = number - (len(groups) - 1) / 2
        at = [float(mark.x) * step**away if wide else float(mark.x) + away * step for mark in own]
        axis.errorbar(
            at,
            [share * mark.value for mark in own],
            yerr=_whiskers(own, share),
            color=colour(number),
            linestyle=dash(number),
            marker=marker(number),
            markersize=5,
            linewidth=1.6,
            capsize=3,
            label=group or None,
        )
        _dots(axis, at, own, share, colour(number))
    if wide:
        axis.set_xscale("log")
    labels = {float(mark.x): mark.label for mark in marks}
    axis.set_xticks(xs, [labels[x] for x in xs])
    axis.minorticks_off()
    if share > 1:
        low, high = axis.get_ylim()
        away = max(0.0, _LEAST_POINTS - (high - low)) / 2
        axis.set_ylim(max(-3.0, low - away), min(103.0, high + away))


def _bars(axis: Any, marks: Sequence[Mark], groups: Sequence[str], share: float) -> None:
    labels = list(dict.fromkeys(mark.label for mark in marks))
    width = 0.8 / len(groups)
    for number, group in enumerate(groups):
        own = [mark for mark in marks if mark.group == group]
        if not own:
            continue
        at = [labels.index(mark.label) + (number - (len(groups) - 1) / 2) * width for mark in own]
        axis.bar(
            at,
            [share * mark.value for mark in own],
            0.9 * width,
            color=colour(number),
            label=group or None,
            zorder=2,
        )
        axis.errorbar(
            at,
            [share * mark.value for mark in own],
            yerr=_whiskers(own, share),
            fmt="none",
            ecolor="#000000",
            capsize=3,
            zorder=4,
        )
        _dots(axis, at, own, share, "#FFFFFF")
    slanted = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if max(map(len, labels)) > 12 else {}
    axis.set_xticks(range(len(labels)), labels, **slanted)
    if share > 1:
        axis.set_ylim(0, min(105.0, axis.get_ylim()[1]))


def _whiskers(marks: Sequence[Mark], share: float) -> list[list[float]]:
    """How far down and up from the value; nothing where there is no interval."""
    ends = [mark.interval or (mark.value, mark.value) for mark in marks]
    return [
        [share * (mark.value - low) for mark, (low, _) in zip(marks, ends, strict=True)],
        [share * (high - mark.value) for mark, (_, high) in zip(marks, ends, strict=True)],
    ]


def _dots(axis: Any, at: Sequence[float], marks: Sequence[Mark], share: float, face: str) -> None:
    """Every seed, where there are several."""
    points = [
        (x, share * seed)
        for x, mark in zip(at, marks, strict=True)
        if len(mark.seeds) > 1
        for seed in mark.seeds
    ]
    if points:
        axis.scatter(
            [x for x, _ in points],
            [y for _, y in points],
            s=12,
            facecolor=face,
            edgecolor="#333333",
            linewidth=0.6,
            alpha=0.8,
            zorder=5,
        )
