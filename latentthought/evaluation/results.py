"""What an evaluation found: accuracy with its interval, by group, with its costs and all that it takes to repeat it.

Layout of a run folder: `results/<task>/<control>/{results.json, samples.jsonl, settings.json}`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from latentthought.config import Config
from latentthought.errors import ConfigError, DamagedFileError
from latentthought.evaluation.generation import UNFIT
from latentthought.evaluation.samples import RESULTS, Sample, read_json, write_json
from latentthought.evaluation.statistics import Estimate, PairedDifference, estimate


class Costs(Config):
    """Means per answer: thoughts, new tokens, milliseconds of wall time; seconds: all answers together."""

    thoughts: float
    tokens: float
    milliseconds: float
    seconds: float


class Counts(Config):
    """Samples by verdict. no_answer: those without any answer; unfit: of these, the prompts that the context has no room for."""

    correct: int
    wrong: int
    ungradable: int
    no_answer: int
    unfit: int = 0


class Results(Config):
    """One task under one control. `accuracy` is over all questions: a missing answer is not right.

    metrics: further means by name. groups: key (subject, level) -> value -> accuracy. against_none: the paired difference from
    the run without a control, where there was one. settings: what the model was asked (thoughts, samples, temperature, ...).
    controls: with `control="all"`, every control by name; not saved here, each has its own file.
    """

    task: str
    version: int
    control: str
    model: str
    accuracy: Estimate
    counts: Counts
    metrics: dict[str, Estimate] = {}
    groups: dict[str, dict[str, Estimate]] = {}
    costs: Costs
    against_none: PairedDifference | None = None
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


def summarize(samples: Sequence[Sample], metrics: Iterable[str]) -> dict[str, Any]:
    """The measured part of `Results`, as fields: accuracy, counts, metrics, groups, costs."""
    total = max(1, len(samples))
    status = [sample.verdict.status for sample in samples]
    milliseconds = sum(sample.milliseconds for sample in samples)
    groups: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        for key, value in sample.groups.items():
            groups[key][value].append(sample)
    scored = {name: [s for s in samples if name in s.scores] for name in metrics if name != "accuracy"}
    return {
        "accuracy": estimate(correctness(samples)),
        "counts": Counts(
            correct=status.count("correct"),
            wrong=status.count("wrong"),
            ungradable=status.count("ungradable"),
            no_answer=sum(sample.extraction.answer is None for sample in samples),
            unfit=sum(sample.verdict.reason.startswith(UNFIT) for sample in samples),
        ),
        "metrics": {
            name: estimate(_by_question(rows, lambda s, n=name: s.scores[n]))
            for name, rows in scored.items()
            if rows
        },
        "groups": {
            key: {value: estimate(correctness(rows)) for value, rows in sorted(values.items())}
            for key, values in groups.items()
        },
        "costs": Costs(
            thoughts=sum(sample.thoughts for sample in samples) / total,
            tokens=sum(sample.tokens for sample in samples) / total,
            milliseconds=milliseconds / total,
            seconds=milliseconds / 1000,
        ),
    }


def correctness(samples: Iterable[Sample]) -> dict[Any, list[float]]:
    """Question id -> 1.0 or 0.0 for each of its samples."""
    return _by_question(samples, lambda sample: float(sample.verdict.correct))


def _by_question(samples: Iterable[Sample], value: Any) -> dict[Any, list[float]]:
    found: dict[Any, list[float]] = defaultdict(list)
    for sample in samples:
        found[sample.id].append(value(sample))
    return dict(found)


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


def render(results: Iterable[Results], title: str | None = None) -> Any:
    """A rich table: a line per task and control, accuracy with interval, missing answers, costs, difference from `none`."""
    rows = sorted(results, key=lambda row: (row.model, row.task, row.control != "none"))
    table = plain_table(title)
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    several_models = len({row.model for row in rows}) > 1
    compared = any(row.against_none for row in rows)
    if several_models:
        table.add_column("model", overflow="fold")
    table.add_column("task", no_wrap=True)
    table.add_column("control", no_wrap=True)
    headings = ["accuracy (95 %)", *([] if not compared else ["lost (95 %)"]), *metrics]
    for column in [*headings, "rows", "no\nanswer", "thoughts", "tokens", "ms"]:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = [row.model] if several_models else []
        cells += [
            row.task,
            row.control,
            f"{percent(row.accuracy.value)} ({_span(row.accuracy.low, row.accuracy.high)})",
        ]
        if compared:
            cells.append(_difference(row.against_none))
        cells += [percent(row.metrics[name].value) if name in row.metrics else "" for name in metrics]
        cells += [
            str(row.accuracy.n),
            str(row.counts.no_answer),
            f"{row.costs.thoughts:.1f}",
            f"{row.costs.tokens:.1f}",
        ]
        table.add_row(*cells, f"{row.costs.milliseconds:.1f}")
    return table


def render_groups(results: Results) -> list[Any]:
    """One rich table per group key (subject, level) of a result."""
    tables = []
    for key, values in results.groups.items():
        table = plain_table(f"{results.task} by {key}")
        table.add_column(key)
        for column in ("accuracy", "95 % interval", "questions"):
            table.add_column(column, justify="right")
        for value, found in values.items():
            table.add_row(
                value, percent(found.value), f"{percent(found.low)} to {percent(found.high)}", str(found.n)
            )
        tables.append(table)
    return tables


def plain_table(title: str | None = None) -> Any:
    """An empty rich table in the one style of all tables here: narrow, and without vertical lines."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def percent(value: float) -> str:
    """0.1234 -> `12.3 %`."""
    return f"{100 * value:.1f} %"


def _difference(difference: PairedDifference | None) -> str:
    if difference is None:
        return ""
    # what the control costs: none minus control
    return f"{100 * difference.difference:.1f} ({_span(difference.low, difference.high)})"


def _span(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def keyed(results: Mapping[Path, Results]) -> dict[tuple[str, str], tuple[Path, Results]]:
    """(task, control) -> file and results."""
    return {(found.task, found.control): (path, found) for path, found in results.items()}
