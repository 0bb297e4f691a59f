"""A tree with something in the place of a variable. One walk; what nothing changes in is given back as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from latentthought.grading.expression.tree import Constant, Node, Symbol


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
    """`node` with `new` for every variable of that name; an `i` that is counted with is no imaginary unit."""
    if isinstance(node, (Symbol, Constant)):
        return new if node.name == name else node
    return rebuild(node, lambda child: substitute(child, name, new))
