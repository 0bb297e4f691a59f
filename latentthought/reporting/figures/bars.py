"""Accuracies side by side: ablations and controls, results by subject and level. Every bar and dot has its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentthought.evaluation.decoding import CONTROLS
from latentthought.reporting.figures.canvas import (
    COLOURS,
    INK,
    colour,
    legend_below,
    marker,
    pyplot,
    quiet,
    title,
    wrapped,
    write,
)
from latentthought.reporting.figures.domains import Domain, domains
from latentthought.reporting.figures.given import Given, NothingToDraw
from latentthought.reporting.figures.points import Point, Score, Task, check_together

BAR = 0.36
NO_RESULTS = "no results.json among what was given: make one with `latentthought evaluate RUN --task NAME`"


def bar_chart(
    labels: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    heading: str,
    stem: Path,
) -> list[Path]:
    """Accuracies (shares of 1) as horizontal bars with their intervals and the figure written at each; PNG, SVG and CSV."""
    scores = [Score(value, *ends) for value, ends in zip(values, intervals, strict=True)]
    figure, (axis,) = _stacked([len(labels)])
    horizontal_bars(axis, labels, scores)
    title(axis, heading)
    axis.set_xlabel("accuracy, % (bars: 95 % interval)")
    rows = [(label, one.value, one.low, one.high) for label, one in zip(labels, scores, strict=True)]
    return write(figure, stem, ("label", "accuracy", "low", "high"), rows)


def draw_ablation(given: Given, stem: Path) -> list[Path]:
    """A bar for each run (or point of several seeds) and control, a panel for each task."""
    tasks: dict[str, list[tuple[str, Point, Task]]] = {}
    for point in given.points:
        # the run as it is, then what is left of it under each control
        for task in sorted(point.scores, key=lambda task: (task[0], [*CONTROLS, task[1]].index(task[1]))):
            label = point.label if task[1] == "none" else f"{point.label} / {task[1]}"
            tasks.setdefault(task[0], []).append((label, point, task))
    if not tasks:
        raise NothingToDraw(NO_RESULTS)
    tasks = {name: rows for name, rows in tasks.items() if len(rows) > 1}
    if not tasks:
        raise NothingToDraw(
            "one accuracy only: give more runs, or `latentthought evaluate RUN --control all` (controls)"
        )
    for rows in tasks.values():
        check_together([one for _, point, task in rows for one in point.results(task)])
    figure, axes = _stacked([len(rows) for rows in tasks.values()])
    table: list[tuple[Any, ...]] = []
    for axis, (name, rows) in zip(axes, tasks.items(), strict=True):
        scores = [point.scores[task] for _, point, task in rows]
        horizontal_bars(axis, [label for label, _, _ in rows], scores)
        title(axis, f"{name}{asked(scores)}")
        for (label, _, task), one in zip(rows, scores, strict=True):
            table.append((*task, label, one.value, one.low, one.high, one.questions, one.seeds))
    axes[-1].set_xlabel("accuracy, % (lines: 95 % interval)")
    header = ("task", "control", "run", "accuracy", "low", "high", "questions", "seeds")
    return write(figure, stem, header, table)


def draw_domains(given: Given, stem: Path) -> list[Path]:
    """Accuracy by subject and by level: a panel for each, a row for each value, a dot for each run."""
    found = domains(given)
    figure, axes = _stacked(
        [max(1, round(len(one.values) * max(1.0, 0.42 * len(one.points)))) for one in found]
    )
    handles: dict[str, Any] = {}
    table: list[tuple[Any, ...]] = []
    for axis, one in zip(axes, found, strict=True):
        table += _dots(axis, one, [*given.points], handles)
        title(axis, f"{one.task} by {one.key}")
    axes[-1].set_xlabel("accuracy, % (lines: 95 % interval)")
    legend_below(figure, list(handles.values()), list(handles))
    header = ("task", "key", "value", "run", "accuracy", "low", "high", "questions")
    return write(figure, stem, header, table)


def horizontal_bars(
    axis: Any, labels: Sequence[str], scores: Sequence[Score], colours: Sequence[str] = ()
) -> None:
    """A bar for each score, the first on top, with its interval, its number, and a dot for each seed where there are several."""
    places = list(range(len(labels)))[::-1]
    values = [100 * one.value for one in scores]
    axis.barh(places, values, height=0.62, color=list(colours) or COLOURS[0], zorder=2)
    ends = [list(side) for side in zip(*(one.reach for one in scores), strict=True)]
    axis.errorbar(values, places, xerr=ends, fmt="none", ecolor=INK, capsize=3, linewidth=1.2, zorder=3)
    for place, one in zip(places, scores, strict=True):
        if len(one.each) > 1:  # three seeds should look like three
            dots = [100 * value for value in one.each]
            axis.plot(
                dots, [place] * len(dots), "o", markersize=4, markerfacecolor="white", color=INK, zorder=4
            )
        axis.text(
            100 * max(one.high, one.value) + 1.5, place, f"{100 * one.value:.1f}", va="center", fontsize=9
        )
    axis.set_yticks(places, [wrapped(label) for label in labels], fontsize=9)
    axis.set_ylim(-0.6, len(labels) - 0.4)
    axis.set_xlim(0, 112)
    axis.set_xticks(range(0, 101, 20))
    quiet(axis, "x")


def _dots(axis: Any, one: Domain, points: Sequence[Point], handles: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows = []
    step = min(0.22, 0.72 / max(1, len(one.points)))
    for rank, point in enumerate(one.points):
        index = points.index(point)
        for line, value in enumerate(one.values):
            score = one.scores[point.name].get(value)
            if score is None:
                continue
            place = len(one.values) - 1 - line + step * ((len(one.points) - 1) / 2 - rank)
            handle = axis.errorbar(
                [100 * score.value],
                [place],
                xerr=[[end] for end in score.reach],
                color=colour(index),
                marker=marker(index),
                markersize=5,
                linewidth=1.1,
            )
            handles.setdefault(point.label, handle)
            rows.append(
                (one.task, one.key, value, point.label, score.value, score.low, score.high, score.questions)
            )
    labels = [wrapped(f"{value} ({one.questions[value]})") for value in one.values]
    axis.set_yticks(range(len(labels))[::-1], labels, fontsize=9)
    axis.set_ylim(-0.6, len(labels) - 0.4)
    axis.set_xlim(-2, 102)
    axis.set_xticks(range(0, 101, 20))
    quiet(axis, "x")
    for line in range(1, len(labels)):
        axis.axhline(line - 0.5, color="#F0F0F0", linewidth=0.8, zorder=0)
    return rows


def _stacked(rows: Sequence[int]) -> tuple[Any, list[Any]]:
    """Axes one below the other, as high as their numbers of rows ask for."""
    heights = [0.75 + BAR * count for count in rows]
    figure, grid = pyplot().subplots(
        len(rows),
        1,
        figsize=(7.2, sum(heights) + 0.25),
        squeeze=False,
        layout="constrained",
        height_ratios=heights,
    )
    return figure, [axis for (axis,) in grid]


def asked(scores: Sequence[Score]) -> str:
    """How many questions the scores are of, for a title; nothing where they differ."""
    counts = {one.questions for one in scores if one.questions is not None}
    return f" ({counts.pop():,} questions)" if len(counts) == 1 else ""
