"""Points of a figure: runs that differ in nothing but their seed are one, with an interval over the seeds.

A single run keeps the interval of its evaluation (over questions). Several seeds get Student's t over the accuracies of the
trainings: what is asked of them is what another training would give, and that varies more than the questions do.
Before results are drawn together they are compared: task version, grading, questions and samples have to be the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.errors import ConfigError, DataError
from latentthought.evaluation.replicates import student
from latentthought.evaluation.results import Results
from latentthought.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from latentthought.reporting.figures.given import Run

Task = tuple[str, str]
"""(task, control)."""

# settings that say how, where or under what name a run was made, and not what it trained
_PASSED_OVER = re.compile(
    r"(name|description|extends|seed|smoke|engine|evaluation)(\.|$)"
    r"|training\.(bad_steps|keep_last|keep_best|best_by|final_model|log_every|save_every|report_to|run_name|gradient_norms)(\.|$)"
    r"|teacher\.((responses|cache)\.path|device|batch_size|sharded)$"
)
_MADE_UNDER = ("thoughts", "mix_ratio", "samples", "temperature")


@dataclass(frozen=True)
class Score:
    """An accuracy with its interval. questions: None where it is not known. each: those of the trainings that it is a mean of."""

    value: float
    low: float
    high: float
    questions: int | None = None
    each: tuple[float, ...] = ()

    @classmethod
    def of(cls, found: Sequence[Estimate]) -> Score:
        """Of one training, or of several seeds."""
        values = [one.value for one in found]
        low, high = student(values) or (found[0].low, found[0].high)
        return cls(sum(values) / len(values), max(0.0, low), min(1.0, high), found[0].n, tuple(values))

    @property
    def seeds(self) -> int:
        """Trainings that it is the mean of."""
        return max(1, len(self.each))

    @property
    def reach(self) -> tuple[float, float]:
        """How far the interval goes below and above the value, in percent: what matplotlib calls an error."""
        return 100 * max(0.0, self.value - self.low), 100 * max(0.0, self.high - self.value)


@dataclass(frozen=True)
class Point:
    """One point: settings (the flat recipe, or what a sweep changed), its runs, and accuracies by task and control."""

    name: str
    settings: Mapping[str, Any]
    runs: tuple[Run, ...]
    scores: Mapping[Task, Score] = field(default_factory=dict)

    def results(self, task: Task) -> list[tuple[Path, Results]]:
        """The results of its runs on a task under a control, one of each run. Raises `DataError` for a run with two: they are no
        two trainings, and neither is more its score than the other."""
        results = []
        for run in self.runs:
            own = [(path, one) for path, one in run.results.items() if (one.task, one.control) == task]
            if len(own) > 1:
                raise DataError(
                    f"{run.name} has two results of {task[0]}, {own[0][0]} and {own[1][0]}: give the folder of one of them "
                    "(--figure thoughts draws several numbers of thoughts)"
                )
            results += own
        return results

    @property
    def label(self) -> str:
        """Its name, with the number of seeds where there are several."""
        return f"{self.name} ({len(self.runs)} seeds)" if len(self.runs) > 1 else self.name


def grouped(runs: Sequence[Run]) -> list[Point]:
    """Points of runs: one for all that differ in their seed alone, in the order of their first runs."""
    groups: dict[Any, list[Run]] = {}
    settings: dict[Any, Mapping[str, Any]] = {}
    for run in runs:
        flat = {} if run.recipe is None else flat_recipe(run.recipe)
        key: Any = run.folder if not flat else (json.dumps(flat, sort_keys=True), _made_under(run))
        settings[key] = flat
        groups.setdefault(key, []).append(run)
    parts = []
    for key, members in groups.items():
        seeds = {(run.recipe or {}).get("seed") for run in members}
        # two runs of one seed are no two trainings
        together = [members] if len(seeds) == len(members) else [[run] for run in members]
        parts += [(settings[key], part) for part in together]
    names = names_of_groups([[run.name for run in part] for _, part in parts])
    return [
        Point(name, values, tuple(part), _scores(part))
        for name, (values, part) in zip(names, parts, strict=True)
    ]


def _scores(runs: Sequence[Run]) -> dict[Task, Score]:
    found: dict[Task, list[Estimate]] = {}
    for run in runs:
        for results in run.results.values():
            found.setdefault((results.task, results.control), []).append(results.accuracy)
    return {task: Score.of(estimates) for task, estimates in found.items()}


def _made_under(run: Run) -> str:
    asked = {
        (found.task, *(str(found.settings.get(name)) for name in _MADE_UNDER))
        for found in run.results.values()
    }
    return repr(sorted(asked))


def names_of_groups(groups: Sequence[Sequence[str]]) -> list[str]:
    """What each group of runs is called, given their names, all of them different: what these have in common, or the name of
    the first one where another group would be called the same."""
    common = [common_name(names) for names in groups]
    runs = {name for names in groups for name in names}
    return [
        names[0] if common.count(name) > 1 or (name in runs and name not in names) else name
        for name, names in zip(common, groups, strict=True)
    ]


def common_name(names: Sequence[str]) -> str:
    """What runs are called together, without a seed or number at its end: in one folder what their names begin with, in several
    what they end with (`ce` for `depth/ce-1` and `width/ce-2`); without either the name of the first one."""
    if len(names) == 1:
        return names[0]
    paths = [Path(name).parts for name in names]
    if len({parts[:-1] for parts in paths}) == 1:
        letters = zip(*names, strict=False)
        found = _without_seed("".join(group[0] for group in takewhile(_alike, letters)))
    else:
        ends = zip(*((_without_seed(last), *reversed(folders)) for *folders, last in paths), strict=False)
        found = "/".join(reversed([group[0] for group in takewhile(_alike, ends) if group[0]]))
    return found or names[0]


def _alike(group: tuple[str, ...]) -> bool:
    return len(set(group)) == 1


def _without_seed(name: str) -> str:
    return re.sub(r"([-_., /]*(seed|s)?[-_. =]*\d*)$", "", name)


def flat_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as dotted keys and plain values, defaults filled in, without what changes nothing that is trained."""
    from latentthought.recipe import Recipe

    try:
        values: Mapping[str, Any] = Recipe.parse(recipe).dump()
    except ConfigError:  # of another version, with other keys
        values = recipe
    return {key: value for key, value in _flat(values, "") if not _PASSED_OVER.match(key)}


