"""Intervals over training runs, against scipy and against simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from latentthought.errors import DataError
from latentthought.evaluation.replicates import (
    over_seeds,
    over_seeds_difference,
    over_seeds_of_means,
    student,
    student_quantile,
)
from latentthought.evaluation.statistics import estimate, paired_difference


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 29, 500])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_the_quantile_is_scipys(freedom: int, level: float) -> None:
    assert student_quantile(freedom, level) == pytest.approx(stats.t.ppf(0.5 + level / 2, freedom), rel=1e-9)


def test_the_interval_is_scipys() -> None:
    values = [0.61, 0.64, 0.59, 0.66]
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert student(values) == pytest.approx(expected, abs=1e-12)
    assert student([0.6]) is None
    found = over_seeds_of_means(values)
    assert found.value == pytest.approx(0.625)
    assert found.seeds == pytest.approx(expected, abs=1e-12)
    assert (found.rows, found.both, found.questions) == (None, None, 0)


def runs(*rights: tuple[int, ...], questions: int = 20) -> list[dict[str, list[float]]]:
    """One run for each tuple: the numbers of the questions that it gets right."""
    return [{f"q{i}": [float(i in right)] for i in range(questions)} for right in rights]


def test_three_intervals_for_three_kinds_of_luck() -> None:
    three = runs(tuple(range(10)), tuple(range(12)), tuple(range(4, 18)))
    found = over_seeds(three)
    assert found.values == pytest.approx((0.5, 0.6, 0.7))
    assert found.questions == 20
    assert found.seeds == pytest.approx(
        stats.t.interval(0.95, 2, loc=0.6, scale=stats.sem([0.5, 0.6, 0.7])), abs=1e-12
    )
    rows = estimate({q: [run[q][0] for run in three] for q in three[0]})
    assert found.rows == pytest.approx((rows.low, rows.high))
    half = math.hypot(0.6 - found.seeds[0], 0.6 - rows.low), math.hypot(found.seeds[1] - 0.6, rows.high - 0.6)
    assert found.both == pytest.approx((max(0.0, 0.6 - half[0]), min(1.0, 0.6 + half[1])))
    assert found.both[0] < min(found.seeds[0], found.rows[0])
    assert found.best == found.both


def test_one_run_has_the_interval_of_its_questions() -> None:
    (one,) = runs(tuple(range(15)))
    found = over_seeds([one])
    plain = estimate(one)
    assert found.rows == (plain.low, plain.high)
    assert (found.seeds, found.both) == (None, None)


def test_only_questions_of_all_runs_count() -> None:
    a, b = runs((0, 1), (0, 1, 2), questions=6)
    del b["q0"], a["q5"]
    found = over_seeds([a, b])
    assert found.questions == 4
    assert found.values == (0.25, 0.5)
    with pytest.raises(DataError, match="no question in common"):
        over_seeds([{"a": [1.0]}, {"b": [1.0]}])


def test_differences_are_taken_in_pairs() -> None:
    """Runs that swing together: each alone is uncertain, their difference is not."""
    low = runs(tuple(range(4)), tuple(range(10)), tuple(range(16)))
    high = runs(tuple(range(5)), tuple(range(11)), tuple(range(17)))
    found = over_seeds_difference(high, low)
    assert found.values == pytest.approx((0.05, 0.05, 0.05))
    assert found.seeds == pytest.approx((0.05, 0.05))
    assert over_seeds(high).seeds[1] - over_seeds(high).seeds[0] > 1 - 1e-9
    back = over_seeds_difference(low, high)
    assert back.both == pytest.approx((-found.both[1], -found.both[0]))
    same = over_seeds_difference(low, low)
    assert (same.value, same.seeds) == (0.0, (0.0, 0.0))
    single = over_seeds_difference(high[:1], low[:1])
    plain = paired_difference(high[0], low[0])
    assert single.rows == (plain.low, plain.high)


def test_both_holds_its_level() -> None:
    """True accuracy 0.6; a seed moves it by 0.06, questions are of 0.9 or 0.3; three seeds answer the same 60 questions."""
    random = np.random.default_rng(0)
    covered, times = {"seeds": 0, "rows": 0, "both": 0}, 400
    for _ in range(times):
        question = np.where(random.random(60) < 0.5, 0.9, 0.3)
        chance = np.clip(question + random.normal(0, 0.06, (3, 1)), 0, 1)
        drawn = (random.random((3, 60)) < chance).astype(float)
        found = over_seeds([{i: [value] for i, value in enumerate(run)} for run in drawn])
        for name in covered:
            low, high = getattr(found, name)
            covered[name] += low <= 0.6 <= high
    shares = {name: count / times for name, count in covered.items()}
    assert shares["both"] >= 0.95
    assert shares["rows"] < 0.95, "the luck of the seeds is not in it"
