"""Sets said in words, as the signs they stand for: `all real numbers except 0 and 1` is `R \\setminus \\{0, 1\\}`."""

from __future__ import annotations

import re

_REALS = r"(?:[xyt] (?:can be |may be |is |= ))?(?:all |any |every |the )*(?:real numbers?|reals?|real values)(?: (?:of )?[xyt])?"
_EXCEPT = re.compile(
    rf"{_REALS},? (?:except|excluding|but|other than|(?:that are )?not equal to|not|\\ne)(?: for| when)?"
    r" (?:[xyt] ?= ?)?(?P<gone>.+)",
    re.IGNORECASE,
)
_SUCH_THAT = re.compile(rf"{_REALS},? (?:such that|where|with|for which) (?P<condition>.+)", re.IGNORECASE)
_COMPARED = re.compile(rf"{_REALS},? (?P<sign>[a-z ]+?) (?P<bound>[^a-z ]\S*)", re.IGNORECASE)
_SIGNS = {
    "greater than": ">",
    "more than": ">",
    "larger than": ">",
    "less than": "<",
    "smaller than": "<",
    "at least": ">=",
    "greater than or equal to": ">=",
    "at most": "<=",
    "less than or equal to": "<=",
}


def says_a_set(text: str) -> bool:
    """Whether all of a normalised text says a set of real numbers by naming those that are in it or not."""
    return signs_for_words(text) != text


def signs_for_words(text: str) -> str:
    """The text in signs where all of it says a set of real numbers; any other text as it is."""
    if "real" not in text[:40].lower():
        return text
    if match := _EXCEPT.fullmatch(text):
        return rf"R \setminus \{{{match['gone']}\}}"
    if match := _SUCH_THAT.fullmatch(text):
        return match["condition"]
    match = _COMPARED.fullmatch(text)
    words = match["sign"].lower().removeprefix("that are ") if match else ""
    return f"x {_SIGNS[words]} {match['bound']}" if match and words in _SIGNS else text
