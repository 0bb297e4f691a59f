"""Answers between marks: `<answer>` tags and `\\boxed`, `\\fbox`, also `\\boxed 5`.

Cost: one pass of a tokenising regular expression, linear in the text. Rejected: recursive brace patterns and "find the box, then
search its end" (quadratic on a megabyte of `\\boxed{`); joining all boxes of a text (a worked solution may box its
intermediate results: only boxes that stand beside each other, joined by a comma or "and", are one answer).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_BOX_TOKEN = re.compile(r"\\(boxed|fbox)(?![a-zA-Z])|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"\s*([^\s{}$\\,;]+)")
_JOINT = re.compile(
    r"[\s$*]*+(?:\\\)|\\\])?[\s$*]*+(?:[,;、，،]|\b(?:and|or|et|ou|y|und|oder)\b|&|和|或|و|और|या"
    r"|\\(?:text|quad)\{? *+(?:and|or)? *+\}?)"
    r"\s*+(?:and|or)?[\s$*]*+(?:\\[(\[])?[\s$*]*+(?:[A-Za-z](?:_\{?\d\}?)?\s*=\s*)?"
)


def last_tag(text: str) -> str | None:
    """What stands in the last `<answer>..</answer>` that is not empty; an unclosed one (the text was cut off) is none."""
    if "<" not in text:
        return None
    opened, inner = None, None
    for match in _TAG.finditer(text):
        if not match.group(1):
            opened = match.end()
        elif opened is not None:
            inner = text[opened : match.start()].strip() or inner
            opened = None
    return inner


@dataclass(slots=True)
class _Box:
    """A box command: where it begins, where its content lies, where it ends."""

    kind: str
    start: int
    content: int
    stop: int = 0
    end: int = 0


def _boxes(text: str) -> tuple[list[_Box], int | None]:
    """Outermost boxes in order, and where one begins that is never closed (the text was cut off). Offsets only, so nesting
    costs nothing."""
    found: list[_Box] = []
    braces: list[_Box | None] = []  # per open brace: the box it belongs to
    pending: _Box | None = None  # a box command whose brace has not come yet
    for match in _BOX_TOKEN.finditer(text):
        token = match.group()
        if (
            pending is not None
            and not text[pending.content : match.start()].isspace()
            and match.start() > pending.content
        ):
            _close_bare(text, pending, found)
            pending = None
        if match.group(1):
            pending = _Box(match.group(1), match.start(), match.end())
        elif token == "{":
            if pending is not None:
                pending.content = match.end()
            braces.append(pending)
            pending = None
        elif token == "}" and braces:
            box = braces.pop()
            if box is not None:
                while found and found[-1].start > box.start:  # boxes inside this one
                    found.pop()
                box.stop, box.end = match.start(), match.end()
                found.append(box)
    if pending is not None:
        _close_bare(text, pending, found)
    return found, next((box.start for box in braces if box is not None), None)


def _close_bare(text: str, box: _Box, found: list[_Box]) -> None:
    """`\\boxed 5`: the one token that follows is the content."""
    match = _BARE_BOX.match(text, box.content)
    if match:
        box.content, box.stop = match.span(1)
        box.end = box.stop
        found.append(box)


def without_blanks(text: str, is_blank: Callable[[str], bool]) -> tuple[str, bool]:
    """(text without its boxes that hold nothing and without one that its last line breaks off in, whether there was one)."""
    boxes, unclosed = _boxes(text)
    cut = unclosed if unclosed is not None and "\n" not in text[unclosed:].strip() else None
    blank = [
        box for box in boxes if is_blank(text[box.content : box.stop]) and (cut is None or box.end <= cut)
    ]
    pieces, at = [], 0
    for box in blank:
        pieces.append(text[at : box.start])
        at = box.end
    pieces.append(text[at:cut])
    return "".join(pieces), bool(blank) or cut is not None


def last_box(text: str, kinds: tuple[str, ...] = ("boxed", "fbox")) -> tuple[str, str, int] | None:
    """(content, command, where it ends) of the last box that is not empty, with those that stand beside it."""
    if not any(f"\\{kind}" in text for kind in kinds):
        return None
    boxes = [
        box for box in _boxes(text)[0] if box.kind in kinds and not text[box.content : box.stop].isspace()
    ]
    boxes = [box for box in boxes if box.stop > box.content]
    if not boxes:
        return None
    first = len(boxes) - 1
    while first and boxes[first].start - boxes[first - 1].end <= 24:
        if not _JOINT.fullmatch(text, boxes[first - 1].end, boxes[first].start):
            break
        first -= 1
    contents = [text[box.content : box.stop].strip() for box in boxes[first:]]
    return ", ".join(contents), boxes[-1].kind, boxes[-1].end
