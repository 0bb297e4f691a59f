"""What the points of a sweep found, read from their run folders, and put together setting by setting.

A line of the table is a setting on one task under one control: the mean over its seeds with its intervals (see
`evaluation.replicates`), the difference from the baseline, and what it cost. Without an evaluation the accuracy is the run's own
last validation, of which only the mean is known. Seeds that failed or have not run are counted and never filled in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from latentthought.config import Config
from latentthought.errors import LatentThoughtError
from latentthought.evaluation.measures import correctness
from latentthought.evaluation.replicates import (
    OverSeeds,
    over_seeds,
    over_seeds_difference,
    over_seeds_of_means,
)
from latentthought.evaluation.results import Results, find_results
from latentthought.evaluation.samples import SAMPLES, read_samples
from latentthought.evaluation.statistics import Values
from latentthought.reporting.metrics import read_metrics
from latentthought.sweeping.grid import Choice, Point, Setting, same_but
from latentthought.sweeping.plan import Sweep
from latentthought.sweeping.running import Record, Work

Asked = tuple[str | None, str | None]
# where nothing was evaluated
VALIDATION = "validation_accuracy"


@dataclass(frozen=True)
class Found:
    """What one point left. numbers: of its training; results, right: by task and control, the latter a value a question."""

    point: Point
    record: Record
    finished: bool
    numbers: Mapping[str, float] = field(default_factory=dict)
    results: Mapping[Asked, Results] = field(default_factory=dict)
    right: Mapping[Asked, Values] = field(default_factory=dict)


class Line(Config):
    """A line of the table. settings: axis -> value, as given, of what is swept. seeds: those that the accuracy is of; failed and
    missing: the others. baseline: whether the differences are from it. means: of all else that was measured, over the seeds."""

    settings: dict[str, str]
    task: str | None = None
    control: str | None = None
    seeds: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    baseline: bool = False
    accuracy: OverSeeds | None = None
    difference: OverSeeds | None = None
    loss: OverSeeds | None = None
    means: dict[str, float] = {}


def gather(sweep: Sweep, works: Sequence[Work]) -> list[Found]:
    """What every point has left so far, in the order of the points."""
    return [_found(point, work) for point, work in zip(sweep.points, works, strict=True)]


def lines_of(sweep: Sweep, found: Sequence[Found], baseline: Mapping[str, Choice]) -> list[Line]:
    """The lines of the table, setting by setting. baseline: choices by axis that a setting is compared with, all other axes being
    the same; {}: every setting is compared with the first."""
    by_setting: dict[int, list[Found]] = {}
    settings = sweep.settings
    for one in found:
        by_setting.setdefault(settings.index(one.point.setting), []).append(one)
    lines = []
    for asked in _asked(found):
        for number, setting in enumerate(settings):
            reference = same_but(sweep.axes, setting, baseline) if baseline else settings[0]
            against = by_setting[settings.index(reference)]
            lines.append(_line(sweep, setting, by_setting[number], against, asked, reference == setting))
    return lines


def point_rows(found: Sequence[Found]) -> list[dict[str, Any]]:
    """The points one by one, for `table.json`."""
    return [
        {
            "name": one.point.name,
            "seed": one.point.seed,
            "overrides": list(one.point.overrides),
            "state": state_of(one),
            "error": one.record.error,
            "remark": one.record.remark,
            **one.numbers,
            "results": [
                {
                    "task": task,
                    "control": control,
                    "accuracy": results.accuracy.dump(),
                    "costs": results.costs.dump(),
                }
                for (task, control), results in one.results.items()
            ],
        }
        for one in found
    ]


def state_of(found: Found) -> str:
    """done, failed, stopped, or waiting for a point that has not begun (or whose sweep was killed)."""
    if found.finished:
        return "done"
    return found.record.state if found.record.state in ("failed", "stopped") else "waiting"


def _found(point: Point, work: Work) -> Found:
    record = work.read()
    if not work.folder.is_dir():
        return Found(point, record, False)
    numbers = _training(work.folder, record)
    tasks = [name for name, _ in work.evaluations]
    try:
        files = {path: one for path, one in find_results(work.folder).items() if one.task in tasks}
        results: dict[Asked, Results] = {(one.task, one.control): one for one in files.values()}
        right: dict[Asked, Values] = {
            (one.task, one.control): correctness(read_samples(path.with_name(SAMPLES)))
            for path, one in files.items()
        }
    except LatentThoughtError as error:  # a damaged file of one point must not cost the table of all others
        record = record.replace(state="failed", error=str(error).splitlines()[0])
        return Found(point, record, False, numbers)
    order = sorted(results, key=lambda asked: (tasks.index(str(asked[0])), asked[1] != "none"))
    return Found(
        point,
        record,
        work.finished,
        numbers,
        {asked: results[asked] for asked in order},
        {asked: right[asked] for asked in order},
    )


def _training(run: Path, record: Record) -> dict[str, float]:
    """The last loss and scores of a run, its speed (the median of its lines) and its seconds."""
    try:
        metrics = read_metrics(run)
    except LatentThoughtError:
        return {}
    numbers: dict[str, float] = {}
    for key in ("loss", *metrics.keys("loss_"), *metrics.keys("validation_"), *metrics.keys("train_")):
        value = metrics.last(key)
        if value is not None and not key.endswith("_weighted"):
            numbers[key] = value
    if steps := metrics.last("step"):
        numbers["steps"] = steps
    if rates := metrics.series("tokens_per_second")[1]:
        numbers["tokens_per_second"] = median(rates)
    if record.training_seconds:
        numbers["training_seconds"] = record.training_seconds
    if record.evaluation_seconds:
        numbers["evaluation_seconds"] = record.evaluation_seconds
    return numbers


def _asked(found: Sequence[Found]) -> list[Asked]:
    """Every task and control that any point has results of; (None, None) where none has."""
    asked = list(dict.fromkeys(key for one in found for key in one.results))
    tasks = list(dict.fromkeys(task for task, _ in asked))
    return sorted(asked, key=lambda key: tasks.index(key[0])) or [(None, None)]


def _line(
    sweep: Sweep,
    setting: Setting,
    own: Sequence[Found],
    against: Sequence[Found],
    asked: Asked,
    is_baseline: bool,
) -> Line:
    measured = [one for one in own if _is_measured(one, asked)]
    failed = [one.point.seed for one in own if one not in measured and state_of(one) == "failed"]
    others = {one.point.seed: one for one in against if _is_measured(one, asked)}
    paired = [(one, others[one.point.seed]) for one in measured if one.point.seed in others]
    return Line(
        settings={
            axis.name: choice.text
            for axis, choice in zip(sweep.axes, setting.choices, strict=True)
            if axis.swept
        },
        task=asked[0],
        control=asked[1],
        seeds=tuple(one.point.seed for one in measured),
        failed=tuple(failed),
        missing=tuple(one.point.seed for one in own if one not in measured and one.point.seed not in failed),
        baseline=is_baseline,
        accuracy=_accuracy(measured, asked),
        difference=None if is_baseline else _difference(paired, asked),
        loss=_loss(measured),
        means=_means([{**one.numbers, **_costs(one, asked)} for one in measured]),
    )


def _is_measured(found: Found, asked: Asked) -> bool:
    if asked == (None, None):
        return found.finished
    return asked in found.right


def _accuracy(measured: Sequence[Found], asked: Asked) -> OverSeeds | None:
    if not measured:
        return None
    if asked != (None, None):
        return over_seeds([one.right[asked] for one in measured])
    scores = [one.numbers[VALIDATION] for one in measured if VALIDATION in one.numbers]
    return over_seeds_of_means(scores) if len(scores) == len(measured) else None


def _difference(paired: Sequence[tuple[Found, Found]], asked: Asked) -> OverSeeds | None:
    if not paired:
        return None
    if asked != (None, None):
        return over_seeds_difference(
            [one.right[asked] for one, _ in paired], [other.right[asked] for _, other in paired]
        )
    if not all(VALIDATION in one.numbers for pair in paired for one in pair):
        return None
    return over_seeds_of_means(
        [one.numbers[VALIDATION] - other.numbers[VALIDATION] for one, other in paired], (-1.0, 1.0)
    )


def _loss(measured: Sequence[Found]) -> OverSeeds | None:
    losses = [one.numbers["loss"] for one in measured if "loss" in one.numbers]
    if not losses or len(losses) < len(measured):
        return None
    return over_seeds_of_means(losses, (-math.inf, math.inf))


def _costs(found: Found, asked: Asked) -> dict[str, float]:
    """What an answer cost, and the task's own metrics."""
    results = found.results.get(asked)
    if results is None:
        return {}
    costs = results.costs
    metrics = {name: value.value for name, value in results.metrics.items()}
    return {
        "thoughts": costs.thoughts,
        "tokens": costs.tokens,
        "milliseconds": costs.milliseconds,
        **{name: value for name, value in metrics.items() if name != "accuracy"},
    }


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every number that all rows have."""
    shared = [key for key in (rows[0] if rows else {}) if all(key in row for row in rows)]
    return {key: sum(row[key] for row in rows) / len(rows) for key in shared}
