"""Whether two relations say the same, whichever way round they are written, and what kind of thing a tree states.

Equations are the same when the differences of their sides are, up to a constant factor, or up to variables that were divided
by: `y = 1/x` is `xy = 1`, but `xy = x` is not `y = 1`, for it holds at x = 0 as well. Rejected: solving equations to compare
them (the answer's work, and unbounded): `x^2 = 4` is not `x = 2 or x = -2`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from latentthought.grading import algebra
from latentthought.grading.expression.substitution import substitute
from latentthought.grading.expression.tree import (
    Add,
    Builder,
    Call,
    Collection,
    Constant,
    Divide,
    Literal,
    Multiply,
    NamedSet,
    Negate,
    Node,
    PlusMinus,
    Power,
    Relation,
    SetOperation,
    Symbol,
    symbols,
    walk,
)

SameValue = Callable[[Node, Node], bool]

_BACKWARD = {">": "<", ">=": "<="}
_POINTS = (Fraction(7, 5), Fraction(13, 3), Fraction(3, 11))
_NUMBERS = (Literal, Constant, Add, Multiply, Divide, Negate, Power, Call, PlusMinus)
_ZERO, _ONE = Literal(Fraction(0)), Literal(Fraction(1))
_MAXIMUM_FRACTIONS = 8


def same_relation(a: Relation, b: Relation, same: SameValue) -> bool:
    """Whether two chains say the same, whichever way round they are written."""
    a, b = _forward(a), _forward(b)
    if a.signs != b.signs:
        return False
    sides = list(zip(a.sides, b.sides, strict=True))
    if all(same(x, y) for x, y in sides):
        return True
    if set(a.signs) <= {"=", "!=", "~"} and all(
        same(x, y) for x, y in zip(a.sides, b.sides[::-1], strict=True)
    ):
        return a.signs == a.signs[::-1]
    if len(a.sides) != 2 or a.signs[0] not in ("=", "!=", "<", "<="):
        return False
    if (
        not symbols(a)
        or symbols(a) != symbols(b)
        or not all(isinstance(side, (Symbol, *_NUMBERS)) for side in a.sides + b.sides)
    ):
        return False
    return _same_differences(a, b)


def _forward(node: Relation) -> Relation:
    """`a > b > c` as `c < b < a`."""
    if set(node.signs) <= set(_BACKWARD):
        return Relation(node.sides[::-1], tuple(_BACKWARD[sign] for sign in node.signs[::-1]))
    return node


def _same_differences(a: Relation, b: Relation) -> bool:
    """Whether left - right is the same up to a factor, which must be positive for an inequality."""
    one, other = (Add((node.sides[0], Negate(node.sides[1]))) for node in (a, b))
    # an identity is proportional to everything that vanishes
    if algebra.same_value(one, _ZERO) is not False or algebra.same_value(other, _ZERO) is not False:
        return False
    if algebra.proportional(one, other) is True:
        return a.signs[0] in ("=", "!=") or _factor_is_positive(one, other)
    return a.signs[0] == "=" and _same_multiplied_out(one, other)


def _same_multiplied_out(a: Node, b: Node) -> bool:
    """Whether `a = 0` and `b = 0` are one equation once the variables that they divide by are multiplied out."""
    if not 0 < sum(isinstance(part, Divide) for side in (a, b) for part in walk(side)) <= _MAXIMUM_FRACTIONS:
        return False
    (top, bottom), (other_top, other_bottom) = _fraction(a), _fraction(b)
    divisors = symbols(bottom) | symbols(other_bottom)
    monomial = (Symbol, Literal, Constant, Multiply, Power, Negate)
    if not divisors or not all(
        isinstance(part, monomial) for x in (bottom, other_bottom) for part in walk(x)
    ):
        return False
    if algebra.proportional(top, other_top) is not True:
        return False
    # nothing is gained where a divisor is zero
    return all(algebra.same_value(substitute(top, name, _ZERO), _ZERO) is False for name in divisors)


def _fraction(node: Node) -> tuple[Node, Node]:
    """(top, bottom) of a value brought onto one fraction stroke."""
    match node:
        case Divide():
            (top, under), (over, bottom) = _fraction(node.top), _fraction(node.bottom)
            return Multiply((top, bottom)), Multiply((under, over))
        case Negate():
            top, bottom = _fraction(node.operand)
            return Negate(top), bottom
        case Multiply():
            tops, bottoms = zip(*map(_fraction, node.factors), strict=True)
            return Multiply(tops), Multiply(bottoms)
        case Add():
            top, bottom = _fraction(node.terms[0])
            for term in node.terms[1:]:
                more, below = _fraction(term)
                if below != bottom:
                    top, more = Multiply((top, below)), Multiply((more, bottom))
                    bottom = Multiply((bottom, below))
                top = Add((top, more))
            return top, bottom
    return node, _ONE


def _factor_is_positive(a: Node, b: Node) -> bool:
    for point in _POINTS:
        values = {name: point + index for index, name in enumerate(sorted(symbols(a)))}
        one, other = algebra.evaluate_at(a, values), algebra.evaluate_at(b, values)
        if one is not None and other is not None and one and other:
            return bool((one / other).real > 0)
    return False


def is_statement(node: Node) -> bool:
    """Whether a tree is a relation or a list of nothing else."""
    if isinstance(node, Collection):
        return (
            node.opening in ("", "{", "(")
            and bool(node.items)
            and all(isinstance(i, Relation) for i in node.items)
        )
    return isinstance(node, Relation)


def is_set(node: Node) -> bool:
    """Whether a tree can be nothing but a set: an inequality or a list of them, a union, a builder, R, `[0, 1)`."""
    if isinstance(node, (SetOperation, Builder, NamedSet)):
        return True
    if isinstance(node, Relation):
        return any(sign in ("<", "<=", ">", ">=", "!=", "in") for sign in node.signs)
    if isinstance(node, Collection):
        if node.opening + node.closing in ("(]", "[)"):
            return True
        return node.opening in ("", "{") and any(
            is_set(item) for item in node.items if isinstance(item, Relation)
        )
    return False
