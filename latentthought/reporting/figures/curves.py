"""Curves over the steps of training: losses by term and stage, accuracy, mix ratio, scale, drift, hidden losses, learning rate.

A panel for each number, a line for each run; runs that differ in their seed alone share a colour and an entry of the legend. With
one run the stages are marked. All panels show the whole run, whenever their numbers begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentthought.reporting.figures.canvas import (
    GREY,
    colour,
    dash,
    legend_below,
    panels,
    quiet,
    title,
    write,
)
from latentthought.reporting.figures.given import Given, NothingToDraw
from latentthought.reporting.metrics import RunMetrics

TITLES = {
    "loss": "training loss",
    "train_accuracy": "training accuracy on the answer",
    "train_row_accuracy": "training accuracy on the whole row",
    "validation_accuracy": "validation accuracy, generated",
    "mix_ratio": "mix ratio (0 = text, 1 = latent)",
    "thought_rms_ratio": "thought RMS / embedding RMS",
    "thought_cosine": "cosine of thought and embedding",
    "thought_gap": "drift from sequential feedback",
    "learning_rate": "learning rate",
}
_KINDS = ("_mse", "_cosine", "_smooth_l1")
_WEIGHTED = "_weighted"
# a loss that spans more than this is read on a logarithmic axis
_WIDE = 30
_TINY = 1e-3


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: the key of a metric, and how it is shown. logarithmic: where the numbers allow; None: by their span. from_zero:
    what is not logarithmic begins at 0, so that a hair's breadth looks like one."""

    key: str
    title: str
    logarithmic: bool | None = False
    shown: Callable[[float], float] | None = None
    from_zero: bool = False


def draw_losses(given: Given, stem: Path) -> list[Path]:
    """The total and every term, the parts of hidden terms behind them; what is another one over again is left out."""
    keys = [key for key in _keys(given, "loss") if not key.endswith(_WEIGHTED)]
    parts = {term: [f"loss_{term}{kind}" for kind in _KINDS] for term in hidden_terms(given)}
    parts = {term: [key for key in keys if key in own] for term, own in parts.items()}
    terms = [key for key in keys if key != "loss" and not any(key in own for own in parts.values())]
    keys = [key for key in keys if key == "loss"] + (terms if len(terms) > 1 else [])
    keys += [key for own in parts.values() if len(own) > 1 for key in own]
    return _draw(given, [Panel(key, _title(key), None) for key in keys], stem, "a loss")


def draw_accuracy(given: Given, stem: Path) -> list[Path]:
    """Accuracy on training rows (teacher forced) and on validation rows (generated)."""
    keys = [key for key in _keys(given, "train_") + _keys(given, "validation_") if "accuracy" in key]
    return _draw(
        given, [Panel(key, _title(key)) for key in keys], stem, "an accuracy (training.accuracy: true)"
    )


def draw_mix(given: Given, stem: Path) -> list[Path]:
    """The share of the hidden state in the inputs."""
    return _draw(given, _named(given, "mix_ratio"), stem, "mix_ratio")


def draw_scale(given: Given, stem: Path) -> list[Path]:
    """The monitor of the thoughts' size and direction."""
    found = _named(given, "thought_rms_ratio", "thought_cosine")
    return _draw(given, found, stem, "thought_rms_ratio: they fed no state back")


def draw_rate(given: Given, stem: Path) -> list[Path]:
    """The learning rate."""
    return _draw(given, _named(given, "learning_rate"), stem, "learning_rate")


def draw_drift(given: Given, stem: Path) -> list[Path]:
    """Cosine distances over steps: of hidden terms to their targets, and of thoughts to embeddings; the feedback's gap."""
    found = [
        Panel(f"loss_{term}_cosine", f"{term}: cosine distance to its target", None, from_zero=True)
        for term in hidden_terms(given)
        if _has(given, f"loss_{term}_cosine")
    ]
    if _has(given, "thought_cosine"):
        found.append(
            Panel("thought_cosine", "cosine distance of thought and embedding", shown=lambda c: 1 - c)
        )
    if _has(given, "thought_gap"):
        found.append(Panel("thought_gap", _title("thought_gap"), None, from_zero=True))
    return _draw(
        given,
        found,
        stem,
        "latent states: give runs with thoughts, or with a hidden term whose cosine is above 0",
    )


def draw_hidden(given: Given, stem: Path) -> list[Path]:
    """How the loss of each hidden term falls, on a logarithmic axis."""
    found = [Panel(f"loss_{term}", f"hidden loss: {term}", True) for term in hidden_terms(given)]
    return _draw(
        given,
        found,
        stem,
        "the loss of a hidden term: train with one ({term: hidden} in objective), as `latentthought train hops/feature` does",
    )


def hidden_terms(given: Given) -> list[str]:
    """Names of the terms that compare hidden states: their losses come with their parts."""
    names = dict.fromkeys(
        key.removeprefix("loss_").removesuffix(kind)
        for key in _keys(given, "loss_")
        for kind in _KINDS
        if key.endswith(kind)
    )
    return [name for name in names if _has(given, f"loss_{name}")]


