"""Where each token of a piece of text ends, and what has been read there.

A teacher with another tokenizer and other templates is aligned with the student by text: two places belong together when the
same words have been read at both. Characters counted from the start of the piece do not say that, since templates differ in
what they write around the words; so a token carries a mark: characters since the piece's own words began, and a checksum of
them. Cost: 12 bytes a token, kept only where a teacher asks for it, and worked out once for pieces that repeat.
Rejected: keeping the text and comparing it (for every slot of the run anew, and a cache would have to hold the text).
"""

from __future__ import annotations

import string
import zlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

UNMARKED = -1
"""Mark of a token that has no text, that ends inside a character, or after which another ends at the same place."""


class Located(NamedTuple):
    """spans: start, end, start, end, ... characters within the piece. marks: one a token, see `marks_of`, or `UNMARKED`; no two
    tokens have the same."""

    spans: array[int]
    marks: array[int]


def locate(
    offsets: Iterable[tuple[int, int]],
    text: str,
    start: int,
    before: int = 0,
    after: int = 0,
    *,
    splits_characters: bool = False,
) -> Located:
    """Spans and marks of a piece whose own words begin at character `start`.

    offsets: of its tokens, as the tokenizer gives them. before, after: tokens without text that are put around them.
    splits_characters: whether a token may end inside a character (byte-level tokenizers).
    """
    offsets = list(offsets)
    flat = _whole_characters(offsets) if splits_characters else _without_overlaps(offsets)
    marks = marks_of(text, start, flat[1::2])
    for token, (_, end) in enumerate(offsets):
        if flat[2 * token + 1] < end:
            marks[token] = UNMARKED
    if len({*marks}) < len(marks):
        marks = _only_the_last(marks)
    none = array("i", [UNMARKED])
    return Located(
        array("i", [0, 0] * before) + flat + array("i", [len(text)] * 2 * after),
        none * before + marks + none * after,
    )


def marks_of(text: str, start: int, ends: Iterable[int]) -> array[int]:
    """What has been read of a piece at each end, as a number that two tokenizers and two templates agree on.

    Its low 16 bits count the characters since `start`, where the piece's own words begin (the question, the step, the answer)
    after what its template writes before them; the 15 bits above are a checksum of those characters, so that different texts
    of one length are told apart (all but one in 32,768). Up to `start` the template's own text is what is read.
    """
    marks, read, checksum = array("i"), 0, 0
    for end in ends:
        if read <= start < end:
            read, checksum = start, 0
        if end > read:
            checksum, read = zlib.crc32(text[read:end].encode(), checksum), end
        marks.append((checksum & 0x7FFF0000) | (end - start & 0xFFFF))
    return marks


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of tokens with which both begin."""
    equal = takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return sum(1 for _ in equal)


def _only_the_last(marks: array[int]) -> array[int]:
    """Of the tokens with one mark the last keeps it, which has read the whole of a character that they share."""
    last = {mark: token for token, mark in enumerate(marks)}
    return array("i", [mark if last[mark] == token else UNMARKED for token, mark in enumerate(marks)])


def literal_before(template: str) -> str:
    """What a template writes before its first field."""
    text = ""
    for literal, field, _, _ in string.Formatter().parse(template):
        text += literal
        if field is not None:
            break
    return text


def _without_overlaps(offsets: Iterable[tuple[int, int]]) -> array[int]:
    """Offsets as a flat array, without overlaps.

    A token that begins with an inserted mark claims the character before it too; tokens that share one character keep it.
    """
    flat, last = array("i"), 0
    for start, end in offsets:
        flat.append(last if start < last < end else start)
        flat.append(end)
        last = end
    return flat


def _whole_characters(offsets: Iterable[tuple[int, int]]) -> array[int]:
    """Offsets as a flat array, where a token ends with the last character of which it has read the last byte.

    The tokenizer gives a character to every token with a byte of it.
    """
    flat = array("i")
    for start, end in offsets:
        place = len(flat) - 1
        while place > 0 and flat[place] > start:
            flat[place], flat[place - 1] = start, min(flat[place - 1], start)
            place -= 2
        flat.append(start)
        flat.append(end)
    return flat
