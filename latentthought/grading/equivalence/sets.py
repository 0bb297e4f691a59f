"""Sets of real numbers: intervals, unions, inequalities, `R \\ {3}` and builders, all as one sorted list of disjoint intervals.

An end of an interval is a cut in the real line, just before or just after a number, so that open, closed, points, complements
and unions need no cases of their own: `[2, 3)` lies between the cut before 2 and the cut before 3, and the point 2 between the
two cuts at 2. The numbers stay exact (trees, ordered by `algebra`); nothing is sampled. Inequalities are solved where they are
linear in one variable or the absolute value of such a thing; `x^2 < 4` is left alone: solving is the answer's work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key

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
    Matrix,
    Multiply,
    NamedSet,
    Negate,
    Node,
    Relation,
    SetOperation,
    Symbol,
    Words,
    symbols,
)

INFINITY = Constant("infinity")
_LEFT, _RIGHT = Negate(INFINITY), INFINITY
_MAXIMUM_INTERVALS = 32
_NO_ENDS = (Collection, Relation, SetOperation, NamedSet, Builder, Words, Matrix)
_PROBES = (Fraction(2), Fraction(-3), Fraction(1, 7), Fraction(1009), Fraction(-1013))
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "!=", "!=": "="}


class NotRealError(Exception):
    """A tree that is no set of real numbers, or one that cannot be worked out; never leaves `grading`."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A place in the real line: just before `at`, or just after it."""

    at: Node
    after: bool


Interval = tuple[Cut, Cut]
_WHOLE: Interval = (Cut(_LEFT, True), Cut(_RIGHT, False))


@dataclass(frozen=True, slots=True)
class RealSet:
    """Disjoint intervals from left to right, and the variable it is about (None: the set itself was written)."""

    intervals: tuple[Interval, ...]
    variable: str | None = None


def same_set(a: RealSet, b: RealSet, same: Callable[[Node, Node], bool]) -> bool:
    """Whether two sets have the same ends; `same` compares two numbers. Two variables that are both named must agree."""
    if a.variable and b.variable and a.variable != b.variable:
        return False
    if len(a.intervals) != len(b.intervals):
        return False
    cuts = [
        (x, y)
        for one, other in zip(a.intervals, b.intervals, strict=True)
        for x, y in zip(one, other, strict=True)
    ]
    return all(x.after == y.after for x, y in cuts) and all(x.at == y.at or same(x.at, y.at) for x, y in cuts)


# ---------------------------------------------------------------------------------------------------- from trees to sets
def real_set(node: Node) -> RealSet:
    """The set of real numbers that a tree denotes. Raises NotRealError when it denotes none."""
    if isinstance(node, NamedSet):
        if node.name not in ("reals", "empty"):
            raise NotRealError
        return RealSet((_WHOLE,) if node.name == "reals" else ())
    if isinstance(node, Relation):
        return _relation(node)
    if isinstance(node, SetOperation):
        return _operation(node)
    if isinstance(node, Builder):
        parts = [real_set(part) for part in (node.variable, *node.conditions) if not isinstance(part, Symbol)]
        return RealSet(_combined("intersection", parts).intervals)
    if isinstance(node, Collection):
        return _collection(node)
    raise NotRealError


def _collection(node: Collection) -> RealSet:
    kind = node.opening + node.closing
    if kind in ("", "{}"):
        node = _with_every_exception(node)
    conditions = [isinstance(item, (Relation, SetOperation)) for item in node.items]
    if kind in ("", "{}") and any(conditions):
        if not all(conditions):
            raise NotRealError
        parts = [real_set(item) for item in node.items]
        # a comma says neither and nor or: whichever leaves something
        both = _combined("intersection", parts)
        spread = not both.intervals and all(part.intervals for part in parts)
        found = _combined("union", parts) if spread else both
        return RealSet(found.intervals) if kind else found
    if kind == "{}":
        return RealSet(_union([_point(item) for item in node.items]))
    if kind in ("()", "[]", "(]", "[)") and len(node.items) == 2:
        return RealSet((_interval(node.items[0], kind[0] == "[", node.items[1], kind[1] == "]"),))
    raise NotRealError


def _with_every_exception(node: Collection) -> Collection:
    """`x != 0, 1` with its sign before every number."""
    first = node.items[0] if node.items else None
    if not (isinstance(first, Relation) and first.signs == ("!=",)) or any(
        isinstance(item, _NO_ENDS) for item in node.items[1:]
    ):
        return node
    others = (Relation((first.sides[0], item), first.signs) for item in node.items[1:])
    return Collection((first, *others), node.opening, node.closing)


def _operation(node: SetOperation) -> RealSet:
    parts = [real_set(operand) for operand in node.operands]
    return _combined(node.name, parts)


def _combined(name: str, parts: list[RealSet]) -> RealSet:
    """Union, intersection or difference of sets about one variable."""
    variables = {part.variable for part in parts} - {None}
    if len(variables) > 1:
        raise NotRealError
    sets = [part.intervals for part in parts]
    if name == "union":
        found = _union([interval for one in sets for interval in one])
    elif name == "intersection":
        found = _complement(_union([interval for one in sets for interval in _complement(one)]))
    else:
        gone = _union([interval for one in sets[1:] for interval in one])
        found = _complement(_union([*_complement(sets[0]), *gone]))
    return RealSet(found, variables.pop() if variables else None)


