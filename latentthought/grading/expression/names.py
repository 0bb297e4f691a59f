"""Operands that begin with a number or a name: variables with their subscripts and primes, functions with their arguments.

`f(x)` is a call and `a(x+1)` a product: see `_is_called`. Functions need no brackets: `sin 2x cos x`, `log_2 8`, `sin^2 x`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from latentthought.grading.expression.construction import multiply
from latentthought.grading.expression.cursor import Cursor
from latentthought.grading.expression.lexer import ParseError
from latentthought.grading.expression.tree import (
    Call,
    Collection,
    Divide,
    Literal,
    Negate,
    Node,
    Power,
    Symbol,
)
from latentthought.grading.expression.vocabulary import ANGULAR, INVERSES

_MANY = frozenset(["max", "min", "gcd", "lcm"])
_INVERSE = re.compile(r"\^ ?[{(]? ?-1 ?[)}]? ?\(")


class Names(Cursor):
    """Reads numbers, variables and function calls."""

    __slots__ = ()

    def number(self) -> Node:
        literal: Literal = self.value
        self.advance()
        after, later = self.tokens[self.position], self.ahead()
        if after.value == "C" and later.kind == "number" and not (after.spaced or later.spaced):  # 5C2
            self.advance(2)
            return Call("binomial", (literal, later.value))
        return literal

    def symbol(self) -> Node:
        letter = name = str(self.value)
        start = self.position
        self.advance()
        if self.kind == "_":
            self.advance()
            name += "_" + self._subscript()
        elif self.kind == "number" and not self.tokens[self.position].spaced and len(name) == 1:
            name += "_" + self._pass()  # x1 is x_1
        while self.kind == "prime":
            name += "'"
            self.advance()
        if self.kind == "^" and letter in "fgh":
            match = _INVERSE.match(self.text, self.tokens[self.position].start)
            if match is not None:
                name += "^-1"
                while self.tokens[self.position].start < match.end() - 1:
                    self.advance()
        if self.kind == "(" and self._is_called(letter, name, start):
            return Call("binomial" if name == "C" else name, self._arguments())
        return Symbol(name)

    def _is_called(self, letter: str, name: str, start: int) -> bool:
        """Whether a letter before a bracket is a function: f and g are, p of a variable is, a(x+1) is a product."""
        if letter in ("f", "g", "F", "G") or name[-1] in "'" or name.endswith("^-1"):
            return True
        single = self.ahead().kind == "symbol" and self.ahead(2).kind == ")"
        if letter == "C" and name == "C":
            return self.ahead(2).kind == "separator" and self.ahead(4).kind == ")"
        defined = start == 0 and self.ahead(3).kind == "relation" and self.ahead(3).value == "="
        return single and (letter in "hpqHPQ" or defined)

    def _pass(self) -> str:
        """The characters of the token at hand, and past it."""
        written = self.written()
        self.advance()
        return written

    def _subscript(self) -> str:
        if self.kind not in ("{", "("):
            if self.kind not in ("number", "symbol", "constant"):
                raise self.unexpected()
            return self._pass()
        closing, parts = {"{": "}", "(": ")"}[self.kind], []
        self.advance()
        while self.kind in ("number", "symbol", "constant", "+", "-", "separator", "word"):
            parts.append(self._pass())
        self.expect(closing)
        return "".join(parts)

    # ----------------------------------------------------------------------------------------------------------- calls
    def function(self) -> Node:
        name = str(self.value)
        base: Node | None = None
        power: Node | None = None
        self.advance()
        while self.kind in ("^", "_") and name not in ("sqrt", "root"):
            is_power = self.kind == "^"
            self.advance()
            if is_power:
                power = self.exponent()
            else:
                base = self.group()
        attached = self.kind == "number" and not self.tokens[self.position].spaced
        if name == "log" and attached and self.ahead().kind == "(":  # log2(8)
            base = self.value
            self.advance()
        if name == "sqrt" and self.kind == "[":
            self.advance()
            name, base = "root", self.sum()
            self.expect("]")
            arguments: tuple[Node, ...] = (base, self.group())
        else:
            arguments = self._arguments_of(name)
            if base is not None:
                if name != "log" or len(arguments) != 1:
                    raise ParseError(f"a subscript at {name}")
                arguments = (base, *arguments)
        if power == Negate(Literal(Fraction(1))) and name in INVERSES:
            return Call(INVERSES[name], arguments)
        node = Call(name, arguments)
        return node if power is None else Power(node, power)

    def _arguments_of(self, name: str) -> tuple[Node, ...]:
        if self.kind == "(":
            arguments = self._arguments()
            # sec (1/2) x comes of \\sec\\frac12 x
            if name in ANGULAR and self.kind in ("symbol", "constant") and _is_fraction(arguments):
                arguments = (multiply(arguments[0], self.power()),)
        elif name in _MANY and self.kind in ("{", "\\{"):
            found = self.braced()
            arguments = found.children if isinstance(found, Collection) else (found,)
        elif self.kind == "{":
            arguments = (self.group(),)
        elif name in ("sqrt", "cbrt", "abs", "floor", "ceil", "factorial"):
            self.enter()
            arguments = (self.operand(),)
            self.depth -= 1
        else:
            arguments = (self._open_argument(name),)
        count = {"root": 2, "binomial": 2}.get(name, 1)
        if len(arguments) != count and not (name in _MANY and arguments):
            raise ParseError(f"{len(arguments)} arguments for {name}")
        return arguments

    def _arguments(self) -> tuple[Node, ...]:
        self.enter()
        self.advance()
        outer, self.bars, self.building = (self.bars, self.building), 0, False
        items, _ = self.items()
        self.bars, self.building = outer
        self.expect(")")
        self.depth -= 1
        return tuple(items)

    def _open_argument(self, name: str) -> Node:
        """The argument of `sin 2x cos x`: factors side by side up to a bracket or the next function; `sin pi/6` as well."""
        self.enter()
        if self.kind in ("+", "-"):
            negative = self.kind == "-"
            self.advance()
            node = self._open_argument(name)
            self.depth -= 1
            return Negate(node) if negative else node
        node = self.power()
        while True:
            if (
                self.kind == "/"
                and name in ANGULAR
                and self.ahead().kind == "number"
                and not (self.tokens[self.position].spaced or self.ahead().spaced)
            ):
                self.advance()
                node = Divide(node, self.operand())
            elif self.kind not in ("function", "(", "[", "number") and self.begins_factor():
                node = multiply(node, self.power())
            else:
                self.depth -= 1
                return node


def _is_fraction(nodes: tuple[Node, ...]) -> bool:
    """Whether they are one fraction of numbers."""
    return len(nodes) == 1 and isinstance(nodes[0], Divide) and isinstance(nodes[0].top, Literal)
