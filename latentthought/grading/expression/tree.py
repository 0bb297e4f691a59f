"""What an answer says, as a tree: values, relations, collections, matrices. No behaviour but its size and its symbols.

One tree serves every kind of answer, so that a set may hold fractions and a tuple may hold equations. The parser builds it
from normalised text under the limits below, `algebra` decides whether two values are the same, `equivalence` walks two trees
side by side. Rejected: sympy expressions as the tree (they evaluate while they are built, so `9^9^9` costs before it can be
refused, and `2/4` and `1/2` can no longer be told apart where a policy asks for the simplified form).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MAXIMUM_NODES = 600
MAXIMUM_DEPTH = 40


class Node:
    """A part of an answer; immutable and hashable. `children` are its parts in reading order."""

    __slots__ = ()

    @property
    def children(self) -> tuple[Node, ...]:
        """The parts, in reading order."""
        return ()


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A number as written: its exact value, and the digits after its point (None: an integer without a point)."""

    value: Fraction
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Symbol(Node):
    """A variable: `x`, `\\theta` (as `theta`), `x_1` (as `x_1`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """`pi`, `e`, `i` or `infinity`."""

    name: str


@dataclass(frozen=True, slots=True)
class Add(Node):
    """A sum; a subtracted term is `Negate`."""

    terms: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.terms


@dataclass(frozen=True, slots=True)
class Negate(Node):
    """Minus its operand."""

    operand: Node

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.operand,)


@dataclass(frozen=True, slots=True)
class Multiply(Node):
    """A product, written with a sign or without."""

    factors: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.factors


@dataclass(frozen=True, slots=True)
class Divide(Node):
    """A quotient, by a stroke or a fraction bar."""

    top: Node
    bottom: Node

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.top, self.bottom)


@dataclass(frozen=True, slots=True)
class Power(Node):
    """base ^ exponent."""

    base: Node
    exponent: Node

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.base, self.exponent)


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function of the table in `algebra`: `sqrt`, `root` (degree, x), `log` (base, x), `ln`, `sin`, `factorial`, `binomial`,
    `abs`, `floor`, `ceil`, `gcd`, `max`, ...; or `f` of something, which stands for itself."""

    name: str
    arguments: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.arguments


@dataclass(frozen=True, slots=True)
class PlusMinus(Node):
    """`left ± right`: two values. left is `Literal(0)` for a sign in front."""

    left: Node
    right: Node

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.left, self.right)


@dataclass(frozen=True, slots=True)
class Relation(Node):
    """A chain `sides[0] signs[0] sides[1] signs[1] ...`; signs: `=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `~` (approximately)."""

    sides: tuple[Node, ...]
    signs: tuple[str, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.sides


@dataclass(frozen=True, slots=True)
class Collection(Node):
    """Items between brackets: `(`..`)` a tuple or an open interval, `[`..`]`, `[`..`)`, `(`..`]`, `{`..`}` a set, "" a bare
    list (`1, 2`, `1 and 2`, `x=1 or x=2`)."""

    items: tuple[Node, ...]
    opening: str = ""
    closing: str = ""

    @property
    def children(self) -> tuple[Node, ...]:
        return self.items


@dataclass(frozen=True, slots=True)
class SetOperation(Node):
    """`union`, `intersection` or `difference` of sets, left to right."""

    name: str
    operands: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.operands


@dataclass(frozen=True, slots=True)
class NamedSet(Node):
    """`empty`, `reals`, `integers`, `naturals`, `rationals` or `complexes`."""

    name: str


@dataclass(frozen=True, slots=True)
class Builder(Node):
    """`{ variable | condition }` or `{ x in S : condition }`: a set by its conditions."""

    variable: Node
    conditions: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.variable, *self.conditions)


@dataclass(frozen=True, slots=True)
class Matrix(Node):
    """Rows of equal length; a column vector has rows of one. `kind`: `matrix`, or `determinant` for `vmatrix`."""

    rows: tuple[tuple[Node, ...], ...]
    kind: str = "matrix"

    @property
    def children(self) -> tuple[Node, ...]:
        return tuple(cell for row in self.rows for cell in row)


@dataclass(frozen=True, slots=True)
class Words(Node):
    """What is not mathematics: an item of a list that is a name or a sentence, as normalised text."""

    text: str


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, without recursion."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting.extend(current.children)


def symbols(node: Node) -> frozenset[str]:
    """Names of the variables in it."""
    return frozenset(part.name for part in walk(node) if isinstance(part, Symbol))