def _interval(low: Node, low_closed: bool, high: Node, high_closed: bool) -> Interval:
    if isinstance(low, _NO_ENDS) or isinstance(high, _NO_ENDS):
        raise NotRealError
    cuts = Cut(low, not low_closed), Cut(high, high_closed)
    if (low_closed and low == _LEFT) or (high_closed and high == _RIGHT) or _order(*cuts) >= 0:
        raise NotRealError
    return cuts


def _point(node: Node) -> Interval:
    return _interval(node, True, node, True)


# ---------------------------------------------------------------------------------------------------------- operations
def _order(a: Cut, b: Cut) -> int:
    order = 0 if a.at == b.at and not symbols(a.at) else algebra.order(a.at, b.at)
    if order is None:
        raise NotRealError
    return order or a.after - b.after


_BY_LOW = cmp_to_key(lambda a, b: _order(a[0], b[0]))  # type: ignore[index]


def _union(intervals: list[Interval]) -> tuple[Interval, ...]:
    if len(intervals) > _MAXIMUM_INTERVALS:
        raise NotRealError
    merged: list[Interval] = []
    for low, high in sorted(intervals, key=_BY_LOW):
        if merged and _order(low, merged[-1][1]) <= 0:
            before = merged[-1]
            merged[-1] = (before[0], high if _order(high, before[1]) > 0 else before[1])
        else:
            merged.append((low, high))
    return tuple(merged)


def _complement(intervals: tuple[Interval, ...]) -> tuple[Interval, ...]:
    cuts = [_WHOLE[0], *(cut for interval in intervals for cut in interval), _WHOLE[1]]
    pairs = zip(cuts[::2], cuts[1::2], strict=True)
    return tuple((low, high) for low, high in pairs if _order(low, high) < 0)


# -------------------------------------------------------------------------------------------------------- inequalities
def _relation(node: Relation) -> RealSet:
    """`2 < x <= 5`, `x != 3`, `2x + 1 > 7`, `|x - 1| < 2`, `x in [2, 3]`, `x = 4`."""
    names = symbols(node)
    if node.signs == ("in",) and isinstance(node.sides[0], Symbol):
        return RealSet(real_set(node.sides[1]).intervals, node.sides[0].name)
    if len(names) != 1 or any(sign not in _FLIPPED for sign in node.signs):
        raise NotRealError
    (name,) = names
    pairs = zip(node.sides, node.signs, node.sides[1:], strict=False)
    return _combined(
        "intersection", [RealSet(_solved(left, sign, right, name), name) for left, sign, right in pairs]
    )


def _solved(left: Node, sign: str, right: Node, name: str) -> tuple[Interval, ...]:
    """Where `left sign right` holds."""
    if not symbols(left):
        left, sign, right = right, _FLIPPED[sign], left
    if not symbols(right):
        if isinstance(left, Symbol):
            return _side(right, sign)
        if isinstance(left, Call) and left.name == "abs" and len(left.arguments) == 1:
            return _absolute(left.arguments[0], sign, right, name)
    difference = Add((left, Negate(right)))
    start, slope = _linear(difference, name)
    steep = algebra.order(slope, Literal(Fraction(0)))
    if steep is None or steep == 0:
        raise NotRealError
    return _side(Negate(Divide(start, slope)), sign if steep > 0 else _FLIPPED[sign])


def _side(bound: Node, sign: str) -> tuple[Interval, ...]:
    """Where a number is `sign bound`."""
    if bound in (_LEFT, _RIGHT):  # -oo < x
        if sign not in ("<", ">", "<=", ">=") or (bound == _RIGHT) != (sign in ("<", "<=")):
            raise NotRealError
        return (_WHOLE,)
    if sign in ("!=", ">", "<"):
        return _complement(_side(bound, _NEGATED[sign]))
    if sign == "=":
        return (_point(bound),)
    if sign == "<=":
        return ((_WHOLE[0], Cut(bound, True)),)
    return ((Cut(bound, False), _WHOLE[1]),)


def _absolute(inside: Node, sign: str, bound: Node, name: str) -> tuple[Interval, ...]:
    """Where |inside| is `sign bound`, for a bound that is not negative."""
    if (algebra.order(bound, Literal(Fraction(0))) or 0) < 0:
        raise NotRealError
    above = _solved(inside, sign, bound, name)
    below = _solved(Negate(inside), sign, bound, name)
    if sign in ("<", "<=", "!="):
        return _combined("intersection", [RealSet(above), RealSet(below)]).intervals
    return _union([*above, *below])


def _linear(node: Node, name: str) -> tuple[Node, Node]:
    """(value at 0, slope) of what is linear in the variable. Raises NotRealError for everything else."""
    at_zero = substitute(node, name, Literal(Fraction(0)))
    slope = Add((substitute(node, name, Literal(Fraction(1))), Negate(at_zero)))
    for probe in _PROBES:
        here = substitute(node, name, Literal(probe))
        line = Add((at_zero, Multiply((Literal(probe), slope))))
        if algebra.same_value(here, line) is not True:
            raise NotRealError
    return at_zero, slope
