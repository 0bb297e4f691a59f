"""Trees made from trees: a variable replaced, `±` written out, a factor taken into a matrix, brackets around one thing taken off.

Every function is one walk over a tree that the parser has bounded, and gives the same tree back where nothing is to be done.
Rejected: writing trees into one canonical form (sorted sums, collected powers): `algebra` compares values without one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from itertools import product

from latentthought.grading.expression.tree import (
    Add,
    Call,
    Collection,
    Divide,
    Matrix,
    Multiply,
    Negate,
    Node,
    PlusMinus,
    Relation,
    Symbol,
    walk,
)

MAXIMUM_SIGNS = 4  # `±` in one value: 16 values


def rebuild(node: Node, change: Callable[[Node], Node]) -> Node:
    """`node` with every child changed; the node itself when no child was."""
    changed = {}
    for field in dataclasses.fields(node):  # type: ignore[arg-type]
        before = getattr(node, field.name)
        after = _rebuilt(before, change)
        if after is not before:
            changed[field.name] = after
    return dataclasses.replace(node, **changed) if changed else node  # type: ignore[type-var]


def _rebuilt(part: object, change: Callable[[Node], Node]) -> object:
    if isinstance(part, Node):
        return change(part)
    if isinstance(part, tuple):
        after = tuple(_rebuilt(item, change) for item in part)
        return part if all(x is y for x, y in zip(part, after, strict=True)) else after
    return part


def substitute(node: Node, name: str, new: Node) -> Node:
    """`node` with `new` for every variable of that name."""
    if isinstance(node, Symbol):
        return new if node.name == name else node
    return rebuild(node, lambda child: substitute(child, name, new))


# ------------------------------------------------------------------------------------------------------------- shape
def shape(node: Node) -> Node:
    """The tree as it is compared: `±` written out as a set, `(5)`, `{5}` and `[5]` as 5, 1/2 of a matrix as a matrix."""
    if isinstance(node, Collection):
        items = _items(node)
        # `{x > 3}` holds no 3, and stays
        if len(items) == 1 and not (node.opening == "{" and isinstance(items[0], (Relation, Collection))):
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
    shaped = [shape(item) for item in node.items]
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
