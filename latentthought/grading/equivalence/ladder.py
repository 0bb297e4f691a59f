"""Whether two answers are the same, the cheap ways first: text, exact number, rounded decimal, choice, time, unit, tree, parts.

Every comparison is symmetric and bounded and never raises. Numbers are exact rationals: an integer equals only itself, and a
decimal may stand for another value only where it is that value correctly rounded. What is no plain number is parsed, both
sides whole or not at all, and the two trees are walked side by side (`trees`); what is no mathematics is compared part by part
as text. Rejected: any stage that accepts a likeness (edit distance, a shared number): one false accept costs more trust than
ten misses.
"""

from __future__ import annotations

import re
from functools import partial

from latentthought.grading.equivalence.choices import choice_index, letter, only_letter
from latentthought.grading.equivalence.clock import date, same_time, time_of_day
from latentthought.grading.equivalence.lists import Parts, split
from latentthought.grading.equivalence.matching import MAXIMUM_ITEMS, match_ordered, match_unordered
from latentthought.grading.equivalence.rounding import same_number
from latentthought.grading.expression.tree import Add, Node, Power, Words, walk
from latentthought.grading.normalization.numbers import Number, decimal_comma, number
from latentthought.grading.normalization.plain import key, normalize
from latentthought.grading.normalization.units import compatible, split_unit
from latentthought.grading.policy import GradePolicy

Same = tuple[bool, str]
_MAXIMUM_DEPTH = 4
_SEPARATORS = (",", ";", ":")
_BRACE = re.compile(r"\{")
_FACTORIAL = re.compile(r"(?<![^\W\d_])[\w)]!")
_PRIMES = re.compile(r"(?<![^\W\d_])[^\W\d_]('+)")
_CONJUNCTION = re.compile(r"\b(?:and|or)\b")
_MIXED = re.compile(r"-?\d+ and \d+/\d+")
_STATED = re.compile(r"[=<>]|\\(?:in|le|ge|ne|approx)\b")
_GOING_ON = re.compile(r", ?(?:\.\.\.|\\[lc]?dots)")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_NESTED_SETS = re.compile(r"\{[^{}]*\{")
_LABEL = re.compile(
    r"(?:the )?[^\W\d_]{2,}(?: [^\W\d_]+){0,3} ?= ?(?=[^=])|(?:the )?[^\W\d_]{3,}(?: [^\W\d_]+){0,3} ?: ?(?=.)"
)


def equivalent(a: str, b: str, policy: GradePolicy = GradePolicy()) -> Same:
    """(same, reason) for two bare answers; symmetric in `a` and `b`.

    The reason names the stage that decided: text, number, rounded, choice, unit, set, interval, equation, parts, ..., or how
    the answers differ.
    """
    if a.strip() == b.strip():
        return True, "same text"
    if policy.choices:
        compare = partial(_same_bare, policy=policy)
        chosen = choice_index(a, policy, compare), choice_index(b, policy, compare)
        if None not in chosen:
            return chosen[0] == chosen[1], "same choice" if chosen[0] == chosen[1] else "another choice"
    same, reason = _same(normalize(a), normalize(b), policy, 0)
    if same and policy.simplified and not (_is_simplified(a) and _is_simplified(b)):
        return False, "not simplified"
    return same, reason


def _same_bare(a: str, b: str, policy: GradePolicy) -> bool:
    return _same(normalize(a), normalize(b), policy, 1)[0]


