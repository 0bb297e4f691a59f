"""Which positions of the student are compared with which positions of the teacher.

Each side names its own positions: `sites` turns a row into places with a key that does not depend on the tokenizer, the
templates or the curriculum's stage, and `align` joins two lists by key. So the teacher's side can be worked out once, and be kept
in a cache, while the student's steps become thoughts one after the other.
A key is (piece, end): the piece is 0 for the prompt, k for step k (from 1), ANSWER for the answer; the end is what has been read
of the piece: the mark of its text (`data.spans`), -(j+1) after thought j of the step, or 0 where the piece has one place only.
A step has the number that it has in the example, so that a shortened row is not compared with the steps it lost.
Rejected: positions by number (different as soon as a tokenizer splits digits otherwise), searching the longest common
text of the two rows (a guess, where the pieces are known), and interpolating states between tokens that end apart.
Cost: for both sides of a row and each rule, on the host and for every slot of the run, 0.04 ms for 100 tokens and 0.13 ms for
1,200 (batching included); on the device one gather. An object for each token took some thirty times as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from latentthought.data.encoding import Encoded
from latentthought.data.spans import UNMARKED
from latentthought.errors import ConfigError
from latentthought.thoughts.layout import Region, Row

if TYPE_CHECKING:
    from array import array

Rule = Literal["reasoning", "step_ends", "answer", "shared", "pooled", "predictions"]

PROMPT, ANSWER = 0, -1
"""Numbers of the pieces that are no steps."""

_END_BITS, _END_MASK = 32, (1 << 32) - 1


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


@dataclass(slots=True, eq=False)
class Sites:
    """N sites of a row as columns; iterated over, it gives each `Site`.

    starts_N, stops_N: (N,) int64, positions in the row. keys_N: (N,) int64, the key as one number, see `keys_of`.
    """

    starts_N: np.ndarray
    stops_N: np.ndarray
    keys_N: np.ndarray

    def __len__(self) -> int:
        return self.starts_N.shape[0]

    def __iter__(self) -> Iterator[Site]:
        columns = (self.starts_N, self.stops_N, self.pieces_N, self.ends_N)
        return map(Site, *(column.tolist() for column in columns))

    @property
    def pieces_N(self) -> np.ndarray:
        """(N,) int64, the piece of each site."""
        return self.keys_N >> _END_BITS

    @property
    def ends_N(self) -> np.ndarray:
        """(N,) int32, what has been read of the piece at each site."""
        return self.keys_N.astype(np.int32)  # the lower half

    def at(self, numbers: np.ndarray) -> Sites:
        """The sites with these numbers, in the order given."""
        return Sites(self.starts_N[numbers], self.stops_N[numbers], self.keys_N[numbers])


def keys_of(pieces_N: np.ndarray, ends_N: np.ndarray) -> np.ndarray:
    """(N,) int64: the piece in the upper half, the end in the lower."""
    return (pieces_N.astype(np.int64) << _END_BITS) | (ends_N.astype(np.int64) & _END_MASK)


def sites(reading: Reading, rule: Rule) -> Sites:
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
        if not reading.encoded.answer:
            return _NONE
        place = _answer_start(reading) + reading.encoded.lead - 1
        return _single(np.array([place]), np.array([ANSWER << _END_BITS]))
    if rule == "shared":
        encoded, marks = reading.encoded, _marks(reading, rule)
        answer = _words([ANSWER], [len(encoded.answer)], marks[-1:], _answer_start(reading))
        return joined([_question(reading), answer])
    if rule == "predictions":
        return _predictions(reading)
    if rule == "reasoning":
        return _reasoning(reading)
    return _steps(reading, pooled=rule == "pooled")


def align(student_N: np.ndarray, teacher_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the student's sites whose keys the teacher has too, in order, and those of the teacher's with the same keys.

    Of several that the teacher has with one key, the last.
    """
    if not len(teacher_M):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order_M = teacher_M.argsort(kind="stable")
    sorted_M = teacher_M[order_M]
    # for a key before all of the teacher's this is -1, the last of them, which is another
    found_N = sorted_M.searchsorted(student_N, "right") - 1
    mine = (sorted_M[found_N] == student_N).nonzero()[0]
    return mine, order_M[found_N[mine]]


def joined(parts: Sequence[Sites]) -> Sites:
    """Several lists of sites as one."""
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        return parts[0] if parts else _NONE
    return Sites(
        np.concatenate([part.starts_N for part in parts]),
        np.concatenate([part.stops_N for part in parts]),
        np.concatenate([part.keys_N for part in parts]),
    )


