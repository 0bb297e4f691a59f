"""Whether two answers are the same, the cheap ways first: text, exact number, rounded decimal, choice, list of answers.

Every comparison is symmetric and bounded. Numbers are exact rationals: an integer equals only itself, and a decimal may
stand for another value only where it is that value correctly rounded. What needs algebra (is sqrt(8) 2 sqrt(2)?) counts as
different here: a stage of its own has to earn the right to say so.
"""

from __future__ import annotations

import re
from fractions import Fraction

from latentthought.grading.normalization import key, normalize
from latentthought.grading.numbers import Number, number
from latentthought.grading.policy import GradePolicy

_MAXIMUM_PARTS = 64
_MAXIMUM_DEPTH = 4
_OPENING = ("(", "[", "\\{")
_OPENERS = (*_OPENING, "{")
_CLOSERS = (")", "]", "\\}", "}")
_SPLIT = re.compile(r"\\[{}]|[()\[\]{},;]|\b(?:and|or)\b")
_ASSIGNED = re.compile(r"\s*\\?[A-Za-z]\w?\s*(?:=|\\in\b)\s*")
_LETTER = re.compile(r"(?:option|choice|answer)?\s*\(?\s*([A-Ja-j])\s*\)?\s*(?:[).:,-]\s*(.*))?", re.DOTALL)
_LETTER_ONLY = re.compile(r"\(?\s*([A-J])\s*\)?[.:]?")


def equivalent(a: str, b: str, policy: GradePolicy = GradePolicy()) -> tuple[bool, str]:
    """(same, reason) for two bare answers; symmetric in `a` and `b`.

    The reason names the stage that decided: text, number, rounded, choice, list, or how they differ.
    """
    if a.strip() == b.strip():
        return True, "same text"
    if policy.choices:
        chosen = _choice(a, policy), _choice(b, policy)
        if None not in chosen:
            return chosen[0] == chosen[1], "same choice" if chosen[0] == chosen[1] else "another choice"
    return _same(a, b, policy, 0)


def _same(a: str, b: str, policy: GradePolicy, depth: int) -> tuple[bool, str]:
    a, b = normalize(a), normalize(b)
    number_a, number_b = number(a), number(b)
    if number_a is not None and number_b is not None:
        return same_number(number_a, number_b, policy)
    if key(a) == key(b) != "":
        return True, "same text"
    letters = _LETTER_ONLY.fullmatch(a), _LETTER_ONLY.fullmatch(b)
    if any(letters) and _letter(a) == _letter(b) is not None:
        return True, "same choice"
    if ("=" in a) != ("=" in b) or (r"\in" in a) != (r"\in" in b):
        bare_a, bare_b = _unassigned(a), _unassigned(b)
        if (bare_a, bare_b) != (a, b) and depth < _MAXIMUM_DEPTH:
            return _same(bare_a, bare_b, policy, depth + 1)
    if depth < _MAXIMUM_DEPTH:
        return _same_list(a, b, policy, depth)
    return False, "another text"


# ------------------------------------------------------------------------------------------------------------- numbers
def same_number(a: Number, b: Number, policy: GradePolicy) -> tuple[bool, str]:
    """Exact, or one a correct rounding of the other; units that are both given must agree."""
    if policy.units and a.unit and b.unit and a.unit.replace(" ", "") != b.unit.replace(" ", ""):
        return False, f"another unit ({a.unit}, {b.unit})"
    if not policy.units and a.unit != b.unit:
        return False, "a unit is missing"
    pairs = [(a.value, b.value)]
    if a.percent != b.percent:
        hundredth = (a.value / 100, b.value) if a.percent else (a.value, b.value / 100)
        pairs = {"sign": pairs, "value": [hundredth], "either": [*pairs, hundredth]}[policy.percent]
    for value_a, value_b in pairs:
        if value_a == value_b:
            return True, "same number"
        # a percentage is written without its two decimals
        shift_a, shift_b = (2 * (a.percent and value_a != a.value)), (2 * (b.percent and value_b != b.value))
        decimals_a = None if a.decimals is None else a.decimals + shift_a
        decimals_b = None if b.decimals is None else b.decimals + shift_b
        if _same_rounded(value_a, decimals_a, value_b, decimals_b, policy):
            return True, f"same to {policy.precision} digits"
    return False, "another number"


def _same_rounded(
    a: Fraction, decimals_a: int | None, b: Fraction, decimals_b: int | None, policy: GradePolicy
) -> bool:
    """Whether the coarser of two values is the other one rounded (or cut off) there, and close enough to mean it."""
    if policy.precision is None or (decimals_a is None and decimals_b is None):
        return False
    if decimals_a is None or (decimals_b is not None and decimals_b < decimals_a):
        a, decimals_a, b, decimals_b = b, decimals_b, a, decimals_a
    difference = abs(a - b)
    assert decimals_a is not None
    if decimals_b is None and b.denominator == 1:  # 18.01 is not 18; 17.9999999 is, by a calculator
        return decimals_a >= 6 and difference * 10**6 <= 1
    return difference * 10**decimals_a <= (1 if decimals_b is None else Fraction(1, 2)) and difference * (
        10**policy.precision
    ) <= max(abs(a), abs(b))


