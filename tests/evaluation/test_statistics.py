"""Intervals and tests against closed forms and scipy, and their coverage by simulation."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from latentthought.errors import DataError
from latentthought.evaluation.statistics import estimate, mcnemar, paired_difference, wilson


@pytest.mark.parametrize(
    ("correct", "total"), [(0, 10), (1, 10), (5, 10), (10, 10), (437, 1319), (1319, 1319), (0, 1)]
)
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_is_scipys(correct: int, total: int, level: float) -> None:
    known = stats.binomtest(correct, total).proportion_ci(level, method="wilson")
    assert wilson(correct, total, level) == pytest.approx((known.low, known.high), abs=1e-12)


def test_wilson_of_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_single_samples_are_wilson() -> None:
    found = estimate({i: [float(i < 30)] for i in range(100)})
    assert (found.value, found.n) == (0.3, 100)
    assert (found.low, found.high) == pytest.approx(wilson(30, 100))
    certain = estimate({i: [1.0] for i in range(100)})
    assert (certain.low, certain.high) == pytest.approx(wilson(100, 100))
    assert estimate({}).n == 0


def test_samples_of_one_question_are_not_independent() -> None:
    alike = estimate({i: [float(i < 30)] * 8 for i in range(100)})
    assert (alike.low, alike.high) == pytest.approx(wilson(30, 100))
    mixed = estimate({i: [1.0, 0.0] for i in range(100)})
    assert mixed.value == 0.5
    assert mixed.high - mixed.low <= alike.high - alike.low + 0.1


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (5, 5), (10, 2), (2, 10), (40, 20), (600, 500)])
def test_mcnemar_is_the_binomial_test(a: int, b: int) -> None:
    known = 1.0 if a + b == 0 else stats.binomtest(a, a + b, 0.5).pvalue
    assert mcnemar(a, b) == pytest.approx(known, abs=1e-12)


def test_paired_difference_counts() -> None:
    a = {i: [float(i < 60)] for i in range(100)}
    b = {i: [float(i < 50 or i >= 95)] for i in range(100)}
    b["only b"] = [1.0]
    found = paired_difference(a, b)
    assert (found.n, found.only_a, found.only_b) == (100, 10, 5)
    assert (found.a, found.b) == (0.6, 0.55)
    assert found.difference == pytest.approx(0.05)
    assert found.low < 0.05 < found.high
    mirrored = paired_difference({k: b[k] for k in a}, a)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_runs_that_agree_are_not_certain_to_agree() -> None:
    a = {i: [float(i % 2)] for i in range(50)}
    found = paired_difference(a, a)
    assert found.low < 0 < found.high
    assert found.p_value == 1.0


def test_pairing_helps() -> None:
    a = {i: [float(i < 60)] for i in range(100)}
    b = {i: [float(i < 55)] for i in range(100)}
    paired = paired_difference(a, b)
    apart = paired_difference(a, {i: [float(i >= 45)] for i in range(100)})
    assert paired.high - paired.low < apart.high - apart.low


def test_nothing_in_common() -> None:
    with pytest.raises(DataError, match="no question in common"):
        paired_difference({1: [1.0]}, {2: [1.0]})


def test_several_samples() -> None:
    a = {i: [1.0, float(i % 2), 0.0] for i in range(40)}
    b = {i: [0.0, float(i % 3 == 0), 0.0] for i in range(40)}
    found = paired_difference(a, b)
    assert found.p_value is None
    assert found.low < found.difference < found.high


def test_coverage() -> None:
    """The 95 % interval of a paired difference holds the true one about 95 % of the time."""
    draw = random.Random(0)
    held = 0
    rounds = 600
    for _ in range(rounds):
        a, b = {}, {}
        for i in range(60):
            easy = draw.random() < 0.5
            a[i] = [float(draw.random() < (0.9 if easy else 0.3))]
            b[i] = [float(draw.random() < (0.8 if easy else 0.1))]
        found = paired_difference(a, b)
        held += found.low <= 0.15 <= found.high
    assert 0.93 <= held / rounds <= 0.985