def _latent(reading: Reading) -> tuple[list[int], int]:
    """Numbers of the steps that the row has as thoughts, and the position of the first thought."""
    row, (start, stop) = reading.row, reading.row.run(Region.THOUGHT)
    count = min((stop - start) // row.per_step, len(reading.encoded.steps))
    return [reading.encoded.part(step).number for step in range(count)], start


def _spoken(reading: Reading) -> tuple[list[int], list[int], int]:
    """Numbers and lengths of the steps that the row has in words, and the position of their first token."""
    encoded, first = reading.encoded, reading.row.first_step
    lengths = list(map(len, encoded.steps[first:]))
    if encoded.parts is None:
        numbers = list(range(first + 1, len(encoded.steps) + 1))
    else:
        numbers = [part.number for part in encoded.parts[first:]]
    return numbers, lengths, reading.row.run(Region.STEP)[0]


def _answer_start(reading: Reading) -> int:
    return len(reading.row.ids) - len(reading.encoded.answer)


def _steps(reading: Reading, pooled: bool) -> Sites:
    """A site for each step: all its positions, or the last."""
    per_step, (numbers, start) = reading.row.per_step, _latent(reading)
    sizes = [per_step] * len(numbers)
    stops = [start + per_step * place for place in range(1, len(numbers) + 1)]
    spoken, lengths, stop = _spoken(reading)
    for number, length in zip(spoken, lengths, strict=True):
        stop += length
        if length:
            numbers.append(number)
            sizes.append(length)
            stops.append(stop)
    stops_N = np.array(stops, np.int64)
    starts_N = stops_N - (np.array(sizes, np.int64) if pooled else 1)
    return Sites(starts_N, stops_N, np.array(numbers, np.int64) << _END_BITS)


def _reasoning(reading: Reading) -> Sites:
    parts, (latent, start) = [], _latent(reading)
    if latent:
        ends = range(_END_MASK, _END_MASK - reading.row.per_step, -1)  # -1, -2, ... in the lower half
        keys = [(number << _END_BITS) + end for number in latent for end in ends]
        parts.append(_single(np.arange(start, start + len(keys)), np.array(keys)))
    spoken, lengths, start = _spoken(reading)
    if spoken:
        marks = _marks(reading, "reasoning")[1 + reading.row.first_step : -1]
        parts.append(_words(spoken, lengths, marks, start))
    return joined(parts)


def _question(reading: Reading) -> Sites:
    question, spans = reading.encoded.question, reading.encoded.spans
    if question is None or spans is None:
        return _NONE
    words = _words([PROMPT], [len(reading.encoded.prompt)], _marks(reading, "shared")[:1], 0)
    ends_N = np.frombuffer(spans[0], np.intc)[1::2][words.starts_N]
    return words.at((question[0] < ends_N) & (ends_N <= question[1]))


def _marks(reading: Reading, rule: Rule) -> list[array[int]]:
    if reading.encoded.marks is None:
        raise ConfigError(
            f"alignment {rule} compares tokens by the text that they cover, which only a fast tokenizer tells: "
            "use one that has a tokenizer.json, or alignment step_ends, pooled or answer"
        )
    return reading.encoded.marks


def _words(pieces: Sequence[int], lengths: Sequence[int], marks: Sequence[array[int]], start: int) -> Sites:
    """A site for each marked token of some pieces, which lie side by side from a row's position `start` on."""
    marks_T = np.frombuffer(b"".join(marks), np.intc)
    keys_T = repeated([piece << _END_BITS for piece in pieces], lengths) + marks_T
    marked = (marks_T != UNMARKED).nonzero()[0]
    return _single(marked + start, keys_T[marked])


def _predictions(reading: Reading) -> Sites:
    encoded, answer = reading.encoded, _answer_start(reading)
    numbers, lengths, start = _spoken(reading)
    *begins, words = accumulate(lengths, initial=0)
    numbers.append(ANSWER)
    lengths.append(len(encoded.answer))
    # the key of each piece's first token, less the tokens before the piece
    bases = [(number << _END_BITS) - begin for number, begin in zip(numbers, [*begins, words], strict=True)]
    places_T = np.arange(words + len(encoded.answer))
    keys_T = repeated(bases, lengths) + places_T
    if encoded.parts is not None:
        for part, begin, length in zip(
            encoded.parts[reading.row.first_step :], begins, lengths, strict=False
        ):
            keys_T[begin + part.cut : begin + length] += part.missing
    places_T += start - 1
    places_T[words:] += answer - start - words
    return _single(places_T, keys_T)


def repeated(values: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """(sum of the counts,) int64: every value as often as its count says."""
    return np.array(values, np.int64).repeat(np.array(counts, np.int64))


def _single(starts_N: np.ndarray, keys_N: np.ndarray) -> Sites:
    """Sites of one position each."""
    return Sites(starts_N, starts_N + 1, keys_N)


_NONE = _single(*np.empty((2, 0), np.int64))
