"""Where a parse stands: the token at hand, what is open around it, and the methods by which its parts call each other.

The grammar is one class in four files: `Cursor` the place, `Names` and `Brackets` two families of operands, `Operands` the
choice among them, and the parser what joins them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from latentthought.grading.expression.lexer import ParseError, Token
from latentthought.grading.expression.tree import MAXIMUM_DEPTH, Node

_FACTORS = frozenset(
    [
        "symbol",
        "constant",
        "function",
        "frac",
        "binom",
        "overline",
        "begin",
        "repeated",
        "determinant",
        "(",
        "[",
        "{",
        "|(",
        "floor(",
        "ceil(",
        "angle(",
    ]
)
BEFORE_SET = frozenset(["separator", "relation", "set operation", "(", "[", "{", "\\{"])


class Cursor(ABC):
    """A place in the tokens, and what is open around it.

    depth: brackets, exponents and arguments open; bars: absolute values open in the innermost bracket; building: before
    the bar of a set; angled: between `<` and `>`.
    """

    __slots__ = ("angled", "bars", "building", "depth", "kind", "position", "text", "tokens", "value")

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text, self.tokens, self.position = text, tokens, 0
        self.kind, self.value = tokens[0].kind, tokens[0].value
        self.depth, self.bars, self.building, self.angled = 0, 0, False, False

    def advance(self, count: int = 1) -> None:
        """To the next token."""
        self.position += count
        token = self.tokens[self.position]
        self.kind, self.value = token.kind, token.value

    def ahead(self, count: int = 1) -> Token:
        """A later token, or the end."""
        return self.tokens[min(self.position + count, len(self.tokens) - 1)]

    def enter(self) -> None:
        """One level deeper; a failure ends the whole parse, so that nobody has to come back up."""
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise ParseError(f"nested deeper than {MAXIMUM_DEPTH}")

    def expect(self, *kinds: str) -> None:
        """Past one of these kinds."""
        if self.kind not in kinds:
            raise self.unexpected()
        self.advance()

    def unexpected(self) -> ParseError:
        """The error of the token at hand."""
        written, start = self.written(), self.tokens[self.position].start
        return ParseError(f"unexpected {written!r} at {start}" if written else "unexpected end")

    def written(self) -> str:
        """The characters of the token at hand."""
        token = self.tokens[self.position]
        return self.text[token.start : token.end]

    @abstractmethod
    def items(self) -> tuple[list[Node], set[str]]:
        """Items up to a closing bracket, and the separators between them."""

    @abstractmethod
    def item(self) -> Node:
        """One of them."""

    @abstractmethod
    def relation(self) -> Node:
        """A relation chain or a value."""

    @abstractmethod
    def sum(self) -> Node:
        """A value."""

    @abstractmethod
    def braced(self) -> Node:
        """A set, a set builder or a group."""

    @abstractmethod
    def operand(self) -> Node:
        """One operand."""

    @abstractmethod
    def group(self) -> Node:
        """What belongs to a command: `{...}` or one operand."""

    @abstractmethod
    def exponent(self) -> Node:
        """What stands behind `^`, from right to left."""

    @abstractmethod
    def product(self) -> Node:
        """Factors and divisors."""

    @abstractmethod
    def power(self) -> Node:
        """A factor with its exponent."""

    def begins_factor(self) -> bool:
        """Whether a factor follows side by side: 2x, 2(x+1), (x)3, but not 2 3."""
        kind = self.kind
        if kind == "symbol":
            return not self.is_letter_union()
        if kind in _FACTORS:
            return kind != "(" or self.ahead().kind != "mod"
        if kind == "number":
            return self.tokens[self.position - 1].kind in (")", "]", "}", "symbol", "constant", "|", "|)")
        return kind == "|" and not self.bars and not self.building

    def is_letter_union(self) -> bool:
        """The U of `(0,1)U(2,3)`."""
        around = self.tokens[self.position - 1].kind, self.ahead().kind
        return self.value in ("U", "u") and around[0] in (")", "]", "}", "\\}") and around[1] in BEFORE_SET
