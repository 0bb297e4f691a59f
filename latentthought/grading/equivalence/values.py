"""Whether two trees are the same value: exact first, then what percent, degree, base and ratio signs allow, then rounded.

A sign that only one side has may be left out (`30°` is 30, `52_8` is 52 written in base 8), or stands for what it means (`30°`
is pi/6, by the policy 50% is 0.5). Rejected: working such signs out beforehand, which makes 50% differ from 50.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from latentthought.grading import algebra
from latentthought.grading.equivalence.rounding import same_rounded
from latentthought.grading.expression.tree import (
    Add,
    Call,
    Divide,
    Literal,
    Multiply,
    Negate,
    Node,
    Words,
    symbols,
)
from latentthought.grading.policy import GradePolicy

_HUNDRED = Literal(Fraction(100))
_RATIOS = ("ratio", "clock")
_MAXIMUM_BINARY_EXPONENT = 4000


def same_values(a: Node, b: Node, policy: GradePolicy) -> tuple[bool, str]:
    """(same, reason) of two values with or without variables; symmetric, False where it cannot be told."""
    names = _sign(a), _sign(b)
    if set(names) & set(_RATIOS):
        same = _same_ratio(a, b)
        return same, "same ratio" if same else "another ratio"
    if "residue" in names:
        same = _same_residue(a, b)
        return same, "same residue" if same else "another residue"
    if "base" in names:
        same = _same_in_base(a, b)
        return same, "same number" if same else "another number"
    for x, y in _readings(a, b, names, policy):
        if algebra.same_value(x, y) is True:
            return True, "same value"
        if _same_rounded(x, y, policy):
            return True, "same rounded value"
    return False, "another value"


def _sign(node: Node) -> str:
    return node.name if isinstance(node, Call) else ""


def _readings(a: Node, b: Node, names: tuple[str, str], policy: GradePolicy) -> list[tuple[Node, Node]]:
    """The pairs to compare where only one side has a percent or degree sign."""
    for sign in ("percent", "degrees"):
        if names.count(sign) != 1:
            continue
        signed, other = (a, b) if names[0] == sign else (b, a)
        bare = signed.children[0]
        if sign == "degrees":
            return [(bare, other), (signed, other)] if policy.units else [(signed, other)]
        readings: list[tuple[Node, Node]] = [(bare, other), (Divide(bare, _HUNDRED), other)]
        return {"sign": readings[:1], "value": readings[1:], "either": readings}[policy.percent]
    return [(a, b)]


# ---------------------------------------------------------------------------------------------- residues, ratios, bases
def _same_residue(a: Node, b: Node) -> bool:
    """One class of one modulus; a number without a modulus must be the one that is written."""
    if _sign(a) != "residue":
        a, b = b, a
    number, modulus = a.children
    if _sign(b) not in ("residue", "mod"):
        return algebra.same_value(number, b) is True
    other, other_modulus = b.children
    if algebra.same_value(modulus, other_modulus) is not True:
        return False
    difference, size = algebra.value(Add((number, Negate(other)))), algebra.value(modulus)
    if difference is not None and size:
        return (difference / size).denominator == 1
    return algebra.same_value(number, other) is True


def _same_ratio(a: Node, b: Node) -> bool:
    """`1:2:3` is `2:4:6`, and `3:4` beside a number its quotient; two times of day have been equal before."""
    if _sign(a) not in _RATIOS:
        a, b = b, a
    if _sign(b) in _RATIOS:
        if len(a.children) != len(b.children) or (_sign(a) == _sign(b) == "clock"):
            return False
        pairs = list(zip(a.children, b.children, strict=True))
        return all(
            algebra.same_value(Multiply((x, next_y)), Multiply((next_x, y))) is True
            for (x, y), (next_x, next_y) in pairwise(pairs)
        )
    if _sign(a) == "clock" or len(a.children) != 2:
        return False
    return algebra.same_value(Divide(*a.children), b) is True


def _same_in_base(a: Node, b: Node) -> bool:
    """Digits of one base, or two bases and one value; a number without a base may be those digits, never their value."""
    if _sign(a) != "base":
        a, b = b, a
    digits, base = a.children
    assert isinstance(digits, Words)
    if _sign(b) == "base":
        if b.children[1] != base:
            return algebra.same_value(a, b) is True
        other = b.children[0]
        assert isinstance(other, Words)
        return digits.text.lstrip("0").lower() == other.text.lstrip("0").lower()
    return isinstance(b, Literal) and b.decimals is None and digits.text.lstrip("0") == str(b.value)


# ------------------------------------------------------------------------------------------------------------ rounding
def _same_rounded(a: Node, b: Node, policy: GradePolicy) -> bool:
    """Whether a decimal is the other number rounded, or two numbers are within the policy's relative tolerance."""
    if policy.precision is None or symbols(a) or symbols(b):
        return False
    decimals_a, decimals_b = _decimals(a), _decimals(b)
    if decimals_a is None and decimals_b is None and not isinstance(policy.precision, float):
        return False
    one, other = algebra.value(a), algebra.value(b)
    exact = one is not None and other is not None
    one = _approximated(a) if one is None else one
    other = _approximated(b) if other is None else other
    if one is None or other is None:
        return False
    return same_rounded(one, decimals_a, other, decimals_b, policy, exact)


def _decimals(node: Node) -> int | None:
    """Digits after the point of a number written as a decimal, with or without a sign."""
    while isinstance(node, Negate):
        node = node.operand
    return node.decimals if isinstance(node, Literal) else None


def _approximated(node: Node) -> Fraction | None:
    """A real number to some fifty digits; None for every other one."""
    found = algebra.approximate(node)
    if found is None or abs(found.imag) > abs(found.real) * 1e-40:
        return None
    sign, mantissa, exponent, _ = found.real._mpf_
    if abs(exponent) > _MAXIMUM_BINARY_EXPONENT:
        return None
    return Fraction(-int(mantissa) if sign else int(mantissa)) * Fraction(2) ** exponent
