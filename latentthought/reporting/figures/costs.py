"""Accuracy against what it costs: thoughts, tokens and milliseconds of an answer, steps and seconds of training, parameters.

The Pareto front joins the runs that no other one beats in both: at least as accurate and at most as dear, and better in one of
the two. Parameters are counted in the header of the weights, which is read in microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentthought.errors import NotFoundError
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
from latentthought.reporting.figures.given import Given, NothingToDraw, Run
from latentthought.reporting.figures.points import Point, Score, Task, names_of_groups, shared_tasks

COSTS = {
    "thoughts": "thoughts an answer",
    "tokens": "tokens an answer",
    "milliseconds": "milliseconds an answer",
    "steps": "steps of training",
    "seconds": "seconds of training",
}
# a cost that spans more than this is read on a logarithmic axis
_WIDE = 20


def draw_pareto(given: Given, stem: Path) -> list[Path]:
    """A panel for each task and cost: a mark for each run, and the front."""
    tasks = shared_tasks(given.points, 2)
    if not tasks:
        raise NothingToDraw(
            "two runs with results on the same task are needed"
            if any(p.scores for p in given.points)
            else NO_RESULTS
        )
    wanted = []
    for task, points in tasks.items():
        costs = {point.name: costs_of(point, task) for point in points}
        for name in COSTS:
            known = [point for point in points if name in costs[point.name]]
            if len({costs[point.name][name] for point in known}) > 1:  # a cost that all share orders nothing
                wanted.append((task, name, [(point, costs[point.name][name]) for point in known]))
    if not wanted:
        raise NothingToDraw(
            "the runs cost the same, as far as their results say (thoughts, tokens, milliseconds)"
        )
    figure, axes = panels(len(wanted), height=3.3)
    handles: dict[str, Any] = {}
    table: list[tuple[Any, ...]] = []
    order = [point.name for point in given.points]
    for axis, (task, name, rows) in zip(axes, wanted, strict=True):
        scores = [point.scores[task] for point, _ in rows]
        values = [cost for _, cost in rows]
        front = pareto_front(values, [one.value for one in scores])
        _front(axis, [(values[place], scores[place].value) for place in front])
        for place, ((point, cost), one) in enumerate(zip(rows, scores, strict=True)):
            on_front = place in front
            handle = _mark(axis, cost, one, order.index(point.name), on_front)
            handles.setdefault(point.label, handle)
            table.append((*task, point.label, name, cost, one.value, one.low, one.high, int(on_front)))
        _scale(axis, values)
        axis.set_xlabel(COSTS[name])
        axis.set_ylabel("accuracy, %")
        title(axis, f"{task[0]}: {name} (filled: on the front)")
        quiet(axis)
    legend_below(figure, list(handles.values()), list(handles))
    header = ("task", "control", "run", "cost", "amount", "accuracy", "low", "high", "on_front")
    return write(figure, stem, header, table)


def draw_size(given: Given, stem: Path) -> list[Path]:
    """Accuracy against the number of parameters; runs that differ in nothing but their model are one line."""
    sizes = {
        point.name: size for point in given.points if point.scores and (size := size_of(point)) is not None
    }
    sized = [point for point in given.points if point.name in sizes]
    tasks = {
        task: points
        for task, points in shared_tasks(sized, 2).items()
        if len({sizes[p.name] for p in points}) > 1
    }
    if not tasks:
        raise NothingToDraw(
            "results of models of two sizes are needed, their weights at hand"
            if any(p.scores for p in given.points)
            else NO_RESULTS
        )
    figure, axes = panels(len(tasks), height=3.4)
    handles: dict[str, Any] = {}
    table: list[tuple[Any, ...]] = []
    for axis, (task, points) in zip(axes, tasks.items(), strict=True):
        methods = _methods(points)
        every = [sizes[point.name] for point in points]
        for index, (name, members) in enumerate(methods.items()):
            members = sorted(members, key=lambda point: sizes[point.name])
            own = [sizes[point.name] for point in members]
            scores = [point.scores[task] for point in members]
            handle = axis.errorbar(
                beside(own, every, index, len(methods), logarithmic=True),
                [100 * one.value for one in scores],
                yerr=[list(side) for side in zip(*(one.reach for one in scores), strict=True)],
                color=colour(index),
                linestyle=dash(index),
                marker=marker(index),
                markersize=5,
                linewidth=1.4,
                capsize=3,
            )
            handles.setdefault(name, handle)
            for point, one in zip(members, scores, strict=True):
                table.append(
                    (*task, point.label, name, sizes[point.name], one.value, one.low, one.high, one.seeds)
                )
        axis.set_xscale("log")
        ticks = sorted(set(every))
        if len(ticks) <= 6:
            axis.set_xticks(ticks, [_count(tick) for tick in ticks])
            axis.minorticks_off()
        axis.set_xlabel("parameters")
        axis.set_ylabel("accuracy, % (95 % interval)")
        title(axis, task[0])
        quiet(axis)
    legend_below(figure, list(handles.values()), list(handles))
    header = ("task", "control", "run", "method", "parameters", "accuracy", "low", "high", "seeds")
    return write(figure, stem, header, table)


def costs_of(point: Point, task: Task) -> dict[str, float]:
    """What is known of a point's costs, each the mean over its seeds."""
    results = [found for _, found in point.results(task)]
    found = {
        name: sum(getattr(one.costs, name) for one in results) / len(results)
        for name in ("thoughts", "tokens", "milliseconds")
        if results
    }
    for name, key in (("steps", "step"), ("seconds", "seconds")):
        each = [run.metrics.last(key) for run in point.runs if run.metrics is not None]
        known = [value for value in each if value is not None]
        if known and len(known) == len(each):
            found[name] = sum(known) / len(known)
    return found


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Numbers of the points that no other one beats, the cheapest first; of equal points all.

    One pass over the points in order of cost: a point is on the front where nothing cheaper is as accurate, and nothing of its
    own cost more so.
    """
    order = sorted(range(len(costs)), key=lambda place: (costs[place], -accuracies[place]))
    front: list[int] = []
    for place in order:
        better = not front or accuracies[place] > accuracies[front[-1]]
        if better or (costs[place], accuracies[place]) == (costs[front[-1]], accuracies[front[-1]]):
            front.append(place)
    return front


def size_of(point: Point) -> int | None:
    """Parameters of a point's model; None where its weights are not at hand."""
    return next((size for run in point.runs if (size := parameters_of(run)) is not None), None)


