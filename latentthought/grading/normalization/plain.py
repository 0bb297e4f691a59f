"""One form for one answer: unicode signs, LaTeX decoration, number words, spacing, all as plain text.

`normalize` gives a readable plain form (`\\dfrac{3}{4}\\text{ cm}` -> `3/4 cm`), `key` the form two texts are compared in
(no spaces, case, articles or accents). Every pass is linear; passes are repeated until nothing changes, so that a second
`normalize` changes nothing, and a text that does not settle in a few passes is left as it was written.
Rejected: taking units off here (whether `5 cm` is 5 is a question of policy), and lower case (`x` and `X` are two variables).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from latentthought.grading.normalization.characters import plain_characters
from latentthought.grading.normalization.environments import joined_lines
from latentthought.grading.normalization.latex import plain_latex
from latentthought.grading.normalization.words import BOOLEANS, SHORT_NAMES, digits_for_words, without_value

_CACHED_LENGTH = 2000  # longer texts are not kept, or a cache of megabytes would grow to gigabytes
_LONGEST_ANSWER = 20_000  # longer texts are no answers, and one character of them may stand for eighteen: only spaces are joined
_PASSES = 6

# not after a bracket or a slash: (1,234) is a point, [-36,104] an interval, and 3/5,117/125 two fractions
_THOUSANDS = re.compile(r"(?<![\d.,/(\[{])(?<![(\[{]-)(\d{1,3})((?:,\d{3})+)(?!\d|,\d)")
_MARKED_THOUSANDS = re.compile(r"(?<![\d.])(\d{1,3})((?:(?:\{,\}|,? ?\\[!,]|\\ |\\;|~) ?\d{3})+)(?!\d)")
_REMOVED = re.compile(r"(?<=[RZNQC})]) ?\\ (?=\\?\{ ?-?[\d\\])")  # R \ {3}: no space, but a stroke
_INLINE_MATH = re.compile(r"(?<!\\)\$(?=[^\s$])([^$]*)(?<=[^\s\\])\$(?!\d)")
_PLAIN_COMMAND = re.compile(r"(?<![\\A-Za-z])(sqrt|[dt]?frac)(?=\{)")
# between two values: 3 或 5, x=3 ou x=5
_CONJUNCTION = re.compile(
    r"(?<=[\d)}\]]) ?(?:(\b(?:ou|oder)\b|或者|或|أو|या)|\b(?:et|und)\b|和|与|及|و|और) ?(?=[-\d(\[\\]|[A-Za-z] ?=)"
)
_CLOCK = re.compile(r"(\d) ?([ap])(?:\.? ?m\.|m)(?![A-Za-z])", re.IGNORECASE)
_PERCENT = re.compile(
    r"(?<=[\d)]) ?(?:percent|per ?cent|pct|pour ?cent|por ?ciento|Prozent|प्रतिशत|بالمئة|بالمائة|في المئة|процент\w*|%)"
    r"(?![A-Za-z])",
    re.IGNORECASE,
)
_BASE_NAMES = "two three four five six seven eight nine ten eleven twelve"
_BASE_WORDS = {name: str(value) for value, name in enumerate(_BASE_NAMES.split(), 2)}
_BASE_WORDS["sixteen"] = "16"
_BASE_WORD = re.compile(rf"_\(?({'|'.join(_BASE_WORDS)})\)?(?![a-z])", re.IGNORECASE)
_BASE = re.compile(r"\(?\b([0-9A-F]+)\)? ?\(?(?:in |to )?base[ -]?(\d+)\b\)?", re.IGNORECASE)
_BASE_PARENTHESES = re.compile(r"(?<![\w)])\(([0-9A-F]+)\)(?=_\d)|(?<=_)\((\d+)\)(?![\w(])")
_LEADING = re.compile(
    r"(?:[-=]+>|\\(?:to|Rightarrow|therefore)\b|[=:]"
    r"|(?:about|approximately|around|roughly|nearly|at|approx\.?|\\approx|~|≈)(?= ?[-+$€£¥₹\\(.\d])) *",
    re.IGNORECASE,
)
# 0.333... and 0.\dot{1}4285\dot{7}
_ENDLESS = re.compile(r"(?<![\d.])(\d{0,20}\.)(\d{2,60}) ?\.\.\.(?!\.)")
_DOTTED = re.compile(
    r"(?<=\.)(\d*)\\(?:dot|bar|overline) {0,3}\{?(\d)\}?(?:(\d*)\\dot {0,3}\{?(\d)\}?)?(?!\d)"
)
_OUT_OF = re.compile(r"(\d+) out of (?:the |every )?(\d+)")
_LETTERS = re.compile(r"[A-Za-z]{2}|\d ?[A-Za-z]|_")
_QUOTED = re.compile(r"([\"'])([^\"]*)\1|\*\*([^*]+)\*\*|__([^_]+)__")


def normalize(text: str) -> str:
    """The plain, readable form of an answer; a second application changes nothing. Never raises."""
    if text.isascii() and text.isdigit():
        return text
    return _normalized(text) if len(text) <= _CACHED_LENGTH else _settled(text)


def _settled(text: str) -> str:
    if len(text) > _LONGEST_ANSWER:
        return " ".join(text.split())
    before = text
    for _ in range(_PASSES):
        after = _pass(before)
        if after == before:
            return after
        before = after
    return " ".join(plain_characters(text).split())


_normalized = lru_cache(maxsize=8192)(_settled)


def _pass(text: str) -> str:
    text = _unwrapped(" ".join(plain_characters(text).split()))
    if "\\begin" in text:
        text = joined_lines(text)
    if "\\" in text or "{" in text or "~" in text:
        text = _REMOVED.sub(r" \\setminus ", text)
        text = _MARKED_THOUSANDS.sub(_without_separators, text)
        text = plain_latex(_PLAIN_COMMAND.sub(r"\\\1", text))
        if ".\\" in text or "\\dot" in text:
            text = _DOTTED.sub(
                lambda match: rf"{match.group(1)}\overline{{{''.join(match.groups('')[1:])}}}", text
            )
    if "," in text:
        text = _THOUSANDS.sub(_without_separators, text)
    text = " ".join(text.split())
    if not text.isascii() or _LETTERS.search(text):
        text = _plain_words(text)
    elif "%" in text:
        text = _PERCENT.sub("%", text)
    if text.endswith((".", ",", ";", "?")) and not text.endswith(".."):
        text = text[:-1].rstrip()
    if "..." in text:
        text = _ENDLESS.sub(_endless, text)
    leading = _LEADING.match(text)
    return text[leading.end() :] if leading and leading.end() < len(text) else text


def _plain_words(text: str) -> str:
    """Number words, times of day, percent and bases in one spelling."""
    text = without_value(text) or digits_for_words(text)
    text = _CONJUNCTION.sub(lambda match: " or " if match.group(1) else " and ", text)
    text = _CLOCK.sub(lambda match: f"{match.group(1)} {match.group(2).upper()}M", text)
    text = _PERCENT.sub("%", text)
    if share := _OUT_OF.fullmatch(text):
        text = f"{share.group(1)}/{share.group(2)}"
    if "_" in text or "base" in text.lower():
        text = _BASE_WORD.sub(lambda match: "_" + _BASE_WORDS[match.group(1).lower()], text)
        text = _BASE.sub(r"\1_\2", text)
        text = _BASE_PARENTHESES.sub(lambda match: match.group(1) or match.group(2), text)
    return text


def _without_separators(match: re.Match[str]) -> str:
    return match.group(1) + "".join(filter(str.isdigit, match.group(2)))


def _endless(match: re.Match[str]) -> str:
    """`0.1666...` -> `0.1\\overline{6}`; digits that show no period (`3.14159...`) are those of a rounded number."""
    whole, digits = match.groups()
    for length in range(1, len(digits) // 2 + 1):
        period, times = digits[-length:], 1
        while digits.endswith(period * (times + 1)):
            times += 1
        before = digits[: len(digits) - times * length]
        if times >= 3 or (times == 2 and not before):  # twice is chance: 2.7 1828 1828 ...
            return rf"{whole}{before}\overline{{{period}}}"
    return whole + digits


def _unwrapped(text: str) -> str:
    """Without the marks of math mode and quotation: `$5$` -> `5`, `\\(x\\)` -> `x`, `"dog"` -> `dog`; a price `$5` stays."""
    quoted = _QUOTED.fullmatch(text) if text[:1] in "\"'*_" else None
    if quoted:
        text = (quoted.group(2) or quoted.group(3) or quoted.group(4) or text).strip()
    for opening, closing in (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")):
        inner = text.rstrip(".")
        if len(inner) > len(opening) + len(closing) and inner.startswith(opening) and inner.endswith(closing):
            inside = inner[len(opening) : -len(closing)]
            if closing not in inside and not inside.endswith("\\"):
                return inside.strip()
    return _INLINE_MATH.sub(r"\1", text) if text.count("$") > 1 else text


# ---------------------------------------------------------------------------------------------- the text compared
_TIMES_SIGN = re.compile(r"(?<=[\w)])\*(?=[A-Za-z\\(])")
_WORDS_ONLY = re.compile(
    r"[^\W\d_](?:[^\W\d_]|[\s'’\"\-.,!?;:&]|[\u0300-\u036f\u064b-\u0652\u0900-\u097f])*+"
)
_ARTICLE = re.compile(r"(?:(?:on|in|at|by)\s+)?(?:the|an?)\s+(?=[^\W\d_]{2})|(?:on|in|at)\s+(?=[^\W\d_]{3})")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{3})-(?=[^\W\d_])|(?<=[^\W\d_])-(?=[^\W\d_]{3})")
_INITIALS = re.compile(r"(?<=\b[^\W\d_])\.")
_MARKS = re.compile("[\u0300-\u036f\u064b-\u0652]")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
_SHORT_NAME = re.compile(rf"\b({'|'.join(SHORT_NAMES)})\b\.?")
_TIME = re.compile(r"\b(\d{1,2})(?::(\d\d))? ([ap])m\b")
_DIGIT = re.compile(r"\d")
_FACTORIAL = re.compile(r"[a-z]!+")  # n! is no exclamation
_GAP = re.compile(r"(?<=\d) (?=\d)")


def key(text: str) -> str:
    """The form in which two answers are compared as texts: no spaces, case, sentence end, leading article or accents."""
    return _key(text) if len(text) <= _CACHED_LENGTH else _compared(text)


def _compared(text: str) -> str:
    text = normalize(text)
    if text.isdigit() or _FACTORIAL.fullmatch(text):
        return text
    text = text.lower()
    if not text.isascii():
        text = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text)))
    if _WORDS_ONLY.fullmatch(text):
        text = (
            _ARTICLE.sub("", text.strip(" .,!?;:\"'"), count=1)
            if _ARTICLE.match(text)
            else text.strip(" .,!?;:\"'")
        )
        text = _INITIALS.sub("", _HYPHEN.sub("", text))
        text = BOOLEANS.get(text, text)
    text = _SHORT_NAME.sub(lambda match: SHORT_NAMES[match.group(1)], text)
    if _DIGIT.search(text):
        text = _TIME.sub(_time, _ORDINAL.sub("", text))
        text = _GAP.sub("\x1f", text)  # 1 1/2 is not 11/2
    text = "".join(text.replace("{", "(").replace("}", ")").replace('"', "").split(" "))
    return _TIMES_SIGN.sub("", text).rstrip(".;,")


_key = lru_cache(maxsize=8192)(_compared)


def _time(match: re.Match[str]) -> str:
    """`2 pm` -> `14:00`, `11:30 am` -> `11:30am`."""
    hour, minute = int(match.group(1)), match.group(2) or "00"
    if match.group(3) == "p" and hour < 12:
        return f"{hour + 12}:{minute}"
    return f"{hour}:{minute}{match.group(3)}m"
