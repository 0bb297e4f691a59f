"""Units beside an answer: taken off, brought into one spelling (`sq. ft.` -> `square foot`), compared and converted.

A unit is what stands after (a currency also before) something that has a value. Beside a plain number any noun is one
(`5 red marbles`); beside an expression only a known unit is (`12 pi square inches`, but not `2 sin x`). Words are looked up
from the end of the text, each once.
Rejected: a units library (slow to import, and it refuses `apples`).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from latentthought.grading.normalization.unit_names import MONEY, ONE, SIZE

_LONGEST_TAIL = 10  # words

_KNOWN = frozenset(word for spelling in ONE if "\\" not in spelling for word in spelling.lower().split())
_LENGTHS = frozenset(name for name, one in ONE.items() if SIZE.get(one, ("",))[0] == "length")
_CAPITALS = frozenset("JWVNKCFA")  # letters that are units as capitals only
_ATTACHED = frozenset("mgshlLVWJN")  # 5m and 5 m, but 5k and 5c are products
# words that make what stands before them something else than a value with a unit
_NOT_UNIT_WORDS = """
and or to sqrt root sin cos tan cot sec csc log ln exp lim mod pi inf infinity infty base plus minus is are was if than but
between factorial choose over hundred thousand million billion trillion dozen lakh crore because so since not either both
neither with et ou y o oder und union such that where which real all except then equals from 万 萬 亿 億
"""
_NOT_UNITS = frozenset(_NOT_UNIT_WORDS.split())
_LINKING_WORDS = "of per a an the each for in by every on at as de du d'"
_LINKING = frozenset(_LINKING_WORDS.split())
_POWERS = {"2": "square ", "3": "cubic ", "²": "square ", "³": "cubic "}

_CURRENCY_BEFORE = re.compile(
    r"([-+]?) ?(?:(?:US|A|C|HK|NZ|CA|AU) ?)?([$€£¥₹₩]|(?:USD|EUR|GBP|INR|CNY|RMB|JPY|Rs\.?)(?![A-Za-z])) ?(?=[-+.\d(\\a-z])",
    re.IGNORECASE,
)
_CURRENCY_AFTER = re.compile(r" ?([$€£¥₹₩¢])$")
_BASE = re.compile(r"([0-9A-Fa-f]+)_(\d{1,2})")
_WORD = re.compile(r"[^\s\d!-,./:-@\[-`{-~][^\s\d!-&(-,./:-@\[-`{-~]*\.?")
_ATTACHED_UNIT = re.compile(r"(.*[\d)\]}])-?([^\W\d_/]+(?:\^-?\d)?(?:/[^\W\d_]+(?:\^-?\d)?)?\.?)", re.DOTALL)
_HAN_UNIT = re.compile(
    r"(.*?[\d)]) ?([\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]{1,6}(?:/[\u4e00-\u9fff]{1,3})?)", re.DOTALL
)
_NUMERIC = re.compile(
    r"[-+]?(?=[\d.,/ ()%$€£¥₹]*\d)[\d.,/ ()%$€£¥₹]*+"
    r"(?:(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|st|nd|rd|th) ?)*",
    re.IGNORECASE,
)


def split_unit(plain: str) -> tuple[str, str]:
    """(what is measured, its unit in one spelling) of a normalised answer: `12 pi square inches` -> (`12 pi`, `square inch`).

    Takes off trailing units, currency before or after, degrees, percent (unit `percent`) and a base (`1010_2` -> (`1010`,
    `base 2`)); the unit is "" where there is none.
    """
    if plain[-1:].isdigit() and plain[0].isdigit() and "_" not in plain and "^" not in plain:
        return plain, ""
    core, units = plain.strip(), []
    before = _CURRENCY_BEFORE.match(core)
    if before:
        core = before.group(1) + core[before.end() :]
        units.append(before.group(2))
    core, tail = _split_words(core)
    units += tail
    if core.endswith("%") and len(core) > 1:
        return core[:-1].rstrip(), "percent"
    after = _CURRENCY_AFTER.search(core)
    if after and after.start():
        core = core[: after.start()]
        units.append(after.group(1))
    if not units and (base := _BASE.fullmatch(core)):
        return base.group(1), f"base {base.group(2)}"
    return (core, unit_name(units)) if units else (plain, "")


def _split_words(core: str) -> tuple[str, list[str]]:
    """The text before its trailing unit words, and those words."""
    if core[-1:].isdigit() and "^" not in core[-3:]:
        return core, []
    if not core.isascii() and (han := _HAN_UNIT.fullmatch(core)) and han.group(2)[0] not in "万亿萬億或和":
        return han.group(1), [han.group(2)]
    words: list[str] = []
    at = len(core)
    numeric = bool(_NUMERIC.match(core))
    while len(words) <= _LONGEST_TAIL:
        start = core.rfind(" ", 0, at) + 1
        word = core[start:at].strip("(),")
        if not start or not _is_unit_word(word, numeric, not words):
            break
        words.insert(0, word)
        at = start - 1
        while at and core[at - 1] == " ":
            at -= 1
    rest = core[:at]
    attached = _ATTACHED_UNIT.fullmatch(rest[-60:])
    if attached and (words or at == len(core)) and _may_attach(attached.group(2), numeric):
        words.insert(0, attached.group(2))
        rest = rest[:-60] + attached.group(1)
    rest = rest.rstrip(" (-")
    first = words[0].lower() if words else ""
    if not rest or first in ("squared", "cubed") or "^-" in first:  # nothing is left to be measured
        return core, []
    if rest.endswith((",", ";")):  # B, C
        return core, []
    known = words and all(_is_known(word) or word in _LINKING or word == "*" for word in words)
    if not known and not (
        numeric and _NUMERIC.fullmatch(rest)
    ):  # beside an expression only known units count
        return core, []
    return rest, words


def _is_unit_word(word: str, numeric: bool, last: bool) -> bool:
    """Whether a word may be part of a unit; beside an expression it must be known."""
    lower = word.lower().rstrip(".")
    if _is_known(word):
        return lower not in _NOT_UNITS
    if not word or "\\" in word or lower in _NOT_UNITS:
        return False
    if lower in _LINKING or word == "*":
        return not last
    return numeric and len(lower) >= 3 and bool(_WORD.fullmatch(word))


def _is_known(word: str) -> bool:
    """Whether a word is a unit: `kg*m/s^2`. Only lengths are squared and cubed, or 3 s^2 were a time; others below a slash."""
    names: list[str] = []
    for index, part in enumerate(word.split("/")):
        for factor_of in part.split("*"):
            name, mark, power = factor_of.partition("^")
            name = name.rstrip(".")
            if (
                mark
                and not index
                and not power.startswith("-")
                and name.lower().removesuffix("s") not in _LENGTHS
            ):
                return False
            names.append(name)
    return all(_known_name(name) for name in names if name) and any(names)


def _known_name(word: str) -> bool:
    if len(word) == 1 and word.isalpha() and word.isascii():
        return word in _CAPITALS or (word in ONE and word.islower())
    lower = word.lower()
    return (
        lower in _KNOWN
        or word in _KNOWN
        or word in ONE
        or _singular(lower) in _KNOWN
        or lower in ("squared", "cubed")
    )


def _may_attach(word: str, numeric: bool) -> bool:
    """Whether letters right after a number are a unit: `5cm`, `5apples`; `5x`, `5ab` and `2sin` are not."""
    name = re.split(r"[/^]", word)[0].rstrip(".")
    if "^" in word and not _is_known(word):
        return False
    if len(name) == 1:
        return name in _ATTACHED or not (name.isascii() or name in _NOT_UNITS)
    return name.lower() not in _NOT_UNITS and (_is_known(word) or (numeric and len(name) >= 4))


@lru_cache(maxsize=4096)
def _spelled(words: tuple[str, ...]) -> str:
    names: list[str] = []
    for word in (factor_of for written in words for factor_of in written.split("*") if factor_of):
        for index, part in enumerate(word.split("/")):
            if index:
                names.append("per")
            name, _, power = part.partition("^")
            name = name.rstrip(".")
            one = (
                ONE.get(name)
                or ONE.get(name.lower())
                or ONE.get(_singular(name.lower()))
                or _singular(name.lower())
            )
            if one in ("squared", "cubed") and names:
                names[-1] = _POWERS["2" if one == "squared" else "3"] + names[-1]
            elif not names and one in ("of", "de", "du"):
                continue
            elif one not in ("a", "an", "the", "each", "every", ""):
                names += ["per"] * power.startswith("-")  # m s^-1
                names.append(_POWERS.get(power.lstrip("-"), "") + one)
            elif one in ("each", "every"):
                names.append("per")
    return " ".join(names)


def unit_name(words: list[str]) -> str:
    """One spelling for a unit: abbreviations written out, plurals singular, `cm^2` a `square centimeter`, `/` a `per`."""
    known = _spelled(tuple(word for word in words if word))
    for letter, name in (("c", "celsius"), ("f", "fahrenheit")):
        if known == f"degree {letter}":
            return f"degree {name}"
    first, _, rest = known.partition(" ")
    return first if rest == first else known  # $5 dollars


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


def compatible(a: str, b: str) -> bool:
    """Whether two units of `split_unit` may stand for one thing: same, one missing, or one more detailed (`red marble`,
    `marble`); `unit` stands for any, and a word of another script that is not known for anything."""
    if not a or not b or a == b or a.replace(" ", "") == b.replace(" ", ""):
        return True
    if (a in ("am", "pm")) != (b in ("am", "pm")):
        return False
    words_a, words_b = a.split(), b.split()
    for words, others in ((words_a, words_b), (words_b, words_a)):
        if words[-1] == "unit" and words[:-1] == [word for word in others if word in ("square", "cubic")]:
            return True
        if not "".join(words).isascii() and not any(word in _KNOWN for word in words):
            return True
    if len(words_a) > len(words_b):
        words_a, words_b = words_b, words_a
    if words_b[: len(words_a)] == words_a:  # dollar, dollar per day; but mile is not mile per hour
        return words_b[len(words_a)] != "per" or words_a[0] in MONEY or words_a[-1] not in _KNOWN
    known = any(word in _KNOWN for word in words_b)
    return words_b[-len(words_a) :] == words_a and not known


def factor(a: str, b: str) -> Fraction | None:
    """How many `b` are one `a` (hour, minute -> 60); None where the two do not measure the same."""
    if a == b:
        return Fraction(1)
    parts_a, parts_b = a.split(" per "), b.split(" per ")
    if len(parts_a) != len(parts_b):
        return None
    result = Fraction(1)
    for index, (one, other) in enumerate(zip(parts_a, parts_b, strict=True)):
        measured, against = _size(one), _size(other)
        if measured is None or against is None or measured[0] != against[0]:
            return None
        ratio = measured[1] / against[1]
        result = result / ratio if index else result * ratio
    return result


def _size(unit: str) -> tuple[str, Fraction] | None:
    power = {"square ": 2, "cubic ": 3}.get(unit[: unit.find(" ") + 1], 1)
    found = SIZE.get(unit[unit.find(" ") + 1 :] if power > 1 else unit)
    return (f"{found[0]}{power}", found[1] ** power) if found else None
