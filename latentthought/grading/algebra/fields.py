"""Where values go on when they are no small rationals: a prime field, or complex numbers of many digits.

`Modular` decides rational functions exactly up to chance (Schwartz and Zippel): two of them that differ agree at a random
point modulo a 127-bit prime with probability degree / 2^126. pi, e and i have a place in it (random, random, a root of -1),
huge powers cost a `pow`, nothing grows. `Numeric` takes the rest with mpmath, of a context of its own per thread, since
mpmath's global one would carry precision from one thread into another.
Rejected: sympy's `simplify` (no bound on its time), floats (1e-16 is no proof of anything).
"""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any

from latentthought.grading.algebra.rational import FUNCTIONS, Undecided

# p with (p - 1) / 4 prime, so that every small base has a huge order, and a square root of -1; found by random search
_PRIMES = (
    (111797019164358897728306064206852700437, 8301096963586518285333882148013066776),
    (132465289631476575861356035171299478349, 100490379995519217982037283604715063252),
)
_MAXIMUM_DEGREE_BITS = 60  # of all exponents together; far below the 127 of the primes
_MAXIMUM_EXPONENT = 20_000  # of e, in numeric powers


class NotRational(Undecided):
    """No rational function: a root, a sine, a variable exponent."""


class Field(ABC):
    """Arithmetic on elements that `lift` makes of rationals."""

    @abstractmethod
    def lift(self, value: Fraction) -> Any:
        """A rational as an element."""

    @abstractmethod
    def constant(self, name: str) -> Any:
        """pi, e or i."""

    @abstractmethod
    def add(self, a: Any, b: Any) -> Any:
        """a + b."""

    @abstractmethod
    def multiply(self, a: Any, b: Any) -> Any:
        """a * b."""

    @abstractmethod
    def divide(self, a: Any, b: Any) -> Any:
        """a / b; Undecided for b = 0."""

    @abstractmethod
    def power(self, base: Any, exponent: Any) -> Any:
        """base ** exponent; either may still be a Fraction."""

    @abstractmethod
    def function(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """A function of elements and Fractions."""


class Rationals(Field):
    """Nothing beyond small rationals: asking for more ends it."""

    def lift(self, value: Fraction) -> Any:
        raise NotRational

    def constant(self, name: str) -> Any:
        raise NotRational

    def add(self, a: Any, b: Any) -> Any:
        raise NotRational

    multiply = divide = add

    def power(self, base: Any, exponent: Any) -> Any:
        raise NotRational

    def function(self, name: str, arguments: tuple[Any, ...]) -> Any:
        raise NotRational


class Modular(Field):
    """Integers modulo a prime; `unknown` functions are random, but the same for the same arguments."""

    def __init__(self, which: int = 0) -> None:
        self.prime, self.imaginary = _PRIMES[which % 2]
        self.degree_bits = 0

    def point(self, name: str, seed: int) -> int:
        """A fixed random element for a variable."""
        digest = hashlib.blake2b(f"{seed}:{name}".encode(errors="replace"), digest_size=20).digest()
        return int.from_bytes(digest, "big") % self.prime

    def lift(self, value: Fraction) -> int:
        if value.denominator == 1:
            return value.numerator % self.prime
        return self.divide(value.numerator % self.prime, value.denominator % self.prime)

    def constant(self, name: str) -> int:
        return self.imaginary if name == "i" else self.point(name, -1)

    def add(self, a: int, b: int) -> int:
        return (a + b) % self.prime

    def multiply(self, a: int, b: int) -> int:
        return a * b % self.prime

    def divide(self, a: int, b: int) -> int:
        if b == 0:
            raise Undecided("division by zero")
        return a * pow(b, -1, self.prime) % self.prime

    def power(self, base: Any, exponent: Any) -> int:
        if not isinstance(exponent, Fraction) or exponent.denominator != 1:
            raise NotRational
        self.degree_bits += exponent.numerator.bit_length()
        if self.degree_bits > _MAXIMUM_DEGREE_BITS:
            raise Undecided("too high a degree")
        element = self.lift(base) if isinstance(base, Fraction) else base
        if element == 0 and exponent < 0:
            raise Undecided("division by zero")
        return pow(element, exponent.numerator, self.prime)

    def function(self, name: str, arguments: tuple[Any, ...]) -> int:
        raise NotRational

    def unknown(self, name: str, arguments: tuple[Any, ...]) -> int:
        """f(x) of an f that nobody knows."""
        values = (self.lift(value) if isinstance(value, Fraction) else value for value in arguments)
        return self.point(f"{name}({','.join(map(str, values))})", -2)


_LOCAL = threading.local()


def context(digits: int) -> Any:
    """This thread's mpmath context of so many digits."""
    contexts = _LOCAL.__dict__.setdefault("contexts", {})
    if digits not in contexts:
        from mpmath.ctx_mp import MPContext

        contexts[digits] = MPContext()
        contexts[digits].dps = digits
    return contexts[digits]


class Numeric(Field):
    """mpmath numbers, real as long as they are; `largest` and `smallest` are the binary magnitudes met on the way, and
    `left_reals` says whether any number met was not real.

    Principal branches, but odd roots of negative reals are real.
    """

    def __init__(self, digits: int) -> None:
        self.digits, self.mp = digits, context(digits)
        self.largest, self.smallest, self.left_reals = 0, 0, False

    def _seen(self, value: Any) -> Any:
        if value:
            if not self.mp.isfinite(value):
                raise Undecided("infinite")
            size = self.mp.mag(value)
            self.largest, self.smallest = max(self.largest, size), min(self.smallest, size)
            self.left_reals = self.left_reals or bool(self.mp.im(value))
        return value

    def lift(self, value: Fraction) -> Any:
        return self._seen(self.mp.mpf(value.numerator) / value.denominator)

    def constant(self, name: str) -> Any:
        return self.mp.mpc(0, 1) if name == "i" else +(self.mp.pi if name == "pi" else self.mp.e)

    def add(self, a: Any, b: Any) -> Any:
        return self._seen(a + b)

    def multiply(self, a: Any, b: Any) -> Any:
        return self._seen(a * b)

    def divide(self, a: Any, b: Any) -> Any:
        # what should be zero seldom is, after rounding
        if not b or self.mp.mag(b) < self.largest - 3 * self.digits:
            raise Undecided("division by zero")
        return self._seen(a / b)

    def power(self, base: Any, exponent: Any) -> Any:
        exact = exponent if isinstance(exponent, Fraction) else None
        base, exponent = (self.lift(x) if isinstance(x, Fraction) else x for x in (base, exponent))
        if not base:
            if self.mp.re(exponent) <= 0:
                raise Undecided("a power of zero")
            return base
        if abs(exponent) * max(abs(self.mp.mag(base)), 1) > _MAXIMUM_EXPONENT:
            raise Undecided("too large a power")
        if exact is not None and exact.denominator == 1:
            return self._seen(base ** int(exact))
        if exact is not None and exact.denominator % 2 and not self.mp.im(base) and self.mp.re(base) < 0:
            return self._seen((-1) ** (exact.numerator % 2) * (-self.mp.re(base)) ** exponent)
        return self._seen(self.mp.power(base, exponent))

    def function(self, name: str, arguments: tuple[Any, ...]) -> Any:
        values = [self.lift(value) if isinstance(value, Fraction) else value for value in arguments]
        try:
            return self._seen(self._apply(name, values))
        except (ValueError, ZeroDivisionError, TypeError, OverflowError, ArithmeticError) as error:
            raise Undecided(str(error)) from None

    def _apply(self, name: str, values: list[Any]) -> Any:
        mp = self.mp
        if name in ("floor", "ceil"):
            if abs(values[0] - mp.nint(mp.re(values[0]))) < mp.mpf(10) ** (
                self.largest * 0.31 - self.digits / 2
            ):
                raise Undecided("too near an integer")
            return getattr(mp, name)(values[0])
        if name in ("max", "min"):
            return (max if name == "max" else min)(values)  # complex numbers raise
        if name == "log":
            base, value = values if len(values) == 2 else (mp.mpf(10), values[0])
            return self.divide(mp.log(value), mp.log(base))
        if name == "root":
            return self.divide(mp.mpf(1), values[0]) and self._root(values[1], values[0])
        if name == "cbrt":
            return self._root(values[0], mp.mpf(3))
        if name in ("factorial", "binomial"):
            if any(mp.im(value) or not -50 < value < 200 for value in values):
                raise Undecided("too large a factorial")
            return mp.gamma(values[0] + 1) if name == "factorial" else mp.binomial(*values)
        function = _NUMERIC.get(name)
        if function is None:
            raise Undecided(f"no number for {name}")
        limit = _MAXIMUM_EXPONENT if name in _GROWING else 10**40
        if name not in _ALGEBRAIC and (abs(values[0]) > limit or abs(mp.im(values[0])) > _MAXIMUM_EXPONENT):
            raise Undecided("too large an argument")
        result = getattr(mp, function)(values[0])
        if name in _POLES and mp.mag(result) > 3 * self.digits:
            raise Undecided("a pole")
        return result

    def _root(self, value: Any, degree: Any) -> Any:
        if self.mp.isint(degree) and 0 < degree < 10**6:
            return self.power(value, Fraction(1, int(degree)))
        return self.power(value, 1 / degree)


_DIRECT = ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")
_NUMERIC = {
    "sqrt": "sqrt",
    "exp": "exp",
    "ln": "log",
    "abs": "fabs",
    "cis": "expj",
    **{name: name for name in _DIRECT},
    **{f"arc{name}": f"a{name}" for name in _DIRECT[:6]},
}
_GROWING = frozenset(["exp", "sinh", "cosh", "tanh"])
_ALGEBRAIC = frozenset(["sqrt", "abs", "ln"])
_POLES = frozenset(["tan", "cot", "sec", "csc"])
KNOWN = _NUMERIC.keys() | FUNCTIONS.keys()
