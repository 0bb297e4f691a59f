"""No text takes long: repetitions that make regular expressions backtrack, tried on every pattern and in every role of `grade`.

The repetitions are derived, not listed: from each repeat in each compiled pattern of the package, what leads up to it and what
it repeats, ended by something that does not fit. Times are bounded far above what a loaded machine needs and far below what a
quadratic scan of a megabyte or an exponential one of a line takes (minutes and years); the guard interrupts the scan.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
import re
import re._constants as codes  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from latentthought import grading
from latentthought.grading import GradePolicy, grade

LIMIT = 10  # seconds for one call
LINE, LONG, MEGABYTE = (
    1900,
    1 << 16,
    1 << 20,
)  # just short enough to be parsed; too long for that; what is promised
POLICY = GradePolicy()
CHOICES = GradePolicy(choices=("5", "cat", "x^2", "1/2"))
GOLDS = [
    ("5", POLICY), ("B", POLICY), ("B", CHOICES), ("cat", CHOICES), ("yes", POLICY), ("Evelyn", POLICY), ("x^2+1", POLICY),
    ("Tom and Dick went there together.", POLICY), ("3:30 PM", POLICY), ("18 dollars", POLICY), ("1, 2", POLICY),
    ("3/4", POLICY), ("5", POLICY.replace(strict=True)), ("2/4", POLICY.replace(simplified=True)),
]  # fmt: skip
MOTIFS = [
    " ", "\n", "\t", " \n", "5", "a", "B", ",", ".", "-", "*", "(", ")", "[", "]", "{", "}", "$", "\\", "_", "^", "=", ":", "#",
    "|", "~", "&", "%", "<", ">", "/", "'", '"', "\x00", "!", "1,", "1 ", "1.", "1/", "1+", "1-", "1_", "0 000", " 000", ",000",
    ".000", "'000", "\u00a0000", "，000", "a ", "a=", "=1", "=1 ", "x ", "A, ", "A or ", "B) ", "(1)", "((", ". ", ".\n", ":\n",
    "- ", "**", "```", "a\n", "5\n", "5 cm ", "cm/", "1:00 ", "1 1/", "0.", "$ ", "$$", "$5 ", "$a$", "$,", "\\$", "\\\\", "\\ ",
    "\\(", "\\[", "\\boxed{", "\\boxed ", "\\text{", "\\text", "\\frac", "\\frac{", "\\sqrt", "^{", "^\\", "_{", "{\\over ",
    "and ", "is ", "not ", "the ", "yes ", "no ", "so ", "so\n", "one ", "one hundred ", "third ", "1 point 1 1", "base ",
    "answer", "answer ", "option ", "Therefore ", "the answer is ", "the result is ", "Wait, ", "#### ", "### ", "<<", "<<1",
    "<answer>", "</think>", "五", "的 ", "٣", "½", "²", "α", "e\u0301", "\u0301", "答案", "选项 ", "उत्तर ", "الجواب ",
]  # fmt: skip
PREFIXES = ("", "The answer is ", "Therefore ", "#### ", "$", "$5", "5", "x = ", "\\boxed{", "उत्तर है", "选项")
SUFFIXES = ("", "5", "B", ".", "}", "\x00", "\\x$ 5", "\n5.")


@contextmanager
def guard(seconds: float) -> Iterator[None]:
    """Raise TimeoutError when the block takes longer; Python's regular expressions look for signals while they search."""

    def late(*_: Any) -> None:
        raise TimeoutError

    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ------------------------------------------------------------------------------------------- what a pattern repeats
def patterns() -> dict[str, re.Pattern[str]]:
    """Every compiled pattern of `grading`, in tables of a module as well, by module and name."""
    found: dict[re.Pattern[str], str] = {}

    def collect(name: str, value: Any) -> None:
        if isinstance(value, re.Pattern):
            found.setdefault(value, name)
        elif isinstance(value, (tuple, list)):
            for index, inner in enumerate(value):
                collect(f"{name}[{index}]", inner)

    for module in pkgutil.walk_packages(grading.__path__, "latentthought.grading."):
        for name, value in vars(importlib.import_module(module.name)).items():
            collect(f"{module.name.removeprefix('latentthought.grading.')}.{name}", value)
    return {name: pattern for pattern, name in found.items()}


_OF_CATEGORY = {
    codes.CATEGORY_DIGIT: "5", codes.CATEGORY_NOT_DIGIT: "a ", codes.CATEGORY_SPACE: " \n", codes.CATEGORY_NOT_SPACE: "a5",
    codes.CATEGORY_WORD: "a5_", codes.CATEGORY_NOT_WORD: " -",
}  # fmt: skip
_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)


def of_class(items: list[tuple[Any, Any]]) -> list[str]:
    """Some characters of a class: its first ones, or common ones that a negated class leaves."""
    characters: list[str] = []
    for code, value in items:
        if code is codes.LITERAL:
            characters.append(chr(value))
        elif code is codes.RANGE:
            characters += map(chr, value)
        elif code is codes.CATEGORY:
            characters += _OF_CATEGORY[value]
    if items[0][0] is codes.NEGATE:
        return [character for character in "a5 .,$\\{B=\n中" if character not in characters]
    return characters[:6]


