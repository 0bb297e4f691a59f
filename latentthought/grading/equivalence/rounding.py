"""When a decimal stands for another number, as the policy's `precision` has it.

`written`: where it is that number correctly rounded, to three significant digits or more (0.333 is 1/3; 0.33 and 0.334 are not).
Two numbers that both end (12.3 and 12.34) have to be as close as that many digits as well: such a number is its own exact value,
and was rarely meant to be rounded. A count of digits, which somebody asked for, is content with agreement to so many, however
the two were written, and so is a relative tolerance with closeness. As written, an integer is never a rounding: 18.01 is not 18.
"""

from __future__ import annotations

import math
from fractions import Fraction

from latentthought.grading.normalization.numbers import Number
from latentthought.grading.normalization.units import compatible, factor
from latentthought.grading.policy import GradePolicy

_WRITTEN_DIGITS = 3
_NOISE_DECIMALS = 6  # 17.9999999 is 18 on a calculator


def same_number(a: Number, b: Number, policy: GradePolicy) -> tuple[bool, str]:
    """(same, reason) of two plain numbers with their units and percent signs."""
    if not policy.units and a.unit != b.unit:
        return False, "a unit is missing"
    if a.percent != b.percent and (a.unit or b.unit):  # 75% is not 75°
        return False, "another unit"
    if not compatible(a.unit, b.unit):
        ratio = factor(a.unit, b.unit)
        if ratio is not None and a.value * ratio == b.value:
            return True, "same number in another unit"
        return False, f"another unit ({', '.join(sorted((a.unit, b.unit)))})"
    for value_a, value_b in percent_readings(a.value, a.percent, b.value, b.percent, policy):
        if value_a == value_b:
            return True, "same number"
        # a percentage is written without its two decimals
        shift_a, shift_b = 2 * (a.percent and value_a != a.value), 2 * (b.percent and value_b != b.value)
        decimals_a = None if a.decimals is None else a.decimals + shift_a
        decimals_b = None if b.decimals is None else b.decimals + shift_b
        if same_rounded(value_a, decimals_a, value_b, decimals_b, policy):
            return True, _agreement(policy)
    return False, "another number"


def percent_readings(
    a: Fraction, a_percent: bool, b: Fraction, b_percent: bool, policy: GradePolicy
) -> list[tuple[Fraction, Fraction]]:
    """The pairs of values to compare: 50% beside a bare number is 50, 0.5, or either."""
    if a_percent == b_percent:
        return [(a, b)]
    hundredth = (a / 100, b) if a_percent else (a, b / 100)
    return {"sign": [(a, b)], "value": [hundredth], "either": [(a, b), hundredth]}[policy.percent]


def same_rounded(
    a: Fraction,
    decimals_a: int | None,
    b: Fraction,
    decimals_b: int | None,
    policy: GradePolicy,
    exact: bool = True,
) -> bool:
    """Whether one value is the other one correctly rounded; `decimals` None: an integer, a fraction or an exact value.

    `exact` False: the value without decimals is itself an approximation of something that is not rational.
    """
    precision = policy.precision
    if precision is None:
        return False
    if isinstance(precision, float):
        return abs(a - b) <= Fraction(str(precision)) * max(abs(a), abs(b))
    if decimals_a is None or (decimals_b is not None and decimals_b < decimals_a):
        a, decimals_a, b, decimals_b = b, decimals_b, a, decimals_a
    if decimals_a is None:
        return False
    # from here on `a` is the coarser decimal of the two, or the only one
    if isinstance(precision, int):
        return _agree(a, b, precision)
    if a.denominator == 1 or (exact and b.denominator == 1):
        return _is_noise(a, (decimals_b if a.denominator == 1 else decimals_a) or 0, b)
    return _is_rounded(a, decimals_a, b, exact)


def _is_noise(a: Fraction, decimals: int, b: Fraction) -> bool:
    """Whether a decimal differs from an integer as a calculator's 17.9999999 does."""
    return decimals >= _NOISE_DECIMALS and abs(a - b) * 10**_NOISE_DECIMALS <= 1


def _is_rounded(a: Fraction, decimals: int, b: Fraction, exact: bool) -> bool:
    """Whether a decimal is `b` correctly rounded, to three digits or more, and about as exact where `b` ends itself."""
    digits = len(str(abs(int(a * 10**decimals))).lstrip("0"))
    if abs(a - b) * 10**decimals * 2 > 1 or digits < _WRITTEN_DIGITS:
        return False
    return not (exact and _ends(b)) or abs(a - b) * 10**_WRITTEN_DIGITS <= max(abs(a), abs(b))


def _agree(a: Fraction, b: Fraction, digits: int) -> bool:
    """Whether two numbers agree to so many significant digits: rounded to them, or by their relative difference."""
    if abs(a - b) * 10**digits <= max(abs(a), abs(b)):
        return True
    return _significant(a, digits) == _significant(b, digits)


def _significant(value: Fraction, digits: int) -> Fraction:
    """A number rounded to so many significant digits, halves away from zero."""
    if not value:
        return value
    size = abs(value)
    exponent = len(str(size.numerator)) - len(str(size.denominator))  # of the leading digit, or one more
    exponent -= Fraction(10) ** exponent > size
    unit = Fraction(10) ** (exponent - digits + 1)
    rounded = math.floor(size / unit + Fraction(1, 2)) * unit
    return rounded if value > 0 else -rounded


def _ends(value: Fraction) -> bool:
    """Whether a fraction has finitely many decimals."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _agreement(policy: GradePolicy) -> str:
    if isinstance(policy.precision, float):
        return f"same within {policy.precision:g}"
    return (
        f"same to {policy.precision} digits" if isinstance(policy.precision, int) else "same rounded number"
    )