def _flat(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{place}")
    else:
        yield path, value if isinstance(value, (str, int, float, bool, type(None))) else json.dumps(value)


def shared_tasks(points: Sequence[Point], least: int = 1, control: str = "none") -> dict[Task, list[Point]]:
    """Each task under a control, with the points that have it, where at least `least` do.

    Raises `ConfigError` for results that cannot stand in one figure, naming what differs.
    """
    tasks = dict.fromkeys(task for point in points for task in point.scores if task[1] == control)
    found = {task: [point for point in points if task in point.scores] for task in tasks}
    found = {task: those for task, those in found.items() if len(those) >= least}
    for task, those in found.items():
        check_together([one for point in those for one in point.results(task)])
    return found


def check_together(results: Sequence[tuple[Path, Results]]) -> None:
    """Raise `ConfigError` where results of one task were not made in the same way: version, grading, questions, samples."""
    if not results:
        return
    first_path, first = results[0]
    wanted = _made_by(first)
    for path, found in results[1:]:
        for name, value in _made_by(found).items():
            if value != wanted.get(name):
                raise ConfigError(
                    f"these results cannot stand in one figure: {found.task}, {name} is {_told(wanted.get(name))} in "
                    f"{first_path} and {_told(value)} in {path}; evaluate both in the same way"
                )


def _made_by(results: Results) -> dict[str, Any]:
    # what ends the thoughts is the model's own
    grading = {name: value for name, value in results.grading.items() if name != "thought_ends"}
    return {
        "task version": results.version,
        "the number of questions": results.accuracy.n,
        **{f"grading.{key}": value for key, value in _flat(grading, "")},
        "samples": results.settings.get("samples"),
        "temperature": results.settings.get("temperature"),
        "the data": results.data.get("fingerprint"),
    }


def _told(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else repr(value)
