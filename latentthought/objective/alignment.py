"""Which positions of the student are compared with which positions of the teacher.

Each side names its own positions: `sites` turns a row into places with a key that does not depend on the tokenizer, the
templates or the curriculum's stage, and `align` joins two lists by key. So the teacher's side can be worked out once, and be kept
in a cache, while the student's steps become thoughts one after the other.
A key is (piece, end): the piece is 0 for the prompt, k for step k (from 1), ANSWER for the answer; the end is what has been read
of the piece: the mark of its text (`data.spans`), -(j+1) after thought j of the step, or 0 where the piece has one place only.
A step has the number that it has in the example, so that a shortened row is not compared with the steps it lost.
Rejected: positions by number (different as soon as a tokenizer splits digits otherwise), searching the longest common
text of the two rows (a guess, where the pieces are known), and interpolating states between tokens that end apart.
Cost: a tenth or two of a millisecond a row and rule for each slot of the run, on the host, and one gather on the device.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from latentthought.data.encoding import Encoded
from latentthought.data.spans import UNMARKED
from latentthought.errors import ConfigError
from latentthought.thoughts.layout import Region, Row

Rule = Literal["reasoning", "step_ends", "answer", "shared", "pooled", "predictions"]

PROMPT, ANSWER = 0, -1
"""Numbers of the pieces that are no steps."""


class Reading(NamedTuple):
    """An example as one model reads it: its row, and what the row was laid out from."""

    row: Row
    encoded: Encoded


class Site(NamedTuple):
    """Positions [start, stop) of a row, compared as one (their mean), and the key by which the other side is found."""

    start: int
    stop: int
    piece: int
    end: int


def sites(reading: Reading, rule: Rule) -> list[Site]:
    """The places of a row that a rule compares, in their order in the row, each with a key of its own.

    reasoning    every thought, and every token of a step in words but those that end inside a character; thoughts that stand
                 for no step have no site
    step_ends    the last position of each step: its last thought, or its last token
    pooled       all positions of each step, as one
    answer       the position that predicts the first token of the answer's own words (CODI: the colon of "The answer is:")
    shared       the tokens of the question, and those of the answer piece
    predictions  the position before each token of a step in words and of the answer; keyed by the token's number, so that both
                 sides need the same tokenizer

    Raises `ConfigError` where a rule looks at tokens of a row that was encoded without spans.
    """
    if rule == "answer":
        start = _answer_start(reading) + reading.encoded.lead
        return [Site(start - 1, start, ANSWER, 0)] if reading.encoded.answer else []
    if rule == "shared":
        return [*_question(reading), *_words(reading, ANSWER, -1, _answer_start(reading), rule)]
    if rule == "predictions":
        return list(_predictions(reading))
    if rule == "reasoning":
        return list(_reasoning(reading))
    whole = rule == "pooled"
    return [
        Site(start if whole else stop - 1, stop, reading.encoded.part(step).number, 0)
        for step, start, stop in (*_latent(reading), *_spoken(reading))
        if stop > start
    ]


def align(student: Iterable[Site], teacher_keys: Sequence[tuple[int, int]]) -> list[tuple[Site, int]]:
    """The student's sites that the teacher has too, each with the number of the teacher's site of the same key."""
    numbers = {key: number for number, key in enumerate(teacher_keys)}
    return [(site, numbers[key]) for site in student if (key := (site.piece, site.end)) in numbers]


def _latent(reading: Reading) -> Iterator[tuple[int, int, int]]:
    """Index, start and stop of each step that the row has as thoughts."""
    row, (start, stop) = reading.row, reading.row.run(Region.THOUGHT)
    for step in range(min((stop - start) // row.per_step, len(reading.encoded.steps))):
        yield step, start + step * row.per_step, start + (step + 1) * row.per_step


def _spoken(reading: Reading) -> Iterator[tuple[int, int, int]]:
    """Index, start and stop of each step that the row has in words."""
    start, _ = reading.row.run(Region.STEP)
    for step in range(reading.row.first_step, len(reading.encoded.steps)):
        stop = start + len(reading.encoded.steps[step])
        yield step, start, stop
        start = stop


def _answer_start(reading: Reading) -> int:
    return len(reading.row.ids) - len(reading.encoded.answer)


def _reasoning(reading: Reading) -> Iterator[Site]:
    encoded = reading.encoded
    for step, start, stop in _latent(reading):
        for thought in range(stop - start):
            yield Site(start + thought, start + thought + 1, encoded.part(step).number, -(thought + 1))
    for step, start, _ in _spoken(reading):
        yield from _words(reading, encoded.part(step).number, step + 1, start, "reasoning")


def _question(reading: Reading) -> list[Site]:
    question, spans = reading.encoded.question, reading.encoded.spans
    if question is None or spans is None:
        return []
    ends = spans[0][1::2]
    return [
        site
        for site in _words(reading, PROMPT, 0, 0, "shared")
        if question[0] < ends[site.start] <= question[1]
    ]


def _words(reading: Reading, piece: int, place: int, start: int, rule: Rule) -> list[Site]:
    """A site for each marked token of a piece; `place` is the piece's among the marks, `start` its position in the row."""
    if reading.encoded.marks is None:
        raise ConfigError(
            f"alignment {rule} compares tokens by the text that they cover, which only a fast tokenizer tells: "
            "use one that has a tokenizer.json, or alignment step_ends, pooled or answer"
        )
    marks = reading.encoded.marks[place]
    # of tokens with one mark the last, which has read the whole of a character that they share
    found = {mark: position for position, mark in enumerate(marks, start) if mark != UNMARKED}
    return [Site(position, position + 1, piece, mark) for mark, position in found.items()]


