"""Intervals and paired tests for accuracies.

Wilson's interval holds its level where the normal one fails (few rows, accuracies near 0 or 1). Several samples of one
question are not independent: they count with the effective number of rows that their spread between questions implies.
Two runs are compared on the questions they share: Newcombe's paired score interval (1998, Statistics in Medicine 17:2635,
method 10) for single samples, McNemar's exact test for the p-value. Rejected: comparing two separate intervals for overlap
(blind to pairing), and the bootstrap (random, and degenerate where both runs agree on everything).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from latentthought.config import Config
from latentthought.errors import DataError

LEVEL = 0.95


class Estimate(Config):
    """A mean in [0, 1] with its interval; n is the number of questions."""

    value: float
    low: float
    high: float
    n: int


class PairedDifference(Config):
    """a - b over the questions that both have. only_a, only_b: questions that just one of them got right (single samples).

    p_value: McNemar's exact two-sided test; None with several samples a question.
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


def wilson(correct: float, total: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); (0, 1) when there is nothing to go by."""
    if total <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = correct / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return (0.0 if correct <= 0 else max(0.0, centre - half)), (
        1.0 if correct >= total else min(1.0, centre + half)
    )


def estimate(values: Mapping[Hashable, Sequence[float]], level: float = LEVEL) -> Estimate:
    """Mean over questions of the mean over a question's samples, values in [0, 1]; Wilson on the effective sample size.

    With one 0/1 value a question this is exactly Wilson's interval.
    """
    means = [sum(samples) / len(samples) for samples in values.values() if samples]
    if not means:
        return Estimate(value=0.0, low=0.0, high=1.0, n=0)
    n, mean = len(means), sum(means) / len(means)
    effective: float = n
    spread = sum((value - mean) ** 2 for value in means) / n
    if spread > 0 and 0 < mean < 1:
        effective = n * mean * (1 - mean) / spread
    low, high = wilson(mean * effective, effective, level)
    return Estimate(value=mean, low=min(low, mean), high=max(high, mean), n=n)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value that two runs are right equally often, from the questions that only one of them got right."""
    n = only_a + only_b
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, (2 * tail) / (1 << n))


def paired_difference(
    a: Mapping[Hashable, Sequence[float]], b: Mapping[Hashable, Sequence[float]], level: float = LEVEL
) -> PairedDifference:
    """a - b on the questions in both; raises `DataError` when there are none."""
    shared = [question for question in a if question in b]
    if not shared:
        raise DataError("the two runs have no question in common, so there is nothing to compare")
    pairs = [(sum(a[q]) / len(a[q]), sum(b[q]) / len(b[q])) for q in shared]
    n = len(pairs)
    mean_a, mean_b = sum(x for x, _ in pairs) / n, sum(y for _, y in pairs) / n
    base: dict[str, Any] = {"n": n, "a": mean_a, "b": mean_b, "difference": mean_a - mean_b}
    if all(value in (0.0, 1.0) for pair in pairs for value in pair):
        only_a, only_b = sum(x > y for x, y in pairs), sum(y > x for x, y in pairs)
        both = sum(x == y == 1.0 for x, y in pairs)
        low, high = _newcombe(both, only_a, only_b, n - both - only_a - only_b, level)
        return PairedDifference(
            **base, low=low, high=high, only_a=only_a, only_b=only_b, p_value=mcnemar(only_a, only_b)
        )
    spread = sum((x - y - base["difference"]) ** 2 for x, y in pairs) / max(1, n - 1)
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(spread / n)
    return PairedDifference(
        **base, low=max(-1.0, base["difference"] - half), high=min(1.0, base["difference"] + half)
    )


def _newcombe(both: int, only_a: int, only_b: int, neither: int, level: float) -> tuple[float, float]:
    """Square-and-add of two Wilson intervals, with the correlation of the pairs (Newcombe 1998, method 10)."""
    n = both + only_a + only_b + neither
    right_a, right_b = both + only_a, both + only_b
    p_a, p_b = right_a / n, right_b / n
    low_a, high_a = wilson(right_a, n, level)
    low_b, high_b = wilson(right_b, n, level)
    product = right_a * (n - right_a) * right_b * (n - right_b)
    phi = 0.0
    if product:
        numerator: float = both * neither - only_a * only_b
        if numerator > 0:
            numerator = max(numerator - n / 2, 0)
        phi = numerator / math.sqrt(product)
    below_a, above_a, below_b, above_b = p_a - low_a, high_a - p_a, p_b - low_b, high_b - p_b
    lower = math.sqrt(max(0.0, below_a**2 - 2 * phi * below_a * above_b + above_b**2))
    upper = math.sqrt(max(0.0, above_a**2 - 2 * phi * above_a * below_b + below_b**2))
    return max(-1.0, p_a - p_b - lower), min(1.0, p_a - p_b + upper)
