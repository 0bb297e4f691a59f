"""What a run scored, whoever scored it: the package's own results, answer by answer, and files that lm-eval wrote, as means.

A folder stands for one run: two results of one task in it are an error that names both, but for a task that lm-eval ran again
into the same folder, where the last one counts. Of a task with answers its means are passed over, and of a group of lm-eval's
(mmlu) the group, so that nothing counts twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentthought.errors import ConfigError, DamagedFileError, DataError, MissingFileError, unknown
from latentthought.evaluation.decoding import CONTROLS
from latentthought.evaluation.measures import correctness
from latentthought.evaluation.results import find_results
from latentthought.evaluation.samples import RESULTS, SAMPLES, read_samples
from latentthought.evaluation.statistics import Values
from latentthought.model.locating import near_folders

# length-normalised accuracy where a task has it, as leaderboards do
_ACCURACIES = ("acc_norm", "acc", "exact_match")
# how lm-eval took the answer out of the text, the strictest first; any other one counts where there is none of these
_FILTERS = ("none", "strict-match", "flexible-extract")


@dataclass
class Scores:
    """answers: task -> question -> right or not. means: task -> accuracy and its standard error (NaN where there is none), of
    tasks without answers. objective: of the run's recipe; None where that is not known."""

    answers: dict[str, Values] = field(default_factory=dict)
    means: dict[str, tuple[float, float]] = field(default_factory=dict)
    perplexities: dict[str, float] = field(default_factory=dict)
    objective: Sequence[Mapping[str, Any]] | None = None

    @property
    def tasks(self) -> list[str]:
        return sorted({*self.answers, *self.means, *self.perplexities})


def read_scores(run: str | Path, control: str = "none") -> Scores:
    """What a run folder, a folder of results, or a file of lm-eval's holds.

    Raises `MissingFileError` where there is nothing, `DataError` for several runs in one folder, `DamagedFileError`.
    """
    if control not in CONTROLS:
        raise ConfigError(unknown("control", control, CONTROLS))
    path = Path(run)
    if not path.exists():
        raise MissingFileError(f"no such run: {run}{near_folders(path)}")
    scores = Scores()
    if path.is_dir() or _is_own(path):
        _add_own(scores, path, control)
    _add_lm_eval(scores, [path] if path.is_file() else sorted(path.glob("**/results_*.json")))
    if not scores.tasks:
        raise MissingFileError(
            f"{run}: no results under control {control} here or below; run latentthought evaluate, or lm-eval with --output_path"
        )
    return scores


def _add_own(scores: Scores, path: Path, control: str) -> None:
    places: dict[str, Path] = {}
    for place, results in find_results(path).items():
        if results.control != control:
            continue
        _once(places, results.task, place)
        scores.answers[results.task] = correctness(read_samples(place.with_name(SAMPLES)))
        if (recipe := results.recipe) is not None:
            scores.objective = recipe.get("objective") or ()


def _add_lm_eval(scores: Scores, files: Sequence[Path]) -> None:
    places: dict[str, Path] = {}
    for file in files:
        if (read := _of_lm_eval(file)) is None:
            continue
        groups = read.get("groups") or {}
        for task, metrics in read["results"].items():
            if task in groups or task in scores.answers:
                continue
            if task not in places or places[task].parent != file.parent:
                _once(places, task, file)
            _add_metrics(scores, task, metrics, file)


def _once(places: dict[str, Path], task: str, place: Path) -> None:
    if (other := places.setdefault(task, place)) != place:
        raise DataError(
            f"{task} is in {other} and in {place}: several runs lie below one folder; name one of them"
        )


def _is_own(file: Path) -> bool:
    """Whether `evaluate` wrote a file, under whatever name it lies, and not lm-eval. Raises `DamagedFileError` for neither."""
    if _of_lm_eval(file) is not None:
        return False
    read = json.loads(file.read_bytes())
    if not (isinstance(read, dict) and {"task", "accuracy"} <= read.keys()):
        raise DamagedFileError(
            f"{file}: neither what evaluate writes ({RESULTS}) nor what lm-eval does (an object with `results`: task to metrics)"
        )
    return True


def _of_lm_eval(file: Path) -> Mapping[str, Any] | None:
    """What lm-eval wrote into a file; None for a file of another kind."""
    try:
        read = json.loads(file.read_bytes())
    except ValueError as error:
        raise DamagedFileError(f"{file}: not JSON: {error}") from None
    found = read.get("results") if isinstance(read, dict) else None
    return read if isinstance(found, dict) and all(isinstance(one, dict) for one in found.values()) else None


def _add_metrics(scores: Scores, task: str, metrics: Mapping[str, Any], file: Path) -> None:
    for name in metrics:
        if "perplexity" in name and "stderr" not in name:
            scores.perplexities[f"{task} {name.partition(',')[0]}"] = _number(metrics[name], task, name, file)
    for accuracy in _ACCURACIES:
        named = [name for name in metrics if name.startswith(f"{accuracy},")]
        for name in sorted(named, key=_strictness)[:1]:
            error = metrics.get(name.replace(",", "_stderr,"))
            known = isinstance(error, (int, float)) and math.isfinite(error)
            scores.means[task] = (
                _number(metrics[name], task, name, file),
                float(error) if known else math.nan,  # type: ignore[arg-type]
            )
            return


def _strictness(name: str) -> int:
    rule = name.partition(",")[2]
    return _FILTERS.index(rule) if rule in _FILTERS else len(_FILTERS)


def _number(value: Any, task: str, name: str, file: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DamagedFileError(f"{file}: {task}: {name} is {value!r}, and no finite number")
    if "perplexity" not in name and not 0 <= value <= 1:
        raise DamagedFileError(f"{file}: {task}: {name} is {value!r}; an accuracy lies between 0 and 1")
    return float(value)
