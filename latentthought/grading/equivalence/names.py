"""What an equation says: a name and its value (`x = 5`, `f(x) = x^2`, `x = 1 or x = 2`, `(x, y) = (1, 2)`), or a law.

A name is taken off only where one side names something and the other says what it is; `2x + 1 = 5` stays an equation, and so
does `x + y = 5`, which is a line, while `a + b = 5` says what a + b is. Two names that are both written must agree, so `x = 5`
is 5 but not `y = 5`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from latentthought.grading.expression.substitution import substitute
from latentthought.grading.expression.tree import (
    Add,
    Call,
    Collection,
    Divide,
    Literal,
    Matrix,
    Multiply,
    Negate,
    Node,
    Relation,
    Symbol,
    symbols,
    walk,
)

_ZERO = Literal(Fraction(0))
_COORDINATES = frozenset(["x", "y", "z"])


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
    if not symbols(node):  # 3 * 4 = 12 names nothing, f(2) + f(3) = 15 does
        named_first = any(isinstance(part, Call) and is_unknown(part) for part in walk(first))
        return Named((first,) if named_first else (), last)
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
    # a + b = 5; but x - y = 0 and x + y = 5 are lines
    is_law = len(symbols(name) & _COORDINATES) > 1
    return not symbols(body) and body != _ZERO and _only_letters(name) and not is_law


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
        # f(t) = t^2 and f(x) = x^2, but not P(A) = 1/2 and P(B) = 1/2
        renamed = _renamed(b.body, y.arguments, x.arguments)
        return None if renamed is None else (a.body, renamed)
    for one, other in ((x, y), (y, x)):  # f(x) = 2x and y = 2x
        if isinstance(one, Call) and is_unknown(one) and other == Symbol("y"):
            return a.body, b.body
    return None


def _renamed(body: Node, before: tuple[Node, ...], after: tuple[Node, ...]) -> Node | None:
    """The body with one letter for the other; None where it has no such letter, or has the new one already."""
    for old, new in zip(before, after, strict=True):
        if old == new:
            continue
        if not (isinstance(old, Symbol) and isinstance(new, Symbol)):
            return None
        if old.name not in symbols(body) or new.name in symbols(body):
            return None
        body = substitute(body, old.name, new)
    return body
