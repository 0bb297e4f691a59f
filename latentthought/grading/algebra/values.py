"""Whether two expressions have the same value, in bounded time.

Three answers: True, False, and None for "cannot tell" (undefined, too large, not a value). In order of cost: the same tree;
exact rationals; rational functions of variables, pi, e and i at random points modulo two primes (`fields.Modular`); anything
else by numbers, 40 digits and then 160 for constants, 40 digits at six points for functions of variables.

Conventions: roots and logarithms are principal, odd roots of negative reals real; variables range over the reals, and only
points count where every part of both sides is real if there are any: so sqrt(x^2) is |x| and not x, ln(x^2) is 2 ln x, and
sqrt(x)sqrt(y) is sqrt(xy).
Cost: some ten microseconds for numbers and polynomials, up to a millisecond with roots and sines. Rejected: `sympy.simplify`
and `equals`, which take seconds on a page of radicals and have no bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from latentthought.grading.algebra.evaluation import Evaluation
from latentthought.grading.algebra.fields import Modular, NotRational, Numeric, Rationals, context
from latentthought.grading.algebra.rational import Undecided
from latentthought.grading.algebra.simplest import is_simplified
from latentthought.grading.expression.tree import Constant, Negate, Node, symbols

__all__ = ["approximate", "evaluate_at", "is_simplified", "order", "proportional", "same_value", "value"]

_COARSE, _FINE, _DIGITS = 40, 160, 60
_RANGES = ((0.1, 1.0), (1.0, 3.0), (4.0, 40.0), (-1.0, -0.1), (-3.0, 3.0), (0.5, 8.0))
_RELIABLE_BITS = 400  # numbers further than this from 1 could hide a difference from 160 digits
_PLAIN_BITS = 20  # numbers up to a million leave 26 of the 40 digits
_PROJECTIVE_POINTS = 3


# --------------------------------------------------------------------------------------------------------------- values
def value(node: Node) -> Fraction | None:
    """The exact rational value of a node without variables (`2^10`, `5!`, `sqrt(16)`, `binom(5,2)`, `log_2 8`, determinants);
    None: it has none, is undefined, or is too large to be built."""
    try:
        found = Evaluation(Rationals()).of(node)
    except Undecided:
        return None
    assert isinstance(found, Fraction)
    return found


def approximate(node: Node) -> Any | None:
    """A number's mpmath `mpc` at 60 digits; None: variables, undefined, infinite, or too large."""
    return evaluate_at(node, {})


def evaluate_at(node: Node, values: Mapping[str, Any]) -> Any | None:
    """`approximate` with numbers (int, Fraction, mpmath) for the variables; None: one is missing, or it is undefined there."""
    field = Numeric(_DIGITS)
    numbers = {
        name: Fraction(number) if isinstance(number, int | Fraction) else field.mp.convert(number)
        for name, number in values.items()
    }
    found = _numeric(node, field, numbers)
    return None if found is None else field.mp.mpc(found)


def _numeric(node: Node, field: Numeric, numbers: Mapping[str, Any]) -> Any | None:
    """A real or complex mpmath number; None where there is none."""
    evaluation = Evaluation(field, numbers)
    try:
        return evaluation.element(evaluation.of(node))
    except Undecided:
        return None


def _infinite(node: Node) -> int:
    """1 and -1 for the two infinities, 0 for anything else."""
    if isinstance(node, Negate):
        return -_infinite(node.operand)
    return int(isinstance(node, Constant) and node.name == "infinity")


# ------------------------------------------------------------------------------------------------------------- equality
def same_value(a: Node, b: Node) -> bool | None:
    """Whether two values (numbers or expressions in variables) are equal; symmetric.

    None: cannot tell (undefined, too large, an unknown function, a node that is no value such as a Collection).
    """
    if a == b:
        return True
    if _infinite(a) or _infinite(b):
        return _infinite(a) == _infinite(b)
    exact_a, exact_b = value(a), value(b)
    if exact_a is not None and exact_b is not None:
        return exact_a == exact_b
    names = sorted(symbols(a) | symbols(b))
    same = _same_modular(a, b, names)
    if same is None:
        return _same_function(a, b, names) if names else _same_constant(a, b)
    return same


def _same_modular(a: Node, b: Node, names: list[str]) -> bool | None:
    """Rational functions at one random point modulo each prime; None when one side is no rational function, or undefined."""
    for which in (0, 1):
        try:
            left, right = _modular_pair(a, b, names, which, which)
        except Undecided:
            return None
        if left != right:
            return False
    return True


def _modular_pair(a: Node, b: Node, names: list[str], which: int, seed: int) -> tuple[int, int]:
    pair = []
    for node in (a, b):
        field = Modular(which)
        evaluation = Evaluation(field, {name: field.point(name, seed) for name in names})
        pair.append(evaluation.element(evaluation.of(node)))
    return pair[0], pair[1]


def _numeric_pair(
    a: Node, b: Node, digits: int, numbers: Mapping[str, Any]
) -> tuple[Any, Any, Numeric] | None:
    field = Numeric(digits)
    numbers = {name: field.mp.convert(number) for name, number in numbers.items()}
    left, right = _numeric(a, field, numbers), _numeric(b, field, numbers)
    return None if left is None or right is None else (left, right, field)


