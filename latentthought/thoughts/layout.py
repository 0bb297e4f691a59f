"""Where a row's prompt, thoughts, remaining steps and answer stand.

A row is one unbroken run of tokens: prompt, start delimiter, thoughts, end delimiter, the steps still in words, the answer.
Every method of the package is this one shape with some parts empty, so there is one function that lays a row out, and
region numbers say afterwards what each position is; masks are derived from them and never kept in step by hand.
Rejected: a class per method (Coconut, iCoT and pause tokens differ in one line each), and finding the parts of a batch by
searching for delimiter ids (a question may contain them).
Cost: plain Python lists and bytes, since rows are a few dozen tokens long and a tensor per row would cost more than the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import torch
from torch import Tensor

Feedback = Literal["sequential", "jacobi", "single_pass"]

IGNORED = -100
"""Label of a position that is not in the loss, as in transformers."""


class Region(IntEnum):
    """What a position of a row is. STEP is reasoning in words, mixed with a state or not; THOUGHT has no word of its own."""

    PAD = 0
    PROMPT = 1
    DELIMITER = 2
    THOUGHT = 3
    STEP = 4
    ANSWER = 5


REGION_BITS, THOUGHT_BIT, LABEL_BIT = 7, 8, 16
"""What a position's byte in `Row.flags` is made of."""

_REGION_OF = bytes(flag & REGION_BITS for flag in range(256))
_PROMPT = bytes([Region.PROMPT])
_DELIMITER = bytes([Region.DELIMITER])
_LABELLED_DELIMITER = bytes([Region.DELIMITER | LABEL_BIT])
_PAUSE = bytes([Region.THOUGHT])
_THOUGHT = bytes([Region.THOUGHT | THOUGHT_BIT])
_STEP = bytes([Region.STEP | LABEL_BIT])
_MIXED_STEP = bytes([Region.STEP | THOUGHT_BIT | LABEL_BIT])
_ANSWER = bytes([Region.ANSWER | LABEL_BIT])


@dataclass(frozen=True, slots=True)
class ThoughtTokens:
    """Token ids that a layout writes: the delimiters (None for none) and the placeholder at pure thoughts."""

    start_id: int | None = None
    end_id: int | None = None
    thought_id: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row laid out, T positions, without padding or holes.

    ids: the input ids. flags: one byte a position, its `Region` and whether it is a THOUGHT_BIT (the input is fed back) and a
    LABEL_BIT (its own id is its label, predicted at t-1); bytes, since most of them are runs of one value and a batch reads
    them all at once. pivot: the position after the last thought (after the prompt when there is none), which is what
    collation aligns. id: the example's. first_step: 0-based index of the first step still in words; the number of steps
    when none is. per_step: thoughts that stand for one step: thought j (0-based) is of the step with index j // per_step, and
    of none where the row has fewer steps.
    """

    id: str
    ids: list[int]
    flags: bytes
    pivot: int
    first_step: int = 0
    per_step: int = 1

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> list[int]:
        """(T,) labels, -100 where a position is not in the loss."""
        return [
            token if flag & LABEL_BIT else IGNORED for token, flag in zip(self.ids, self.flags, strict=True)
        ]

    @property
    def thought(self) -> list[bool]:
        """(T,) whether the input is fed back."""
        return [bool(flag & THOUGHT_BIT) for flag in self.flags]

    @property
    def regions(self) -> list[int]:
        """(T,) `Region` numbers."""
        return [flag & REGION_BITS for flag in self.flags]

    @property
    def thoughts(self) -> int:
        """Number of positions whose input is fed back."""
        return self.flags.count(_THOUGHT) + self.flags.count(_MIXED_STEP)

    def run(self, region: Region) -> tuple[int, int]:
        """Start and stop of the positions of a region, which lie side by side (delimiters need not); (0, 0) for none."""
        regions = self.flags.translate(_REGION_OF)
        start = regions.find(region)
        return (0, 0) if start < 0 else (start, regions.rfind(region) + 1)


def lay_out(
    prompt: Sequence[int],
    steps: Sequence[Sequence[int]],
    answer: Sequence[int],
    tokens: ThoughtTokens,
    *,
    thoughts: int = 0,
    feed_thoughts: bool = True,
    mix_steps: bool = False,
    delimiters: bool = True,
    enclose_steps: bool = False,
    label_start: bool = False,
    label_end: bool = False,
    id: str = "",
    first_step: int = 0,
    per_step: int = 1,
) -> Row:
    """Lay out prompt, `thoughts` placeholders, steps and answer (all token ids) as one row.

    Pure thoughts stand between the delimiters, the steps after them; a row without thoughts has no delimiters. With
    `enclose_steps` the delimiters stand around all reasoning, thoughts and steps alike, and in every row. With
    `mix_steps` (soft mix) the steps themselves stand between the delimiters and each is marked as a thought that keeps
    its token and its label. `feed_thoughts=False` gives pause tokens: same ids, nothing fed back.
    In the loss: steps and answer, and a delimiter only where `label_start` or `label_end` says so.
    `steps` are those still in words; `first_step` and `per_step` say what the thoughts stand for, see `Row`.
    """
    text = [token for step in steps for token in step]
    enclosed = delimiters and (enclose_steps or thoughts > 0 or (mix_steps and bool(text)))
    start = [tokens.start_id] if enclosed and tokens.start_id is not None else []
    end = [tokens.end_id] if enclosed and tokens.end_id is not None else []
    before = _PROMPT * len(prompt) + (_LABELLED_DELIMITER if label_start else _DELIMITER) * len(start)
    closing = (_LABELLED_DELIMITER if label_end else _DELIMITER) * len(end)
    if mix_steps:
        fed, fed_flags = text, _MIXED_STEP * len(text)
        rest: list[int] = []
    else:
        fed, fed_flags = [tokens.thought_id] * thoughts, (_THOUGHT if feed_thoughts else _PAUSE) * thoughts
        rest = text
    words = _STEP * len(rest)
    middle, middle_flags = (
        ([*rest, *end], words + closing) if enclose_steps else ([*end, *rest], closing + words)
    )
    ids = [*prompt, *start, *fed, *middle, *answer]
    flags = before + fed_flags + middle_flags + _ANSWER * len(answer)
    return Row(id, ids, flags, len(before) + len(fed), first_step, per_step)


def region_mask(regions_BT: Tensor, *wanted: Region) -> Tensor:
    """(B, T) bool: the positions that are in one of the wanted regions."""
    mask_BT = torch.zeros_like(regions_BT, dtype=torch.bool)
    for region in wanted:
        mask_BT |= regions_BT == int(region)
    return mask_BT


def prompt_mask(regions_BT: Tensor) -> Tensor:
    """(B, T) bool: the prompt, delimiters not included."""
    return region_mask(regions_BT, Region.PROMPT)


def reasoning_mask(regions_BT: Tensor) -> Tensor:
    """(B, T) bool: the reasoning, in thoughts or in words; delimiters not included."""
    return region_mask(regions_BT, Region.THOUGHT, Region.STEP)


def answer_mask(regions_BT: Tensor) -> Tensor:
    """(B, T) bool: the answer and the end token that closes it."""
    return region_mask(regions_BT, Region.ANSWER)
