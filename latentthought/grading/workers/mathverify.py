"""math-verify as a second opinion on what our own ladder calls wrong; chosen by the policy, never by being installed.

What it ships with is not used: its extraction (merges boxes, accepts a part of a text as the whole), its plain-text parser
(sympy's, which evaluates Python), its timeouts (signals: main thread only, and they cancel the caller's own alarm). Only its
LaTeX grammar, which takes a whole text or none, and its comparison are; and they run in a worker of a `GradingPool`, whose
deadline and memory limit are the only ones.

Before anything is parsed each side becomes one string of known commands, single letters and bounded numbers. What does not
(words, sums, integrals, unknown commands, towers of powers, long numbers, large factorials) is not asked about, and our own
verdict stands: `readable` is linear and runs in the caller. Decimals become exact fractions, since a comparison of floats to
six places would undo the policy's precision. Nor is it asked where it does not know the policy: choices, `simplified`,
`ordered: true`, percentages. Either order of the two sides may agree, so verdicts stay symmetric.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from typing import Any

from latentthought.errors import MissingExtraError, require_extra
from latentthought.grading.normalization.plain import normalize
from latentthought.grading.policy import GradePolicy

NAME = "math-verify"
_PURPOSE = "the grading policy's symbolic: math-verify"

MAXIMUM_LENGTH = 400
MAXIMUM_DEPTH = 8  # its grammar takes twice as long with every level
MAXIMUM_DIGITS = 40
MAXIMUM_EXPONENT = 999
MAXIMUM_FACTORIAL = 200
MAXIMUM_ELEMENTS = 64

_FUNCTION_NAMES = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp lg"
_GREEK_NAMES = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega
Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega
"""
_SIGN_NAMES = """
frac sqrt cdot times div le ge leq geq ne neq cup cap setminus in emptyset pm mp begin end lfloor rfloor lceil rceil
lbrace rbrace
"""
_NAMES = frozenset([*_FUNCTION_NAMES.split(), *_GREEK_NAMES.split(), "pi", "infty", "binom"])
_COMMANDS = _NAMES | frozenset(_SIGN_NAMES.split())
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{(?:[pb]?matrix)\}")
_NUMBER_SET = re.compile(r"\\mathbb\s*\{?R\}?|ℝ")
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_WORD = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]{2,}")
_ODD = re.compile(r"[^\w\s\\{}()\[\]+\-*/^=<>.,;!|:&]|[^\x00-\x7f]")
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)")
_SCIENTIFIC = re.compile(r"\d\s*[eE]\s*[-+]?\d")
_MIXED = re.compile(r"(?<![\d/.])(\d+)\s+(\d+)/(\d+)(?![\d.])")
_PLAIN_NUMBER = re.compile(r"[-+]?\s*(?:[\d\s]+(?:/\s*\d+)?|\d*\s*\\frac\{\d+\}\{\d+\})")
_BARE_SCRIPT = re.compile(r"([\^_])\s*(-\s*\w|\d{2,})")  # x^12, which LaTeX reads as x^{1}2
_BRACKET = re.compile(r"(\\?sqrt|root|\^)?\s*([({\[])|([)}\]])|\\[a-zA-Z]+|\\.", re.DOTALL)
_DEGREE = re.compile(r"\s*(\d{1,2})\s*,")
_NAME = re.compile(rf"(?<![a-zA-Z\\])(?:{'|'.join(sorted(_NAMES))})(?![a-zA-Z])")
# 1/2x may be half of x or one over 2x
_AMBIGUOUS = re.compile(
    r"/\s*(?:\d+|[a-zA-Z]|\\[a-zA-Z]+)(?:\{[^{}]*\})*\s*"
    r"(?:[a-zA-Z(]|\\(?!cup|cap|le|ge|ne|in\b|cdot|times|pm|mp|rbrace|end|\\))"
)
_FACTORIAL = re.compile(r"(\d+)\s*!")
_NESTED_FACTORIAL = re.compile(r"!\s*!|[)}]\s*!")
_POWER = re.compile(r"\^\s*(?:\{([^{}]*)(\})?|\w)")
_TOWER = re.compile(r"\^\s*(?:\{[^{}]*\}|\w)\s*[)}]*\s*\^")


def require() -> None:
    """`MissingExtraError` naming the extra `eval` unless math-verify can be found; imports nothing."""
    if not _installed():
        raise MissingExtraError(f"{_PURPOSE} needs math-verify: pip install 'latentthought[eval]'")


@lru_cache(maxsize=1)
def _installed() -> bool:
    return importlib.util.find_spec("math_verify") is not None


def load() -> None:
    """Import it (sympy and a grammar: about a second); `MissingExtraError` when that fails."""
    require_extra("math_verify", "eval", _PURPOSE)


def engine(policy: GradePolicy) -> str:
    """What compares algebra under this policy, with its version, for the records of a run."""
    if policy.symbolic != NAME:
        return {"own": "latentthought", "none": "latentthought, no algebra"}[policy.symbolic]
    require()
    return f"latentthought, then {NAME} {metadata.version(NAME)}"


# ------------------------------------------------------------------------------------------------------ who is asked
def second_opinion(
    answer: str, gold: str, policy: GradePolicy, reason: str, compare: Callable[[str, str], tuple[str, str]]
) -> tuple[str, str]:
    """(status, reason) for two bare answers that our own ladder calls different, for `reason`; `compare` asks the engine.

    `ungradable` when the engine gave no verdict in time or died; raises `MissingExtraError` when it is not installed.
    """
    require()
    if policy.choices or policy.simplified or policy.ordered:
        return "wrong", reason
    mine, theirs = readable(answer), readable(gold)
    if mine is None or theirs is None:
        return "wrong", reason
    # numbers are compared exactly, and under the policy's precision, by our own ladder
    if _PLAIN_NUMBER.fullmatch(mine) and _PLAIN_NUMBER.fullmatch(theirs):
        return "wrong", reason
    status, found = compare(mine, theirs)
    return status, f"{reason} ({found})" if status == "wrong" else found


