"""One form for one answer: unicode signs, LaTeX decoration, spacing and units, all as plain text.

`normalize` gives a readable plain form (`\\dfrac{3}{4}\\text{ cm}` -> `3/4 cm`), `key` the form two texts are compared in
(no spaces, no case). Braces are rewritten from the inside out, a bounded number of times; every pass is linear.
Rejected: a LaTeX parser (model text is seldom whole LaTeX), and `latex2sympy`, which hangs on some of it.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_NESTING = 12  # of fractions, roots and text commands; deeper ones stay as they are

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "﹣": "-", "‐": "-", "‑": "-", "×": "*", "⋅": "*", "·": "*", "∗": "*", "÷": "/", "∕": "/",
        "⁄": "/", "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ",
        "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "∈": r"\in ", "°": r"^\circ ", "º": r"^\circ ", "’": "'", "‘": "'",
        "“": '"', "”": '"', "、": ", ", "，": ", ", "。": ".", "：": ":", "；": ";", "（": "(", "）": ")", "٫": ".", "٬": ",",
        "％": "%", "٪": "%", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ",
        "½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4", "⅕": " 1/5", "⅖": " 2/5", "⅗": " 3/5", "⅘": " 4/5",
        "⅙": " 1/6", "⅚": " 5/6", "⅛": " 1/8", "⅜": " 3/8", "⅝": " 5/8", "⅞": " 7/8",
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")

_SPACING = re.compile(
    r"\\(?:[,;:! ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z])|thinspace(?![a-zA-Z])|displaystyle(?![a-zA-Z]))|~|&nbsp;"
)
_DELIMITER_SIZE = re.compile(r"\\(?:left|right|big[lr]?|Big[lr]?|bigg[lr]?|Bigg[lr]?)(?![a-zA-Z])\.?")
_DEGREES = re.compile(r"\^?\s*\{?\s*\\(?:circ|degree)(?![a-zA-Z])\s*\}?")
# not after a bracket or a slash: (1,234) is a point, and 3/5,117/125 two fractions
_THOUSANDS = re.compile(r"(?<![\d.,/(\[])(\d{1,3})((?:(?:,|\{,\}|\\,|, ?\\! ?|\\ )\d{3})+)(?!\d)")
_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mbox|mathrm|mathbf|mathit|mathsf|operatorname|boxed|fbox|hbox|bf|rm)\s*\{([^{}]*)\}"
)
_FRACTION = re.compile(
    r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\\[a-zA-Z]+|\w))\s*(?:\{([^{}]*)\}|(\\[a-zA-Z]+|\w))"
)
_ROOT = re.compile(r"\\sqrt\s*(?:\[([^\[\]{}]*)\])?\s*(?:\{([^{}]*)\}|(\\[a-zA-Z]+|\w))")
_POWER = re.compile(r"([\^_]) ?\{ ?([^{}]*?) ?\}(?!\w)|([\^_]) ?\{([^{}]*)\}")
_RELATIONS = {
    r"\leq": r"\le",
    r"\geq": r"\ge",
    r"\neq": r"\ne",
    r"\lt": "<",
    r"\gt": ">",
    r"\times": "*",
    r"\cdot": "*",
    r"\div": "/",
    r"\varnothing": r"\emptyset",
    r"\lbrace": r"\{",
    r"\rbrace": r"\}",
    **{f"\\{mark}": mark for mark in "$%#&"},
}
_RELATION = re.compile(
    r"\\(?:leq|geq|neq|times|cdot|div|lt|gt|varnothing|lbrace|rbrace)(?![a-zA-Z])|\\[$%#&]"
)
_WORDS = {
    word: str(value)
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
}


@lru_cache(maxsize=8192)
def normalize(text: str) -> str:
    """The plain, readable form of an answer; a second application changes nothing."""
    if text.isascii() and text.isdigit():
        return text
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run.group().translate(_SUPERSCRIPTS) + "}", text)
    text = unicodedata.normalize("NFKC", text.translate(_UNICODE))
    if not text.isascii():
        text = "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in text)
    text = _strip_dollars(" ".join(text.split()))
    if "\\" in text or "{" in text or "~" in text:
        text = _plain_latex(text)
    text = _THOUSANDS.sub(lambda m: m.group(1) + re.sub(r"\D", "", m.group(2)), text)
    text = " ".join(text.split())
    text = text.removesuffix(".") if not text.endswith("..") else text
    return _WORDS.get(text.lower(), text)


def _strip_dollars(text: str) -> str:
    """Without the marks of math mode around it: `$5$` -> `5`, `\\(x\\)` -> `x`; a price `$5` stays."""
    for opening, closing in (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")):
        inner = text.rstrip(".")
        if len(inner) > len(opening) + len(closing) and inner.startswith(opening) and inner.endswith(closing):
            return inner[len(opening) : -len(closing)].strip()
    return text


def _plain_latex(text: str) -> str:
    # a line break of a matrix is not a backslash before something
    text = text.replace("\\\\", "\x03")
    text = _THOUSANDS.sub(lambda m: m.group(1) + re.sub(r"\D", "", m.group(2)), text)
    text = _DELIMITER_SIZE.sub("", text)
    text = _SPACING.sub(lambda m: "" if m.group() == r"\!" else " ", text)
    text = " ".join(text.split())  # runs of spaces would make the patterns below quadratic
    text = _DEGREES.sub(" degrees ", text)
    text = _RELATION.sub(lambda m: _RELATIONS[m.group()] + " " * m.group()[-1].isalpha(), text)
    # an escaped brace is a set's, and must not count in the matching below
    text = text.replace("\\{", "\x01").replace("\\}", "\x02")
    for _ in range(_NESTING):
        before = text
        text = _WRAPPED.sub(
            lambda m: m.group(1) if m.group(1)[:1].isspace() else " " + m.group(1) + " ", text
        )
        text = _POWER.sub(_plain_power, text)
        text = _ROOT.sub(_plain_root, text)
        text = _FRACTION.sub(_plain_fraction, text)
        if text == before:
            break
    return text.replace("\x01", "\\{").replace("\x02", "\\}").replace("\x03", "\\\\")


def _atom(text: str) -> str:
    """The text, in parentheses unless it is one number, name or call."""
    text = text.strip()
    return text if re.fullmatch(r"[-+]?\d+(?:\.\d+)?|\\?\w+", text) else f"({text})"


def _plain_fraction(match: re.Match[str]) -> str:
    top, bottom = (match.group(1) or match.group(2) or ""), (match.group(3) or match.group(4) or "")
    fraction = f"{_atom(top)}/{_atom(bottom)}"
    before = match.string[: match.start()][-1:]
    # 3\frac{1}{2} is a mixed number, x\frac{1}{2} a product
    return f" {fraction}" if before.isdigit() else fraction


def _plain_power(match: re.Match[str]) -> str:
    """`x^{2}` -> `x^2`, `x^{a+b}` -> `x^(a+b)`; `x^{2}3` keeps the two numbers apart."""
    mark, inside = match.group(1) or match.group(3), match.group(2) or match.group(4) or ""
    return mark + (inside if match.group(1) and re.fullmatch(r"-?\d+|\w", inside) else f"({inside})")


def _plain_root(match: re.Match[str]) -> str:
    degree, inside = match.group(1), match.group(2) if match.group(2) is not None else match.group(3)
    return f"root({degree.strip()},{inside.strip()})" if degree else f"sqrt({inside.strip()})"


_TIMES_SIGN = re.compile(r"(?<=[\w)])\*(?=[A-Za-z\\(])|^[\"']|[\"']$")
_BOOLEANS = {"yes": "true", "no": "false"}


@lru_cache(maxsize=8192)
def key(text: str) -> str:
    """The form in which two normalised answers are compared as texts: no spaces, case or sentence end."""
    text = "".join(normalize(text).replace("{", "(").replace("}", ")").split())
    text = _TIMES_SIGN.sub("", text).lower().rstrip(".!;,")
    return _BOOLEANS.get(text, text)