def _predictions(reading: Reading) -> Iterator[Site]:
    encoded, answer = reading.encoded, _answer_start(reading)
    for step, start, stop in _spoken(reading):
        part = encoded.part(step)
        for token in range(stop - start):
            number = token + (part.missing if token >= part.cut else 0)
            yield Site(start + token - 1, start + token, part.number, number)
    for token in range(len(encoded.answer)):
        yield Site(answer + token - 1, answer + token, ANSWER, token)


@dataclass(frozen=True)
class Places:
    """Where N sites of a batch stand, for one side of a comparison.

    rows_M, columns_M: (M,) int64, every position of every site. owner_M: (M,) int64, the site that it belongs to. sizes_N: (N,)
    int64, positions of each site. Integers throughout: engines cast what floats a batch holds to their own precision.
    """

    rows_M: Tensor
    columns_M: Tensor
    owner_M: Tensor
    sizes_N: Tensor

    @classmethod
    def of(cls, sites: Iterable[tuple[int, int, int]]) -> Places:
        """From (row of the batch, start, stop) of each site, columns of padding counted in; none of them empty."""
        rows, columns, owner, sizes = array("q"), array("q"), array("q"), array("q")
        for number, (row, start, stop) in enumerate(sites):
            assert stop > start, "a site without positions has no mean"
            sizes.append(stop - start)
            for column in range(start, stop):
                rows.append(row)
                columns.append(column)
                owner.append(number)
        return cls(*(torch.tensor(values, dtype=torch.int64) for values in (rows, columns, owner, sizes)))

    def __len__(self) -> int:
        return self.sizes_N.shape[0]

    def to(self, device: Any, **options: Any) -> Places:
        """The same on a device."""
        tensors = (self.rows_M, self.columns_M, self.owner_M, self.sizes_N)
        return Places(*(tensor.to(device, **options) for tensor in tensors))

    def gather(self, states_BTD: Tensor) -> Tensor:
        """(N, D), the mean state of each site, in the states' dtype (summed in float32). The host waits for nothing."""
        states_MD = states_BTD[self.rows_M, self.columns_M]
        if len(self) == self.rows_M.shape[0]:  # every site is one position
            return states_MD
        sums_ND = states_MD.new_zeros(len(self), states_MD.shape[1], dtype=torch.float32)
        sums_ND = sums_ND.index_add(0, self.owner_M, states_MD.float())
        return (sums_ND / self.sizes_N[:, None]).to(states_BTD.dtype)
