"""Two runs on the same questions: the paired difference, not two intervals held side by side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from latentthought.config import Config
from latentthought.errors import DataError, MissingFileError
from latentthought.evaluation.results import Results, correctness, find_results, keyed, percent, plain_table
from latentthought.evaluation.samples import SAMPLES, read_samples
from latentthought.evaluation.statistics import PairedDifference, paired_difference


class Comparison(Config):
    """One task, run A against run B. unmatched: questions that only one of the runs has, left out of the difference."""

    task: str
    version: int
    control_a: str
    control_b: str
    difference: PairedDifference
    unmatched: int


def compare(run_a: str | Path, run_b: str | Path) -> list[Comparison]:
    """Compare two runs (run folders, or single result folders or files) on the tasks that both have.

    Single results are compared whatever their controls; run folders by task and control. Raises `MissingFileError` for a
    run without results, `DataError` when nothing matches, the versions differ, or the questions do.
    """
    sides = []
    for run in (run_a, run_b):
        if not Path(run).exists():
            raise MissingFileError(f"no such run: {run}")
        found = find_results(run)
        if not found:
            raise MissingFileError(
                f"{run}: no results.json here or below; run `latentthought evaluate` on it first"
            )
        sides.append(keyed(found))
    a, b = sides
    if len(a) == len(b) == 1:
        pairs = [(next(iter(a.values())), next(iter(b.values())))]
    else:
        pairs = [(a[key], b[key]) for key in a if key in b]
    if not pairs:
        raise DataError(f"nothing to compare: {run_a} has {_listed(a)}, {run_b} has {_listed(b)}")
    return [_compare(*first, *second) for first, second in pairs]


def _compare(path_a: Path, a: Results, path_b: Path, b: Results) -> Comparison:
    if (a.task, a.version) != (b.task, b.version):
        raise DataError(
            f"cannot compare {a.task} version {a.version} ({path_a}) with {b.task} version {b.version} ({path_b}): "
            "run both on the same task"
        )
    samples_a, samples_b = read_samples(path_a.with_name(SAMPLES)), read_samples(path_b.with_name(SAMPLES))
    gold = {sample.id: sample.gold for sample in samples_a}
    for sample in samples_b:
        if gold.get(sample.id, sample.gold) != sample.gold:
            raise DataError(
                f"question {sample.id!r} has another answer in {path_b} than in {path_a}: they are not the same data"
            )
    right_a, right_b = correctness(samples_a), correctness(samples_b)
    return Comparison(
        task=a.task,
        version=a.version,
        control_a=a.control,
        control_b=b.control,
        difference=paired_difference(right_a, right_b),
        unmatched=len(right_a.keys() ^ right_b.keys()),
    )


def render_comparison(comparisons: Iterable[Comparison], name_a: str = "A", name_b: str = "B") -> Any:
    """A rich table: a line per task and control."""
    table = plain_table(f"A: {name_a}\nB: {name_b}")
    for column in ("task", "control"):
        table.add_column(column)
    for column in (
        "A",
        "B",
        "A - B",
        "95 % interval",
        "only A",
        "only B",
        "p (McNemar)",
        "questions",
        "unmatched",
    ):
        table.add_column(column, justify="right")
    for found in comparisons:
        d = found.difference
        control = (
            found.control_a
            if found.control_a == found.control_b
            else f"{found.control_a} / {found.control_b}"
        )
        table.add_row(
            found.task,
            control,
            percent(d.a),
            percent(d.b),
            f"{100 * d.difference:+.1f}",
            f"{100 * d.low:+.1f} to {100 * d.high:+.1f}",
            "" if d.only_a is None else str(d.only_a),
            "" if d.only_b is None else str(d.only_b),
            "" if d.p_value is None else f"{d.p_value:.2g}",
            str(d.n),
            str(found.unmatched),
        )
    return table


def _listed(side: dict[tuple[str, str], Any]) -> str:
    return ", ".join(f"{task}/{control}" for task, control in side)
