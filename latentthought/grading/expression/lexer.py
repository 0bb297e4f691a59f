"""Tokens of an answer: one regular expression over normalised text or raw LaTeX, linear in its length.

The hard part of reading answers is letters: `xy` is a product, `AB` a segment, `pi` one constant, `xsqrt(2)` a product with a
root, and `cat` a word. A run of letters is looked up whole, then cut into known names and single letters, and is a word where
neither says anything (`read_letters`); a word standing alone is more readily one than between signs.
Rejected: one symbol per run (`xy` and `yx` would differ), one symbol per letter (`dog` and `god` would be the same).
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from latentthought.grading.expression.phrases import signs_for_words
from latentthought.grading.expression.tree import Literal
from latentthought.grading.expression.vocabulary import (
    BASES,
    CALLED,
    COMMANDS,
    EMBEDDED,
    LONE_WORDS,
    NAMES,
    SIGNS,
    VARIABLES,
)

MAXIMUM_LENGTH = 2000
MAXIMUM_DIGITS = 400
MAXIMUM_EXPONENT = 300


class ParseError(ValueError):
    """A text is no answer that the grammar knows, or is beyond its limits; the message says which, and where."""


class Token(NamedTuple):
    """kind: the sign itself, or `number`, `symbol`, `function`, ...; value: what it means; spaced: a space stood before it;
    start, end: its characters in the text."""

    kind: str
    value: Any
    spaced: bool
    start: int
    end: int


_STYLE = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|mathcal|mbox|hbox|operatorname\*?|boldsymbol|bm"
    r"|vec|overrightarrow|hat|widehat|tilde|boxed|fbox)\s?\{([^{}]*)\}"
)
_SIZED_BAR = re.compile(r"\\(left|right)\s?(?:\||\\[lr]?vert(?![a-zA-Z]))")
_SIZE = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|bf|rm|vec|angle|triangle)(?![a-zA-Z])\.?"
)
_PHANTOM = re.compile(r"\\[hv]?phantom ?(?:\{[^{}]*\}|.)")
_SHORT_FRACTION = re.compile(r"(\\[dtc]?frac) ?(\d)(?: ?(\d))?")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,\\!)(?=\d{3}(?!\d))")
_COMBINATIONS = re.compile(r"(?:\{ ?\})? ?[_^] ?\{? ?(\d+) ?\}? ?C ?_ ?\{? ?(\d+) ?\}?")
_NOT_EQUAL = re.compile(r"\\not ?=")
_ALIGNED = re.compile(r"& ?(?=[=<>]|\\[lg]eq?(?![a-zA-Z]))")  # x &= 2
_TOKEN = re.compile(
    r"""
    (?P<space>(?:[\s~$€£¥₹]|\\[,;:!\ $])+)
  | (?P<repeating>\d*\.(?P<fixed>\d*)\\(?:overline|bar|dot)\ ?\{\ ?(?P<period>\d+)\ ?\})
  | (?P<endless>\d*\.\d+(?:\.\.\.+|…|\\[lc]?dots(?![a-zA-Z])))
  | (?P<based>(?P<digits>[A-F]{0,20}\d[0-9A-F]*(?:\.[0-9A-F]+)?)\ ?_\ ?(?P<base>\d+|\{\ ?\w+\ ?\}|\(\ ?\w+\ ?\)))
  | (?P<dots>\.\.\.+|…|\\[lc]?dots(?![a-zA-Z]))
  | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<degrees>\^?\ ?\{?\ ?\\(?:circ|degree)(?![a-zA-Z])\ ?\}?)
  | (?P<prime>\^\ ?\{?\ ?\\prime\ ?\}?|')
  | (?P<field>\\(?:mathbb|Bbb)\ ?\{?\ ?(?P<field_letter>[RZNQC])\ ?\}?)
  | \\(?P<edge>begin|end)\ ?\{\ ?(?P<matrix>[a-zA-Z]+\*?)\ ?\}(?:\ ?\{[clr|\ ]+\})?
  | \\(?P<command>[a-zA-Z]+)
  | (?P<letters>[^\W\d_]+)
  | (?P<sign>\\\\|\\[{}|%&]|\*\*|<=|>=|=<|!=|==|\+/-|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?")
_LONGEST_ENDLESS = 40
# one digit three times, or twice where it is all there is; several digits twice
_PERIOD = re.compile(r"(\d*?)(?:(\d)\2\2+|(?<!\d)(\d)\3+|(\d{2,12}?)\4+)")
_MATRICES = frozenset(["pmatrix", "bmatrix", "vmatrix", "matrix", "array", "Bmatrix", "smallmatrix"])


def prepare(text: str) -> str:
    """The text that `tokenize` reads and its positions count in: styles, sizes and short fractions written out."""
    if len(text) > MAXIMUM_LENGTH:
        raise ParseError(f"longer than {MAXIMUM_LENGTH} characters")
    text = signs_for_words(" ".join(text.split()))
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip()
    if "{," in text or ",\\!" in text:
        text = _THOUSANDS.sub("", text)
    if "C" in text and "_" in text:
        text = _COMBINATIONS.sub(r"\\binom{\1}{\2}", text)
    if "\\" in text:
        if "phantom" in text:
            text = _PHANTOM.sub(" ", text)
        for _ in range(4):
            text, count = _STYLE.subn(r" \1 ", text)
            if not count:
                break
        text = _ALIGNED.sub(" ", text)
        text = _SIZED_BAR.sub(lambda m: r"\lvert " if m.group(1) == "left" else r"\rvert ", text)
        text = _NOT_EQUAL.sub(r"\\ne ", _SIZE.sub(" ", text))
        text = _SHORT_FRACTION.sub(lambda m: f"{m[1]}{{{m[2]}}}" + (f"{{{m[3]}}}" if m[3] else ""), text)
        text = " ".join(text.split())
    return text


def tokenize(text: str) -> list[Token]:
    """Tokens of a prepared text, ended by one of kind `eof`."""
    tokens: list[Token] = []
    spaced, position, length = False, 0, len(text)
    while position < length:
        match = _TOKEN.match(text, position)
        assert match is not None  # the last alternative is any character
        group, start, end = match.lastgroup, position, match.end()
        if group == "space":
            spaced, position = True, end
            continue
        if group == "number":
            tokens.append(Token("number", _literal(match.group()), spaced, start, end))
        elif group == "sign":
            sign = match.group()
            known = SIGNS.get(sign)
            if known is None:
                raise ParseError(f"unexpected {sign!r} at {start}")
            tokens.append(Token(known[0], known[1], spaced, start, end))
        elif group == "letters":
            read_letters(tokens, text, start, end, spaced)
        elif group == "command":
            end = _command(tokens, text, match, spaced)
        else:
            end = _compound(tokens, text, match, spaced)
        spaced, position = False, end
    tokens.append(Token("eof", None, spaced, length, length))
    return tokens


def _literal(written: str) -> Literal:
    match = _NUMBER.fullmatch(written)
    assert match is not None
    whole, after, power = match.group(1), match.group(2) or "", match.group(3)
    if len(whole) + len(after) > MAXIMUM_DIGITS:
        raise ParseError(f"a number of more than {MAXIMUM_DIGITS} digits")
    if power is None:
        if not after:
            return Literal(Fraction(int(whole)))
        return Literal(Fraction(int(whole + after), 10 ** len(after)), len(after))
    if len(power) > 8 or abs(int(power)) > MAXIMUM_EXPONENT:
        raise ParseError(f"an exponent beyond {MAXIMUM_EXPONENT}")
    exponent = int(power)
    value = Fraction(int(whole + after), 10 ** len(after)) * Fraction(10) ** exponent
    return Literal(value, max(len(after) - exponent, 0) if after or exponent < 0 else None)


def _repeating(whole: str, fixed: str, period: str) -> Literal:
    """`whole.fixed(period)` without end."""
    if len(whole) + len(fixed) + len(period) > MAXIMUM_DIGITS:
        raise ParseError(f"a number of more than {MAXIMUM_DIGITS} digits")
    tail = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
    return Literal(Fraction(int((whole or "0") + fixed), 10 ** len(fixed)) + tail)


def _endless(written: str) -> Literal:
    """`0.333...`, `0.1666...` and `0.1212...` repeat; `3.14159...` is as good as its digits."""
    whole, _, after = written.partition(".")
    match = _PERIOD.fullmatch(after) if len(after) <= _LONGEST_ENDLESS else None
    return _repeating(whole, match[1], match[2] or match[3] or match[4]) if match else _literal(written)


def _compound(tokens: list[Token], text: str, match: re.Match[str], spaced: bool) -> int:
    """Repeating decimals, dots, numbers with a base, degrees, primes, number sets, edges of matrices."""
    start, end = match.span()
    if match["endless"]:
        tokens.append(Token("number", _endless(match["endless"].rstrip(".…\\lcdots")), spaced, start, end))
    elif match["repeating"]:
        whole = match["repeating"].partition(".")[0]
        tokens.append(Token("number", _repeating(whole, match["fixed"], match["period"]), spaced, start, end))
    elif match["based"]:
        name = match["base"].strip("{}() ")
        base = int(name) if name.isdecimal() and len(name) < 3 else BASES.get(name, 0)
        digits = match["digits"]
        is_base = 2 <= base <= 36
        if len(digits) > MAXIMUM_DIGITS or not (is_base or digits[-1].isalpha()):
            raise ParseError(f"no number in base {name}")
        if (
            not is_base or max(int(digit, 36) for digit in digits if digit != ".") >= base
        ):  # 3A_1 is a product
            end = start + 1
            while digits[0].isdigit() and end < match.end("digits") and text[end].isdigit():
                end += 1
            if digits[0].isdigit():
                tokens.append(Token("number", _literal(text[start:end]), spaced, start, end))
            else:
                tokens.append(Token("symbol", digits[0], spaced, start, end))
        else:
            tokens.append(Token("based", (digits, base), spaced, start, end))
    elif match["degrees"]:
        tokens.append(Token("degrees", None, spaced, start, end))
    elif match["dots"]:
        tokens.append(Token("word", "...", spaced, start, end))
    elif match["prime"]:
        tokens.append(Token("prime", None, spaced, start, end))
    elif match["field"]:
        tokens.append(Token("set", match["field_letter"], spaced, start, end))
    else:
        if match["matrix"].rstrip("*") not in _MATRICES:
            raise ParseError(f"unknown environment {match['matrix']!r}")
        tokens.append(Token(match["edge"], match["matrix"].rstrip("*"), spaced, start, end))
    return end


def _command(tokens: list[Token], text: str, match: re.Match[str], spaced: bool) -> int:
    """A LaTeX command; `\\pisqrt` is `\\pi` and what follows."""
    name, start = match["command"], match.start()
    for length in range(len(name), 1, -1):
        known = COMMANDS.get(name[:length])
        if known is not None and (length == len(name) or name[length:] in NAMES):
            tokens.append(Token(known[0], known[1], spaced, start, start + 1 + length))
            return start + 1 + length
    raise ParseError(f"unknown command \\{name}")


# ------------------------------------------------------------------------------------------------------------- letters
def read_letters(tokens: list[Token], text: str, start: int, end: int, spaced: bool) -> None:
    """Adds the tokens of one run of letters: a known name, a product of names and letters, or a word."""
    run = text[start:end]
    known = NAMES.get(run) or (NAMES.get(run.lower()) if len(run) > 1 else None)
    if known is not None:
        tokens.append(Token(known[0], known[1], spaced, start, end))
    elif len(run) == 1 or (run.isupper() and run.isascii()):
        tokens.append(Token("symbol", run, spaced, start, end))
    else:
        parts = None if _is_word(run, _is_lone(tokens, text, end)) else _cut(run)
        if parts is None:
            tokens.append(Token("word", run, spaced, start, end))
            return
        for part in parts:
            kind, value = NAMES.get(part) or ("symbol", part)
            tokens.append(Token(kind, value, spaced, start, start + len(part)))
            start, spaced = start + len(part), False


def _is_lone(tokens: list[Token], text: str, end: int) -> bool:
    """Whether nothing but separators, brackets and other words stand beside a run of letters."""
    before = tokens[-1].kind if tokens else "separator"
    if before not in ("separator", "(", "[", "{", "\\{", "word"):
        return False
    after = text[end : end + 2].lstrip()[:1]
    return not after or after.isalpha() or after in ",;)]}"


def _is_word(run: str, lone: bool) -> bool:
    if not run.isascii():
        return True
    if len(run) == 2:
        return lone and run.lower() in LONE_WORDS
    letters = VARIABLES.issuperset(run)
    if lone:
        return not (
            letters and len(run) <= 5 and all(a < b for a, b in pairwise(run))
        ) and not CALLED.fullmatch(run)
    return not (len(run) <= 4 and letters) and not EMBEDDED.search(run)


def _cut(run: str) -> list[str] | None:
    """Known names and single letters, left to right; None when more than four letters are left over beside a name."""
    parts, position = [], 0
    for match in EMBEDDED.finditer(run):
        parts += [*run[position : match.start()], match.group()]
        position = match.end()
    parts += run[position:]
    single = sum(len(part) == 1 for part in parts)
    return parts if single <= (2 if single < len(parts) else 5) else None