def _named(given: Given, *keys: str) -> list[Panel]:
    return [Panel(key, _title(key)) for key in keys if _has(given, key)]


def _draw(given: Given, wanted: Sequence[Panel], stem: Path, missing: str) -> list[Path]:
    if not wanted:
        why = "no run given has metrics" if not given.trained else f"no run's metrics have {missing}"
        raise NothingToDraw(why)
    figure, axes = panels(len(wanted))
    entries = _entries(given)
    handles: dict[str, Any] = {}
    table: list[tuple[Any, ...]] = []
    metrics = [
        run.metrics
        for run in given.trained
        if run.metrics is not None and any(run.metrics.series(panel.key)[0] for panel in wanted)
    ]
    span = _span(metrics)
    for axis, panel in zip(axes, wanted, strict=True):
        values = []
        for run in metrics:
            index, label = entries[run.name]
            steps, numbers = _series(run, panel)
            if not steps:
                continue
            (line,) = axis.plot(
                steps,
                numbers,
                color=colour(index),
                linestyle=dash(index),
                linewidth=1.5,
                marker="o" if len(steps) < 3 else None,  # a line through one point cannot be seen
            )
            handles.setdefault(label, line)
            values += numbers
            stages = run.stages()
            name = f"1 - {panel.key}" if panel.shown else panel.key
            table += [
                (run.name, name, step, _stage_at(stages, step), value)
                for step, value in zip(steps, numbers, strict=True)
            ]
        title(axis, panel.title, pad=24 if len(metrics) == 1 else 6)  # room for the stages' names
        axis.set_xlabel("optimizer step")
        axis.set_xlim(*span)
        _limits(axis, panel, values)
        quiet(axis)
        if len(metrics) == 1:
            _mark_stages(axis, metrics[0].stages())
    legend_below(figure, list(handles.values()), list(handles))
    return write(figure, stem, ("run", "key", "step", "stage", "value"), table)


def _series(run: RunMetrics, panel: Panel) -> tuple[list[float], list[float]]:
    steps, values = run.series(panel.key)
    return steps, values if panel.shown is None else [panel.shown(value) for value in values]


def _entries(given: Given) -> dict[str, tuple[int, str]]:
    """Run -> the number of its series, and what the legend calls it."""
    trained = {run.name for run in given.trained}
    points = [point for point in given.points if any(run.name in trained for run in point.runs)]
    found = {}
    for index, point in enumerate(points):
        label = point.runs[0].name if len(point.runs) == 1 else point.label
        found.update({run.name: (index, label) for run in point.runs})
    return found


def _span(metrics: Sequence[RunMetrics]) -> tuple[float, float]:
    """The limits of every step axis of a figure."""
    last = max((float(row["step"]) for run in metrics for row in run.rows if "step" in row), default=1.0)
    return -0.02 * last, 1.02 * last


def _limits(axis: Any, panel: Panel, values: Sequence[float]) -> None:
    positive = bool(values) and min(values) > 0
    if positive and (panel.logarithmic or (panel.logarithmic is None and max(values) / min(values) > _WIDE)):
        axis.set_yscale("log")
    elif "accuracy" in panel.key or panel.key == "mix_ratio":
        axis.set_ylim(-0.03, 1.03)
    elif panel.from_zero:
        axis.set_ylim(0, 1.08 * max(values) or 1.0)
        if max(values) < _TINY:  # else the power stands apart, where the title is
            axis.yaxis.set_major_formatter("{x:.1e}")
    if panel.key == "thought_rms_ratio":
        axis.axhline(1.0, color=GREY, linewidth=0.8, zorder=1)


def _mark_stages(axis: Any, stages: Sequence[tuple[float, str]]) -> None:
    """A grey line where a stage begins, its name above where there is room for it."""
    if len(stages) < 2:
        return
    left, right = axis.get_xlim()
    named = left - (right - left)
    for place, (step, name) in enumerate(stages):
        if place:
            axis.axvline(step, color="#BBBBBB", linewidth=0.8, zorder=0)
        if step - named < 0.08 * (right - left):
            continue
        named = step
        text = axis.annotate(
            name,
            (step, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            rotation=25,
            va="bottom",
            ha="left",
            rotation_mode="anchor",
            fontsize=6.5,
            color="#777777",
        )
        text.set_in_layout(False)  # the title's padding leaves its room


def _title(key: str) -> str:
    if key in TITLES:
        return TITLES[key]
    if key.startswith("loss_"):
        return f"loss: {key.removeprefix('loss_').replace('_', ' ')}"
    return key.replace("_", " ")


def _keys(given: Given, prefix: str) -> list[str]:
    return list(
        dict.fromkeys(key for run in given.trained if run.metrics for key in run.metrics.keys(prefix))
    )


def _has(given: Given, key: str) -> bool:
    return any(run.metrics.series(key)[0] for run in given.trained if run.metrics)


def _stage_at(stages: Sequence[tuple[float, str]], step: float) -> str:
    return next((name for start, name in reversed(stages) if start <= step), "")
