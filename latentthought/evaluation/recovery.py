"""How much of a larger model a smaller one has kept: its accuracy as a percentage of the original's, task by task.

    recovered = 100 * accuracy / accuracy of the original

Its interval is that of the paired difference between the two, over questions and seeds (`evaluation.replicates`), divided by
the original's accuracy as it was measured; for files of lm-eval, which keep no answers, that of two independent means, to which
Student's t over seeds is added in squares. Perplexities stand in a table of their own: they are no accuracy, may fall while
accuracy does, and are never averaged with it.
Recoveries of several tasks are averaged as they are, each task counting the same.
Rejected: recovery above chance (it needs a chance level for every task, and headlines elsewhere are plain ratios).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentthought.config import Config
from latentthought.errors import DataError
from latentthought.evaluation.replicates import over_seeds_difference, student
from latentthought.evaluation.scores import Scores, read_scores

_Z = 1.959964


class Recovery(Config):
    """One arm on one task. value, original: accuracies, the former a mean over seeds. low, high: of `percent`, 95 %, None where
    there is nothing to go by. questions: that all runs answered, of the `asked` of the original; 0 where only means are known."""

    task: str
    arm: str
    original: float
    value: float
    percent: float
    low: float | None = None
    high: float | None = None
    seeds: int = 1
    questions: int = 0
    asked: int = 0


class Perplexity(Config):
    """One arm on one text; lower is better."""

    task: str
    arm: str
    original: float
    value: float


class RecoveryReport(Config):
    """rows: by task, then arm. means: arm -> mean recovery of the tasks that every arm has, where there are several.
    logits_only: the arms that compared distributions with the teacher and no states; None where no arm's objective is known.
    nothing_to_recover: tasks left out, since the original has none of the answers right that all runs of an arm gave."""

    rows: tuple[Recovery, ...]
    perplexities: tuple[Perplexity, ...] = ()
    means: dict[str, float] = {}
    logits_only: tuple[str, ...] | None = None
    nothing_to_recover: tuple[str, ...] = ()


def recovery(
    original: str | Path, arms: Mapping[str, Sequence[str | Path]], control: str = "none"
) -> RecoveryReport:
    """Compare the runs of every arm with the original.

    Args:
        original, arms: run folders, results folders, or files that lm-eval wrote; several runs of an arm are its seeds.
        control: which results of a run count.

    Raises `MissingFileError` for a run without results and `DataError` where a run has none of the original's tasks, or the
    original no answer right at all.
    """
    before = read_scores(original, control)
    read = {arm: [read_scores(run, control) for run in runs] for arm, runs in arms.items()}
    rows: list[Recovery] = []
    texts: list[Perplexity] = []
    lost: set[str] = set()
    for arm, runs in read.items():
        nothing: set[str] = set()
        found = [*_by_answers(before, arm, runs, nothing), *_by_means(before, arm, runs, nothing)]
        lost |= nothing
        apart = _perplexities(before, arm, runs)
        if not found and not apart:
            if nothing:
                names = ", ".join(sorted(nothing))
                raise DataError(f"{names}: the original has no answer right, so there is nothing to recover")
            had = ", ".join(before.tasks)
            raise DataError(
                f"{arm}: none of the tasks of the original, which has {had}, was run on all of its runs"
            )
        rows += found
        texts += apart
    rows.sort(key=lambda row: row.task)
    texts.sort(key=lambda row: row.task)
    known = {arm: runs[0].objective for arm, runs in read.items() if runs[0].objective is not None}
    logits = tuple(arm for arm, terms in known.items() if _logits_only(terms)) if known else None
    return RecoveryReport(
        rows=tuple(rows),
        perplexities=tuple(texts),
        means=_means(rows, read),
        logits_only=logits,
        nothing_to_recover=tuple(sorted(lost)),
    )


def _perplexities(before: Scores, arm: str, runs: Sequence[Scores]) -> list[Perplexity]:
    return [
        Perplexity(
            task=task, arm=arm, original=value, value=sum(run.perplexities[task] for run in runs) / len(runs)
        )
        for task, value in before.perplexities.items()
        if all(task in run.perplexities for run in runs)
    ]


def _by_answers(before: Scores, arm: str, runs: Sequence[Scores], nothing: set[str]) -> list[Recovery]:
    """nothing: gets the tasks of which the original has no answer right."""
    rows = []
    for task, answers in before.answers.items():
        if not all(task in run.answers for run in runs):
            continue
        difference = over_seeds_difference([run.answers[task] for run in runs], [answers] * len(runs))
        shared = [q for q in answers if all(q in run.answers[task] for run in runs)]
        whole = sum(sum(answers[q]) / len(answers[q]) for q in shared) / len(shared)
        if whole <= 0:
            nothing.add(task)
            continue
        rows.append(
            _recovered(
                task, arm, whole, difference.value, difference.best, len(runs), len(shared), len(answers)
            )
        )
    return rows


def _by_means(before: Scores, arm: str, runs: Sequence[Scores], nothing: set[str]) -> list[Recovery]:
    rows = []
    for task, (whole, error) in before.means.items():
        if not all(task in run.means for run in runs):
            continue
        if whole <= 0:
            nothing.add(task)
            continue
        values = [run.means[task] for run in runs]
        means = [value for value, _ in values]
        difference = sum(means) / len(means) - whole
        over = student(means)
        over_seeds = 0.0 if over is None else (over[1] - over[0]) / 2
        over_rows = _Z * math.hypot(error, sum(own for _, own in values) / len(values))
        if over is not None and math.isnan(over_rows):
            over_rows = 0.0  # a file without errors: what the seeds say is known all the same
        half = math.hypot(over_rows, over_seeds)
        span = None if math.isnan(half) else (difference - half, difference + half)
        rows.append(_recovered(task, arm, whole, difference, span, len(runs)))
    return rows


def _recovered(
    task: str,
    arm: str,
    whole: float,
    difference: float,
    span: tuple[float, float] | None,
    seeds: int,
    questions: int = 0,
    asked: int = 0,
) -> Recovery:
    low, high = (None, None) if span is None else (100 * (1 + end / whole) for end in span)
    return Recovery(
        task=task,
        arm=arm,
        original=whole,
        value=whole + difference,
        percent=100 * (1 + difference / whole),
        low=low if low is None else max(0.0, low),
        high=high,
        seeds=seeds,
        questions=questions,
        asked=asked,
    )


def _means(rows: Sequence[Recovery], read: Mapping[str, Any]) -> dict[str, float]:
    tasks = {row.task for row in rows}
    shared = [task for task in tasks if sum(row.task == task for row in rows) == len(read)]
    if len(shared) < 2:
        return {}
    return {
        arm: sum(row.percent for row in rows if row.arm == arm and row.task in shared) / len(shared)
        for arm in read
    }


def _logits_only(objective: Sequence[Mapping[str, Any]]) -> bool:
    weighed = [term for term in objective if term.get("weight", 1.0) != 0]
    kinds = {term.get("term") for term in weighed}
    states = any(term.get("term") == "hidden" and term.get("target") == "teacher" for term in weighed)
    return "kl" in kinds and not states