def parameters_of(run: Run) -> int | None:
    """Parameters of a run's model by the header of its weights (tied ones are stored once): what is no parameter is a
    scalar. None where there are no weights."""
    from latentthought.distillation.saved import tensors_in, weight_files

    evaluated = [Path(found.model) for found in run.results.values()]
    for folder in (run.folder / "model", *evaluated):
        if not folder.is_dir():
            continue
        folder = folder / "model" if (folder / "model").is_dir() else folder
        try:
            files = weight_files(folder)
        except NotFoundError:
            continue
        return sum(math.prod(tensor.shape) for file in files for tensor in tensors_in(file) if tensor.shape)
    return None


def _methods(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points by what they have in common beside the model itself."""
    found: dict[Any, list[Point]] = {}
    for point in points:
        # a point without a recipe is like none
        rest = tuple(sorted((k, str(v)) for k, v in point.settings.items() if not k.startswith("model.")))
        found.setdefault(rest or point.name, []).append(point)
    names = names_of_groups([[point.name for point in members] for members in found.values()])
    return dict(zip(names, found.values(), strict=True))


def _mark(axis: Any, cost: float, one: Score, index: int, on_front: bool) -> Any:
    return axis.errorbar(
        [cost],
        [100 * one.value],
        yerr=[[end] for end in one.reach],
        color=colour(index),
        marker=marker(index),
        markersize=6.5 if on_front else 5.5,
        markerfacecolor=colour(index) if on_front else "white",
        linestyle="none",
        linewidth=1,
        capsize=2,
        zorder=3,
    )


def _front(axis: Any, places: Sequence[tuple[float, float]]) -> None:
    axis.plot(
        [cost for cost, _ in places],
        [100 * accuracy for _, accuracy in places],
        color=GREY,
        linewidth=1,
        linestyle="--",
        drawstyle="steps-post",
        zorder=1,
    )


def _scale(axis: Any, costs: Sequence[float]) -> None:
    if min(costs) > 0 and max(costs) / min(costs) > _WIDE:
        axis.set_xscale("log")
    else:
        span = max(costs) - min(costs)
        axis.set_xlim(min(costs) - 0.08 * span, max(costs) + 0.08 * span)


def _count(number: float) -> str:
    """1234567 -> `1.23M`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:g}"
