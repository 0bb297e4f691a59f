"""The exact number that a text denotes, with its unit.

Integers, decimals, fractions, mixed numbers, powers of ten, percent, currency and units are recognised by one pattern, and
digits and exponents are counted before a number is built, so `1E999999999` costs nothing.
Rejected: `float` (1/3 and 0.3333333333333333 would be one number), and sympy's `parse_expr`, which runs what it reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from latentthought.grading.normalization.plain import normalize
from latentthought.grading.normalization.units import factor, split_unit

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
    rf"\(?(?P<sign>[-+])? ?(?:"
    rf"(?P<whole>\d+)(?: |-| & )(?P<mixed_top>\d+) ?/ ?(?P<mixed_bottom>\d+)"
    rf"|\(?(?P<top_sign>-)?(?P<top>{_PLAIN})\)? ?/ ?\(?(?P<bottom_sign>-)?(?P<bottom>{_PLAIN})\)?"
    rf"|(?P<repeating>\d*\.\d*)(?:\\(?:overline|bar) ?\{{ ?|\((?=\d+\)))(?P<period>\d+) ?[}})]"
    rf"|(?P<number>{_PLAIN})(?:[eE](?P<exponent>[-+]?\d+)| ?[*x] ?10 ?\^ ?[({{]?(?P<power>-?\d+)[)}}]?)?"
    rf"|10 ?\^ ?[({{]?(?P<ten>-?\d+)[)}}]?"
    rf")\)? ?(?P<scale>(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|[万萬亿億]) ?)*(?:st|nd|rd|th)?",
    re.IGNORECASE,
)
_SCALES = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
    "lakh": 10**5, "crore": 10**7,
    "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8,
}  # fmt: skip
_SCALE = re.compile("|".join(_SCALES), re.IGNORECASE)
_THOUSANDS = re.compile(r"([-+]?\d{1,3}\.\d{1,3}) ?[kK]")
_INTEGER = re.compile(r"-?\d{1,300}")
_DECIMAL = re.compile(r"(-?\d{1,150})\.(\d{1,150})")
_GROUPED = (
    (re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?"), " "),  # 1 234 567.8
    (re.compile(r"[-+]?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?"), ","),  # 12,34,567 as in India
    (re.compile(r"[-+]?\d{1,3}(?:'\d{3})+(?:\.\d+)?"), "'"),  # 1'234 as in Switzerland
    (re.compile(r"[-+]?\d{1,3}(?:\.\d{3}){2,}"), "."),  # 1.234.567 as in Germany
)
_EUROPEAN = re.compile(r"([-+]?\d{1,3}(?:[. ]\d{3})+|[-+]?\d{1,3}),(\d+)")
_WITH_PARTS = re.compile(r"(\d.*?[^\W\d]),?(?: and)? (\d+(?:\.\d+)?)", re.DOTALL)


def number(text: str) -> Number | None:
    """The number that a whole text denotes (unit, currency and percent sign aside); None when it is something else.

    Integers, decimals, fractions, mixed numbers, `1.2e5`, `1.2*10^5`, `$1,234.50`, `3/4 cm`, `5 million`, `0.\\overline{3}`,
    `5 ft 6 in`. None as well when it has more than 400 digits or an exponent beyond 300.
    """
    return _number(normalize(text)) if len(text) <= 4 * MAXIMUM_DIGITS else None


@lru_cache(maxsize=8192)
def _number(plain: str) -> Number | None:
    if _INTEGER.fullmatch(plain):
        return Number(Fraction(int(plain)))
    decimal = _DECIMAL.fullmatch(plain)
    if decimal:
        scale = 10 ** len(decimal.group(2))
        return Number(Fraction(int(decimal.group(1) + decimal.group(2)), scale), len(decimal.group(2)))
    core, unit = split_unit(plain)
    if len(core) > 2 * MAXIMUM_DIGITS or sum(map(str.isdigit, core)) > MAXIMUM_DIGITS:
        return None
    found = _value_of(core, bool(unit))
    if found is None:
        return _with_parts(core, unit)
    percent = unit == "percent"
    return Number(*found, percent, "" if percent else unit)


def decimal_comma(text: str) -> Number | None:
    """The number that `3,5` is where a comma marks the decimals; None for every other text.

    `3,5` may as well be two numbers, so this is a second reading: worth asking for beside a number that is no integer.
    """
    core, unit = split_unit(normalize(text))
    match = _EUROPEAN.fullmatch(core)
    if match is None or len(core) > MAXIMUM_DIGITS:
        return None
    found = _value_of(re.sub(r"[. ]", "", match.group(1)) + "." + match.group(2), False)
    return Number(*found, unit == "percent", "" if unit == "percent" else unit) if found else None


def _value_of(core: str, has_unit: bool) -> tuple[Fraction, int | None] | None:
    """(value, decimals) of a text without its unit."""
    for pattern, separator in _GROUPED:
        if separator in core and pattern.fullmatch(core):
            core = core.replace(separator, "")
    comma = _EUROPEAN.fullmatch(core) if "," in core else None
    # a comma marks decimals where it can be nothing else: beside a unit, after grouped thousands, before 05
    if comma and (has_unit or not comma.group(1).lstrip("+-").isdigit() or re.match(r"0\d", comma.group(2))):
        core = re.sub(r"[. ]", "", comma.group(1)) + "." + comma.group(2)
    short = _THOUSANDS.fullmatch(core) if core.endswith(("k", "K")) else None
    match = _VALUE.fullmatch(f"{short.group(1)}*10^3" if short else core)
    if match is None or core.count("(") != core.count(")"):
        return None
    part = match.groupdict()
    value, decimals = _value(part)
    if value is None:
        return None
    for scale in _SCALE.findall(core):
        value, decimals = value * _SCALES[scale.lower()], None
    return (-value if part["sign"] == "-" else value), decimals


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
    if part["period"] is not None:
        before, after = (part["repeating"] or ".").split(".")
        period = Fraction(int(part["period"]), 10 ** len(part["period"]) - 1) / 10 ** len(after)
        return Fraction(int((before + after) or 0), 10 ** len(after)) + period, None
    digits = part["number"] or "1"
    _, point, after = digits.partition(".")
    exponent = int((part["exponent"] or part["power"] or part["ten"] or "0")[:8])
    if abs(exponent) > MAXIMUM_EXPONENT:
        return None, None
    value = Fraction(_decimal(digits)) * Fraction(10) ** exponent
    decimals = max(len(after) - exponent, 0) if point or exponent < 0 else None
    return value, decimals if decimals or point else None


def _decimal(digits: str) -> str:
    """`5.` and `.5` as Fraction reads them."""
    return digits.rstrip(".") if digits.endswith(".") else "0" + digits


def _with_parts(core: str, unit: str) -> Number | None:
    """`5 feet 6` beside `inch` -> 66 inch; `2 hours 30` beside `minute` -> 150 minute."""
    match = _WITH_PARTS.fullmatch(core) if unit and len(core) < 60 else None
    larger = _number(match.group(1).strip()) if match else None
    if match is None or larger is None or not larger.unit:
        return None
    ratio = factor(larger.unit, unit)
    if ratio is None or ratio <= 1:
        return None
    return replace(larger, value=larger.value * ratio + Fraction(match.group(2)), decimals=None, unit=unit)
