r"""Reasoning text cut into steps: sentences, paragraphs, and the last `\boxed{}`.

One linear scan each. A sentence ends at `.`, `!` or `?` before white space and a capital, a `$` or a backslash, and never
inside `$...$`, `\(...\)`, `\[...\]` or an `[asy]` drawing, so formulas stay whole. Rejected: an NLP sentence splitter (a
model, for text that is half formulas) and splitting at every full stop (cuts "i.e." and decimals in two).
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"\[/?asy\]"  # a drawing
    r"|\\\\"  # a line break inside an array, not an escape
    r"|\\[\[(]|\\[\])]"
    r"|\\\$"  # a price
    r"|\$\$|\$"
    r"|[.!?](?=\s+[A-Z$\\])"
    r"|\n\s*\n",
    re.DOTALL,
)
_PAIRS = {r"\[": r"\]", r"\(": r"\)", "[asy]": "[/asy]"}
_ABBREVIATIONS = ("i.e.", "e.g.", "vs.", "cf.", "resp.", "Mr.", "Mrs.", "Ms.", "Dr.", "St.", "No.")


def split_sentences(text: str) -> tuple[str, ...]:
    """The sentences of a solution, formulas whole; joined with white space they are the text again."""
    pieces: list[str] = []
    start = 0
    closing = ""  # what ends the formula we are in
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in ("$", "$$"):
            closing = "" if closing == token else closing or token
            if not closing and _ends_sentence(text, match.start(), match.end()):
                pieces.append(text[start : match.end()])
                start = match.end()
        elif token in _PAIRS:
            closing = closing or _PAIRS[token]
        elif token == closing:
            closing = ""
        elif token.isspace():
            # a blank line ends a step, and a formula that was never closed
            pieces.append(text[start : match.start()])
            start, closing = match.end(), ""
        elif (
            token in (".", "!", "?") and not closing and not text.endswith(_ABBREVIATIONS, start, match.end())
        ):
            pieces.append(text[start : match.end()])
            start = match.end()
    pieces.append(text[start:])
    return tuple(piece.strip() for piece in pieces if piece.strip())


def _ends_sentence(text: str, dollar: int, after: int) -> bool:
    """Whether a formula ends in a full stop of its own, as in `so $x = 3.$ Then`."""
    return text[dollar - 1] in ".!?" and re.match(r"\s+[A-Z$\\]", text[after : after + 40]) is not None


def split_paragraphs(text: str) -> tuple[str, ...]:
    """The paragraphs of a trace: joined with a blank line they are the text again, up to white space around them."""
    return tuple(part.strip() for part in re.split(r"\n\s*\n", text) if part.strip())


_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(\{)|([^\s{$.,]))|\\.|([{}])", re.DOTALL)


def last_boxed(text: str) -> str | None:
    r"""What the last `\boxed{...}` (or `\fbox{...}`, or `\boxed 5`) of a text holds; None without one, "" for an empty box.

    A box that is never closed does not count; of nested boxes the inner one is the last.
    """
    found, found_at = None, -1
    opened: list[int] = []  # where the content of each open brace starts; -1 for a brace that is no box
    for match in _BOX.finditer(text):
        box, bare, brace = match.groups()
        if bare:
            found, found_at = bare, match.start(2)
        elif box or brace == "{":
            opened.append(match.end() if box else -1)
        elif brace == "}" and opened:
            start = opened.pop()
            if start > found_at:
                found, found_at = text[start : match.start()].strip(), start
    return found