def _same(a: str, b: str, policy: GradePolicy, depth: int) -> Same:
    """The ladder for two normalised answers; parts of them come back here, four levels down at most."""
    number_a, number_b = number(a), number(b)
    if number_a is not None and number_b is not None:
        verdict = same_number(number_a, number_b, policy)
        if verdict[0] or not number_a.unit.startswith("base ") or not number_b.unit.startswith("base "):
            return verdict
    if _same_text(a, b):
        return True, "same text"
    if _same_letter(a, b):
        return True, "same choice"
    if _joined_otherwise(a, b):
        return False, "joined otherwise"
    dated = _same_when(a, b)
    if dated is not None:
        return dated
    if (number_b and date(a)) or (number_a and date(b)):  # 2024-01-02 is not 2021
        return False, "another kind of answer"
    if _same_as_read_again(a, number_a, b, number_b, policy):
        return True, "same number"
    trees = (None, None) if policy.symbolic == "none" else (_parsed(a), _parsed(b))
    same, reason = False, "another text"
    if trees[0] is not None and trees[1] is not None:
        same, reason = _same_trees(trees[0], trees[1], policy)
        if same:
            return same, reason
    if depth < _MAXIMUM_DEPTH:
        for compare in (_same_without_units, _same_without_label, _same_parts):
            verdict = compare(a, b, policy, depth, None not in trees)
            if verdict[0]:
                return verdict
            reason = verdict[1] or reason
    return False, reason


def _same_text(a: str, b: str) -> bool:
    """Equal keys; and what a key does without has to be equal as well: braces, factorials, primes, the case of variables."""
    if key(a) != key(b) or not key(a) or _PRIMES.findall(a) != _PRIMES.findall(b):
        return False
    if any(bool(mark.search(a)) != bool(mark.search(b)) for mark in (_BRACE, _FACTORIAL, _GOING_ON)):
        return False
    if _COMMAND.findall(a) != _COMMAND.findall(b):  # \Delta is not \delta
        return False
    return a == b or _letters(a) == _letters(b) or not (_is_formula(a) and _is_formula(b))


def _letters(text: str) -> list[str]:
    return list(filter(str.isalpha, text))


def _is_formula(text: str) -> bool:
    """Whether case tells letters apart in it: `pi r^2` is not `pi R^2`, but `room 12B` is `Room 12b`."""
    tree = _parsed(text)
    if tree is None or any(isinstance(part, Words) for part in walk(tree)):
        return False
    return any(isinstance(part, (Add, Power)) for part in walk(tree))


def _joined_otherwise(a: str, b: str) -> bool:
    """`Tom or Dick` and `Tom and Dick`; between numbers the two words mean the same list."""
    words_a, words_b = set(_CONJUNCTION.findall(a)), set(_CONJUNCTION.findall(b))
    return bool(words_a and words_b) and not words_a & words_b and not any(map(str.isdigit, a + b))


def _same_when(a: str, b: str) -> Same | None:
    """Two times of day, or two dates; None for anything else."""
    times = time_of_day(a), time_of_day(b)
    if times[0] and times[1]:
        same = same_time(times[0], times[1])
        return same, "same time" if same else "another time"
    days = date(a), date(b)
    if days[0] and days[1]:
        return days[0] == days[1], "same date" if days[0] == days[1] else "another date"
    return None


def _same_letter(a: str, b: str) -> bool:
    """`(B)`, `B.` and `B) 25`; but A is not A, C."""
    named = (only_letter(a) or only_letter(b)) and letter(a) == letter(b) is not None
    return bool(named) and len(split(a).items) == len(split(b).items) == 1


def _same_as_read_again(
    a: str, number_a: Number | None, b: str, number_b: Number | None, policy: GradePolicy
) -> bool:
    """`3,5` beside 3.5 and `2 and 3/4` beside 11/4: lists elsewhere, but numbers beside a number that is written so."""
    for text, known, other in ((a, number_a, number_b), (b, number_b, number_a)):
        if known is not None or other is None or other.value.denominator == 1:
            continue
        read = decimal_comma(text) if other.decimals else None
        if read is None and _MIXED.match(text):
            read = number(text.replace(" and ", " ", 1))
        if read is not None:
            return same_number(read, other, policy)[0]
    return False


# --------------------------------------------------------------------------------------------------------------- trees
def _parsed(text: str) -> Node | None:
    from latentthought.grading.expression.parser import ParseError, parse

    try:
        return parse(text)
    except ParseError:
        return None


