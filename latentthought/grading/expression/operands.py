"""One operand of an expression, whatever it begins with; exponents and the arguments of LaTeX commands."""

from __future__ import annotations

from fractions import Fraction

from latentthought.grading.expression.brackets import Brackets
from latentthought.grading.expression.construction import overlined, written_out
from latentthought.grading.expression.names import Names
from latentthought.grading.expression.tree import (
    Call,
    Constant,
    Divide,
    Literal,
    Matrix,
    NamedSet,
    Negate,
    Node,
    Power,
    Words,
)
from latentthought.grading.expression.vocabulary import SETS

_COMMANDS = ("frac", "binom", "overline", "determinant", "set", "based")


class Operands(Names, Brackets):
    """Reads one operand at the cursor."""

    __slots__ = ()

    def operand(self) -> Node:
        """One operand."""
        kind, value = self.kind, self.value
        if kind == "number":
            return self.number()
        if kind == "symbol":
            return self.symbol()
        if kind == "constant":
            self.advance()
            return Constant(value)
        if kind in ("(", "[", "angle(") or (kind == "relation" and value == "<"):
            return self.bracketed()
        if kind == "function":
            return self.function()
        if kind in ("{", "\\{"):
            return self.braced()
        if kind in ("|", "|(", "floor(", "ceil("):
            return self.between_bars()
        if kind == "repeated":
            return self.repeated()
        if kind in _COMMANDS:
            self.advance()
        if kind in ("frac", "binom"):
            top, bottom = self.group(), self.group()
            return Divide(top, bottom) if kind == "frac" else Call("binomial", (top, bottom))
        if kind == "overline":
            return overlined(self.group())
        if kind == "determinant":
            return self._determinant()
        if kind == "set":
            return NamedSet(SETS[value])
        if kind == "based":
            return Call("base", (Words(value[0]), Literal(Fraction(value[1]))))
        if kind == "begin":
            return self.matrix()
        raise self.unexpected()

    def _determinant(self) -> Node:
        """`\\det` of a matrix that is written out, or of a letter."""
        inside = self.operand()
        return Matrix(inside.rows, "determinant") if isinstance(inside, Matrix) else Call("det", (inside,))

    def repeated(self) -> Node:
        """`\\sum_{k=1}^{10} k^2` and `\\prod`, written out as terms; the bounds must be small numbers."""
        name = self.value
        self.enter()
        self.advance()
        self.expect("_")
        closing = {"{": "}", "(": ")"}.get(self.kind)
        self.expect("{", "(")
        index = self.value
        self.expect("symbol", "constant")
        if self.value != "=":
            raise self.unexpected()
        self.advance()
        first = self.sum()
        self.expect(str(closing))
        self.expect("^")
        last = self.group()
        body = self.product()
        self.depth -= 1
        return written_out(name, index, first, last, body)

    def group(self) -> Node:
        """What belongs to a command: `{...}` or one operand."""
        self.enter()
        if self.kind == "{":
            self.advance()
            outer, self.bars, self.building = (self.bars, self.building), 0, False
            node = self.sum()
            self.bars, self.building = outer
            self.expect("}")
        else:
            node = self.operand()
        self.depth -= 1
        return node

    def exponent(self) -> Node:
        """What stands behind `^`, from right to left."""
        self.enter()
        if self.kind in ("-", "+"):
            negative = self.kind == "-"
            self.advance()
            node = Negate(self.exponent()) if negative else self.exponent()
        else:
            braced = self.kind == "{"
            node = self.group()
            if self.kind == "!" and not braced:  # 2^3! is 2^(3!)
                self.advance()
                node = Call("factorial", (node,))
            if self.kind == "^":
                self.advance()
                node = Power(node, self.exponent())
        self.depth -= 1
        return node
