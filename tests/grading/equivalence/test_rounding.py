"""Decimals that stand for other numbers, units that convert, percentages."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from latentthought.grading import GradePolicy
from latentthought.grading.equivalence.rounding import same_number, same_rounded
from latentthought.grading.normalization.numbers import Number


def _decimal(text: str) -> Number:
    return Number(Fraction(text), len(text.partition(".")[2]) or None)


@given(
    st.integers(1, 10**6).map(lambda n: 10 * n + 1),
    st.sampled_from([3, 7, 9, 11, 13]),
    st.integers(0, 9),
    st.integers(1, 8),
)
def test_a_correct_rounding_with_enough_digits_is_the_number(
    top: int, bottom: int, decimals: int, digits: int
) -> None:
    """Against Python's own exact rounding of fractions."""
    exact = Fraction(top, bottom)
    assume(exact.denominator > 1)
    rounded = round(exact, decimals)
    policy = GradePolicy(precision=digits)
    enough = len(str(round(exact * 10**decimals))) >= digits and rounded.denominator > 1
    for step in (-1, 0, 1):
        other = rounded + Fraction(step, 10**decimals)
        if other.denominator > 1 and len(str(int(other * 10**decimals))) == len(
            str(int(rounded * 10**decimals))
        ):
            expected = enough and step == 0
            assert same_number(Number(exact), Number(other, decimals), policy)[0] is expected
            assert same_number(Number(other, decimals), Number(exact), policy)[0] is expected


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("0.333", "0.3333", True),
        ("3.14", "3.14159", True),
        ("12.3", "12.34", False),
        ("2.5", "2.499", False),
        ("18.0", "18.01", False),
        ("18", "17.9999999", True),
        ("18", "17.99", False),
        ("0.50", "0.5", True),
        ("-0.333", "0.333", False),
    ],
)
def test_two_decimals(a: str, b: str, same: bool) -> None:
    assert same_number(_decimal(a), _decimal(b), GradePolicy())[0] is same
    assert same_number(_decimal(b), _decimal(a), GradePolicy())[0] is same


@given(st.fractions(), st.fractions())
def test_a_relative_tolerance_is_a_relative_tolerance(a: Fraction, b: Fraction) -> None:
    expected = abs(a - b) <= Fraction(1, 100) * max(abs(a), abs(b))
    assert same_rounded(a, None, b, None, GradePolicy(precision=0.01)) is expected
    assert not same_rounded(a, 2, b, 2, GradePolicy(precision=None))


@pytest.mark.parametrize(
    ("a", "b", "policy", "same"),
    [
        (Number(Fraction(1), unit="hour"), Number(Fraction(60), unit="minute"), {}, True),
        (Number(Fraction(1), unit="hour"), Number(Fraction(1), unit="minute"), {}, False),
        (Number(Fraction(5), unit="meter"), Number(Fraction(5)), {}, True),
        (Number(Fraction(5), unit="meter"), Number(Fraction(5)), {"units": False}, False),
        (Number(Fraction(50), percent=True), Number(Fraction(1, 2)), {}, True),
        (Number(Fraction(50), percent=True), Number(Fraction(50)), {}, True),
        (Number(Fraction(50), percent=True), Number(Fraction(50)), {"percent": "value"}, False),
        (Number(Fraction(50), percent=True), Number(Fraction(1, 2)), {"percent": "sign"}, False),
        (Number(Fraction("33.3"), 1, percent=True), Number(Fraction(1, 3)), {"percent": "value"}, True),
        (Number(Fraction("33"), percent=True), Number(Fraction(1, 3)), {"percent": "value"}, False),
    ],
)
def test_units_and_percent(a: Number, b: Number, policy: dict, same: bool) -> None:
    assert same_number(a, b, GradePolicy(**policy))[0] is same_number(b, a, GradePolicy(**policy))[0] is same
