"""The curves of `growth` as one SVG: time above, memory below, a column an axis; lines are the fitted rates and the forecast,
full marks measured points, hollow ones extrapolated."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from latentthought.errors import require_extra
from latentthought.reporting.plots import COLOURS
from latentthought.training.cost import Rates

if TYPE_CHECKING:
    from benchmarks.growth_steps import Point

_AXES = {
    "thoughts": "thoughts of a row",
    "batch": "rows of a batch",
    "sequence": "positions of a row",
    "model": "weights, millions",
}


def draw(found: Sequence[Point], rates: Rates) -> str:
    """The figure as SVG text, the same for the same numbers."""
    require_extra("matplotlib", "plot", "the figure of growth")
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9}):
        figure, panels = plt.subplots(
            2, len(_AXES), figsize=(12, 5.6), sharex="col", sharey="row", layout="constrained"
        )
        for column, (axis, label) in enumerate(_AXES.items()):
            chosen = sorted(
                (point for point in found if point.axis in (axis, "base")), key=lambda p: _place(axis, p)
            )
            _panel(panels[0][column], axis, chosen, [rates.seconds(p.work) for p in chosen], _time)
            _panel(panels[1][column], axis, chosen, [p.forecast / 2**30 for p in chosen], _memory)
            panels[1][column].set_xlabel(label)
        panels[0][0].set_ylabel("seconds a step")
        panels[1][0].set_ylabel("peak memory, GiB")
        panels[0][0].legend(frameon=False, loc="upper left")
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
        plt.close(figure)
    return written.getvalue()


def _place(axis: str, point: Point) -> float:
    sizes = point.sizes
    return {
        "thoughts": sizes.thoughts,
        "batch": sizes.batch,
        "sequence": sizes.sequence,
        "model": point.parameters / 1e6,
    }[axis]


def _time(point: Point) -> float | None:
    return point.best


def _memory(point: Point) -> float | None:
    return None if point.peak is None else point.peak / 2**30


def _panel(panel: Any, axis: str, chosen: Sequence[Point], line: Sequence[float], of: Any) -> None:
    places = [_place(axis, point) for point in chosen]
    panel.plot(places, line, color=COLOURS[0], linewidth=1.4, label="fitted rates", zorder=1)
    triples = [(place, of(point), told) for place, point, told in zip(places, chosen, line, strict=True)]
    seen = [(place, value) for place, value, _ in triples if value is not None]
    told = [(place, fitted) for place, value, fitted in triples if value is None]
    marks = {"linestyle": "none", "marker": "o", "markersize": 6, "markeredgecolor": COLOURS[1]}
    if seen:
        panel.plot(*zip(*seen, strict=True), markerfacecolor=COLOURS[1], label="measured", **marks)
    panel.plot(
        *(zip(*told, strict=True) if told else ([], [])),
        markerfacecolor="white",
        label="extrapolated",
        **marks,
    )
    panel.set_xscale("log", base=2 if axis != "model" else 10)
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="#E6E6E6", linewidth=0.6)
    panel.set_axisbelow(True)
