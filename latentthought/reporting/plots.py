"""Figures of training runs: losses by term and stage, accuracy, mix ratio over time, and the scale monitor.

Every figure is written three times: PNG to look at, SVG to print, CSV with the very numbers that were drawn. Colours are
the eight of Okabe and Ito, told apart by every common form of colour blindness, and lines also differ by dash, so a
figure survives a grey printer. matplotlib is imported here and nowhere else, and only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentthought.errors import UserError, require_extra
from latentthought.reporting.metrics import RunMetrics, read_metrics, write_csv

# Okabe & Ito, "Color Universal Design" (2008); yellow is left out: it is too pale for a line on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (10, 3)))

MIX = ("mix_ratio",)
SCALE = ("thought_rms_ratio", "thought_cosine", "thought_gap")
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


def plot_runs(runs: Sequence[str | Path], output: str | Path) -> list[Path]:
    """Draw the figures of one or more runs into `output`; the files written, PNG, SVG and CSV of each figure.

    A figure whose numbers no run has is not drawn. Raises `MissingExtraError` without matplotlib and `UserError` when
    there is nothing to draw.
    """
    metrics = _distinct([read_metrics(run) for run in runs])
    output = Path(output)
    figures: dict[str, list[str]] = {
        "loss": _losses(metrics),
        "accuracy": [
            key for key in _keys(metrics, "train_") + _keys(metrics, "validation_") if "accuracy" in key
        ],
        "mix_ratio": [key for key in MIX if _has(metrics, key)],
        "scale": [key for key in SCALE if _has(metrics, key)],
        "learning_rate": [key for key in ("learning_rate",) if _has(metrics, key)],
    }
    wanted = {name: keys for name, keys in figures.items() if keys}
    if not wanted:
        raise UserError(
            f"nothing to draw: no numbers in the metrics of {', '.join(str(run) for run in runs)}"
        )
    require_extra("matplotlib", "plot", "drawing figures")
    output.mkdir(parents=True, exist_ok=True)
    return [path for name, keys in wanted.items() for path in _figure(metrics, keys, output / name)]


def bar_chart(
    labels: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    title: str,
    stem: Path,
) -> list[Path]:
    """Accuracies (shares of 1) as horizontal bars with their intervals and the figure written at each; PNG, SVG and CSV."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(7.2, 0.9 + 0.38 * len(labels)), layout="constrained")
    positions = list(range(len(labels)))[::-1]
    low = [100 * (value - lower) for value, (lower, _) in zip(values, intervals, strict=True)]
    high = [100 * (upper - value) for value, (_, upper) in zip(values, intervals, strict=True)]
    axis.barh(positions, [100 * value for value in values], height=0.62, color=COLOURS[0], zorder=2)
    axis.errorbar(
        [100 * value for value in values],
        positions,
        xerr=[low, high],
        fmt="none",
        ecolor=COLOURS[-1],
        capsize=3,
        zorder=3,
    )
    for position, value, (_, upper) in zip(positions, values, intervals, strict=True):
        axis.text(100 * upper + 1.5, position, f"{100 * value:.1f}", va="center", fontsize=9)
    axis.set_yticks(positions, labels)
    axis.set_xlim(0, 112)
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("accuracy, % (bars: 95 % interval)")
    axis.set_title(title, loc="left", fontsize=10)
    _quiet(axis)
    rows = [
        (label, value, *interval) for label, value, interval in zip(labels, values, intervals, strict=True)
    ]
    return _write(plt, figure, stem, ("label", "accuracy", "low", "high"), rows)


