"""Whether an expression is as simple as it can be written: by looking at it, not by rewriting it.

Not simplified are: numbers left to be worked out (2+3, 2*3, 4^(1/2), 5!), fractions that can be reduced or have a root below
the stroke, roots with a square inside, like terms and like factors. Factored and expanded polynomials both pass: which one a
question asks for is not for a grader to guess.
"""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

from latentthought.grading.algebra.evaluation import Evaluation
from latentthought.grading.algebra.fields import Rationals
from latentthought.grading.algebra.rational import Undecided
from latentthought.grading.expression.tree import (
    Add,
    Call,
    Constant,
    Divide,
    Literal,
    Multiply,
    Negate,
    Node,
    Power,
    symbols,
    walk,
)

_WORKED_OUT_BITS = 60  # 2^2005 is simpler than its 604 digits
_SURDS = {"sqrt": 2, "cbrt": 3}
_Factors = tuple[Fraction, "Counter[Node]"]


def is_simplified(node: Node) -> bool:
    """Whether nothing is left to be worked out: 2/4, sqrt(8), 2+3, 1/sqrt(2), x+x are not simplified. Looks into lists."""
    return all(_is_simple(part) for part in walk(node))


def _is_simple(node: Node) -> bool:
    """One node; what is below it is looked at by itself."""
    match node:
        case Literal() | Constant():
            return True
        case Call(name="mixed"):
            return _is_reduced(node.arguments[1])
        case Call(name="sqrt" | "cbrt" | "root"):
            return not _is_number(node) and _is_simple_root(node)
        case Negate():
            return not isinstance(node.operand, Negate) and not _is_zero(node.operand)
        case Divide():
            return _is_reduced(node)
        case Add():
            return _unlike([_factors(term) for term in node.terms]) and not any(map(_is_zero, node.terms))
        case Multiply():
            return _is_simple_product(node)
        case Power():
            trivial = isinstance(node.exponent, Literal) and node.exponent.value in (0, 1)
            return not trivial and not _is_number(node)
        case Call(name="percent" | "degrees" | "base" | "ratio" | "clock"):
            return True
        case Call():
            return not _is_number(node)
    return True


def _is_number(node: Node) -> bool:
    """Whether it has a rational value of moderate size, which then should have been written instead."""
    if symbols(node):
        return False
    try:
        found = Evaluation(Rationals()).of(node)
    except Undecided:
        return False
    return max(found.numerator.bit_length(), found.denominator.bit_length()) <= _WORKED_OUT_BITS


def _is_zero(node: Node) -> bool:
    return isinstance(node, Literal) and node.value == 0


def _factors(node: Node) -> _Factors:
    """A term as its number and its other factors with their exponents."""
    if isinstance(node, Negate):
        number, others = _factors(node.operand)
        return -number, others
    if isinstance(node, Literal):
        return node.value, Counter()
    if isinstance(node, Multiply):
        number, others = Fraction(1), Counter()
        for factor in node.factors:
            part, more = _factors(factor)
            number, others = number * part, others + more
        return number, others
    if isinstance(node, Divide):
        top, above = _factors(node.top)
        bottom, below = _factors(node.bottom)
        if bottom:
            above.update({Divide(Literal(Fraction(1)), factor): count for factor, count in below.items()})
            return top / bottom, above
    if isinstance(node, Power) and isinstance(node.exponent, Literal):
        exponent = node.exponent.value
        if exponent.denominator == 1 and 0 < exponent <= 1000:
            return Fraction(1), Counter({node.base: exponent.numerator})
    return Fraction(1), Counter({node: 1})


def _unlike(terms: list[_Factors]) -> bool:
    kinds = [frozenset(others.items()) for _, others in terms]
    return len(set(kinds)) == len(kinds)


def _is_simple_product(node: Multiply) -> bool:
    numbers = sum(isinstance(factor, Literal) for factor in node.factors)
    if numbers > 1 or any(isinstance(factor, Literal) and factor.value in (0, 1) for factor in node.factors):
        return False
    bases = [factor.base if isinstance(factor, Power) else factor for factor in node.factors]
    surds = sum(isinstance(base, Call) and base.name in _SURDS and not symbols(base) for base in bases)
    return len(set(bases)) == len(bases) and surds <= 1


def _is_simple_root(node: Call) -> bool:
    degree = _SURDS.get(node.name) or (
        int(node.arguments[0].value) if isinstance(node.arguments[0], Literal) else 0
    )
    inside = node.arguments[-1]
    if isinstance(inside, Negate | Divide) and not symbols(inside):
        return False
    number, others = _factors(inside)
    if number.denominator != 1 or degree < 2:
        return number.denominator == 1
    # trial division to the cube root is enough only with a look for a square; the bound keeps it cheap
    size = abs(number.numerator)
    squares = any(size % k**degree == 0 for k in range(2, min(math.isqrt(size), 1000) + 1)) if size else False
    return not squares and all(count < degree for count in others.values())


def _is_reduced(node: Node) -> bool:
    """A fraction without a common factor, a root or a fraction below, and without decimals."""
    if not isinstance(node, Divide):
        return True
    bottom, below = _factors(node.bottom)
    if bottom.denominator != 1 or bottom <= 0 or (bottom == 1 and not below):
        return False
    if any(isinstance(base, Call) and base.name in (*_SURDS, "root") and not symbols(base) for base in below):
        return False
    terms = node.top.terms if isinstance(node.top, Add) else (node.top,)
    tops = [_factors(term) for term in terms]
    common = math.gcd(bottom.numerator, *(number.numerator for number, _ in tops))
    if any(number.denominator != 1 or (number == 0) for number, _ in tops) or common > 1:
        return False
    shared = Counter(tops[0][1])
    for _, others in tops[1:]:
        shared &= others
    return not shared & below
