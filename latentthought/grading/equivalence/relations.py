"""What an equation says: a name and its value (`x = 5`, `f(x) = x^2`, `x = 1 or x = 2`, `(x, y) = (1, 2)`), or a law.

A name is taken off only where one side names something and the other says what it is; `2x + 1 = 5` stays an equation, and is
the same as another one when their differences of sides are the same up to a constant factor. Two names that are both written
must agree, so `x = 5` is 5 but not `y = 5`. Rejected: solving equations to compare them (the answer's work, and unbounded).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from latentthought.grading import algebra
from latentthought.grading.equivalence.rewriting import substitute
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
_ZERO = Literal(Fraction(0))


@dataclass(frozen=True, slots=True)
class Named:
    """names: what is said to be something (empty: nothing); body: what it is said to be."""

    names: tuple[Node, ...]
    body: Node


# --------------------------------------------------------------------------------------------------------------- names
def named(node: Node) -> Named:
    """The names taken off an answer: `x = 5`, `x in S`, `x = 1 or x = 2` (a set), `x = 1, y = 2` (a tuple, by name)."""
    if isinstance(node, Relation):
        return _named_relation(node)
    if isinstance(node, Collection) and node.opening in ("", "{", "("):
        return _named_list(node)
    return Named((), node)


def _named_relation(node: Relation) -> Named:
    first, last = node.sides[0], node.sides[-1]
    if set(node.signs) == {"in"} and len(node.sides) == 2:
        return Named(_names(first), last) if _names(first) else Named((), node)
    if not set(node.signs) <= {"=", "~"}:
        return Named((), node)
    if node.signs[-1] == "~" and (len(node.sides) > 2 or not symbols(first)):
        # x = sqrt(2) ~ 1.414 is sqrt(2)
        return named(Relation(node.sides[:-1], node.signs[:-1])) if len(node.sides) > 2 else Named((), first)
    if not symbols(node):  # 3 * 4 = 12
        return Named((), last)
    if len(node.sides) > 2 and all(isinstance(side, Symbol) for side in node.sides[:-1]):  # x = y = 2
        return named(Collection(tuple(Relation((side, last), ("=",)) for side in node.sides[:-1])))
    if _is_name_of(first, last):
        return Named(_names(first), last)
    if len(node.sides) == 2 and _is_name_of(last, first) and not isinstance(first, Symbol):
        return Named(_names(last), first)
    return Named((), node)


def _is_name_of(name: Node, body: Node) -> bool:
    """Whether an equation with these sides says what `name` is."""
    if isinstance(name, Symbol):
        return name.name not in symbols(body)
    if isinstance(name, Collection):
        return isinstance(body, (Collection, Matrix)) and all(isinstance(item, Symbol) for item in name.items)
    if isinstance(name, Call) and not isinstance(body, Call):
        # f(x) = x^2 and P(A) = 1/4, and cos x = 3/5
        return name.name not in _called(body) and (is_unknown(name) or not symbols(body))
    # a + b = 5; but x - y = 0 is an equation
    return not symbols(body) and body != _ZERO and _only_letters(name)


def _names(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Collection):
        return node.items if all(isinstance(item, Symbol) for item in node.items) else ()
    return (node,)


def _only_letters(node: Node) -> bool:
    return all(isinstance(part, (Symbol, Add, Multiply, Divide, Negate)) for part in walk(node))


def _called(node: Node) -> frozenset[str]:
    return frozenset(part.name for part in walk(node) if isinstance(part, Call))


def is_unknown(call: Call) -> bool:
    """Whether a call is of a function that an answer defines (f, g', P) rather than of a known one."""
    return len(call.name.rstrip("'").split("^")[0].split("_")[0]) == 1


def _named_list(node: Collection) -> Named:
    """One name for several values, or several names with a value each."""
    found: list[Named] = []
    for item in node.items:
        one = named(item) if isinstance(item, Relation) else Named((), item)
        if not one.names and found and not isinstance(item, Relation):
            one = Named(found[-1].names, item)  # x = 1, 2
        if not one.names:
            return Named((), node)
        found.append(one)
    names, bodies = [one.names for one in found], tuple(one.body for one in found)
    if not found:
        return Named((), node)
    if len(set(names)) == 1 and node.opening != "(":
        return Named(names[0], Collection(bodies, "{", "}") if len(bodies) > 1 else bodies[0])
    if len(set(names)) == len(names) and all(len(one) == 1 for one in names):
        by_name = sorted(
            zip((one[0] for one in names), bodies, strict=True), key=lambda pair: _spelling(pair[0])
        )
        return Named(
            tuple(name for name, _ in by_name), Collection(tuple(body for _, body in by_name), "(", ")")
        )
    return Named((), node)


def _spelling(name: Node) -> str:
    return name.name if isinstance(name, Symbol) else repr(name)


def labelled_roots(found: Named) -> Named | None:
    """`x_1 = 3, x_2 = 4` as the two values of x; None where the names are no numbered ones of one letter."""
    letters = {
        name.name.partition("_")[0] for name in found.names if isinstance(name, Symbol) and "_" in name.name
    }
    if (
        len(letters) != 1
        or len(found.names) < 2
        or not all(isinstance(n, Symbol) and "_" in n.name for n in found.names)
    ):
        return None
    return Named((Symbol(letters.pop()),), Collection(found.body.children, "{", "}"))


def agree(a: Named, b: Named) -> tuple[Node, Node] | None:
    """The two bodies, spelled with the same letters, when the names may stand for one thing; None when they may not."""
    if not a.names or not b.names or a.names == b.names:
        return a.body, b.body
    if len(a.names) == len(b.names) > 1 and set(a.names) == set(b.names):  # (y, x) = (2, 1)
        if isinstance(b.body, Collection) and len(b.body.items) == len(b.names):
            by_name = dict(zip(b.names, b.body.items, strict=True))
            items = tuple(by_name[name] for name in a.names)
            return a.body, Collection(items, b.body.opening, b.body.closing)
        return None
    if len(a.names) != 1 or len(b.names) != 1:
        return None
    x, y = a.names[0], b.names[0]
    if (
        isinstance(x, Call)
        and isinstance(y, Call)
        and x.name == y.name
        and len(x.arguments) == len(y.arguments)
    ):
        renamed = _renamed(b.body, y.arguments, x.arguments)  # f(t) = t^2 and f(x) = x^2
        return None if renamed is None else (a.body, renamed)
    for one, other in ((x, y), (y, x)):  # f(x) = 2x and y = 2x
        if isinstance(one, Call) and is_unknown(one) and other == Symbol("y"):
            return a.body, b.body
    return None


def _renamed(body: Node, before: tuple[Node, ...], after: tuple[Node, ...]) -> Node | None:
    """The body with one letter for the other; None where the new letter means something else in it already."""
    for old, new in zip(before, after, strict=True):
        if old == new:
            continue
        if not (isinstance(old, Symbol) and isinstance(new, Symbol)) or new.name in symbols(body):
            return None
        body = substitute(body, old.name, new)
    return body


# ----------------------------------------------------------------------------------------------------------- relations
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
    if algebra.proportional(one, other) is not True:
        return False
    return a.signs[0] in ("=", "!=") or _factor_is_positive(one, other)


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
