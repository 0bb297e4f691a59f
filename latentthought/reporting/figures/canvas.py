"""How every figure looks and is written: colours, dashes, markers, fonts, legends; PNG to look at, SVG to print, CSV to reuse.

Colours are the eight of Okabe and Ito, told apart by every common form of colour blindness; lines also differ by dash and points
by marker, so a figure survives a grey printer. The CSV holds the very numbers that were drawn. matplotlib is imported here
and nowhere else, and only when something is drawn. The same numbers give the same files, byte for byte.
Rejected: seaborn and plotly (a dependency each, for what forty lines do), a legend inside the axes (it lies on the data sooner
or later: it stands below them here, and the picture grows by its lines).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentthought.errors import require_extra
from latentthought.reporting.metrics import write_csv

# Okabe & Ito, "Color Universal Design" (2008); yellow is left out: it is too pale for a line on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (10, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
GREY, PALE, INK = "#888888", "#E6E6E6", "#222222"

_LEGEND_LINE = 0.19
_LETTER = 0.068
_LONGEST = 44


def require_matplotlib() -> None:
    """Raise `MissingExtraError`, which names the extra, where nothing can be drawn; before anything is written."""
    require_extra("matplotlib", "plot", "drawing figures")


def pyplot() -> Any:
    """matplotlib.pyplot, set up to draw into files."""
    require_extra("matplotlib", "plot", "drawing figures").use("Agg", force=False)
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "latentthought"  # the same numbers give the same file
    plt.rcParams["svg.fonttype"] = "none"
    return plt


def colour(index: int) -> str:
    """Of the index-th series."""
    return COLOURS[index % len(COLOURS)]


def dash(index: int) -> Any:
    """Its dashes: with the colours, 35 kinds of lines."""
    return DASHES[index % len(DASHES)]


def marker(index: int) -> str:
    """Its marker: with the colours, 63 kinds of points."""
    return MARKERS[index % len(MARKERS)]


def panels(
    count: int, width: float = 4.6, height: float = 3.1, columns: int = 2, alone: float = 6.6, **options: Any
) -> tuple[Any, list[Any]]:
    """A figure and its axes, `columns` side by side, in inches each. alone: the width of a single one."""
    plt = pyplot()
    columns = min(columns, count)
    lines = -(-count // columns)
    size = (alone if columns == 1 else width * columns, height * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained", **options)
    every = [axis for line in axes for axis in line]
    for axis in every[count:]:
        axis.set_visible(False)
    return figure, every[:count]


def quiet(axis: Any, grid: str = "both") -> None:
    """A light grid behind the data, and no frame that says nothing."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=PALE, linewidth=0.6, axis=grid)
    axis.set_axisbelow(True)


def title(axis: Any, text: str, **options: Any) -> None:
    """The title of a panel, at its left."""
    axis.set_title(shorten(text, 64), loc="left", fontsize=10, **options)


def legend_below(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """The legend under the axes, in as many columns as fit; the figure becomes higher by its lines. Nothing for one entry."""
    if len(labels) < 2:
        return
    shown = [shorten(label) for label in labels]
    width, height = figure.get_size_inches()
    room = _LETTER * max(map(len, shown)) + 0.55
    columns = max(1, min(len(shown), int(width / room)))
    lines = -(-len(shown) // columns)
    figure.set_size_inches(width, height + _LEGEND_LINE * lines + 0.1)
    figure.legend(
        handles, shown, loc="outside lower left", ncols=columns, frameon=False, fontsize=8, handlelength=2.6
    )


def beside(
    places: Sequence[float], whole: Sequence[float], index: int, count: int, logarithmic: bool = False
) -> list[float]:
    """The places of the index-th of `count` series, a little aside, so that whiskers at one place can be told apart. whole: all
    places of the axis."""
    away = (index - (count - 1) / 2) * 0.012
    if logarithmic:
        return [place * (max(whole) / min(whole)) ** away for place in places]
    return [place + (max(whole) - min(whole)) * away for place in places]


def shorten(text: str, most: int = _LONGEST) -> str:
    """A text of at most `most` characters: its middle goes, since names differ at their ends."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[-(most - 1 - head) :]}"


def wrapped(text: str, width: int = 30) -> str:
    """A label of several lines."""
    return "\n".join(textwrap.wrap(shorten(text, 3 * width), width, break_on_hyphens=True)) or text


def write(figure: Any, stem: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Path]:
    """Write PNG, SVG and the rows as CSV, each whole or not at all, and close the figure; the three files."""
    plt = pyplot()
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = []
    try:
        for suffix, options in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
            temporary = stem.with_name(stem.name + ".tmp" + suffix)
            figure.savefig(temporary, **options)
            written.append(temporary.replace(stem.with_suffix(suffix)))
    finally:
        plt.close(figure)
    write_csv(stem.with_suffix(".csv"), header, rows)
    return [*written, stem.with_suffix(".csv")]
