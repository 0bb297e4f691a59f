"""Accuracy against the number of thoughts at inference, also beyond the trained number, which is marked.

One line for each model, from one evaluation for each number: `latentthought evaluate RUN --task NAME --thoughts N --output DIR`.
More thoughts than trained are known to hurt; this figure shows from where on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentthought.data.curriculum import Curriculum
from latentthought.errors import ConfigError
from latentthought.evaluation.results import Results
from latentthought.reporting.figures.bars import NO_RESULTS
from latentthought.reporting.figures.canvas import (
    GREY,
    beside,
    colour,
    dash,
    legend_below,
    marker,
    panels,
    quiet,
    title,
    write,
)
from latentthought.reporting.figures.given import Given, NothingToDraw
from latentthought.reporting.figures.points import check_together


@dataclass(frozen=True)
class Line:
    """One model on one task: number of thoughts -> results. trained: the number that its last stage trained with, if known."""

    name: str
    task: str
    by_number: Mapping[float, Results]
    trained: int | None


def draw_thoughts(given: Given, stem: Path) -> list[Path]:
    """A panel for each task, a line for each model that was asked for several numbers of thoughts."""
    lines = lines_of(given)
    if not lines:
        raise NothingToDraw(
            "no model has results with two numbers of thoughts: "
            "`latentthought evaluate RUN --task NAME --thoughts N --output results/N` for several N"
            if any(run.results for run in given.runs)
            else NO_RESULTS
        )
    tasks = list(dict.fromkeys(line.task for line in lines))
    names = list(dict.fromkeys(line.name for line in lines))
    figure, axes = panels(len(tasks), height=3.4)
    handles: dict[str, Any] = {}
    table: list[tuple[Any, ...]] = []
    for axis, task in zip(axes, tasks, strict=True):
        those = [line for line in lines if line.task == task]
        for line in those:
            every = [number for one in those for number in one.by_number]
            places = beside(list(line.by_number), every, those.index(line), len(those))
            handles.setdefault(line.name, _draw(axis, line, places, names.index(line.name)))
            table += [
                (
                    task,
                    line.name,
                    number,
                    "" if line.trained is None else line.trained,
                    "" if line.trained is None else int(number > line.trained),
                    found.accuracy.value,
                    found.accuracy.low,
                    found.accuracy.high,
                    found.accuracy.n,
                )
                for number, found in line.by_number.items()
            ]
        _mark_trained(axis, those)
        axis.set_xlabel("thoughts an answer")
        axis.set_ylabel("accuracy, % (95 % interval)")
        axis.set_ylim(-3, 103)
        axis.xaxis.get_major_locator().set_params(integer=True)
        title(axis, task)
        quiet(axis)
    legend_below(figure, list(handles.values()), list(handles))
    header = ("task", "model", "thoughts", "trained_with", "beyond", "accuracy", "low", "high", "questions")
    return write(figure, stem, header, table)


def lines_of(given: Given) -> list[Line]:
    """The models with at least two numbers of thoughts on a task, without a control."""
    found: dict[tuple[str, str], list[tuple[Path, Results]]] = {}
    for run in given.runs:
        for path, results in run.results.items():
            if results.control == "none" and isinstance(results.settings.get("thoughts"), int | None):
                weights = str(results.settings.get("weights") or results.model)
                found.setdefault((weights, results.task), []).append((path, results))
    lines = []
    for (_, task), those in found.items():
        by_number = {_number(results): results for _, results in those}
        if len(by_number) < 2:
            continue
        check_together(those)
        trained = next((n for _, one in those if (n := trained_thoughts(one.recipe)) is not None), None)
        lines.append(Line(_name(those[0][1]), task, dict(sorted(by_number.items())), trained))
    return _told_apart(lines)


def trained_thoughts(recipe: Mapping[str, Any] | None) -> int | None:
    """How many thoughts the last stage of a recipe has; None where there is no recipe or it is of another version."""
    try:
        return None if recipe is None else Curriculum.parse(recipe["curriculum"]).thoughts(-1)
    except (ConfigError, KeyError):
        return None


def _number(results: Results) -> float:
    """What was asked for; without that, what the answers had: the number of the training."""
    asked = results.settings.get("thoughts")
    return float(results.costs.thoughts if asked is None else asked)


def _name(results: Results) -> str:
    path = Path(results.model)
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def _told_apart(lines: Sequence[Line]) -> list[Line]:
    """Models of one folder name get a number."""
    seen: dict[tuple[str, str], int] = {}
    named = []
    for line in lines:
        count = seen[line.name, line.task] = seen.get((line.name, line.task), 0) + 1
        name = line.name if count == 1 else f"{line.name} ({count})"
        named.append(Line(name, line.task, line.by_number, line.trained))
    return named


def _draw(axis: Any, line: Line, places: Sequence[float], index: int) -> Any:
    estimates = [found.accuracy for found in line.by_number.values()]
    return axis.errorbar(
        places,
        [100 * one.value for one in estimates],
        yerr=[
            [100 * max(0.0, one.value - one.low) for one in estimates],
            [100 * max(0.0, one.high - one.value) for one in estimates],
        ],
        color=colour(index),
        linestyle=dash(index),
        marker=marker(index),
        markersize=5,
        linewidth=1.4,
        capsize=3,
    )


def _mark_trained(axis: Any, lines: Sequence[Line]) -> None:
    """A line at the trained number where the models share it, and grey ground beyond it."""
    trained = {line.trained for line in lines}
    numbers = [number for line in lines for number in line.by_number]
    room = 0.04 * (max(numbers) - min(numbers))
    axis.set_xlim(min(numbers) - room, max(numbers) + room)
    if len(trained) != 1 or None in trained:
        return
    (number,) = trained
    axis.axvline(number, color=GREY, linewidth=1, linestyle=":", zorder=1)
    left, right = axis.get_xlim()
    if number < right:
        axis.axvspan(number, right, color="#F3F3F3", zorder=0)
    axis.annotate(
        f"trained: {number}",
        (number, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center" if left + 0.1 * (right - left) < number < right - 0.1 * (right - left) else "right",
        fontsize=8,
        color="#666666",
    )
