"""Operands between brackets: groups, tuples, intervals, sets, set builders, absolute values, matrices.

Braces are a set where they are escaped, hold several items or stand alone, and LaTeX's group elsewhere. A bar closes an
absolute value if one is open, parts a set builder before its conditions, and opens an absolute value otherwise.
"""

from __future__ import annotations

from latentthought.grading.expression.construction import bare_list
from latentthought.grading.expression.cursor import BEFORE_SET, Cursor
from latentthought.grading.expression.lexer import ParseError, Token
from latentthought.grading.expression.tree import (
    Builder,
    Call,
    Collection,
    Matrix,
    NamedSet,
    Node,
    SetOperation,
)
from latentthought.grading.expression.vocabulary import SETS

_BESIDE = frozenset(["eof", "separator", "relation", "set operation", ")", "]", "}", "\\}"])


class Brackets(Cursor):
    """Reads what begins with a bracket."""

    __slots__ = ()

    def bracketed(self) -> Node:
        opening = "[" if self.kind == "[" else "("
        closings = {"(": (")", "]"), "[": ("]", ")"), "angle(": ("angle)",), "relation": ("relation",)}[
            self.kind
        ]
        outer = self.bars, self.building, self.angled
        self.bars, self.building, self.angled = 0, False, self.kind == "relation"
        self.enter()
        self.advance()
        items, separators = self.items()
        closing = "]" if self.kind == "]" else ")"
        if self.kind == "relation" and self.value != ">":
            raise self.unexpected()
        self.bars, self.building, self.angled = outer
        self.expect(*closings)
        self.depth -= 1
        if len(items) == 1:
            if (opening, closing) not in (("(", ")"), ("[", "]")):
                raise ParseError("an interval of one number")
            nested = opening == "[" and isinstance(items[0], Collection | Matrix)
            return Collection((items[0],), "[", "]") if nested else items[0]
        if separators & {"and", "or"}:
            condition = bare_list(items, separators)
            if isinstance(condition, SetOperation):
                return condition
        return Collection(tuple(items), opening, closing)

    def braced(self) -> Node:
        explicit, before = self.kind == "\\{", self.tokens[self.position - 1].kind if self.position else ""
        earlier = self.tokens[self.position - 2] if self.position > 1 else None
        removed = before == "-" and earlier is not None and (earlier.kind == "set" or earlier.value in SETS)
        outer = self.bars, self.building
        self.bars, self.building = 0, True
        self.enter()
        self.advance()
        node: Node | None = None
        items: list[Node] = []
        if self.kind not in ("}", "\\}"):
            items = [self.item()]
            self.building = False
            if self.kind in ("|", ":"):
                self.advance()
                conditions, separators = self.items()
                if not conditions:
                    raise self.unexpected()
                either = "or" in separators
                node = Builder(
                    items[0], (bare_list(conditions, separators),) if either else tuple(conditions)
                )
            elif self.kind == "separator":
                self.expect("separator")
                items += self.items()[0]
        self.bars, self.building = outer
        self.expect("}", "\\}")
        self.depth -= 1
        if node is not None:
            return node
        if not items:
            return NamedSet("empty")
        alone = (not before or before in BEFORE_SET or removed) and self.kind in _BESIDE
        chosen = isinstance(items[0], Call) and items[0].name == "binomial"  # {n \\choose k}
        is_set = explicit or len(items) > 1 or (alone and not chosen)
        return Collection(tuple(items), "{", "}") if is_set else items[0]

    def between_bars(self) -> Node:
        name = {"|": "abs", "|(": "abs"}.get(self.kind, self.kind[:-1])
        closings = ("|", "|)") if name == "abs" else (f"{name})",)
        outer = self.bars, self.building
        self.bars, self.building = (self.bars + 1 if name == "abs" else 0), False
        self.enter()
        self.advance()
        node = self.sum()
        self.bars, self.building = outer
        self.expect(*closings)
        self.depth -= 1
        return Call(name, (node,))

    def matrix(self) -> Node:
        name = self.value
        self.enter()
        self.advance()
        rows: list[tuple[Node, ...]] = []
        cells: list[Node] = []
        while True:
            cells.append(self.relation())
            if self.kind != "&":
                rows.append(tuple(cells))
                cells = []
                if self.kind == "row":
                    self.advance()
                if self.kind == "end":
                    break
                if self.tokens[self.position - 1].kind != "row":
                    raise self.unexpected()
            else:
                self.advance()
        if self.value != name or len({len(row) for row in rows}) > 1:
            raise ParseError("rows of a matrix that differ in length, or another end")
        self.advance()
        self.depth -= 1
        return Matrix(tuple(rows), "determinant" if name == "vmatrix" else "matrix")


def mark_outward_brackets(tokens: list[Token]) -> list[Token]:
    """`]0, 1[` as `(0, 1)`: a bracket that opens where an interval ends, or closes where one begins, excludes the number."""
    for index, token in enumerate(tokens):
        if token.kind == "]":
            if index == 0 or tokens[index - 1].kind in ("set operation", "relation"):
                tokens[index] = token._replace(kind="(")
        elif token.kind == "[" and index and tokens[index + 1].kind in ("eof", "set operation", "relation"):
            tokens[index] = token._replace(kind=")")
    return tokens