def _figure(metrics: Sequence[RunMetrics], keys: Sequence[str], stem: Path) -> list[Path]:
    """One figure: a panel for each key, a line for each run, stage boundaries as grey lines when there is one run."""
    plt = _pyplot()
    columns = min(2, len(keys))
    lines = -(-len(keys) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(4.6 * columns + (2.0 if columns == 1 else 0.0), 3.1 * lines),
        squeeze=False,
        layout="constrained",
    )
    panels = [axis for line in axes for axis in line]
    table: list[tuple[Any, ...]] = []
    single = len(metrics) == 1
    span = _span(metrics)
    for axis, key in zip(panels, keys, strict=False):
        for index, run in enumerate(metrics):
            steps, values = run.series(key)
            if not steps:
                continue
            axis.plot(
                steps,
                values,
                color=COLOURS[index % len(COLOURS)],
                linestyle=DASHES[index % len(DASHES)],
                linewidth=1.6,
                marker="o" if len(steps) < 3 else None,  # a line through one point cannot be seen
                label=run.name,
            )
            stages = run.stages()
            table += [
                (run.name, key, step, _stage_at(stages, step), value)
                for step, value in zip(steps, values, strict=True)
            ]
        axis.set_title(
            _title(key), loc="left", fontsize=10, pad=24 if single else 6
        )  # room for the stages' names
        axis.set_xlabel("optimizer step")
        axis.set_xlim(*span)
        _limits(axis, key, metrics)
        _quiet(axis)
        if single:
            _mark_stages(axis, metrics[0].stages())
    for axis in panels[len(keys) :]:
        axis.set_visible(False)
    if len(metrics) > 1:
        panels[0].legend(frameon=False, fontsize=8)
    return _write(plt, figure, stem, ("run", "key", "step", "stage", "value"), table)


def _span(metrics: Sequence[RunMetrics]) -> tuple[float, float]:
    """The limits of every step axis of a figure: all panels show the whole run, whenever their numbers begin."""
    last = max((float(row["step"]) for run in metrics for row in run.rows if "step" in row), default=1.0)
    return -0.02 * last, 1.02 * last


def _limits(axis: Any, key: str, metrics: Sequence[RunMetrics]) -> None:
    values = [value for run in metrics for value in run.series(key)[1]]
    if "loss" in key and values and min(values) > 0 and max(values) / min(values) > 30:
        axis.set_yscale("log")
    elif "accuracy" in key or key == "mix_ratio":
        axis.set_ylim(-0.03, 1.03)
    if key == "thought_rms_ratio":
        axis.axhline(1.0, color="#888888", linewidth=0.8, zorder=1)


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


def _quiet(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#E6E6E6", linewidth=0.6)
    axis.set_axisbelow(True)


def _write(
    plt: Any, figure: Any, stem: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[Path]:
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


def _pyplot() -> Any:
    require_extra("matplotlib", "plot", "drawing figures").use("Agg", force=False)
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "latentthought"  # the same numbers give the same file
    plt.rcParams["svg.fonttype"] = "none"
    return plt


def _title(key: str) -> str:
    if key in TITLES:
        return TITLES[key]
    if key.startswith("loss_"):
        return f"loss: {key.removeprefix('loss_').replace('_', ' ')}"
    return key.replace("_", " ")


def _keys(metrics: Sequence[RunMetrics], prefix: str) -> list[str]:
    return list(dict.fromkeys(key for run in metrics for key in run.keys(prefix)))


def _losses(metrics: Sequence[RunMetrics]) -> list[str]:
    """The loss and its terms; a single term is the loss over again."""
    total, *terms = _keys(metrics, "loss") or [""]
    return [key for key in (total, *(terms if len(terms) > 1 else [])) if key]


def _has(metrics: Sequence[RunMetrics], key: str) -> bool:
    return any(run.series(key)[0] for run in metrics)


def _stage_at(stages: Sequence[tuple[float, str]], step: float) -> str:
    return next((name for start, name in reversed(stages) if start <= step), "")


def _distinct(metrics: Sequence[RunMetrics]) -> list[RunMetrics]:
    """Runs of the same folder name get a number, so that a legend tells them apart."""
    seen: dict[str, int] = {}
    named: list[RunMetrics] = []
    for run in metrics:
        count = seen[run.name] = seen.get(run.name, 0) + 1
        named.append(RunMetrics(run.name if count == 1 else f"{run.name} ({count})", run.rows))
    return named
