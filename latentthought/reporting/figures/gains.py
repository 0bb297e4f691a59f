"""The gain over a baseline, paired: the difference on the questions that both answered.

Of two single runs it has the interval of `latentthought compare`, which is narrower than what their two intervals suggest. Of
several seeds it is taken seed by seed and question by question, and its interval is over both (`evaluation.replicates`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentthought.errors import DataError, MissingFileError
from latentthought.evaluation.measures import correctness
from latentthought.evaluation.replicates import OverSeeds, over_seeds_difference
from latentthought.evaluation.samples import SAMPLES, read_samples
from latentthought.evaluation.statistics import Values
from latentthought.reporting.figures.bars import BAR, NO_RESULTS, asked, horizontal_bars
from latentthought.reporting.figures.canvas import COLOURS, GREY, INK, pyplot, quiet, title, write
from latentthought.reporting.figures.given import Given, NothingToDraw
from latentthought.reporting.figures.points import Point, Score, Task, shared_tasks


def draw_gain(given: Given, stem: Path) -> list[Path]:
    """Each run against the first one given: accuracies, and the paired difference with its interval."""
    tasks = {
        task: points for task, points in shared_tasks(given.points, 2).items() if points[0] is given.points[0]
    }
    if not tasks:
        why = "two runs are needed, the baseline first, with results on the same task"
        raise NothingToDraw(why if given.points and any(p.scores for p in given.points) else NO_RESULTS)
    plt = pyplot()
    heights = [len(points) for points in tasks.values()]
    figure, grid = plt.subplots(
        len(tasks),
        2,
        figsize=(9.6, sum(0.75 + BAR * height for height in heights) + 0.3),
        squeeze=False,
        layout="constrained",
        height_ratios=[0.75 + BAR * height for height in heights],
        width_ratios=(1.15, 1),
        sharex="col",
    )
    table: list[tuple[Any, ...]] = []
    lows: list[float] = []
    highs: list[float] = []
    for (left, right), (task, points) in zip(grid, tasks.items(), strict=True):
        scores = [point.scores[task] for point in points]
        labels = [point.label for point in points]
        labels[0] += "" if "baseline" in labels[0] else " (baseline)"
        horizontal_bars(left, labels, scores, [GREY, *[COLOURS[0]] * (len(points) - 1)])
        title(left, f"{task[0]}{asked(scores)}")
        gains = [paired(point, points[0], task) for point in points[1:]]
        lows += [_span(gain)[0] for gain in gains]
        highs += [_span(gain)[1] for gain in gains]
        _differences(right, gains, len(points))
        title(right, f"gain over {points[0].label}, paired")
        table.append(_gain_row(task, labels[0], scores[0], None))
        table += map(_gain_row, [task] * len(gains), labels[1:], scores[1:], gains)
    # one scale for all tasks
    low, high = (100 * end for end in (min(0.0, *lows), max(0.0, *highs)))
    room = 0.08 * max(high - low, 1.0)
    grid[-1][1].set_xlim(low - room, high + room)
    grid[-1][0].set_xlabel("accuracy, % (lines: 95 % interval)")
    grid[-1][1].set_xlabel("difference, points (95 % interval)")
    accuracy, gain = ("accuracy", "low", "high"), ("gain", "gain_low", "gain_high")
    header = ("task", "run", *accuracy, *gain, "questions", "interval_over")
    return write(figure, stem, header, table)


def paired(point: Point, baseline: Point, task: Task) -> OverSeeds:
    """point - baseline on the questions of both, seed by seed where both have the same seeds; a single run goes with each seed of
    the other."""
    gold: dict[str, str] = {}
    ours, theirs = _right_by_seed(point, task, gold), _right_by_seed(baseline, task, gold)
    if len(ours) > 1 and len(theirs) > 1:
        shared = [seed for seed in ours if seed in theirs]
        if len(shared) < 2:
            raise DataError(
                f"{point.label} and {baseline.label} have fewer than two seeds in common, so no pairs of trainings"
            )
        ours, theirs = ({seed: those[seed] for seed in shared} for those in (ours, theirs))
    runs, others = list(ours.values()), list(theirs.values())
    most = max(len(runs), len(others))
    return over_seeds_difference(*(those * (most // len(those)) for those in (runs, others)))


def _right_by_seed(point: Point, task: Task, gold: dict[str, str]) -> dict[Any, Values]:
    """Seed -> what each question's samples are worth. gold: the answers seen so far, which all have to share."""
    found: dict[Any, Values] = {}
    for place, run in enumerate(point.runs):
        for path, results in run.results.items():
            if (results.task, results.control) != task:
                continue
            samples = read_samples(path.with_name(SAMPLES))
            for sample in samples:
                if gold.setdefault(sample.id, sample.gold) != sample.gold:
                    raise DataError(f"{path}: question {sample.id!r} has another answer there than elsewhere")
            found[(run.recipe or {}).get("seed", f"run {place}")] = correctness(samples)
    if not found:
        raise MissingFileError(
            f"{point.label}: no samples of {task[0]} beside its results, so nothing to pair"
        )
    return found


def _differences(axis: Any, gains: Sequence[OverSeeds], rows: int) -> None:
    """The differences beside the bars of all but the first row."""
    places = list(range(rows))[::-1][1:]
    axis.axvline(0, color=GREY, linewidth=0.9)
    for place, gain in zip(places, gains, strict=True):
        value, low, high = (100 * number for number in (gain.value, *_span(gain)))
        axis.plot([low, high], [place, place], color=INK, linewidth=1.2, zorder=2)
        axis.plot([value], [place], "o", color=COLOURS[1], markersize=6, zorder=3)
        axis.annotate(
            f"{value:+.1f}".replace("-", "\u2212"),
            (value, place),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    axis.set_ylim(-0.6, rows - 0.4)
    axis.set_yticks([])
    quiet(axis, "x")
    axis.spines["left"].set_visible(False)


def _gain_row(task: Task, label: str, one: Score, gain: OverSeeds | None) -> tuple[Any, ...]:
    measured: tuple[Any, ...] = ("", "", "", one.questions, "")
    if gain is not None:
        over = "seeds and questions" if gain.both else "seeds" if gain.seeds else "questions"
        measured = (gain.value, *_span(gain), gain.questions, over)
    return (task[0], label, one.value, one.low, one.high, *measured)


def _span(gain: OverSeeds) -> tuple[float, float]:
    return gain.best or (gain.value, gain.value)
