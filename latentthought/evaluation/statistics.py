"""Intervals and paired tests for accuracies. The unit is the question: its samples are one draw, however many they are.

A value of 0 or 1 a question gets Wilson's interval, which holds its level where the normal one fails (few rows, accuracies near
0 or 1). Anything in between (several samples, pass@k, shares of right cells) gets the bias-corrected and accelerated bootstrap
(Efron 1987) over questions, seeded, so that the same samples give the same interval. Two runs are compared on the questions
they share: Newcombe's paired score interval (1998, Statistics in Medicine 17:2635, method 10) with McNemar's exact test, or, for
values in between, the same bootstrap of the differences with a sign-flip test, of which McNemar's is the 0/1 case. Where nearly
all questions agree the bootstrap knows too little of the rest (1 of 30 differs: it would say 0 to 4 %), so no interval is
narrower than what Wilson's leaves to a kind of question that n draws have not met.

Cost: a resample is one multinomial draw over the distinct values (at most 201 of them, closer ones are drawn as one): 10,000
take milliseconds for the few values that samples can give, a second at the most, for any number of questions.
Rejected: comparing two separate intervals for overlap (blind to pairing); the bootstrap where all questions agree (it would
return a point: those fall back to the score intervals); resampling single answers (samples of one question are alike).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal

from latentthought.config import Config
from latentthought.errors import DataError

LEVEL = 0.95
RESAMPLES = 10_000
_SEED = 0
# values closer than this are one value: means of the same samples differ by rounding
_CLOSE = 1e-12
# steps of the grid on which more distinct values than these are drawn
_GRID = 200
_NORMAL = NormalDist()

Values = Mapping[Hashable, Sequence[float]]


class Estimate(Config):
    """A mean in [0, 1] with its 95 % interval; n is the number of questions. method: how the interval was made."""

    value: float
    low: float
    high: float
    n: int
    method: Literal["wilson", "bootstrap"] = "wilson"


class PairedDifference(Config):
    """a - b over the questions that both have. only_a, only_b: questions that just one of them got right (0 or 1 a question).

    p_value: two-sided, that neither is better; test: `mcnemar` (exact) or `sign-flip` (of the questions' differences).
    """

    n: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    only_a: int | None = None
    only_b: int | None = None
    p_value: float | None = None
    test: Literal["mcnemar", "sign-flip"] = "mcnemar"


def wilson(correct: float, total: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); (0, 1) when there is nothing to go by."""
    if total <= 0:
        return 0.0, 1.0
    z = _NORMAL.inv_cdf(0.5 + level / 2)
    p = correct / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return (0.0 if correct <= 0 else max(0.0, centre - half)), (
        1.0 if correct >= total else min(1.0, centre + half)
    )


def bootstrap(values: Sequence[float], level: float = LEVEL, seed: int = _SEED) -> tuple[float, float]:
    """BCa bootstrap interval of the mean of one value a question (Efron 1987); a point where all values are the same."""
    import numpy as np

    drawn = np.asarray(values, dtype=float).round(12)
    distinct, counts = _distinct(drawn)
    n, mean = len(drawn), float(drawn.mean())
    if len(distinct) == 1:
        return mean, mean
    random = np.random.default_rng(seed)
    means = random.multinomial(n, counts / n, size=RESAMPLES) @ distinct / n
    # how far the middle of the resamples is from the mean, and how the spread grows with it
    ties = float(np.mean(np.abs(means - mean) <= _CLOSE))
    below = float(np.mean(means < mean - _CLOSE)) + ties / 2
    bias = _NORMAL.inv_cdf(min(max(below, 1 / RESAMPLES), 1 - 1 / RESAMPLES))
    away = drawn - mean
    acceleration = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
    ends = []
    for side in (0.5 - level / 2, 0.5 + level / 2):
        z = bias + _NORMAL.inv_cdf(side)
        ends.append(_NORMAL.cdf(bias + z / (1 - acceleration * z)))
    low, high = np.quantile(means, ends)
    return min(float(low), mean), max(float(high), mean)


def estimate(values: Values, level: float = LEVEL) -> Estimate:
    """Mean over questions of the mean over a question's samples, values in [0, 1]; each question counts the same."""
    means = [sum(samples) / len(samples) for samples in values.values() if samples]
    if not means:
        return Estimate(value=0.0, low=0.0, high=1.0, n=0)
    n, mean = len(means), sum(means) / len(means)
    if _binary(means) or max(means) - min(means) <= _CLOSE:
        low, high = wilson(mean * n, n, level)
        method: Literal["wilson", "bootstrap"] = "wilson"
    else:
        (low, high), method = bootstrap(means, level), "bootstrap"
        unseen = _unseen(n, level)
        low, high = min(low, mean - unseen * mean), max(high, mean + unseen * (1 - mean))
    return Estimate(
        value=mean, low=max(0.0, min(low, mean)), high=min(1.0, max(high, mean)), n=n, method=method
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value that two runs are right equally often, from the questions that only one of them got right."""
    n = only_a + only_b
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, (2 * tail) / (1 << n))


def sign_flip(differences: Sequence[float], seed: int = _SEED) -> float:
    """Two-sided p-value that the differences of questions are as often positive as negative, size for size.

    Monte Carlo over the signs, (hits + 1) / (draws + 1): never 0 (Phipson and Smyth 2010). On differences of -1, 0 and 1 it
    is McNemar's test.
    """
    import numpy as np

    sizes = np.abs(np.asarray(differences, dtype=float)).round(12)
    if not sizes.any():
        return 1.0
    distinct, counts = _distinct(sizes[sizes > 0])
    # the sum of c signs is 2 * binomial(c, 1/2) - c
    draws = np.random.default_rng(seed).binomial(counts, 0.5, size=(RESAMPLES, len(counts)))
    sums = (2 * draws - counts) @ distinct
    hits = int(np.sum(np.abs(sums) >= abs(sum(differences)) - 1e-9))
    return (hits + 1) / (RESAMPLES + 1)


def paired_difference(a: Values, b: Values, level: float = LEVEL) -> PairedDifference:
    """a - b on the questions in both; raises `DataError` when there are none."""
    shared = [question for question in a if question in b]
    if not shared:
        raise DataError("the two runs have no question in common, so there is nothing to compare")
    pairs = [(sum(a[q]) / len(a[q]), sum(b[q]) / len(b[q])) for q in shared]
    n = len(pairs)
    mean_a, mean_b = sum(x for x, _ in pairs) / n, sum(y for _, y in pairs) / n
    base: dict[str, Any] = {"n": n, "a": mean_a, "b": mean_b, "difference": mean_a - mean_b}
    if _binary([value for pair in pairs for value in pair]):
        only_a, only_b = sum(x > y for x, y in pairs), sum(y > x for x, y in pairs)
        both = sum(x == y == 1.0 for x, y in pairs)
        low, high = _newcombe(both, only_a, only_b, n - both - only_a - only_b, level)
        return PairedDifference(
            **base, low=low, high=high, only_a=only_a, only_b=only_b, p_value=mcnemar(only_a, only_b)
        )
    differences = [x - y for x, y in pairs]
    if max(differences) - min(differences) > _CLOSE:
        low, high = _both_ways(differences, level)
        mean, unseen = base["difference"], _unseen(n, level)
        low, high = min(low, mean - unseen * (1 + mean)), max(high, mean + unseen * (1 - mean))
    else:  # as wide as one sample of each question would make it
        joint = sum(x * y for x, y in pairs)
        alone_a, alone_b = n * mean_a - joint, n * mean_b - joint
        low, high = _newcombe(joint, alone_a, alone_b, max(0.0, n - joint - alone_a - alone_b), level)
    return PairedDifference(
        **base,
        low=max(-1.0, min(low, base["difference"])),
        high=min(1.0, max(high, base["difference"])),
        p_value=sign_flip(differences),
        test="sign-flip",
    )


def _binary(values: Sequence[float]) -> bool:
    return all(value in (0.0, 1.0) for value in values)


def _distinct(values: Any) -> tuple[Any, Any]:
    """The distinct values of an array with their counts; of too many, the means of those in one step of a grid."""
    import numpy as np

    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _GRID:
        return distinct, counts
    steps = np.rint((values - distinct[0]) / (distinct[-1] - distinct[0]) * _GRID).astype(int)
    counts = np.bincount(steps)
    held = counts > 0
    return np.bincount(steps, weights=values)[held] / counts[held], counts[held]


def _unseen(n: int, level: float) -> float:
    """The share that a kind of question may have of which n draws met none."""
    return wilson(0, n, level)[1]


def _both_ways(differences: Sequence[float], level: float) -> tuple[float, float]:
    """The bootstrap interval of a - b, so drawn that b - a has the mirrored one."""
    low, high = bootstrap(differences, level)
    back_low, back_high = bootstrap([-difference for difference in differences], level)
    return (low - back_high) / 2, (high - back_low) / 2


def _newcombe(both: float, only_a: float, only_b: float, neither: float, level: float) -> tuple[float, float]:
    """Square-and-add of two Wilson intervals, with the correlation of the pairs (Newcombe 1998, method 10)."""
    n = both + only_a + only_b + neither
    right_a, right_b = both + only_a, both + only_b
    p_a, p_b = right_a / n, right_b / n
    low_a, high_a = wilson(right_a, n, level)
    low_b, high_b = wilson(right_b, n, level)
    product = right_a * (n - right_a) * right_b * (n - right_b)
    phi = 0.0
    if product > 0:
        numerator: float = both * neither - only_a * only_b
        if numerator > 0:
            numerator = max(numerator - n / 2, 0)
        phi = numerator / math.sqrt(product)
    below_a, above_a, below_b, above_b = p_a - low_a, high_a - p_a, p_b - low_b, high_b - p_b
    lower = math.sqrt(max(0.0, below_a**2 - 2 * phi * below_a * above_b + above_b**2))
    upper = math.sqrt(max(0.0, above_a**2 - 2 * phi * above_a * below_b + below_b**2))
    return max(-1.0, p_a - p_b - lower), min(1.0, p_a - p_b + upper)
