"""Trees made from trees: `±` written out, a factor taken into a matrix, brackets around one thing taken off.

Every function is one walk over a tree that the parser has bounded, and gives the same tree back where nothing is to be done.
Rejected: writing trees into one canonical form (sorted sums, collected powers): `algebra` compares values without one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from itertools import product

from latentthought.grading.expression.substitution import rebuild, substitute
from latentthought.grading.expression.tree import (
    Add,
    Builder,
    Call,
    Collection,
    Divide,
    Matrix,
    Multiply,
    NamedSet,
    Negate,
    Node,
    PlusMinus,
    Relation,
    SetOperation,
    Symbol,
    symbols,
    walk,
)

_CONSTANTS = ("c", "k", "K")
MAXIMUM_SIGNS = 4  # `±` in one value: 16 values
_NO_ELEMENTS = (Relation, Collection, NamedSet, SetOperation, Builder)


# ------------------------------------------------------------------------------------------------------------- shape
def shape(node: Node) -> Node:
    """The tree as it is compared: `±` written out as a set, `(5)`, `{5}` and `[5]` as 5, 1/2 of a matrix as a matrix."""
    if isinstance(node, Collection):
        items = _items(node)
        # `{x > 3}` holds no 3, `{{}}` is not `{}`, and both stay
        if len(items) == 1 and not (node.opening == "{" and isinstance(items[0], _NO_ELEMENTS)):
            return items[0]
        return node if items == node.items else dataclasses.replace(node, items=items)
    if isinstance(node, Relation):
        sides = [shape(side) for side in node.sides]
        return (
            node
            if all(x is y for x, y in zip(sides, node.sides, strict=True))
            else Relation(tuple(sides), node.signs)
        )
    if isinstance(node, Call) and node.name == "ratio" and isinstance(node.arguments[0], Relation):  # k = 1:2
        first, rest = node.arguments[0], node.arguments[1:]
        return Relation((*first.sides[:-1], Call("ratio", (first.sides[-1], *rest))), first.signs)
    signs = sign_choices(node)
    if len(signs) > 1:
        return Collection(signs, "{", "}")
    return scaled_matrix(node) or node


def _items(node: Collection) -> tuple[Node, ...]:
    """The items with their `±` written out, beside them in lists and sets, as a list of points in a tuple."""
    shaped = [
        item if node.opening == "{" and is_braced(item) and len(item.children) == 1 else shape(item)
        for item in node.items
    ]
    several = [isinstance(new, Collection) and not isinstance(old, Collection)
               for old, new in zip(node.items, shaped, strict=True)]  # fmt: skip
    if not any(several):
        return (
            tuple(shaped) if any(x is not y for x, y in zip(shaped, node.items, strict=True)) else node.items
        )
    choices = [new.children if many else (new,) for new, many in zip(shaped, several, strict=True)]
    if node.opening in ("", "{"):
        return tuple(item for choice in choices for item in choice)
    if sum(several) > MAXIMUM_SIGNS:
        return node.items
    points = tuple(Collection(point, node.opening, node.closing) for point in product(*choices))
    return (Collection(points, "{", "}"),)


def sign_choices(node: Node) -> tuple[Node, ...]:
    """The values that a value with `±` stands for; the node alone where there is none, or too many.

    `∓` follows `±`: upper signs together, then the lower ones; without one every `±` is chosen alone.
    """
    found = [part for part in walk(node) if isinstance(part, PlusMinus)]
    if (
        not found
        or len(found) > MAXIMUM_SIGNS
        or any(isinstance(p, (Collection, Relation)) for p in walk(node))
    ):
        return (node,)
    together = any(isinstance(part.right, Negate) for part in found)
    rounds = (
        [(True,) * len(found), (False,) * len(found)]
        if together
        else product((True, False), repeat=len(found))
    )
    return tuple(_with_signs(node, iter(signs)) for signs in rounds)


def _with_signs(node: Node, signs: Iterator[bool]) -> Node:
    if isinstance(node, PlusMinus):
        plus = next(signs)
        left, right = _with_signs(node.left, signs), _with_signs(node.right, signs)
        return Add((left, right if plus else Negate(right)))
    return rebuild(node, lambda child: _with_signs(child, signs))


def is_braced(node: Node) -> bool:
    """Whether a tree is a set in braces."""
    return isinstance(node, Collection) and node.opening == "{"


def rows_as_matrix(node: Node) -> Node:
    """`[[1, 2], [3, 4]]` as the matrix that it is beside one; every other tree as it is."""
    if not isinstance(node, Collection) or node.opening + node.closing != "[]":
        return node
    rows = [item.items for item in node.items if isinstance(item, Collection) and item.opening == "["]
    is_even = len(rows) == len(node.items) and len({len(row) for row in rows}) == 1
    return Matrix(tuple(rows)) if is_even else node


# ---------------------------------------------------------------------------------------------------------- letters
def with_one_constant(a: Node, b: Node) -> tuple[Node, Node]:
    """`x^2 + c` beside `x^2 + C`, with one letter for the constant of integration."""
    for one, other in ((a, b), (b, a)):
        if _has_term(one, "C"):
            for letter in _CONSTANTS:
                if _has_term(other, letter) and letter not in symbols(one) and "C" not in symbols(other):
                    other = substitute(other, letter, Symbol("C"))
                    return (one, other) if one is a else (other, one)
    return a, b


def _has_term(node: Node, letter: str) -> bool:
    return isinstance(node, Add) and Symbol(letter) in node.terms


def with_one_parameter(a: Node, b: Node) -> tuple[Node, Node]:
    """`k pi, k in Z` beside `n pi, n in Z`, with one letter for the integer."""
    mine, theirs = _parameter(a), _parameter(b)
    if mine is None or theirs is None or mine == theirs or mine in symbols(b) or theirs in symbols(a):
        return a, b
    return a, substitute(b, theirs, Symbol(mine))


def _parameter(node: Node) -> str | None:
    """The letter that the last item of a list says to be any integer."""
    last = node.items[-1] if isinstance(node, Collection) and node.items else None
    if isinstance(last, Relation) and last.signs == ("in",) and isinstance(last.sides[0], Symbol):
        return last.sides[0].name if last.sides[1] == NamedSet("integers") else None
    return None


# ---------------------------------------------------------------------------------------------------------- matrices
def scaled_matrix(node: Node) -> Matrix | None:
    """`1/2 M`, `-M` and `M/2` as the matrix they are; None for everything else."""
    if isinstance(node, Matrix):
        return node
    if isinstance(node, Negate) and (inner := scaled_matrix(node.operand)):
        return _map_cells(inner, Negate)
    if isinstance(node, Divide) and (inner := scaled_matrix(node.top)) and not _has_matrix(node.bottom):
        return _map_cells(inner, lambda cell: Divide(cell, node.bottom))
    if isinstance(node, Multiply):
        matrices = [factor for factor in node.factors if _has_matrix(factor)]
        if len(matrices) == 1 and (inner := scaled_matrix(matrices[0])):
            others = tuple(factor for factor in node.factors if factor is not matrices[0])
            return _map_cells(inner, lambda cell: Multiply((*others, cell)))
    return None


def _has_matrix(node: Node) -> bool:
    return any(isinstance(part, Matrix) and part.kind == "matrix" for part in walk(node))


def _map_cells(matrix: Matrix, change: Callable[[Node], Node]) -> Matrix | None:
    if matrix.kind != "matrix":
        return None
    return Matrix(tuple(tuple(change(cell) for cell in row) for row in matrix.rows))
