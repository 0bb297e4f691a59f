"""Decimals that stand for other numbers, units that convert, percentages."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal
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
)
def test_a_correct_rounding_with_enough_digits_is_the_number(top: int, bottom: int, decimals: int) -> None:
    """Against Python's own exact rounding of fractions."""
    exact = Fraction(top, bottom)
    assume(exact.denominator > 1)
    rounded = round(exact, decimals)
    enough = len(str(round(exact * 10**decimals))) >= 3 and rounded.denominator > 1
    for step in (-1, 0, 1):
        other = rounded + Fraction(step, 10**decimals)
        if other.denominator > 1 and len(str(int(other * 10**decimals))) == len(
            str(int(rounded * 10**decimals))
        ):
            expected = enough and step == 0
            assert same_number(Number(exact), Number(other, decimals), GradePolicy())[0] is expected
            assert same_number(Number(other, decimals), Number(exact), GradePolicy())[0] is expected


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, 9), st.integers(1, 8))
def test_a_count_of_digits_is_agreement_to_so_many(top: int, other: int, decimals: int, digits: int) -> None:
    """Against the `decimal` module's rounding to a number of digits."""
    a, b = Fraction(top, 10**decimals), Fraction(other, 10**decimals)
    assume(a.denominator > 1 and b.denominator > 1)
    context = Context(prec=digits, rounding=ROUND_HALF_UP)
    rounded = [context.create_decimal(Decimal(n).scaleb(-decimals)) for n in (top, other)]
    expected = rounded[0] == rounded[1] or abs(a - b) <= max(a, b) / 10**digits
    policy = GradePolicy(precision=digits)
    assert same_number(Number(a, decimals), Number(b, decimals), policy)[0] is expected
    assert same_number(Number(a, decimals), Number(-b, decimals), policy)[0] is False


@pytest.mark.parametrize(("a", "b", "digits"), [("18", "18.01", 3), ("18", "17.99", 3), ("1000", "999.9", 4)])
def test_a_count_of_digits_holds_for_an_integer_beside_a_decimal(a: str, b: str, digits: int) -> None:
    """As written they differ, and to one digit more they do too; integers and fractions stay exact."""
    for first, second in ((_decimal(a), _decimal(b)), (_decimal(b), _decimal(a))):
        assert same_number(first, second, GradePolicy(precision=digits))[0] is True
        assert same_number(first, second, GradePolicy(precision=digits + 1))[0] is False
        assert same_number(first, second, GradePolicy())[0] is False
    for first, second in ((Fraction(1, 3), Fraction(333, 1000)), (Fraction(1000), Fraction(1001))):
        assert same_number(Number(first), Number(second), GradePolicy(precision=2))[0] is False


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