# ------------------------------------------------------------------------------------------------------------- choices
def _letter(text: str) -> str | None:
    """`(B)`, `B`, `b)`, `B. 25`, `option B` -> B; a lone lower-case letter is a variable."""
    match = _LETTER.fullmatch(text.strip())
    if match is None or (match.group(1).islower() and len(text.strip()) == 1):
        return None
    return match.group(1).upper()


def _choice(text: str, policy: GradePolicy) -> int | None:
    """Index of the option that an answer names by letter or by text; None when it names none, or several."""
    plain = normalize(text)
    exact = [i for i, choice in enumerate(policy.choices) if _same(plain, _option_text(choice), policy, 1)[0]]
    if len(exact) == 1:
        return exact[0]
    letter = _letter(plain if len(plain) > 1 else plain.upper())
    index = ord(letter) - ord("A") if letter else -1
    return index if 0 <= index < len(policy.choices) else None


def _option_text(choice: str) -> str:
    """An option without its own letter: `B)25` -> `25`."""
    return re.sub(r"^\s*\(?[A-Ja-j]\s?[).:]\s*", "", choice)


# --------------------------------------------------------------------------------------------------------------- lists
def _unassigned(text: str) -> str:
    """`x = 5` -> `5`, `x=1 or x=2` -> `1, 2`; an equation with something on both sides stays."""
    _, parts, _ = _parts(text)
    if not all(_ASSIGNED.match(part) for part in parts):
        return text
    return ", ".join(_ASSIGNED.sub("", part, count=1) for part in parts)


def _parts(text: str) -> tuple[str, list[str], str]:
    """(opening bracket, elements, closing bracket) of a tuple, interval, set or bare list; one pass."""
    text = text.strip()
    opening = next((mark for mark in _OPENING if text.startswith(mark)), "")
    closing = _closing_at_end(text) if opening else ""
    if not closing:
        opening = ""
    body = text[len(opening) : len(text) - len(closing)]
    parts, depth, start = [], 0, 0
    for match in _SPLIT.finditer(body):
        token = match.group()
        if token in _OPENERS:
            depth += 1
        elif token in _CLOSERS:
            depth -= 1
        elif depth == 0 and (token not in ("and", "or") or not opening):
            parts.append(body[start : match.start()].strip())
            start = match.end()
    parts.append(body[start:].strip())
    return opening, [part for part in parts if part], closing


def _closing_at_end(text: str) -> str:
    """The bracket that ends a text and closes the one that begins it (`[0,1)` counts), or "" (`(1)(2)`)."""
    depth = 0
    for match in _SPLIT.finditer(text):
        token = match.group()
        if token in _OPENERS:
            depth += 1
        elif token in _CLOSERS:
            depth -= 1
            if depth == 0:
                return token if match.end() == len(text) and token != "}" else ""
    return ""


def _same_list(a: str, b: str, policy: GradePolicy, depth: int) -> tuple[bool, str]:
    open_a, parts_a, close_a = _parts(a)
    open_b, parts_b, close_b = _parts(b)
    if max(len(parts_a), len(parts_b)) == 1 and (open_a, open_b) in (
        ("(", ""),
        ("", "("),
        ("[", ""),
        ("", "["),
    ):
        # (5) is 5, and so is [5]
        return (
            (True, "same text")
            if parts_a and parts_b and _same(parts_a[0], parts_b[0], policy, depth + 1)[0]
            else (False, "another text")
        )
    if len(parts_a) != len(parts_b):
        return False, "another number of parts" if max(len(parts_a), len(parts_b)) > 1 else "another text"
    if len(parts_a) < 2 and not (open_a and open_b):
        return False, "another text"
    if len(parts_a) > _MAXIMUM_PARTS:
        return False, "another text"
    kinds = {(open_a, close_a), (open_b, close_b)}
    if len(kinds) > 1 and ("", "") not in kinds:
        return False, "other brackets"
    ordered = policy.ordered
    if ordered is None:
        ordered = bool(kinds & {("(", ")"), ("[", "]"), ("(", "]"), ("[", ")")})
    remaining = list(parts_b)
    for part in parts_a:
        matches = remaining[:1] if ordered else remaining
        found = next((i for i, other in enumerate(matches) if _same(part, other, policy, depth + 1)[0]), None)
        if found is None:
            return False, "another part"
        del remaining[found]
    return True, "same parts"
