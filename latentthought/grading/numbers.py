"""The exact number that a text denotes, with its unit.

Integers, decimals, fractions, mixed numbers, powers of ten, percent, currency and units are recognised by one pattern, and
digits and exponents are counted before a number is built, so `1E999999999` costs nothing.
Rejected: `float` (1/3 and 0.3333333333333333 would be one number), and sympy's `parse_expr`, which runs what it reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from latentthought.grading.normalization import normalize

MAXIMUM_DIGITS = 400
MAXIMUM_EXPONENT = 300


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value and how it was written.

    decimals: digits after the point (None for integers and fractions); percent: a % stood beside it, `value` is without
    it; unit: what else stood beside it, in one spelling, "" for nothing.
    """

    value: Fraction
    decimals: int | None = None
    percent: bool = False
    unit: str = ""

    @property
    def is_integer(self) -> bool:
        """Whether it was written without a fraction or a point."""
        return self.decimals is None and self.value.denominator == 1


_PLAIN = r"\d+(?:\.\d*)?|\.\d+"
_VALUE = re.compile(
    rf"(?P<about>~|\\approx ?|about |approximately |around )?(?P<sign>[-+])? ?(?P<currency>[$€£¥₹])? ?(?P<sign2>-)?(?:"
    rf"(?P<whole>\d+) (?P<mixed_top>\d+) ?/ ?(?P<mixed_bottom>\d+)"
    rf"|\(?(?P<top_sign>-)?(?P<top>{_PLAIN})\)? ?/ ?\(?(?P<bottom_sign>-)?(?P<bottom>{_PLAIN})\)?"
    rf"|(?P<number>{_PLAIN})(?:[eE](?P<exponent>[-+]?\d+)| ?\* ?10 ?\^ ?[({{]?(?P<power>-?\d+)[)}}]?)?"
    rf") ?(?P<percent>%|percent\b|per cent\b)?(?P<rest>.*)",
    re.DOTALL,
)
_UNIT = re.compile(
    r"[ -]?\(?((?:[A-Za-zµΩ]+\.?)(?:[ -][A-Za-z]+)*(?:\^-?\d)?(?: ?/ ?[A-Za-z]+(?:\^\d)?)?)\)?\.?"
)
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ABBREVIATIONS = """
m meter, cm centimeter, mm millimeter, km kilometer, ft foot, in inch, yd yard, mi mile, g gram, kg kilogram, mg milligram,
lb pound, oz ounce, s second, sec second, min minute, h hour, hr hour, l liter, ml milliliter, mph mile per hour,
kph kilometer per hour, km/h kilometer per hour, m/s meter per second, sq square, am am, pm pm, c celsius, f fahrenheit, k kelvin,
j joule, w watt, v volt, hz hertz, pa pascal, rs rupee, usd dollar, eur euro, buck dollar, deg degree, feet foot, inches inch,
metre meter, litre liter, centimetre centimeter, kilometre kilometer, $ dollar, € euro, £ pound, ¥ yen, ₹ rupee
"""
_SHORT_UNITS = dict(pair.strip().split(" ", 1) for pair in _ABBREVIATIONS.split(","))
# words and letters beside a number that make it something else than a number with a unit
_NOT_UNIT_WORDS = """
and or to sqrt root sin cos tan log ln exp lim mod pi inf infinity base plus minus times over is if for choose not than more less
between factorial a b e i n t x y z
"""
_NOT_UNITS = frozenset(_NOT_UNIT_WORDS.split())


@lru_cache(maxsize=8192)
def number(text: str) -> Number | None:
    """The number that a whole text denotes (unit, currency and percent sign aside); None when it is something else.

    Integers, decimals, fractions, mixed numbers, `1.2e5`, `1.2*10^5`, `$1,234.50`, `3/4 cm`, `5 million`. None as well when
    it has more than 400 digits or an exponent beyond 300.
    """
    plain = normalize(text)
    if plain.isascii() and plain.isdigit() and len(plain) < MAXIMUM_DIGITS:
        return Number(Fraction(int(plain)))
    if len(plain) > 2 * MAXIMUM_DIGITS:
        return None
    match = _VALUE.fullmatch(plain)
    if match is None or len(re.sub(r"\D", "", plain)) > MAXIMUM_DIGITS:
        return None
    part = match.groupdict()
    value, decimals = _value(part)
    if value is None:
        return None
    if (part["sign"] == "-") != (part["sign2"] == "-"):
        value = -value
    unit, rest = "", part["rest"].strip()
    if rest:
        unit_match = _UNIT.fullmatch(part["rest"])
        if unit_match is None:
            return None
        words = unit_match.group(1).lower().replace("-", " ").replace(".", "").split()
        if words and words[0] in _SCALES:
            value, decimals, words = value * _SCALES[words[0]], None, words[1:]
        attached = not part["rest"][:1].isspace() and not part["rest"].startswith("-")
        if not _is_unit(words, attached):
            return None
        unit = _unit(words)
    elif part["currency"]:
        unit = _unit([part["currency"]])
    return Number(value, decimals, bool(part["percent"]), unit)


def _value(part: dict[str, str | None]) -> tuple[Fraction | None, int | None]:
    if part["whole"] is not None:
        bottom = int(part["mixed_bottom"] or 0)
        return (
            (int(part["whole"]) + Fraction(int(part["mixed_top"] or 0), bottom), None)
            if bottom
            else (None, None)
        )
    if part["top"] is not None:
        top, bottom_value = Fraction(_decimal(part["top"])), Fraction(_decimal(part["bottom"] or "0"))
        if not bottom_value:
            return None, None
        sign = -1 if (part["top_sign"] == "-") != (part["bottom_sign"] == "-") else 1
        return sign * top / bottom_value, None
    digits = part["number"] or "0"
    _, point, after = digits.partition(".")
    exponent = int((part["exponent"] or part["power"] or "0")[:8])
    if abs(exponent) > MAXIMUM_EXPONENT:
        return None, None
    value = Fraction(_decimal(digits)) * Fraction(10) ** exponent
    decimals = max(len(after) - exponent, 0) if point or exponent < 0 else None
    return value, decimals if decimals or point else None


def _decimal(digits: str) -> str:
    """`5.` and `.5` as Fraction reads them."""
    return digits.rstrip(".") if digits.endswith(".") else "0" + digits


def _is_unit(words: list[str], attached: bool) -> bool:
    """Whether words beside a number are a unit; `attached`: no space between (`5cm` is, `5x` is not)."""
    if not words:
        return True
    if any(word in _NOT_UNITS for word in words):
        return False
    known = words[0].rstrip("s") in _SHORT_UNITS or words[0] in _SHORT_UNITS or "/" in words[0]
    return known or (len(words[0]) >= 3 and len(words) <= 6 and (not attached or len(words[0]) >= 4))


def _unit(words: list[str]) -> str:
    """One spelling for a unit: abbreviations written out, plurals singular."""
    spelled = [
        _SHORT_UNITS.get(word) or _SHORT_UNITS.get(word.rstrip("s")) or _singular(word) for word in words
    ]
    return " ".join(spelled)


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
