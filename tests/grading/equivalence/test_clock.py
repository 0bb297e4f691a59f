"""Times of day."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentthought.grading.equivalence.clock import same_time, time_of_day


@given(st.times())
def test_twelve_and_twenty_four_hours_are_one_time(moment) -> None:  # type: ignore[no-untyped-def]
    """Against the standard library's formatting."""
    day = datetime(2000, 1, 1, moment.hour, moment.minute)
    half = time_of_day(day.strftime("%I:%M %p"))
    assert half is not None and half.seconds == day.hour * 3600 + day.minute * 60
    whole = time_of_day(day.strftime("%H:%M"))
    assert whole is not None
    assert same_time(half, whole)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("3:30 PM", "15:30", True),
        ("3:30", "3:30 a.m.", True),
        ("3:30", "15:30", False),
        ("12 am", "midnight", True),
        ("12 am", "noon", False),
        ("10:15:30", "10:15", False),
        ("3:30 AM", "3:30 PM", False),
    ],
)
def test_pairs(a: str, b: str, same: bool) -> None:
    one, other = time_of_day(a), time_of_day(b)
    assert one is not None and other is not None
    assert same_time(one, other) is same_time(other, one) is same


@pytest.mark.parametrize("text", ["3:1", "12", "25:00", "13 pm", "0 am", "1:75", "1:2:3", "3:30 xm", "x"])
def test_no_times(text: str) -> None:
    assert time_of_day(text) is None