def _same_trees(a: Node, b: Node, policy: GradePolicy) -> Same:
    from latentthought.grading.equivalence.trees import same_tree

    return same_tree(a, b, policy)


def _is_simplified(text: str) -> bool:
    from latentthought.grading.algebra.values import is_simplified

    plain = normalize(text)
    tree = _parsed(split_unit(plain)[0]) or _parsed(plain)
    return tree is None or is_simplified(tree)


# --------------------------------------------------------------------------------------------------------------- texts
def _same_without_units(a: str, b: str, policy: GradePolicy, depth: int, parsed: bool) -> Same:
    """`12 pi square inches` as `12 pi`; two units that are both written must agree."""
    (core_a, unit_a), (core_b, unit_b) = split_unit(a), split_unit(b)
    if not (unit_a or unit_b) or (core_a, core_b) == (a, b):
        return False, ""
    if core_a[-1:] in _SEPARATORS or core_b[-1:] in _SEPARATORS:  # B, C is no temperature
        return False, ""
    if not compatible(unit_a, unit_b):
        return False, f"another unit ({', '.join(sorted((unit_a, unit_b)))})"
    if not policy.units and unit_a != unit_b:
        return False, "a unit is missing"
    if "percent" in (unit_a, unit_b) and unit_a != unit_b:
        core_a, core_b = (
            f"({core})%" if unit == "percent" else core for core, unit in ((core_a, unit_a), (core_b, unit_b))
        )
        if (core_a, core_b) == (a, b):
            return False, ""
    same, reason = _same(core_a, core_b, policy, depth + 1)
    return same, reason


def _same_without_label(a: str, b: str, policy: GradePolicy, depth: int, parsed: bool) -> Same:
    """`area = 12` beside `12`: a name in words is taken off where only one side has it."""
    labels = _LABEL.match(a), _LABEL.match(b)
    if parsed or bool(labels[0]) == bool(labels[1]):
        return False, ""
    bare_a, bare_b = (
        text[match.end() :] if match else text for text, match in zip((a, b), labels, strict=True)
    )
    return _same(bare_a, bare_b, policy, depth + 1)


def _same_parts(a: str, b: str, policy: GradePolicy, depth: int, parsed: bool) -> Same:
    """Lists of texts item by item; what the trees have read as statements or sets of sets they alone may judge."""
    if parsed and any(mark.search(text) for mark in (_STATED, _NESTED_SETS) for text in (a, b)):
        return False, ""
    one, other = split(a), split(b)
    if max(len(one.items), len(other.items)) < 2:
        return False, ""
    if max(len(one.items), len(other.items)) > MAXIMUM_ITEMS:
        return False, "too many parts"
    for several, single, text in ((one, other, b), (other, one, a)):
        if len(single.items) == 1 and not several.kind and depth == 0:  # 12x - 34 and -34 + 12x
            same = all(_same(item, text, policy, _MAXIMUM_DEPTH)[0] for item in several.items)
            return same, "same, said again" if same else "another number of parts"
    if len(one.items) != len(other.items):
        return False, "another number of parts"
    if one.kind != other.kind and not _may_be_one_kind(one, other):
        return False, "other brackets"
    kinds = {one.kind, other.kind}
    ordered = policy.ordered
    if ordered is None or kinds & {"(]", "[)"}:
        ordered = bool(kinds & {"()", "[]", "(]", "[)"})
    match = match_ordered if ordered else match_unordered
    same = match(one.items, other.items, lambda x, y: _same(x, y, policy, depth + 1)[0])
    return same, "same parts" if same else "another part"


def _may_be_one_kind(one: Parts, other: Parts) -> bool:
    """A bare list may stand for one in brackets; two parts in square brackets are an interval."""
    kinds = {one.kind, other.kind}
    return "" in kinds and not kinds & {"(]", "[)"} and ("[]" not in kinds or len(one.items) > 2)