def _is_close(a: Any, b: Any, field: Numeric) -> bool:
    """To eight digits less than were carried, relative to the largest number met: cancelled digits are lost digits."""
    difference = a - b
    return not difference or bool(field.mp.mag(difference) < field.largest - 3.32 * (field.digits - 8))


def _same_constant(a: Node, b: Node) -> bool | None:
    found = _numeric_pair(a, b, _COARSE, {})
    if found is None or not _is_close(*found):
        return None if found is None else False
    return _same_in_detail(a, b, {}, found[2])


def _same_in_detail(a: Node, b: Node, numbers: Mapping[str, Any], coarse: Numeric) -> bool | None:
    """By 160 digits; None where numbers were met beside which a difference could be lost."""
    found = _numeric_pair(a, b, _FINE, numbers)
    if found is None:
        return None
    if not _is_close(*found):
        return False
    # at 40 digits what should be zero is not that small yet
    reliable = coarse.largest < _RELIABLE_BITS and coarse.smallest > -_RELIABLE_BITS
    return True if reliable else None


def _same_function(a: Node, b: Node, names: list[str]) -> bool | None:
    real = others = different = 0
    for numbers in _points(names):
        found = _numeric_pair(a, b, _COARSE, numbers)
        if found is None:
            continue
        close: bool | None = _is_close(*found)
        if close and found[2].largest > _PLAIN_BITS:
            close = _same_in_detail(a, b, numbers, found[2])
            if close is None:
                continue
        if not found[2].left_reals and all(_is_real(side, found[2]) for side in found[:2]):
            if not close:
                return False
            real += 1
        else:
            others += 1
            different += not close
    if real >= 2:
        return True
    if real + others < 2:
        return None
    return different == 0


def _is_real(number: Any, field: Numeric) -> bool:
    imaginary = field.mp.im(number)
    return not imaginary or field.mp.mag(imaginary) < field.largest - 3 * (field.digits - 8)


def _points(names: list[str]) -> Iterator[dict[str, Any]]:
    """Values of the variables: small and large, positive and negative; the same on every call."""
    mp, random = context(_COARSE), Modular()
    for seed, (low, high) in enumerate(_RANGES):
        yield {
            name: mp.mpf(low) + mp.mpf(random.point(name, seed)) / random.prime * (high - low)
            for name in names
        }


# -------------------------------------------------------------------------------------------------- equations and order
def proportional(a: Node, b: Node) -> bool | None:
    """Whether a = c * b for a constant c that is not 0 (two equations a = 0 and b = 0 then say the same); None: cannot tell.

    Two that are zero everywhere are proportional, and so are any two numbers that are not zero.
    """
    names = sorted(symbols(a) | symbols(b))
    try:
        pairs = [_modular_pair(a, b, names, 0, seed) for seed in range(_PROJECTIVE_POINTS)]
        prime = Modular().prime
        (a0, b0), *rest = pairs
        if any((not x) != (not y) for x, y in pairs):
            return False
        return all((a0 * y - x * b0) % prime == 0 for x, y in rest)
    except NotRational:
        return _proportional_numbers(a, b, names)
    except Undecided:
        return None


def _proportional_numbers(a: Node, b: Node, names: list[str]) -> bool | None:
    ratios: list[tuple[Any, Any, Numeric]] = []
    zeros = 0
    for numbers in _points(names) if names else iter([{}]):
        found = _numeric_pair(a, b, _FINE, numbers)
        if found is not None and found[2].largest < _RELIABLE_BITS:
            zero_a, zero_b = (_is_close(side, found[2].mp.mpf(0), found[2]) for side in found[:2])
            if zero_a != zero_b:
                return False
            if not zero_a:
                ratios.append(found)
            zeros += zero_a
    needed = 2 if names else 1
    if len(ratios) < needed:
        return True if zeros >= needed and not ratios else None
    a0, b0, first = ratios[0]
    for x, y, field in ratios[1:]:
        field.largest = max(field.largest, first.largest, field.mp.mag(a0 * y))
        if not _is_close(a0 * y, x * b0, field):
            return False
    return True


def order(a: Node, b: Node) -> int | None:
    """-1, 0 or 1 as real constant a is less than, equal to or greater than b (infinities included); None: cannot tell."""
    infinite = _infinite(a), _infinite(b)
    if any(infinite):
        return (infinite[0] > infinite[1]) - (infinite[0] < infinite[1])
    exact_a, exact_b = value(a), value(b)
    if exact_a is not None and exact_b is not None:
        return (exact_a > exact_b) - (exact_a < exact_b)
    same = None if symbols(a) or symbols(b) else _same_constant(a, b)
    if same is None or same:
        return 0 if same else None
    found = _numeric_pair(a, b, _FINE, {})
    if found is None or not all(_is_real(side, found[2]) for side in found[:2]):
        return None
    left, right = (found[2].mp.re(side) for side in found[:2])
    return 1 if left > right else -1
