"""The value of a tree: exact rationals as far as they reach, elements of a field beyond.

Every node is visited once, so a value costs its nodes times the cost of one operation; exact results are weighed after each
step and handed to the field when they grow beyond 20,000 bits, and all of them together may weigh 200,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from latentthought.grading.algebra.fields import KNOWN, Field, Modular, NotRational
from latentthought.grading.algebra.rational import FUNCTIONS, MAXIMUM_BITS, Undecided, bits, power
from latentthought.grading.expression.tree import (
    Add,
    Call,
    Constant,
    Divide,
    Literal,
    Matrix,
    Multiply,
    Negate,
    Node,
    Power,
    Symbol,
    Words,
)

_MAXIMUM_WORK = 200_000  # bits of all exact results together
_UNVALUED = frozenset(["ratio", "clock", "residue"])
_MAXIMUM_ROWS = 12


class Evaluation:
    """One walk over one tree; raises Undecided where there is no value. Results are Fractions or elements of the field."""

    def __init__(self, field: Field, variables: Mapping[str, Any] | None = None) -> None:
        self.field, self.variables, self.work = field, variables or {}, 0

    def of(self, node: Node) -> Any:
        """The value of a node."""
        match node:
            case Literal():
                return node.value
            case Symbol():
                if node.name not in self.variables:
                    raise NotRational(f"no value for {node.name}")
                return self.variables[node.name]
            case Constant():
                if node.name == "infinity":
                    raise Undecided("infinite")
                return self.field.constant(node.name)
            case Add():
                total = self.of(node.terms[0])
                for term in node.terms[1:]:
                    total = self._add(total, self.of(term))
                return total
            case Negate():
                return self._multiply(Fraction(-1), self.of(node.operand))
            case Multiply():
                product = self.of(node.factors[0])
                for factor in node.factors[1:]:
                    product = self._multiply(product, self.of(factor))
                return product
            case Divide():
                return self._divide(self.of(node.top), self.of(node.bottom))
            case Power():
                return self._power(node)
            case Call():
                return self._call(node)
            case Matrix(kind="determinant"):
                return self._determinant([[self.of(cell) for cell in row] for row in node.rows])
        raise Undecided(f"{type(node).__name__} is no value")

    def element(self, value: Any) -> Any:
        """A value as an element of the field."""
        return self.field.lift(value) if isinstance(value, Fraction) else value

    def _weighed(self, value: Fraction) -> Any:
        size = bits(value)
        if size > 64:  # small ones cannot add up to anything: there are 600 nodes
            self.work += size
            if size > MAXIMUM_BITS:
                return self.field.lift(value)
            if self.work > _MAXIMUM_WORK:
                raise Undecided("too much work")
        return value

    def _add(self, a: Any, b: Any) -> Any:
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return self._weighed(a + b)
        return self.field.add(self.element(a), self.element(b))

    def _multiply(self, a: Any, b: Any) -> Any:
        if isinstance(a, Fraction):
            if isinstance(b, Fraction):
                return self._weighed(a * b)
            if a == 1:
                return b
        return self.field.multiply(self.element(a), self.element(b))

    def _divide(self, a: Any, b: Any) -> Any:
        if isinstance(b, Fraction):
            if b == 0:
                raise Undecided("division by zero")
            if isinstance(a, Fraction):
                return self._weighed(a / b)
        return self.field.divide(self.element(a), self.element(b))

    def _power(self, node: Power) -> Any:
        base, exponent = self.of(node.base), self.of(node.exponent)
        if isinstance(exponent, Fraction):
            if exponent == 1:
                return base
            if isinstance(base, Fraction):
                exact = power(base, exponent)
                if exact is not None:
                    return self._weighed(exact)
        return self.field.power(base, exponent)

    def _call(self, node: Call) -> Any:
        name = node.name
        if name == "base":
            return _in_base(node)
        if name in _UNVALUED:
            raise Undecided(f"a {name} is no value")
        values = tuple(self.of(argument) for argument in node.arguments)
        if name == "degrees":
            half_turn = self.field.divide(self.field.constant("pi"), self.field.lift(Fraction(180)))
            return self._multiply(values[0], half_turn)
        if name == "percent":
            return self._divide(values[0], Fraction(100))
        if name == "mixed":
            return self._add(*values)
        function = FUNCTIONS.get(name)
        if function is not None and all(isinstance(value, Fraction) for value in values):
            exact = function(*values)
            if exact is not None:
                return self._weighed(exact)
        if name == "binomial" and isinstance(values[1], Fraction):
            return self._falling(*values)
        if name not in KNOWN and isinstance(self.field, Modular):
            return self.field.unknown(name, values)
        return self.field.function(name, values)

    def _falling(self, top: Any, count: Fraction) -> Any:
        """n choose 3 is a polynomial in n."""
        if count.denominator != 1 or not 0 <= count <= 20:
            return self.field.function("binomial", (top, count))
        product: Any = Fraction(1)
        for k in range(int(count)):
            factor = self._divide(self._add(top, Fraction(-k)), Fraction(k + 1))
            product = self._multiply(product, factor)
        return product

    def _determinant(self, rows: list[list[Any]]) -> Any:
        if any(len(row) != len(rows) for row in rows) or len(rows) > _MAXIMUM_ROWS:
            raise Undecided("no determinant")
        if len(rows) == 1:
            return rows[0][0]
        exact = all(isinstance(cell, Fraction) for row in rows for cell in row)
        if len(rows) > 3 and not exact:
            raise Undecided("too large a determinant")
        pivot = next((i for i, row in enumerate(rows) if row[0] != 0), None) if exact else None
        if exact and pivot is None:
            return Fraction(0)
        if pivot is not None:  # elimination
            rows[0], rows[pivot] = rows[pivot], rows[0]
            first, sign = rows[0], Fraction(-1 if pivot else 1)
            rest = []
            for row in rows[1:]:
                ratio = row[0] / first[0]
                rest.append([self._add(x, -ratio * y) for x, y in zip(row[1:], first[1:], strict=True)])
            return self._multiply(self._multiply(sign, first[0]), self._determinant(rest))
        total: Any = Fraction(0)
        for column, cell in enumerate(rows[0]):
            minor = self._determinant([[*row[:column], *row[column + 1 :]] for row in rows[1:]])
            term = self._multiply(cell, minor)
            total = self._add(total, self._multiply(Fraction(-1), term) if column % 2 else term)
        return total


def _in_base(node: Call) -> Fraction:
    """The value of digits in a base: `Call("base", (Words("1011"), Literal(2)))`."""
    digits, base = node.arguments
    if not isinstance(digits, Words) or not isinstance(base, Literal):
        raise Undecided("no number in a base")
    whole, _, after = digits.text.partition(".")
    radix = int(base.value)
    return Fraction(int(whole + after, radix), radix ** len(after))
