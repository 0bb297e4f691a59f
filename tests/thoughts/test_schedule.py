"""Mix schedules against their closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentthought.errors import ConfigError
from latentthought.thoughts.schedule import MixSchedule

KINDS = ["linear", "cosine", "exponential", "sigmoid"]


@pytest.mark.parametrize(
    ("kind", "halfway"),
    [("linear", 0.5), ("cosine", 0.5), ("sigmoid", 0.5), ("exponential", math.expm1(2.5) / math.expm1(5.0))],
)
def test_shapes_between_two_ratios(kind, halfway):
    schedule = MixSchedule(kind=kind, start=0.2, end=0.8)
    assert schedule.at(0.0) == 0.2
    assert schedule.at(1.0) == 0.8
    assert schedule.at(0.5) == pytest.approx(0.2 + 0.6 * halfway, abs=1e-12)


def test_cosine_quarter_point():
    assert MixSchedule(kind="cosine").at(0.25) == pytest.approx((1 - math.cos(math.pi / 4)) / 2)


@given(st.sampled_from(KINDS), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 20))
def test_every_shape_is_monotone_and_stays_between_its_ends(kind, start, end, progress, steepness):
    schedule = MixSchedule(kind=kind, start=start, end=end, steepness=steepness)
    low, high = sorted((start, end))
    value, later = schedule.at(progress), schedule.at(min(1.0, progress + 0.1))
    assert low - 1e-9 <= value <= high + 1e-9
    assert (later - value) * (end - start) >= -1e-9


def test_piecewise_interpolates_and_is_flat_outside():
    schedule = MixSchedule(kind="piecewise", points=((0.2, 0.0), (0.6, 0.8), (0.8, 0.4)))
    assert [schedule.at(p) for p in (0.0, 0.2, 0.4, 0.7, 1.0)] == pytest.approx([0.0, 0.0, 0.4, 0.6, 0.4])


def test_over_a_stage_and_over_steps():
    over_stage = MixSchedule(kind="linear")
    assert [over_stage.ratio(step, 5) for step in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    over_steps = MixSchedule(kind="linear", steps=2)
    assert [over_steps.ratio(step, 5) for step in range(5)] == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert over_stage.ratio(0, 1) == 1.0, "a stage of one step is at its end"


def test_a_number_is_a_constant():
    schedule = MixSchedule.model_validate(0.3)
    assert schedule == MixSchedule.constant(0.3)
    assert [schedule.at(p) for p in (0.0, 0.5, 1.0)] == [0.3, 0.3, 0.3]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"kind": "lineal"}, "linear"),
        ({"end": 1.5}, "less than or equal to 1"),
        ({"kind": "piecewise"}, "points go with kind piecewise"),
        ({"kind": "linear", "points": [[0, 1]]}, "points go with kind piecewise"),
        ({"kind": "piecewise", "points": [[0.5, 1], [0.2, 0]]}, "increasing places"),
        ({"kind": "piecewise", "points": [[0.5, 2]]}, "within 0..1"),
        ({"steps": 0}, "greater than 0"),
    ],
)
def test_bad_values_say_what_is_allowed(values, word):
    with pytest.raises(ConfigError, match=word):
        MixSchedule.parse(values)
