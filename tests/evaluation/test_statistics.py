"""Intervals and tests against closed forms and scipy, and their coverage by simulation."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from scipy import stats

from latentthought.errors import DataError
from latentthought.evaluation.statistics import (
    bootstrap,
    estimate,
    mcnemar,
    paired_difference,
    sign_flip,
    wilson,
)


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


def test_newcombe_is_the_published_example() -> None:
    """Newcombe 1998, Statistics in Medicine 17:2635: cells 36, 12, 2, 0 under method 10."""
    cells = [(1.0, 1.0)] * 36 + [(1.0, 0.0)] * 12 + [(0.0, 1.0)] * 2
    a, b = ({i: [pair[side]] for i, pair in enumerate(cells)} for side in (0, 1))
    found = paired_difference(a, b)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0569, 0.3404)


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
    assert (found.test, found.only_a) == ("sign-flip", None)
    assert found.low < found.difference < found.high
    assert found.p_value is not None and found.p_value < 0.001
    back = paired_difference(b, a)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), abs=1e-12)


def test_which_run_is_named_first_does_not_matter() -> None:
    draw = np.random.default_rng(0)
    a, b = ({i: [value] for i, value in enumerate(draw.beta(shape, 1.0, 37))} for shape in (2.0, 0.7))
    found, back = paired_difference(a, b), paired_difference(b, a)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), abs=1e-12)
    assert back.p_value == found.p_value


def test_runs_that_agree_in_parts_are_not_certain_to_agree() -> None:
    """Without any spread of the differences the interval is that of one sample a question, not a point."""
    a = {i: [1.0, 0.0] for i in range(50)}
    found = paired_difference(a, a)
    assert found.low < -0.05 and found.high > 0.05
    assert found.p_value == 1.0
    alone = paired_difference({0: [0.5, 1.0]}, {0: [0.0, 0.5]})
    assert alone.low < alone.difference < alone.high


def test_nearly_agreeing_is_not_much_surer_than_agreeing() -> None:
    """One question of 30 differs by a quarter: less is known than 30 questions can tell, whatever a resample would say."""
    values = {i: [0.25 if i == 0 else 0.0] for i in range(30)}
    assert estimate(values).high > wilson(0, 30)[1]
    rare = estimate({i: [1.0 - value[0]] for i, value in values.items()})
    assert rare.low < wilson(30, 30)[0]
    found = paired_difference(values, {i: [0.0, 0.0] for i in range(30)})
    assert found.low < -0.1 and found.high > 0.1


def test_rare_right_answers_are_covered() -> None:
    """Most questions are never right: a plain BCa interval holds the mean 89 % of the time here."""
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        values = draw.binomial(4, draw.beta(0.02, 1, 100)) / 4
        found = estimate({i: [float(value)] for i, value in enumerate(values)})
        held += found.low <= 0.02 / 1.02 <= found.high
    assert held / 300 >= 0.93


def test_many_distinct_values_are_drawn_as_few() -> None:
    values = list(np.random.default_rng(0).beta(0.5, 1.0, 3000))
    error = float(np.std(values)) / len(values) ** 0.5
    low, high = bootstrap(values)
    assert (low, high) == pytest.approx(
        (np.mean(values) - 1.96 * error, np.mean(values) + 1.96 * error), abs=0.1 * error
    )
    differences = [value - 1 / 3 for value in values]
    z = abs(sum(differences)) / sum(d * d for d in differences) ** 0.5
    assert sign_flip(differences) == pytest.approx(2 * stats.norm.sf(z), abs=0.015)


@pytest.mark.parametrize("seed", range(3))
def test_bootstrap_is_scipys(seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = draw.binomial(4, draw.beta(0.5, 1.0, 80)) / 4
    known = stats.bootstrap(
        (values,), np.mean, method="BCa", n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert bootstrap(list(values)) == pytest.approx((known.low, known.high), abs=0.006)
    assert bootstrap(list(values)) == bootstrap(list(values)), "seeded"


def test_bootstrap_counts_questions_not_samples() -> None:
    once = estimate({i: [0.25 * (i % 5)] for i in range(60)})
    often = estimate({i: [0.25 * (i % 5)] * 16 for i in range(60)})
    assert once == often
    assert once.method == "bootstrap"


@pytest.mark.parametrize(
    "values", [[0.5], [0.25, 0.25], [0.0, 0.5], [1.0, 1.0, 0.999999], [1 / 3] * 3 + [1 - 2 / 3] * 3]
)
def test_few_values(values: list[float]) -> None:
    found = estimate(dict(enumerate([value] for value in values)))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


@pytest.mark.parametrize("differences", [[0.5, 0.5, -0.25, 1.0, 0.75], [1.0, 1.0, 1.0, -1.0, 0.0, 1.0]])
def test_sign_flip_is_all_signs(differences: list[float]) -> None:
    total = abs(sum(differences))
    signed = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    exact = sum(value >= total - 1e-9 for value in signed) / len(signed)
    assert sign_flip(differences) == pytest.approx(exact, abs=0.015)


def test_sign_flip_of_whole_answers_is_mcnemar() -> None:
    assert sign_flip([1.0] * 12 + [-1.0] * 5 + [0.0] * 40) == pytest.approx(mcnemar(12, 5), abs=0.015)
    assert sign_flip([0.0, 0.0]) == 1.0
    assert sign_flip([1.0] * 500) == pytest.approx(1e-4, rel=1e-3), "never 0"


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.5, 1.5), (0.2, 0.4)])
def test_bootstrap_coverage(a: float, b: float) -> None:
    """Four samples a question, questions of all difficulties: 95 % of the intervals hold the mean, or nearly so."""
    draw = np.random.default_rng(1)
    held, rounds = 0, 200
    for _ in range(rounds):
        values = draw.binomial(4, draw.beta(a, b, 50)) / 4
        found = estimate({i: [float(value)] for i, value in enumerate(values)})
        held += found.low <= a / (a + b) <= found.high
    assert 0.905 <= held / rounds <= 0.99


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
