"""A suite: several tasks that are run and reported together, `evals/suites/*.yaml`.

The macro average counts every task the same, whatever its size: 200 grids weigh as much as 5,000 contest problems. Its interval
adds the distances of the tasks' own intervals in squares (MOVER; Zou and Donner 2008), which keeps them asymmetric and needs
the samples of no task. Rejected: the average over all questions (the largest task then is the result).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from latentthought.config import Config, read_yaml
from latentthought.errors import ConfigError
from latentthought.evaluation.results import Results
from latentthought.evaluation.samples import write_json
from latentthought.evaluation.statistics import Estimate
from latentthought.evaluation.tables import plain_table, spanned
from latentthought.evaluation.tasks import TaskConfig, load_task
from latentthought.resources import find_suite


class Member(Config):
    """A task of a suite, by name or file; `changes` are laid over its values (`data: {limit: 200}`)."""

    task: str
    changes: dict[str, Any] = {}


class SuiteConfig(Config):
    """Several tasks. tasks: names, or a name with changes."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    tasks: tuple[str | Member, ...] = Field(min_length=1)

    @field_validator("tasks")
    @classmethod
    def _all_members(cls, tasks: tuple[str | Member, ...]) -> tuple[str | Member, ...]:
        return tuple(Member(task=task) if isinstance(task, str) else task for task in tasks)

    def load(self, overrides: Sequence[str] = ()) -> list[TaskConfig]:
        """The tasks, each with its own changes and the overrides of all. Raises `ConfigError` when two have one name: their
        results would lie in one folder."""
        members = [Member(task=task) if isinstance(task, str) else task for task in self.tasks]
        loaded = [load_task(member.task, overrides, member.changes) for member in members]
        names = [task.name for task in loaded]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"task {name!r} is given twice; a task can be in a suite once")
        return loaded


class SuiteResults(Config):
    """Accuracy of every task of a suite under one control, and their macro average."""

    suite: str
    model: str
    control: str
    tasks: dict[str, Estimate]
    macro: Estimate

    def save(self, output: Path) -> Path:
        """Write `results/<suite>.suite.json` below an output folder, whole or not at all."""
        path = output / "results" / f"{self.suite}.suite.json"
        write_json(path, self.dump())
        return path


def load_suite(suite: str | Path) -> SuiteConfig:
    """A suite by name or path. Raises `NotFoundError` (near misses), `MissingFileError`, `ConfigError`."""
    path = find_suite(str(suite))
    values = read_yaml(path)
    if not values:
        raise ConfigError(f"{path}: the file is empty; a suite has a name and tasks")
    if "tasks" not in values and "data" in values:
        raise ConfigError(f"{path}: this is a task, not a suite; evaluate it with --task {suite}")
    return SuiteConfig.parse(values, str(path))


def macro_average(accuracies: Mapping[str, Estimate]) -> Estimate:
    """The mean of the tasks' accuracies with its 95 % interval; n: all their questions."""
    found = list(accuracies.values())
    mean = sum(task.value for task in found) / len(found)
    below = math.hypot(*(task.value - task.low for task in found)) / len(found)
    above = math.hypot(*(task.high - task.value for task in found)) / len(found)
    return Estimate(
        value=mean, low=max(0.0, mean - below), high=min(1.0, mean + above), n=sum(task.n for task in found)
    )


def summarize_suite(suite: str, results: Sequence[Results]) -> SuiteResults:
    """The results of several tasks under one control as those of a suite."""
    accuracies = {row.task: row.accuracy for row in results}
    first = results[0]
    return SuiteResults(
        suite=suite,
        model=first.model,
        control=first.control,
        tasks=accuracies,
        macro=macro_average(accuracies),
    )


def render_suite(suite: SuiteResults) -> Any:
    """A rich table: a line per task, and their macro average."""
    table = plain_table(f"{suite.suite} ({suite.control})")
    table.add_column("task")
    table.add_column("accuracy (95 %)", justify="right")
    table.add_column("questions", justify="right")
    for name, accuracy in {**suite.tasks, "macro average": suite.macro}.items():
        table.add_row(name, spanned(accuracy), str(accuracy.n))
    return table
