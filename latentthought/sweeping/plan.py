"""What a sweep will do, settled and checked before its first point starts, and kept in `sweep.yaml`.

The recipe of every point is read as `train` would read it, so that the last of a hundred points does not turn out to be
misspelt after a night. `sweep.yaml` holds the keys with their values as they were given, the seeds, how points are evaluated,
and the names of the points. A resume may bring further values, seeds and tasks, which only add to what there is; anything else
makes other points, or numbers that do not belong into one table, and is refused with what differs. Where the recipe itself has
been edited, the points that have begun tell by the `recipe.yaml` in their folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentthought.config import Config, read_yaml, write_yaml
from latentthought.errors import ConfigError, DamagedFileError
from latentthought.evaluation.tasks import load_task
from latentthought.recipe import DESCRIPTIVE, Recipe, load_recipe
from latentthought.sweeping.grid import (
    Axis,
    Identity,
    Point,
    Setting,
    identity,
    points_of,
    read_axes,
    settings_of,
    with_seeds,
)
from latentthought.sweeping.running import POINTS
from latentthought.training.folder import RECIPE_FILE

SETTINGS_FILE = "sweep.yaml"


class EvaluationChoice(Config):
    """How every point is evaluated when it is trained; the same for all. tasks: names or files; None: the task that the recipe's
    own validation uses, if there is one. none: not at all. The others are options of `latentthought evaluate`."""

    tasks: tuple[str, ...] | None = None
    none: bool = False
    limit: int | None = None
    thoughts: int | Literal["auto"] | None = None
    control: str = "none"
    max_new_tokens: int | None = None

    def tasks_of(self, recipe: Recipe) -> tuple[str, ...]:
        """The tasks that the run of a recipe is evaluated on."""
        if self.none:
            return ()
        if self.tasks is not None:
            return self.tasks
        own = recipe.evaluation.task
        return () if own in (None, "file") else (own,)  # `file` has no rows of its own

    def arguments(self) -> list[str]:
        """As options of `latentthought evaluate`."""
        given = {
            "--limit": self.limit,
            "--thoughts": self.thoughts,
            "--control": None if self.control == "none" else self.control,
            "--max-new-tokens": self.max_new_tokens,
        }
        return [text for name, value in given.items() if value is not None for text in (name, str(value))]


class StoredPoint(Config):
    """A point as `sweep.yaml` names it."""

    overrides: tuple[str, ...]
    seed: int


class SweepFile(Config):
    """The contents of `sweep.yaml`. keys: axis -> its values as they were given."""

    recipe: str
    smoke: bool = False
    keys: dict[str, tuple[str, ...]] = {}
    seeds: tuple[int, ...]
    evaluation: EvaluationChoice = EvaluationChoice()
    points: dict[str, StoredPoint] = {}

    def names(self) -> dict[Identity, str]:
        """What the points are called, by what they are."""
        return {identity(point.overrides): name for name, point in self.points.items()}


@dataclass(frozen=True)
class Sweep:
    """A sweep that is ready to start. recipes: of every point, by its name, resolved; tasks: (argument, name) of each task of a
    point, by the point's name."""

    recipe: str
    smoke: bool
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    evaluation: EvaluationChoice
    points: tuple[Point, ...]
    recipes: Mapping[str, Recipe]
    tasks: Mapping[str, tuple[tuple[str, str], ...]]

    @property
    def swept(self) -> list[Axis]:
        return [axis for axis in self.axes if axis.swept]

    @property
    def settings(self) -> list[Setting]:
        return settings_of(self.axes)

    @property
    def size(self) -> str:
        """`4 points: 2 settings under 2 seeds`."""
        counted = (
            (len(self.points), "point"),
            (len(self.settings), "setting"),
            (len(self.seeds), "seed"),
        )
        points, settings, seeds = (f"{count} {name}{'' if count == 1 else 's'}" for count, name in counted)
        return f"{points}: {settings} under {seeds}"

    def file(self) -> SweepFile:
        return SweepFile(
            recipe=self.recipe,
            smoke=self.smoke,
            keys=_keys(self.axes),
            seeds=self.seeds,
            evaluation=self.evaluation,
            points={p.name: StoredPoint(overrides=p.overrides, seed=p.seed) for p in self.points},
        )


def plan_sweep(
    recipe: str,
    arguments: Sequence[str],
    seeds: int | None,
    evaluation: EvaluationChoice,
    smoke: bool = False,
    before: SweepFile | None = None,
) -> Sweep:
    """Everything about a sweep, checked.

    Args:
        recipe: name or file. arguments: `key=value,...`, see `grid`. seeds: how many, from the recipe's own on; None for one.
        before: what the folder of a resumed sweep says; points that are there keep their names.

    Raises `ConfigError` (and what `load_recipe` and `load_task` raise) for anything that does not hold in any of the points.
    """
    axes = read_axes(arguments)
    first = load_recipe(recipe, settings_of(axes)[0].overrides, smoke=smoke).seed
    rest, values = with_seeds(axes, seeds, first)
    points = points_of(rest, values, before.names() if before else {})
    recipes = {point.name: load_recipe(recipe, point.overrides, smoke=smoke) for point in points}
    for name, resolved in recipes.items():
        _check(name, resolved)
    _require_different(recipes)
    if smoke and evaluation.max_new_tokens is None:
        evaluation = evaluation.replace(max_new_tokens=recipes[points[0].name].evaluation.max_new_tokens)
    tasks = {name: _named(evaluation.tasks_of(resolved)) for name, resolved in recipes.items()}
    return Sweep(recipe, smoke, tuple(rest), values, evaluation, tuple(points), recipes, tasks)


