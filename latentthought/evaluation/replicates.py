"""Accuracies of several training runs that differ in their seed alone: what the mean is worth.

Two things are drawn at random, and an interval says which of them it is about:
    seeds  another seed, the same questions: Student's t over the runs' accuracies. The runs answer the same questions, so it
           knows nothing of the luck of those.
    rows   other questions, these very runs: the package's interval over questions, of each its mean over the runs.
    both   another seed and other questions: the two added in squares, each side of the mean by itself (Zou and Donner 2008,
           Statistics in Medicine 27:1693; Newcombe's interval is made by the same rule). What seeds and questions do together
           is in either part, so this is a little too wide rather than too narrow.
Differences between two settings are taken seed by seed and question by question before anything is averaged: the luck that both
share drops out. Student's quantile comes from mpmath, which is there anyway.
Rejected: pooling all answers as if they were independent (three seeds on 500 rows are not 1,500 rows), the bootstrap over three
seeds (it cannot leave the range of three numbers), a crossed analysis of variance with Satterthwaite's degrees of freedom (with
two seeds its interval for both can be narrower than the one for seeds).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache

from latentthought.config import Config
from latentthought.errors import DataError
from latentthought.evaluation.statistics import LEVEL, Values, estimate, paired_difference

Span = tuple[float, float]


class OverSeeds(Config):
    """A mean over training runs, or of their differences; values: each run's. questions: those that all runs answered, 0 where
    only the means are known. The intervals (95 %) are None where there is one run, or no question, to go by."""

    value: float
    values: tuple[float, ...]
    questions: int = 0
    seeds: Span | None = None
    rows: Span | None = None
    both: Span | None = None

    @property
    def best(self) -> Span | None:
        """The interval that covers the most."""
        return self.both or self.seeds or self.rows


def over_seeds(runs: Sequence[Values]) -> OverSeeds:
    """The mean accuracy of runs, each a value (or one a sample) by question, over the questions that all of them answered."""
    shared = _shared(runs)
    means = [_mean(run, shared) for run in runs]
    pooled = estimate({question: [_of(run, question) for run in runs] for question in shared})
    return _covered(means, len(shared), (pooled.low, pooled.high), (0.0, 1.0))


def over_seeds_difference(runs: Sequence[Values], baseline: Sequence[Values]) -> OverSeeds:
    """runs minus baseline, in pairs: the first of one with the first of the other, and so on."""
    shared = _shared([*runs, *baseline])
    differences = [_mean(a, shared) - _mean(b, shared) for a, b in zip(runs, baseline, strict=True)]
    found = paired_difference(
        {question: [_of(run, question) for run in runs] for question in shared},
        {question: [_of(run, question) for run in baseline] for question in shared},
    )
    return _covered(differences, len(shared), (found.low, found.high), (-1.0, 1.0))


def over_seeds_of_means(means: Sequence[float], possible: Span = (0.0, 1.0)) -> OverSeeds:
    """The same where only a number of each run is known: the accuracy of a validation, a loss. possible: its range."""
    return _covered(means, 0, None, possible)


def student(values: Sequence[float], level: float = LEVEL) -> Span | None:
    """Student's t interval of a mean; None for a single value."""
    n = len(values)
    if n < 2:
        return None
    mean = sum(values) / n
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = student_quantile(n - 1, level) * deviation / math.sqrt(n)
    return mean - half, mean + half


@lru_cache
def student_quantile(freedom: int, level: float = LEVEL) -> float:
    """The t beyond which, on both sides together, lies 1 - level of Student's distribution."""
    import mpmath

    def beyond(t: float) -> float:
        share = mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True)
        return float(share) - (1 - level)

    low, high = 0.0, 1.0
    while beyond(high) > 0:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) > 0 else (low, middle)
    return (low + high) / 2


def _covered(means: Sequence[float], questions: int, rows: Span | None, possible: Span) -> OverSeeds:
    value = sum(means) / len(means)
    seeds = student(means)
    both = None
    if seeds is not None and rows is not None:
        low = value - math.hypot(value - seeds[0], value - rows[0])
        high = value + math.hypot(seeds[1] - value, rows[1] - value)
        both = _within(low, high, value, possible)
    return OverSeeds(
        value=value,
        values=tuple(means),
        questions=questions,
        seeds=seeds and _within(*seeds, value, possible),
        rows=rows and _within(*rows, value, possible),
        both=both,
    )


def _within(low: float, high: float, value: float, possible: Span) -> Span:
    """An interval cut to what is possible, with its value in it whatever the rounding."""
    return max(possible[0], min(low, value)), min(possible[1], max(high, value))


def _shared(runs: Sequence[Values]) -> list[Hashable]:
    first, *others = runs
    shared = [question for question in first if all(question in run for run in others)]
    if not shared:
        raise DataError("the runs have no question in common, so there is no mean over them")
    return shared


def _of(run: Values, question: Hashable) -> float:
    return sum(run[question]) / len(run[question])


def _mean(run: Values, questions: Sequence[Hashable]) -> float:
    return sum(_of(run, question) for question in questions) / len(questions)
