"""A radar: one axis for each task (or, of a single task, for each subject), a polygon for each run, whiskers for the intervals.

Good for the shape of a few runs over three to a dozen axes; whoever wants to read numbers takes the panels by subject.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentthought.reporting.figures.bars import NO_RESULTS
from latentthought.reporting.figures.canvas import (
    PALE,
    colour,
    dash,
    legend_below,
    marker,
    pyplot,
    shorten,
    wrapped,
    write,
)
from latentthought.reporting.figures.domains import domains
from latentthought.reporting.figures.given import Given, NothingToDraw
from latentthought.reporting.figures.points import Point, Score, shared_tasks

LEAST, MOST = 3, 14


def draw_radar(given: Given, stem: Path) -> list[Path]:
    """The runs over the tasks that all of them have; with fewer than three, over the groups of one task."""
    if not any(point.scores for point in given.points):
        raise NothingToDraw(NO_RESULTS)
    what, axes, scores = _axes(given)
    points = [point for point in given.points if point.name in scores]
    figure = pyplot().figure(figsize=(6.4, 5.6), layout="constrained")
    axis = figure.add_subplot(projection="polar")
    axis.set_theta_offset(math.pi / 2)
    axis.set_theta_direction(-1)
    angles = [2 * math.pi * place / len(axes) for place in range(len(axes))]
    handles: dict[str, Any] = {}
    table: list[tuple[Any, ...]] = []
    for index, point in enumerate(points):
        found = scores[point.name]
        values = [100 * found[name].value for name in axes]
        (handle,) = axis.plot(
            [*angles, angles[0]],
            [*values, values[0]],
            color=colour(index),
            linestyle=dash(index),
            marker=marker(index),
            markersize=4.5,
            linewidth=1.5,
        )
        # beside each other, so that the whiskers of several runs can be told apart
        shift = 0.035 * (index - (len(points) - 1) / 2)
        for angle, name in zip(angles, axes, strict=True):
            ends = (100 * found[name].low, 100 * found[name].high)
            axis.plot([angle + shift] * 2, ends, color=colour(index), linewidth=0.9, alpha=0.7)
        handles[point.label] = handle
        table += [
            (
                what,
                name,
                point.label,
                found[name].value,
                found[name].low,
                found[name].high,
                found[name].questions,
            )
            for name in axes
        ]
    axis.set_ylim(0, 100)
    axis.set_yticks([25, 50, 75, 100], ["25", "50", "75", "100 %"], fontsize=7, color="#666666")
    axis.set_rlabel_position(180 / len(axes))
    axis.set_xticks(angles, [wrapped(name, 16) for name in axes], fontsize=9)
    axis.tick_params(axis="x", pad=8)
    for label, angle in zip(axis.get_xticklabels(), angles, strict=True):
        label.set_horizontalalignment(_side(angle))
    axis.grid(color=PALE, linewidth=0.8)
    axis.spines["polar"].set_color(PALE)
    figure.suptitle(shorten(f"accuracy by {what}", 60), fontsize=10, x=0.02, ha="left")
    legend_below(figure, list(handles.values()), list(handles))
    header = ("axes", "axis", "run", "accuracy", "low", "high", "questions")
    return write(figure, stem, header, table)


def _axes(given: Given) -> tuple[str, Sequence[str], Mapping[str, Mapping[str, Score]]]:
    """What the axes are, their names, and the accuracies of each point that has all of them."""
    by_task: dict[str, dict[str, Score]] = {}
    members: list[Point] = list(given.points)
    for task, points in shared_tasks(given.points).items():
        by_task[task[0]] = {point.name: point.scores[task] for point in points}
    tasks = list(by_task)
    if len(tasks) >= LEAST:
        whole = [point.name for point in members if all(point.name in by_task[task] for task in tasks)]
        if whole:
            return (
                "task",
                tasks[:MOST],
                {name: {task: by_task[task][name] for task in tasks} for name in whole},
            )
    try:
        found = domains(given)
    except NothingToDraw:
        found = []
    for one in found:
        if LEAST <= len(one.values) <= MOST:
            whole = [
                name for name, scores in one.scores.items() if all(value in scores for value in one.values)
            ]
            if whole:
                return f"{one.key}, {one.task}", one.values, {name: one.scores[name] for name in whole}
    raise NothingToDraw(
        f"three tasks that a run has results of, or a task with {LEAST} to {MOST} subjects, are needed: "
        "`latentthought evaluate RUN --suite logic`"
    )


def _side(angle: float) -> str:
    """On which side of a label its axis ends."""
    across = math.sin(angle)
    return "center" if abs(across) < 0.1 else "left" if across > 0 else "right"