def read_sweep(folder: Path) -> SweepFile | None:
    """What the folder of a sweep says of itself; None where nothing has been written yet."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        return None
    try:
        return SweepFile.parse(read_yaml(path), str(path))
    except ConfigError as error:
        raise DamagedFileError(
            f"{error}; this file is written by `latentthought sweep` and not meant to be edited"
        ) from None


def write_sweep(sweep: Sweep, folder: Path) -> None:
    """Write `sweep.yaml`, whole or not at all."""
    write_yaml(folder / SETTINGS_FILE, sweep.file().dump())


def require_same(sweep: Sweep, before: SweepFile, folder: Path) -> None:
    """Raise `ConfigError` naming all in which a resume is not the sweep that the folder holds, or more of it."""
    now = sweep.file()
    differing = [
        f"{name} ({getattr(before, name)} -> {getattr(now, name)})"
        for name in ("recipe", "smoke")
        if getattr(before, name) != getattr(now, name)
    ]
    differing += [
        f"{key}={','.join(before.keys[key])} is left out" for key in before.keys if key not in now.keys
    ]
    differing += [f"{key} is new" for key in now.keys if key not in before.keys]
    if not differing:  # else every point differs
        differing += _left_out(sweep, before)
    differing += _evaluated_otherwise(before.evaluation, now.evaluation, sweep.recipes.values())
    differing += _edited(sweep, folder)
    if differing:
        raise ConfigError(
            f"--resume: not the sweep that {folder / SETTINGS_FILE} describes: {'; '.join(differing)}. "
            "A resume may add values, seeds and tasks; give the rest as it was, or another --output"
        )


def _left_out(sweep: Sweep, before: SweepFile) -> Iterable[str]:
    """Values and seeds of points that are there and are no longer asked for."""
    missing = [seed for seed in before.seeds if seed not in sweep.seeds]
    if missing:
        yield f"seed {', '.join(map(str, missing))} is left out"
    wanted = {identity(point.overrides) for point in sweep.points}
    lost = [
        name
        for name, point in before.points.items()
        if point.seed in sweep.seeds and identity(point.overrides) not in wanted
    ]
    if lost:
        yield f"point {lost[0]}{f' and {len(lost) - 1} more' if len(lost) > 1 else ''} is left out"


def _evaluated_otherwise(
    before: EvaluationChoice, now: EvaluationChoice, recipes: Iterable[Recipe]
) -> Iterable[str]:
    lost = {task for recipe in recipes for task in set(before.tasks_of(recipe)) - set(now.tasks_of(recipe))}
    if lost:
        yield f"--task {', '.join(sorted(lost))} is left out"
    was, will = before.dump(), now.dump()
    for name in ("limit", "thoughts", "control", "max_new_tokens"):
        if was[name] != will[name]:
            yield f"--{name.replace('_', '-')} ({was[name]} -> {will[name]})"


def _edited(sweep: Sweep, folder: Path) -> Iterable[str]:
    """In what the recipe of a point is no longer the one that its run began with; the first such point is enough."""
    for name, recipe in sweep.recipes.items():
        path = folder / POINTS / name / RECIPE_FILE
        if not path.is_file():
            continue
        begun = Recipe.parse(read_yaml(path), str(path))
        if sweep.smoke and recipe.teacher is not None:  # made on the spot
            begun = begun.replace(teacher=recipe.teacher.dump())
        if changed := recipe.differences(begun):
            return [f"the recipe has changed since {name} began: {', '.join(changed)}"]
    return []


def _check(name: str, recipe: Recipe) -> None:
    """What `train` checks before it makes anything."""
    from latentthought.training.float8 import check_float8
    from latentthought.training.strategy import check_strategy

    try:
        recipe.engine.arguments(recipe.training.batch_size, 1)
        check_strategy(recipe)
        check_float8(recipe)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    if recipe.evaluation.task is not None:
        load_task(recipe.evaluation.task)


def _require_different(recipes: Mapping[str, Recipe]) -> None:
    seen: dict[str, str] = {}
    for name, recipe in recipes.items():
        values = {key: value for key, value in recipe.dump().items() if key not in DESCRIPTIVE}
        other = seen.setdefault(json.dumps(values, sort_keys=True), name)
        if other != name:
            raise ConfigError(
                f"the points {other} and {name} are one and the same run: their recipes are equal; leave one of the values out"
            )


def _named(tasks: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Each task as it was given and as its results call it."""
    named = tuple((task, load_task(task).name) for task in tasks)
    names = [name for _, name in named]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--task {name}: given twice, or by two files of one name")
    return named


def _keys(axes: Iterable[Axis]) -> dict[str, tuple[str, ...]]:
    return {axis.name: tuple(choice.text for choice in axis.choices) for axis in axes}