# ---------------------------------------------------------------------------------------------------------- guards
def readable(text: str) -> str | None:
    """The one LaTeX string that stands for `text`, or None for what is not to be parsed; linear in the text."""
    return _readable(text) if len(text) <= MAXIMUM_LENGTH else None


@lru_cache(maxsize=4096)
def _readable(text: str) -> str | None:
    text = _NUMBER_SET.sub(r"(-\\infty,\\infty)", normalize(text))
    if "%" in text or _SCIENTIFIC.search(text):
        return None
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text.replace(r"\{", r"\lbrace ").replace(r"\}", r"\rbrace "))
    text = _BARE_SCRIPT.sub(r"\1{\2}", text)
    braced = _braced(_NAME.sub(lambda name: f"\\{name.group()} ", text))
    if (
        braced is None
        or _AMBIGUOUS.search(braced)
        or not _known(_ENVIRONMENT.sub("", braced))
        or not _bounded(braced)
    ):
        return None
    text = re.sub(r"\\[lr]brace ?", lambda brace: r"\{" if brace.group()[1] == "l" else r"\}", braced)
    return _DECIMAL.sub(_exact, text).strip() or None


def _known(text: str) -> bool:
    """Only commands of the list, single letters and plain signs."""
    return (
        all(name in _COMMANDS for name in _COMMAND.findall(text))
        and not _WORD.search(_COMMAND.sub(" ", text))
        and not _ODD.search(text)
    )


def _bounded(text: str) -> bool:
    """No long number, large factorial or binomial, tower of powers or large matrix."""
    numbers = re.findall(r"\d+", text)
    if any(len(digits) > MAXIMUM_DIGITS for digits in numbers):
        return False
    if "binom" in text and any(int(digits) > MAXIMUM_EXPONENT for digits in numbers):
        return False
    if text.count("&") + text.count(r"\\") > MAXIMUM_ELEMENTS or _TOWER.search(text):
        return False
    if _NESTED_FACTORIAL.search(text) or any(int(n) > MAXIMUM_FACTORIAL for n in _FACTORIAL.findall(text)):
        return False
    for power in _POWER.finditer(text):
        exponent = power.group(1) or ""
        if exponent and (
            not power.group(2) or "^" in exponent or "!" in exponent
        ):  # braces within, 3^{2^9}, 3^{9!}
            return False
        if any(int(number) > MAXIMUM_EXPONENT for number in re.findall(r"\d+", exponent)):
            return False
    return True


def _braced(text: str) -> str | None:
    r"""`sqrt(x)`, `root(3,x)`, `x^(2)` as `\sqrt{x}`, `\sqrt[3]{x}`, `x^{2}`; None where brackets do not match or nest deep."""
    open_ones: list[tuple[str, str]] = []  # what may close a bracket, and what to write for it ("": itself)
    made: list[str] = []
    position = 0
    while match := _BRACKET.search(text, position):
        made.append(text[position : match.start()])
        position = match.end()
        command, opener, closer = match.group(1) or "", match.group(2), match.group(3)
        if closer:
            allowed, instead = open_ones.pop() if open_ones else ("", "")
            if closer not in allowed:
                return None
            made.append(instead or closer)
        elif not opener:  # a command or an escaped sign
            made.append(match.group())
        elif opener == "(" and command:
            degree = _DEGREE.match(text, position) if command == "root" else None
            if command == "root" and not degree:
                return None
            position = degree.end() if degree else position
            made.append(
                ("^" if command == "^" else rf"\sqrt[{degree.group(1)}]" if degree else r"\sqrt") + "{"
            )
            open_ones.append((")", "}"))
        else:
            made.append((r"\sqrt" if command.endswith("sqrt") else command) + opener)
            open_ones.append(("}" if opener == "{" else ")]", ""))  # (0,1] is an interval
        if len(open_ones) > MAXIMUM_DEPTH:
            return None
    return None if open_ones else "".join([*made, text[position:]])


def _exact(match: re.Match[str]) -> str:
    whole, decimals = match.groups()
    return rf"\frac{{{(whole + decimals).lstrip('0') or '0'}}}{{{10 ** len(decimals)}}}"


# -------------------------------------------------------------------------------------------------------- comparison
def compare(answer: str, gold: str) -> tuple[str, str]:
    """(status, reason) for two strings of `readable`. Unbounded in time and memory: only for a worker of a pool."""
    first, second = _parsed(answer), _parsed(gold)
    if first is None or second is None:
        return "wrong", f"{NAME} cannot read it"
    from math_verify import verify

    settings: dict[str, Any] = {
        "timeout_seconds": None,
        "numeric_precision": 50,
        "allow_set_relation_comp": True,
    }
    if verify(second, first, **settings) or verify(first, second, **settings):
        return "correct", f"same value ({NAME})"
    return "wrong", f"{NAME} agrees"


@lru_cache(maxsize=1024)
def _parsed(text: str):
    """The whole text as a sympy expression; None when its grammar does not take all of it."""
    from latex2sympy2_extended import latex2sympy

    try:
        return latex2sympy(
            text, is_real=not re.search(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", text), normalization_config=None
        )
    except MemoryError:
        raise
    except Exception:  # its grammar raises plain exceptions
        return None
