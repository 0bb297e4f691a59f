"""Functions of exact rationals, each bounded before it is computed.

A result is a Fraction, or None when the value is no rational (sqrt 2) and someone else has to go on with it. What is too
large or not defined raises `Undecided`: sizes are estimated from bit lengths first, so that `9^9^9` costs three lookups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

# of a numerator or denominator: 6,000 digits, whose gcd still takes a fraction of a millisecond
MAXIMUM_BITS = 20_000
_MAXIMUM_ROOT = 64


class Undecided(ArithmeticError):
    """A value that does not exist or costs too much to compute."""


def bits(value: Fraction) -> int:
    """Of the longer of numerator and denominator."""
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """base ** exponent where it is rational; (-8)^(1/3) is -2, the real root. None also for a power beyond MAXIMUM_BITS."""
    if exponent.denominator == 1:
        if base == 0 and exponent < 0:
            raise Undecided("division by zero")
        if abs(base) == 1 or base == 0 or exponent in (0, 1):
            return base ** (exponent.numerator % 2 if abs(base) == 1 else min(exponent.numerator, 1))
        if abs(exponent.numerator) * bits(base) > MAXIMUM_BITS:
            return None
        return base**exponent.numerator
    degree = exponent.denominator
    if degree > _MAXIMUM_ROOT or (base < 0 and degree % 2 == 0):
        return None
    found = root(Fraction(degree), base)
    return None if found is None else power(found, Fraction(exponent.numerator))


def root(degree: Fraction, value: Fraction) -> Fraction | None:
    """The real root where it is rational."""
    if degree.denominator != 1 or not 1 <= degree <= _MAXIMUM_ROOT:
        return None
    if value < 0:
        inner = root(degree, -value) if degree % 2 else None
        return None if inner is None else -inner
    top, bottom = (_integer_root(part, degree.numerator) for part in (value.numerator, value.denominator))
    return None if top is None or bottom is None else Fraction(top, bottom)


def _integer_root(value: int, degree: int) -> int | None:
    if degree == 2 or value < 2:
        found = math.isqrt(value) if degree == 2 else value
    else:
        found = 1 << -(-value.bit_length() // degree)  # Newton from above: about log2(bits) steps
        while (step := ((degree - 1) * found + value // found ** (degree - 1)) // degree) < found:
            found = step
    return found if found**degree == value else None


def logarithm(base: Fraction, value: Fraction) -> Fraction | None:
    """The rational logarithm, if there is one of denominator up to 12: log_4 8 = 3/2."""
    if base <= 0 or base == 1 or value <= 0:
        if base == 1 or value == 0 or base == 0:
            raise Undecided("no logarithm")
        return None
    logs = [
        math.log2(part) for part in (value.numerator, value.denominator, base.numerator, base.denominator)
    ]
    near = Fraction((logs[0] - logs[1]) / (logs[2] - logs[3]) if logs[2] != logs[3] else 0).limit_denominator(
        12
    )
    if abs(near.numerator) * bits(base) > MAXIMUM_BITS or near.denominator * bits(value) > MAXIMUM_BITS:
        return None
    return near if base**near.numerator == value**near.denominator else None


def factorial(value: Fraction) -> Fraction | None:
    """n! of a natural number; None for a fraction."""
    if value.denominator != 1:
        return None
    count = value.numerator
    if count < 0 or count * max(count.bit_length() - 1, 1) > MAXIMUM_BITS:
        raise Undecided("no such factorial")
    return Fraction(math.factorial(count))


def binomial(top: Fraction, bottom: Fraction) -> Fraction | None:
    """n choose k of natural numbers."""
    if top.denominator != 1 or bottom.denominator != 1:
        return None
    n, k = top.numerator, bottom.numerator
    if n < 0 or k < 0:
        raise Undecided("a negative binomial")
    if k > n:
        return Fraction(0)
    if min(k, n - k) * n.bit_length() > MAXIMUM_BITS:
        raise Undecided("too large a binomial")
    return Fraction(math.comb(n, k))


def _integers(values: tuple[Fraction, ...]) -> list[int] | None:
    return [value.numerator for value in values] if all(value.denominator == 1 for value in values) else None


def _gcd(*values: Fraction) -> Fraction | None:
    whole = _integers(values)
    return None if whole is None else Fraction(math.gcd(*whole))


def _lcm(*values: Fraction) -> Fraction | None:
    whole = _integers(values)
    if whole is None or sum(value.bit_length() for value in whole) > MAXIMUM_BITS:
        return None
    return Fraction(math.lcm(*whole))


def _modulo(value: Fraction, modulus: Fraction) -> Fraction:
    if modulus == 0:
        raise Undecided("modulo zero")
    return value % modulus


def _at(place: int, result: int) -> Callable[[Fraction], Fraction | None]:
    return lambda value: Fraction(result) if value == place else None


FUNCTIONS: dict[str, Callable[..., Fraction | None]] = {
    "sqrt": lambda value: root(Fraction(2), value),
    "cbrt": lambda value: root(Fraction(3), value),
    "root": root,
    "log": lambda *values: logarithm(*values) if len(values) == 2 else logarithm(Fraction(10), *values),
    "ln": _at(1, 0),
    "exp": _at(0, 1),
    "abs": abs,
    "floor": lambda value: Fraction(math.floor(value)),
    "ceil": lambda value: Fraction(math.ceil(value)),
    "factorial": factorial,
    "binomial": binomial,
    "gcd": _gcd,
    "lcm": _lcm,
    "max": lambda *values: max(values),
    "min": lambda *values: min(values),
    "mod": _modulo,
    "percent": lambda value: value / 100,
    "mixed": lambda whole, part: whole + part,
}