def sample(nodes: Any, rng: random.Random) -> str:
    """A text that the nodes of a parsed pattern match, what they look around for aside."""
    text = ""
    for code, value in nodes:
        if code is codes.LITERAL:
            text += chr(value)
        elif code is codes.ANY:
            text += rng.choice("a5 ")
        elif code is codes.IN:
            text += rng.choice(of_class(value))
        elif code is codes.BRANCH:
            text += sample(rng.choice(value[1]), rng)
        elif code is codes.SUBPATTERN:
            text += sample(value[3], rng)
        elif code is codes.ATOMIC_GROUP:
            text += sample(value, rng)
        elif code in _REPEATS:
            least, most, body = value
            text += "".join(sample(body, rng) for _ in range(max(least, min(most, rng.choice([0, 1, 1, 2])))))
    return text


def repetitions(pattern: re.Pattern[str], rng: random.Random) -> list[tuple[str, str]]:
    """(what leads up to it, what is repeated) for each long repeat in a pattern."""
    found: set[tuple[str, str]] = set()

    def walk(nodes: Any, before: list[str]) -> None:
        for code, value in nodes:
            if code in _REPEATS:
                _, most, body = value
                if most >= 20:
                    found.update((lead, sample(body, rng)) for lead in before for _ in range(3))
                walk(body, before)
            elif code is codes.BRANCH:
                for branch in value[1]:
                    walk(branch, before)
            elif code is codes.SUBPATTERN:
                walk(value[3], before)
            elif code is codes.ATOMIC_GROUP:
                walk(value, before)
            before = sorted({lead + sample([(code, value)], rng) for lead in before for _ in range(2)})[:3]

    walk(parser.parse(pattern.pattern, pattern.flags), [""])
    return sorted((lead, body) for lead, body in found if body)


def repeated(lead: str, body: str, end: str, size: int) -> str:
    return lead + body * (size // len(body)) + end


def derived(rng: random.Random, each: int) -> list[tuple[str, str, str]]:
    """(prefix, motif, suffix) from all patterns, at most `each` repeats of one."""
    texts = []
    for pattern in patterns().values():
        found = repetitions(pattern, rng)
        for lead, body in rng.sample(found, min(each, len(found))):
            texts += [(lead, body, rng.choice(SUFFIXES)), ("", lead + body, "")]
    return texts


# --------------------------------------------------------------------------------------------------------- the tests
def test_the_guard_interrupts_a_search() -> None:
    with pytest.raises(TimeoutError), guard(0.2):
        re.fullmatch(r"(?:a|a)*b", "a" * 60)


def test_repetitions_find_what_is_exponential_and_quadratic() -> None:
    rng = random.Random(0)
    slow = 0
    for pattern in (r"=(?: ?(?:[\d.]|x)+)+$", r"so (?:[^\W\d]|[a-z])*!", r"(?:\w+\s?)*;"):
        for lead, body in repetitions(re.compile(pattern), rng):
            try:
                with guard(0.2):
                    re.search(pattern, repeated(lead, body, "\x00", 200))
            except TimeoutError:
                slow += 1
                break
    assert slow == 3


@pytest.mark.slow
def test_no_pattern_is_exponential() -> None:
    """On a line, the longest text that most of them see: quadratic ones take a fifth of a second there, cubic ones minutes."""
    rng = random.Random(0)
    for name, pattern in patterns().items():
        found = repetitions(pattern, rng)
        for lead, body in rng.sample(found, min(3, len(found))):
            for text in (
                *(repeated(lead, body, end, LINE) for end in ("", "\x00")),
                repeated("", lead + body, "\x00", LINE),
            ):
                with guard(LIMIT):
                    try:
                        pattern.fullmatch(text)
                        pattern.search(text)
                    except TimeoutError:
                        pytest.fail(f"{name} on {lead!r}, {body!r} repeated, {text[-1:]!r}")


def judge_all(texts: list[tuple[str, str, str]], size: int, rng: random.Random) -> None:
    """Each text as prediction, as gold, and beside almost itself."""
    for lead, body, end in texts:
        text = repeated(lead, body, end, size)
        gold, policy = rng.choice(GOLDS)
        for prediction, other in ((text, gold), (gold, text), (text, text[1:] + "1")):
            try:
                with guard(LIMIT):
                    grade(prediction, other, policy)
            except TimeoutError:
                role = "prediction" if other == gold else "gold" if prediction == gold else "both"
                pytest.fail(f"{lead!r}, {size} characters of {body!r}, {end!r} as {role} with {gold!r}")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "count"), [(LINE, 500), (LONG, 150)])
def test_no_repetition_takes_long(size: int, count: int) -> None:
    rng = random.Random(size)
    listed = [(rng.choice(PREFIXES), motif, rng.choice(SUFFIXES)) for motif in MOTIFS]
    chosen = rng.sample(derived(rng, 4), count - len(listed)) if count > len(listed) else []
    judge_all([*listed, *chosen], size, rng)


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("prefix", PREFIXES[::3])
def test_no_megabyte_takes_long(prefix: str) -> None:
    rng = random.Random(0)
    judge_all([(prefix, motif, rng.choice(SUFFIXES)) for motif in MOTIFS], MEGABYTE, rng)


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("size", [LINE, 20_000, LONG])
def test_no_derived_repetition_takes_long(size: int) -> None:
    rng = random.Random(size)
    judge_all(derived(rng, 12), size, rng)
