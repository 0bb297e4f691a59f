"""What an evaluation found: accuracy with its interval, by group, with its costs and all that it takes to repeat it.

Layout of a run folder: `results/<task>/<control>/{results.json, samples.jsonl, settings.json}`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from latentthought.config import Config
from latentthought.errors import ConfigError, DamagedFileError
from latentthought.evaluation.contamination import Contamination
from latentthought.evaluation.generation import UNFIT
from latentthought.evaluation.measures import PolicyOf, correctness, extraction_correctness, measure
from latentthought.evaluation.samples import RESULTS, Sample, read_json, write_json
from latentthought.evaluation.statistics import Estimate, PairedDifference, estimate


class Costs(Config):
    """Means per answer: thoughts, new tokens, milliseconds of wall time; seconds: all answers together; peak_memory: the most
    bytes that one device held (of a CPU run: the process), None where it was not measured."""

    thoughts: float
    tokens: float
    milliseconds: float
    seconds: float
    peak_memory: int | None = None


class Counts(Config):
    """Samples by verdict. no_answer: those without any answer; unfit: of these, the prompts that the context has no room for."""

    correct: int
    wrong: int
    ungradable: int
    no_answer: int
    unfit: int = 0


class Results(Config):
    """One task under one control. `accuracy` is over all questions: a missing answer is not right.

    metrics: further means by name; with several samples a question, avg@n, pass@k and maj@k for k = 2, 4, ... n are among them.
    extractions: accuracy under `strict` (boxed answers only) and `flexible` extraction of the same completions. rules: samples by
    the rule that found their answer (`none`: no answer). groups: key (subject, level) -> value -> accuracy. against_none: the
    run without a control minus this one, paired, where there was one. contamination: what the training data holds of the rows.
    settings: what the model was asked (thoughts, samples, temperature, ...).
    controls: with `control="all"`, every control by name; not saved here, each has its own file.
    """

    task: str
    version: int
    control: str
    model: str
    accuracy: Estimate
    counts: Counts
    metrics: dict[str, Estimate] = {}
    extractions: dict[str, Estimate] = {}
    rules: dict[str, int] = {}
    groups: dict[str, dict[str, Estimate]] = {}
    costs: Costs
    against_none: PairedDifference | None = None
    contamination: Contamination | None = None
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    grading: dict[str, Any] = {}
    versions: dict[str, str] = {}
    seed: int = 0
    git: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None
    controls: dict[str, Results] = Field(default={}, exclude=True)

    def save(self, folder: Path) -> Path:
        """Write `results.json` into a folder, whole or not at all."""
        write_json(folder / RESULTS, self.dump())
        return folder / RESULTS

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read a `results.json`. Raises `MissingFileError` or `DamagedFileError`."""
        try:
            return cls.parse(read_json(path), str(path))
        except ConfigError as error:
            raise DamagedFileError(str(error)) from error


def summarize(
    samples: Sequence[Sample],
    metrics: Iterable[str],
    policy_of: PolicyOf | None = None,
    peak_memory: int | None = None,
) -> dict[str, Any]:
    """The measured part of `Results`, as fields: accuracy, counts, metrics, extractions, rules, groups, costs.

    policy_of: the grading policy of a sample's row, by which the answers of one question vote together (None: the default one).
    peak_memory: bytes, for the costs. Raises `ConfigError` for a metric `...@K` over more samples than a question has.
    """
    total = max(1, len(samples))
    status = Counter(sample.verdict.status for sample in samples)
    milliseconds = sum(sample.milliseconds for sample in samples)
    groups: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        for key, value in sample.groups.items():
            groups[key][value].append(sample)
    extractions = {kind: extraction_correctness(samples, kind) for kind in ("strict", "flexible")}
    return {
        "accuracy": estimate(correctness(samples)),
        "counts": Counts(
            correct=status["correct"],
            wrong=status["wrong"],
            ungradable=status["ungradable"],
            no_answer=sum(sample.extraction.answer is None for sample in samples),
            unfit=sum(sample.verdict.reason.startswith(UNFIT) for sample in samples),
        ),
        "metrics": {name: estimate(values) for name, values in measure(samples, metrics, policy_of).items()},
        "extractions": {kind: estimate(values) for kind, values in extractions.items() if values},
        "rules": dict(Counter(sample.extraction.rule for sample in samples).most_common()),
        "groups": {
            key: {value: estimate(correctness(rows)) for value, rows in sorted(values.items())}
            for key, values in groups.items()
        },
        "costs": Costs(
            thoughts=sum(sample.thoughts for sample in samples) / total,
            tokens=sum(sample.tokens for sample in samples) / total,
            milliseconds=milliseconds / total,
            seconds=milliseconds / 1000,
            peak_memory=peak_memory,
        ),
    }


def result_folder(output: Path, task: str, control: str) -> Path:
    """Where the results of a task under a control lie below an output or run folder."""
    return output / "results" / task / control


def find_results(path: str | Path) -> dict[Path, Results]:
    """Every results file that a path means: the file itself, its folder, or all those of a run folder. {} when none."""
    path = Path(path)
    if path.is_file():
        return {path: Results.load(path)}
    if (path / RESULTS).is_file():
        return {path / RESULTS: Results.load(path / RESULTS)}
    below = path / "results" if (path / "results").is_dir() else path
    return {file: Results.load(file) for file in sorted(below.glob(f"**/{RESULTS}"))}


def keyed(results: Mapping[Path, Results]) -> dict[tuple[str, str], tuple[Path, Results]]:
    """(task, control) -> file and results."""
    return {(found.task, found.control): (path, found) for path, found in results.items()}
