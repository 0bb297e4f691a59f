"""Answers in parts as texts: split at the commas, semicolons, `and` and `or` outside of brackets, in one pass.

What the parser does not read (names, sentences, numbers with units) is compared part by part, each through the whole ladder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPENING = ("(", "[", "\\{", "{")
_OPENERS = frozenset(_OPENING)
_CLOSERS = frozenset([")", "]", "\\}", "}"])
_MARK = re.compile(r"\\[{}]|[()\[\]{},;]|\b(?:and|or)\b")


@dataclass(frozen=True, slots=True)
class Parts:
    """Items between brackets; opening and closing are "" for a bare list, and braces are written without a backslash."""

    items: tuple[str, ...]
    opening: str = ""
    closing: str = ""

    @property
    def kind(self) -> str:
        """Both brackets."""
        return self.opening + self.closing


def split(text: str) -> Parts:
    """The parts of a normalised answer; a text without separators is one part."""
    text = text.strip()
    opening = next((mark for mark in _OPENING if text.startswith(mark)), "")
    closing = _closing_at_end(text) if opening else ""
    if not closing:
        opening = ""
    body = text[len(opening) : len(text) - len(closing)]
    items, depth, start = [], 0, 0
    for match in _MARK.finditer(body):
        mark = match.group()
        if mark in _OPENERS:
            depth += 1
        elif mark in _CLOSERS:
            depth -= 1
        elif depth == 0 and (mark not in ("and", "or") or not opening):
            items.append(body[start : match.start()].strip())
            start = match.end()
    items.append(body[start:].strip())
    return Parts(tuple(item for item in items if item), opening.lstrip("\\"), closing.lstrip("\\"))


def _closing_at_end(text: str) -> str:
    """The bracket that ends a text and closes the one that begins it (`[0,1)` counts), or "" (`(1)(2)`)."""
    depth = 0
    for match in _MARK.finditer(text):
        mark = match.group()
        if mark in _OPENERS:
            depth += 1
        elif mark in _CLOSERS:
            depth -= 1
            if depth == 0:
                return mark if match.end() == len(text) else ""
    return ""
