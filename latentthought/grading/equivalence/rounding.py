"""When a decimal stands for another number: where it is that number correctly rounded, to enough digits.

`precision` counts significant digits (3: 0.333 is 1/3, 0.33 is not, 0.334 is not) or is a relative tolerance. Two numbers that
both end (12.3 and 12.34) have to be as close as that many digits as well: such a number is its own exact value, and was
rarely meant to be rounded. An integer is never a rounding: 18.01 is not 18. A relative tolerance asks only for closeness.
"""

from __future__ import annotations

from fractions import Fraction

from latentthought.grading.normalization.numbers import Number
from latentthought.grading.normalization.units import compatible, factor
from latentthought.grading.policy import GradePolicy

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
            return True, _digits(policy)
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
    if policy.precision is None:
        return False
    difference, size = abs(a - b), max(abs(a), abs(b))
    if isinstance(policy.precision, float):
        return difference <= policy.tolerance * size
    if decimals_a is None or (decimals_b is not None and decimals_b < decimals_a):
        a, decimals_a, b, decimals_b = b, decimals_b, a, decimals_a
    if decimals_a is None:
        return False
    # from here on `a` is the coarser one: is it `b` rounded?
    integer = exact and b.denominator == 1
    if a.denominator == 1 or integer:
        noise = decimals_b if a.denominator == 1 else decimals_a
        return (
            (integer or noise is not None)
            and (noise or 0) >= _NOISE_DECIMALS
            and difference * 10**_NOISE_DECIMALS <= 1
        )
    digits = len(str(abs(int(a * 10**decimals_a))).lstrip("0"))
    if difference * 10**decimals_a * 2 > 1 or digits < policy.precision:
        return False
    return not (exact and _ends(b)) or difference * 10**policy.precision <= size


def _ends(value: Fraction) -> bool:
    """Whether a fraction has finitely many decimals."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _digits(policy: GradePolicy) -> str:
    if isinstance(policy.precision, float):
        return f"same within {policy.precision:g}"
    return f"same to {policy.precision} digits"
