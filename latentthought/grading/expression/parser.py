"""From the text of an answer to its tree: precedence climbing over the tokens, whole or not at all.

From loose to tight: separators (`,` `;` and, or), ratios, relation chains, unions, sums and `±`, products (written out or
not) and quotients from left to right, powers, postfixes (`!`, `%`, degrees). `1/2x` is x/2, as LaTeX's `\\frac12 x` becomes
that text; `sin 2x cos x` is a product of two functions; `3 1/2` is a mixed number. What has no node of its own is a `Call`:
`mixed` (whole, fraction), `percent`, `degrees`, `ratio`, `clock` (hours, minutes, ...), `base` (digits as Words, base), `mod`,
`residue` (a class of numbers, and its modulus: `1 \\pmod 3`). A sum or product with bounds is its terms, written out.

One pass without backtracking; nesting, nodes, digits and length are bounded before anything is computed, and nothing is
computed here. Rejected: sympy's `parse_expr` (it runs what it reads), `latex2sympy` (accepts a part of its input, hangs on
some), a grammar generator (a dependency, and slower than a training loop wants).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from latentthought.grading.expression.brackets import mark_outward_brackets
from latentthought.grading.expression.construction import (
    add,
    as_set,
    bare_list,
    is_proper,
    is_small,
    multiply,
    quotient,
)
from latentthought.grading.expression.lexer import MAXIMUM_LENGTH, ParseError, Token, prepare, tokenize
from latentthought.grading.expression.operands import Operands
from latentthought.grading.expression.tree import (
    MAXIMUM_DEPTH,
    MAXIMUM_NODES,
    Call,
    Divide,
    Literal,
    NamedSet,
    Negate,
    Node,
    PlusMinus,
    Power,
    Relation,
    SetOperation,
    Words,
)
from latentthought.grading.expression.vocabulary import PHRASES

__all__ = ["ParseError", "parse"]

_CLOSING = frozenset([")", "]", "}", "\\}", "angle)", "eof"])
_SEPARATING = ("separator", "&", "row")
_REMEMBERED_LENGTH = 200  # so that the cache stays in the megabytes whatever it is fed
_NAMES = frozenset(["word", "symbol", "constant", "function"])
_BESIDE_NAMES = frozenset([*_NAMES, "number", "-", "prime", ":", "degrees"])


def parse(text: str) -> Node:
    """The tree of a whole answer, from `normalize`d text or raw LaTeX.

    Raises ParseError (a ValueError) for everything else, also for what is longer than 2000 characters, deeper than
    MAXIMUM_DEPTH or larger than MAXIMUM_NODES. Cached.
    """
    if len(text) > MAXIMUM_LENGTH:
        raise ParseError(f"longer than {MAXIMUM_LENGTH} characters")
    try:
        found = _remembered(text) if len(text) <= _REMEMBERED_LENGTH else _parse(text)
    except RecursionError:  # the caller has used up the stack
        raise ParseError("nested too deep") from None
    if isinstance(found, str):
        raise ParseError(found)
    return found


def _parse(text: str) -> Node | str:
    """The tree, or why there is none: failures are worth remembering as well."""
    try:
        prepared = prepare(text)
        tree = _Parser(prepared, tokenize(prepared)).whole()
    except ParseError as error:
        return str(error)
    if is_small(tree):
        return tree
    return f"more than {MAXIMUM_NODES} parts, or nested deeper than {MAXIMUM_DEPTH}"


_remembered = lru_cache(maxsize=2048)(_parse)


class _Parser(Operands):
    """Everything that joins operands."""

    __slots__ = ("wordy",)

    def __init__(self, text: str, tokens: list[Token]) -> None:
        super().__init__(text, mark_outward_brackets(tokens))
        self.wordy = any(token.kind == "word" for token in tokens)

    def whole(self) -> Node:
        """The whole text."""
        items, separators = self.items()
        if self.kind != "eof" or not items:
            raise self.unexpected()
        return items[0] if len(items) == 1 else bare_list(items, separators)

    # --------------------------------------------------------------------------------------------------------- lists
    def items(self) -> tuple[list[Node], set[str]]:
        """Items up to a closing bracket or the end, and the separators between them; `2, and 3` has one."""
        items: list[Node] = []
        separators: set[str] = set()
        while self.kind not in _CLOSING:
            items.append(self.item())
            if self.kind not in _SEPARATING:
                break
            while self.kind in _SEPARATING:
                separators.add(last := self.value or ("and" if self.kind == "&" else ","))
                self.advance()
            if self.kind in _CLOSING and last != ",":  # a comma at the end is forgiven, `1 and` is not
                raise self.unexpected()
        return items, separators

    def item(self) -> Node:
        """A ratio, a relation or a value; words where the item holds nothing else."""
        if self.wordy and (end := self._end_of_words()):
            token = self.tokens[self.position]
            one = end == self.position + 1 and token.kind == "word"
            text = str(token.value) if one else self.text[token.start : self.tokens[end - 1].end]
            self.advance(end - self.position)
            name = PHRASES.get(text.lower())
            return Words(text) if name is None else NamedSet(name)
        return self._ratio()

    def _end_of_words(self) -> int:
        """Where an item of words ends; 0 when the item at hand is something else."""
        end, words = self.position, 0
        if self.kind not in _NAMES:
            return 0
        while (token := self.tokens[end]).kind not in _CLOSING and token.kind != "separator":
            if token.kind not in _BESIDE_NAMES and not (token.kind == "relation" and token.value == "in"):
                return 0
            words += token.kind == "word"
            end += 1
        return end if words else 0

    def _ratio(self) -> Node:
        """`3:1`, `1:2:3`; `11:30` is a time of day, unless there are spaces in it."""
        start = self.tokens[self.position].start
        parts = [self.relation()]
        while self.kind == ":" and not self.building:
            self.advance()
            parts.append(self.relation())
        if len(parts) == 1:
            return parts[0]
        hours, *rest = self.text[start : self.tokens[self.position - 1].end].split(":")
        clock = len(hours) < 3 and hours.isdecimal() and all(len(x) == 2 and x.isdecimal() for x in rest)
        return Call("clock" if clock and rest else "ratio", tuple(parts))

    # ----------------------------------------------------------------------------------------------------- relations
    def relation(self) -> Node:
        """`a < b <= c`; `\\approx 3` is 3."""
        if self.kind == "relation" and self.value == "~":
            self.advance()
        sides: list[Node] = [self._set_expression()]
        signs: list[str] = []
        while self.kind == "relation" and not (self.angled and self.value == ">"):
            congruent = self.written().strip() == "\\equiv"
            signs.append(str(self.value))
            self.advance()
            side = self._set_expression()
            if congruent and isinstance(side, Call) and side.name == "mod":  # x \\equiv 1 mod 3
                side = Call("residue", side.arguments)
            sides.append(as_set(side) if signs[-1] == "in" else side)
        return Relation(tuple(sides), tuple(signs)) if signs else sides[0]

    def _set_expression(self) -> Node:
        """Unions, intersections and differences, from left to right."""
        left = self.sum()
        while (kind := self.kind) == "set operation" or self._is_set_operation(left):
            name = str(self.value) if kind == "set operation" else "difference" if kind == "\\{" else "union"
            if kind != "\\{":
                self.advance()
            right = as_set(self.sum())
            if isinstance(left, SetOperation) and left.name == name != "difference":
                left = SetOperation(name, (*left.operands, right))
            else:
                left = SetOperation(name, (as_set(left), right))
        return left

    def _is_set_operation(self, left: Node) -> bool:
        """The U of `(0,1)U(2,3)`, and what is left of the stroke in `R\\{3}`."""
        if self.kind == "\\{":
            return isinstance(as_set(left), NamedSet)
        return self.kind == "symbol" and self.is_letter_union()

    # -------------------------------------------------------------------------------------------------------- values
    def sum(self) -> Node:
        """Terms with their signs; `a ± b`, `a mod b`, `n \\choose k`."""
        terms: list[Node] = []
        if self.kind == "±" or (self.kind == "+" and self.ahead().kind == "-"):
            self.advance(1 if self.kind == "±" else 2)
            terms.append(PlusMinus(Literal(Fraction(0)), self.product()))
        else:
            terms.append(self._signed(self.product))
        while True:
            kind = self.kind
            if kind in ("+", "-") and not (kind == "+" and self._is_plus_minus_root()):
                self.advance()
                term = self._signed(self.product)
                terms.append(Negate(term) if kind == "-" else term)
                continue
            if kind in ("±", "+"):
                self.advance(1 if kind == "±" else 2)
                terms = [PlusMinus(add(terms), self.product())]
            elif kind in ("mod", "pmod"):
                self.advance()
                name, modulus = ("residue", self.group()) if kind == "pmod" else ("mod", self.product())
                terms = [Call(name, (add(terms), modulus))]
            elif kind == "(" and self.ahead().kind == "mod":
                self.advance(2)
                terms = [Call("residue", (add(terms), self.product()))]
                self.expect(")")
            elif kind == "choose":
                self.advance()
                terms = [Call("binomial", (add(terms), self.product()))]
            else:
                return add(terms)

    def _is_plus_minus_root(self) -> bool:
        """`1+-sqrt(2)` is two numbers, `1+-2` is one."""
        later = self.ahead(2)
        return self.ahead().kind == "-" and not self.ahead().spaced and later.value == "sqrt"

    def _signed(self, read: Callable[[], Node]) -> Node:
        """What is read, with any signs before it."""
        negative = count = 0
        while self.kind in ("+", "-"):
            negative, count = negative + (self.kind == "-"), count + 1
            self.advance()
        if count > MAXIMUM_DEPTH:
            raise ParseError("too many signs")
        node = read()
        for _ in range(negative):
            node = Negate(node)
        return node

    def product(self) -> Node:
        """Factors and divisors from left to right; side by side is a product."""
        node = self.power()
        while True:
            if self.kind == "*":
                self.advance()
                node = multiply(node, self._signed(self.power))
            elif self.kind == "/":
                self.advance()
                node = quotient(node, self._signed(self.power))
            elif self.kind in ("number", "frac") and isinstance(node, Literal):
                node = self._beside_number(node)
            elif self.begins_factor():
                node = multiply(node, self.power())
            else:
                return node

    def _beside_number(self, whole: Literal) -> Node:
        """`3 1/2` and `3\\frac{1}{2}` are mixed numbers, `3\\frac{x}{2}` is a product, `3 4` is nothing."""
        if self.kind == "number":
            if self.ahead().kind != "/" or self.ahead(2).kind != "number":
                raise self.unexpected()
            top, bottom = self.value, self.ahead(2).value
            self.advance(3)
            fraction: Node = Divide(top, bottom)
        else:
            fraction = self.power()
        if is_proper(fraction) and whole.decimals is None and whole.value.denominator == 1:
            return Call("mixed", (whole, fraction))
        if self.tokens[self.position - 2].kind == "/":
            raise ParseError("two numbers side by side")
        return multiply(whole, fraction)

    def power(self) -> Node:
        """A factor with its exponent."""
        base = self._postfixed()
        if self.kind != "^":
            return base
        self.advance()
        return Power(base, self.exponent())

    def _postfixed(self) -> Node:
        """An operand with what stands behind it."""
        node = self.operand()
        while self.kind in ("!", "percent", "degrees"):
            if self.kind == self.tokens[self.position - 1].kind == "!":
                raise self.unexpected()
            node = Call("factorial" if self.kind == "!" else self.kind, (node,))
            self.advance()
        return node
