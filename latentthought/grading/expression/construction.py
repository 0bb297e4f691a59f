"""Small trees from their parts, where a shape says more than its signs: mixed numbers, products, unions of inequalities."""

from __future__ import annotations

from fractions import Fraction

from latentthought.grading.expression.lexer import ParseError
from latentthought.grading.expression.substitution import substitute
from latentthought.grading.expression.tree import (
    MAXIMUM_DEPTH,
    MAXIMUM_NODES,
    Add,
    Call,
    Collection,
    Divide,
    Literal,
    Multiply,
    NamedSet,
    Negate,
    Node,
    Relation,
    SetOperation,
    Symbol,
    symbols,
    walk,
)
from latentthought.grading.expression.vocabulary import SETS

_CONDITIONS = frozenset(["<", "<=", ">", ">=", "!=", "in"])


def multiply(left: Node, right: Node) -> Node:
    """A product, with a product on the left as part of it."""
    return Multiply((*left.factors, right) if isinstance(left, Multiply) else (left, right))


def bare_list(items: list[Node], separators: set[str]) -> Node:
    """A list without brackets; inequalities joined by `or` are a union, by `and` an intersection."""
    conditions = any(isinstance(item, Relation) and _CONDITIONS & set(item.signs) for item in items)
    if conditions and len(separators & {"and", "or"}) == 1:
        return SetOperation("union" if "or" in separators else "intersection", tuple(items))
    return Collection(tuple(items))


def quotient(top: Node, bottom: Node) -> Node:
    """A quotient; `270/7 degrees` is an angle of 270/7, `3/5%` a percentage of 3/5."""
    if isinstance(bottom, Call) and bottom.name in ("degrees", "percent") and isinstance(top, Literal):
        return Call(bottom.name, (Divide(top, bottom.arguments[0]),))
    return Divide(top, bottom)


def is_proper(node: Node) -> bool:
    """Whether it is a fraction of two whole numbers below one, as stands behind the whole part of a mixed number."""
    if not (isinstance(node, Divide) and isinstance(node.top, Literal) and isinstance(node.bottom, Literal)):
        return False
    whole = node.top.decimals is None and node.bottom.decimals is None
    return whole and 0 < node.top.value < node.bottom.value


def add(terms: list[Node]) -> Node:
    if len(terms) == 1:
        return terms[0]
    last = terms[-1]
    if len(terms) == 2 and isinstance(last, Negate) and isinstance(last.operand, Collection):
        removed = last.operand
        if removed.opening == "{":  # R - {3}
            return SetOperation("difference", (as_set(terms[0]), removed))
    return Add(tuple(terms))


def overlined(node: Node) -> Node:
    """A segment `AB` is named without its line as well; a conjugate or a mean is not the letter below the line."""
    letters = symbols(node)
    return Call("overline", (node,)) if letters and not all(map(str.isupper, letters)) else node


def written_out(name: str, index: str, first: Node, last: Node, body: Node) -> Node:
    """A `sum` or `product` over whole numbers as its terms; ParseError where the bounds are no such, or too far apart."""
    bounds = [_whole(first), _whole(last)]
    if bounds[0] is None or bounds[1] is None:
        raise ParseError("bounds that are no whole numbers")
    count = bounds[1] - bounds[0] + 1
    if count * sum(1 for _ in walk(body)) > MAXIMUM_NODES:
        raise ParseError(f"a {name} of more than {MAXIMUM_NODES} parts")
    if count < 2:
        raise ParseError(f"a {name} of no two parts")
    terms = tuple(substitute(body, index, Literal(Fraction(bounds[0] + step))) for step in range(count))
    return Add(terms) if name == "sum" else Multiply(terms)


def _whole(node: Node) -> int | None:
    if isinstance(node, Negate):
        inner = _whole(node.operand)
        return None if inner is None else -inner
    return int(node.value) if isinstance(node, Literal) and node.value.denominator == 1 else None


def as_set(node: Node) -> Node:
    """R, Z, N, Q and C are sets where a set is asked for."""
    if isinstance(node, Symbol) and node.name in SETS:
        return NamedSet(SETS[node.name])
    return node


def is_small(tree: Node) -> bool:
    """Whether a whole tree keeps within MAXIMUM_NODES and MAXIMUM_DEPTH."""
    level: list[Node] = [tree]
    count = depth = 0
    while level:
        count, depth = count + len(level), depth + 1
        if count > MAXIMUM_NODES or depth > MAXIMUM_DEPTH:
            return False
        level = [child for node in level for child in node.children]
    return True
