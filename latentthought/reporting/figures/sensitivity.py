"""Accuracy against what was varied: the one key (alpha, LoRA rank, layers, ...) in which the runs differ, or two of them.

Keys that change together (a weight and one minus it) count as one. Of two free keys the one with more values is the axis, and
each value of the other a line; more than two make no figure, and the message names them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentthought.errors import ConfigError
from latentthought.reporting.figures.bars import NO_RESULTS
from latentthought.reporting.figures.canvas import (
    beside,
    colour,
    dash,
    legend_below,
    marker,
    panels,
    quiet,
    shorten,
    title,
    write,
)
from latentthought.reporting.figures.given import Given, NothingToDraw
from latentthought.reporting.figures.points import Point, shared_tasks

_SHOWN = 6
# numbers that span more than this are spaced by their ratio
_WIDE = 10


def draw_sensitivity(given: Given, stem: Path) -> list[Path]:
    """A panel for each task, over the key in which the points differ."""
    points = [point for point in given.points if point.scores]
    if not points:
        raise NothingToDraw(NO_RESULTS)
    if len(points) < 2:
        raise NothingToDraw(
            "runs with different settings are needed, each with results: `latentthought sweep RECIPE key=a,b,c`"
        )
    free, bound = varied(points)
    tasks = shared_tasks(points, 2)
    if not tasks:
        raise NothingToDraw("no task has results of two of the runs")
    key = free[0]
    figure, axes = panels(len(tasks), height=3.4)
    handles: dict[str, Any] = {}
    table: list[tuple[Any, ...]] = []
    for axis, (task, those) in zip(axes, tasks.items(), strict=True):
        places, labels = _places([point.settings[key] for point in points])
        lines, wide = _lines(those, free), labels is None and _wide(list(places.values()))
        for index, (line, members) in enumerate(lines.items()):
            members = sorted(members, key=lambda point: places[_known(point, key)])
            own = [places[_known(point, key)] for point in members]
            scores = [point.scores[task] for point in members]
            handle = axis.errorbar(
                beside(own, list(places.values()), index, len(lines), wide),
                [100 * one.value for one in scores],
                yerr=[list(side) for side in zip(*(one.reach for one in scores), strict=True)],
                color=colour(index),
                linestyle=dash(index) if labels is None else "none",  # nothing lies between two names
                marker=marker(index),
                markersize=5,
                linewidth=1.4,
                capsize=3,
            )
            handles.setdefault(line, handle)
            for point, one in zip(members, scores, strict=True):
                told = [_told(point.settings[name]) for name in (*free, *bound)]
                table.append(
                    (*task, point.name, *told, one.value, one.low, one.high, one.questions, one.seeds)
                )
        _axis(axis, list(places.values()), labels)
        axis.set_xlabel(shorten(key, 60) + (f"\n(with it {shorten(', '.join(bound), 60)})" if bound else ""))
        axis.set_ylabel("accuracy, % (95 % interval)")
        title(axis, task[0])
        quiet(axis)
    legend_below(figure, list(handles.values()), list(handles))
    header = ("task", "control", "run", *free, *bound, "accuracy", "low", "high", "questions", "seeds")
    return write(figure, stem, header, table)


def varied(points: Sequence[Point]) -> tuple[list[str], list[str]]:
    """The keys in which points differ: one or two that are free, the axis first, and those that change along with them.

    Raises `NothingToDraw` where nothing is known or nothing differs, `ConfigError` for more than two free ones.
    """
    if any(not point.settings for point in points):
        unknown = next(point.name for point in points if not point.settings)
        raise NothingToDraw(f"{unknown} has no recipe.yaml, so nobody knows in what it differs")
    every = dict.fromkeys(key for point in points for key in point.settings)
    if structure := [key for key in every if any(key not in point.settings for point in points)]:
        raise NothingToDraw(
            f"the runs differ in kind, not in a value (only some have {structure[0]}): what they reach is in the ablation"
        )
    columns = {
        key: values for key in every if len(set(values := [_known(point, key) for point in points])) > 1
    }
    if not columns:
        raise NothingToDraw("the runs do not differ in any setting of their recipes")
    free: dict[str, list[str]] = {}
    bound = []
    # the more values, the better an axis; numbers before names
    for key, values in sorted(
        columns.items(), key=lambda item: (-len(set(item[1])), not _numeric(points, item[0]))
    ):
        if any(_together(values, others) for others in free.values()):
            bound.append(key)
        else:
            free[key] = values
    if len(free) > 2:
        named = ", ".join(list(free)[:_SHOWN]) + (
            f" and {len(free) - _SHOWN} more" if len(free) > _SHOWN else ""
        )
        raise ConfigError(
            f"these runs differ in {len(free)} settings that vary by themselves ({named}): give runs that differ in one or two"
        )
    if len(bound) > _SHOWN:
        raise NothingToDraw(
            f"the runs differ in {len(bound) + len(free)} settings at once ({', '.join(bound[:_SHOWN])}, ...): "
            "what they reach is in the ablation"
        )
    return list(free), bound


def _together(values: Sequence[str], others: Sequence[str]) -> bool:
    """Whether each value of one key goes with one value of the other."""
    return len(set(zip(values, others, strict=True))) == len(set(others)) >= len(set(values))


def _lines(points: Sequence[Point], free: Sequence[str]) -> dict[str, list[Point]]:
    if len(free) == 1:
        return {"": list(points)}
    lines: dict[str, list[Point]] = {}
    for point in points:
        lines.setdefault(f"{free[1]} = {_told(point.settings[free[1]])}", []).append(point)
    return lines


def _known(point: Point, key: str) -> str:
    return _told(point.settings[key])


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _numeric(points: Sequence[Point], key: str) -> bool:
    return all(_is_number(point.settings[key]) for point in points)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _places(values: Sequence[Any]) -> tuple[dict[str, float], list[str] | None]:
    """Where each value stands on the axis, and the labels of values that are no numbers."""
    if all(map(_is_number, values)):
        return {_told(value): float(value) for value in values}, None
    names = list(dict.fromkeys(map(_told, values)))
    return {name: float(place) for place, name in enumerate(names)}, names


def _wide(places: Sequence[float]) -> bool:
    return min(places) > 0 and max(places) / min(places) > _WIDE


def _axis(axis: Any, places: Sequence[float], labels: Sequence[str] | None) -> None:
    if labels is not None:
        tilted = sum(map(len, labels)) > 40
        axis.set_xticks(
            places,
            [shorten(label, 24) for label in labels],
            rotation=20 if tilted else 0,
            ha="right" if tilted else "center",
            fontsize=8.5,
        )
        axis.set_xlim(-0.5, len(labels) - 0.5)
        return
    if _wide(places):
        axis.set_xscale("log")
    if len(set(places)) <= 8:
        axis.set_xticks(sorted(set(places)), [f"{place:g}" for place in sorted(set(places))])
        axis.minorticks_off()
