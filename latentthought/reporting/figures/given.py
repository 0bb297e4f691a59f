"""What `plot` was given, read once: run folders, metrics files, results, sweeps; and what each run is called.

A run is whatever stands in one folder: its metrics, its results, its recipe, each of them optional (an evaluation into a folder
of its own has no metrics, a file of metrics no results). A folder that is none itself stands for the runs below it, as a
sweep's or the quickstart's. What is damaged is an error at once; what is not there is only missed by the figures that need it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.config import read_yaml
from latentthought.errors import DataError, MissingFileError, UserError
from latentthought.evaluation.results import Results
from latentthought.evaluation.samples import RESULTS
from latentthought.model.locating import near_folders
from latentthought.reporting.figures.points import Point, grouped
from latentthought.reporting.metrics import FILE_NAME, RunMetrics, read_metrics

if TYPE_CHECKING:
    from latentthought.distillation.similarity import Similarity

RECIPE = "recipe.yaml"
_ANSWERS = "responses.jsonl"


class NothingToDraw(UserError):
    """A figure whose numbers none of the given runs has: what is missing, and the command that makes it."""


@dataclass(frozen=True)
class Run:
    """What one folder holds. name: tells it from the other runs given. results: by file. recipe: resolved, as plain values."""

    name: str
    folder: Path
    metrics: RunMetrics | None = None
    results: Mapping[Path, Results] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Given:
    """All runs, in the order given.

    similarity: compares the layers of a run's model with its teacher's; None where no model is to be run.
    """

    runs: tuple[Run, ...]
    similarity: Callable[[Run], Similarity] | None = None

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """Runs that differ in nothing but their seed are one point."""
        return tuple(grouped(self.runs))

    @property
    def trained(self) -> tuple[Run, ...]:
        """The runs that have metrics."""
        return tuple(run for run in self.runs if run.metrics is not None)


@dataclass
class _Found:
    """What was found of a run before anything is read."""

    metrics: Path | None
    results: list[Path]


def read_given(paths: Iterable[str | Path], similarity: Callable[[Run], Similarity] | None = None) -> Given:
    """Read everything that `paths` mean.

    Raises `MissingFileError` for a path without numbers, `DataError` for a file of another kind, `DamagedFileError` naming file
    and line for one that no longer reads.
    """
    found: dict[Path, tuple[Path, _Found]] = {}
    for path in map(Path, paths):
        _add(found, _look(path))
    return Given(tuple(_read(dict(found.values()))), similarity)


def _read(found: Mapping[Path, _Found]) -> Iterable[Run]:
    for name, (folder, parts) in zip(distinct_names(list(found)), found.items(), strict=True):
        results = {path: Results.load(path) for path in sorted(parts.results)}
        metrics = None if parts.metrics is None else RunMetrics(name, read_metrics(parts.metrics).rows)
        recipe: Mapping[str, Any] | None = None
        if (folder / RECIPE).is_file():
            recipe = read_yaml(folder / RECIPE)
        else:
            recipe = next((one.recipe for one in results.values() if one.recipe), None)
        yield Run(name, folder, metrics, results, recipe)


def _add(found: dict[Path, tuple[Path, _Found]], more: Mapping[Path, _Found]) -> None:
    """found: by what the path of a folder resolves to, since a run may be given twice, by a link too."""
    for folder, parts in more.items():
        _, known = found.setdefault(folder.resolve(), (folder, _Found(None, [])))
        known.metrics = known.metrics or parts.metrics
        there = {path.resolve() for path in known.results}
        known.results += [path for path in parts.results if path.resolve() not in there]


def _look(path: Path) -> dict[Path, _Found]:
    """What a path means: run folder -> its files."""
    if path.is_dir():
        return _below(path)
    if not path.exists():
        raise MissingFileError(
            f"no such folder: {path}{near_folders(path)} (so no {FILE_NAME}; give a run folder, one of results, or a sweep's)"
        )
    if path.suffix == ".jsonl":
        if path.name.startswith("samples"):
            raise DataError(f"{path}: these are samples; give the {RESULTS} beside them")
        return {path.parent: _Found(path, [])}
    if path.suffix == ".json":
        return {run_of(path): _Found(None, [path])}
    raise DataError(f"{path}: neither a {FILE_NAME} nor a {RESULTS}")


def _below(folder: Path) -> dict[Path, _Found]:
    metrics = folder / FILE_NAME
    if metrics.is_file():
        below = (folder / "results").glob(f"**/{RESULTS}") if (folder / "results").is_dir() else ()
        return {folder: _Found(metrics, list(below))}
    found = {file.parent: _Found(file, []) for file in _sorted(folder, FILE_NAME)}
    for file in _sorted(folder, RESULTS):
        run = run_of(file)
        # a teacher's answers are rows to train on, and no score; they lie among the runs that train on them
        if run == folder or not (run / _ANSWERS).is_file():
            found.setdefault(run, _Found(None, [])).results.append(file)
    if not found:
        state = "the run has written no numbers yet" if (folder / RECIPE).is_file() else "nor below it"
        raise MissingFileError(
            f"no {FILE_NAME} in {folder}, and no {RESULTS}: {state}; `latentthought train` writes the one, "
            "`latentthought evaluate` the other"
        )
    return found


def _sorted(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"**/{name}"), key=lambda file: [natural(part) for part in file.parts])


def run_of(file: Path) -> Path:
    """The run that a results file belongs to: what holds `results/<task>/<control>/`; else where the file lies."""
    if file.name != RESULTS:
        return file.with_suffix("")  # put away under a name of its own
    parts = file.parent.parts
    places = [place for place, part in enumerate(parts[:-1]) if part == "results"]
    return Path(*parts[: places[-1]]) if places else file.parent


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key: `rank-2` before `rank-16`."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.casefold()) for part in parts if part]


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """For each folder the shortest end of its path that no other one has."""
    parts = [folder.resolve().parts for folder in folders]
    lengths = [1] * len(parts)
    while True:
        names = [str(Path(*part[-length:])) for part, length in zip(parts, lengths, strict=True)]
        twice = [place for place, name in enumerate(names) if names.count(name) > 1]
        longer = [place for place in twice if lengths[place] < len(parts[place])]
        if not longer:
            return names
        for place in longer:
            lengths[place] += 1
