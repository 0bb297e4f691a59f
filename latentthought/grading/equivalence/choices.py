"""Which option of a multiple-choice question an answer names: by letter, by text, or by both.

A letter counts only where it stands as one (`B`, `(B)`, `b)`, `B. 25`, `option B`): a lone lower-case letter is a variable
unless options are given. An answer that names several options names none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from latentthought.grading.normalization.plain import key, normalize
from latentthought.grading.policy import GradePolicy

_LABEL = re.compile(r"\s*(?:\(\s*)?([A-Ja-j])\s?[).:]\s*")
_LETTER = re.compile(
    r"(?:option|choice|answer)?\s*(?:\(\s*)?([A-Ja-j])\s*(?:\)\s*)?(?:[).:,-]\s*(.*))?", re.DOTALL
)
_LETTER_ONLY = re.compile(r"\(?\s*([A-J])\s*\)?[.:]?")


def same_text(a: str, b: str) -> bool:
    """Whether two answers are the same as texts."""
    return key(a) == key(b) != ""


def choice_index(text: str, policy: GradePolicy, same: Callable[[str, str], bool] = same_text) -> int | None:
    """Index in `policy.choices` of the option that `text` names by text or letter; None when it names none, or several.

    `same` compares two bare answers; `equivalence` passes its own comparison, so that `1/2` names the option `0.5`.
    """
    plain = normalize(text)
    options = option_texts(policy.choices)
    exact = [index for index, option in enumerate(options) if same(plain, option)]
    if len(exact) == 1:
        return exact[0]
    named = letter(plain if len(plain) > 1 else plain.upper())
    index = ord(named) - ord("A") if named else -1
    return index if 0 <= index < len(options) else None


@lru_cache(maxsize=1024)
def option_texts(choices: tuple[str, ...]) -> tuple[str, ...]:
    """The options without their own letters: `B)25` -> `25`."""
    return tuple(without_letter(choice) for choice in choices)


def letter(text: str) -> str | None:
    """`(B)`, `B`, `b)`, `B. 25`, `option B` -> `B`; None for a lone lower-case letter and for everything else."""
    match = _LETTER.fullmatch(text.strip())
    if match is None or (match.group(1).islower() and len(text.strip()) == 1):
        return None
    return match.group(1).upper()


def only_letter(text: str) -> str | None:
    """The letter of a text that is nothing but an option's letter: `B`, `(B)`, `B.` -> `B`."""
    match = _LETTER_ONLY.fullmatch(text.strip())
    return match.group(1) if match else None


def without_letter(text: str) -> str:
    """`(B) 25` -> `25`; a text without a letter in front, or with nothing after it, stays."""
    match = _LABEL.match(text)
    return text[match.end() :] if match and match.end() < len(text) else text
