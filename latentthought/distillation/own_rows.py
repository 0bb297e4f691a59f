"""Rows that end in the student's own text, as student and teacher read them.

What the student writes counts as its answer; where delimiters enclose its reasoning, what it writes before it closes them
counts as one step in words. So the rules of `objective.alignment` find places in these rows as in any others.
Rejected: places of the student's tokens worked out beside those rules (a second way to say what is compared).
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from latentthought.data.encoding import Encoded, StepPart
from latentthought.data.spans import UNMARKED, common_prefix
from latentthought.errors import ConfigError
from latentthought.objective.alignment import Reading
from latentthought.thoughts.layout import LABEL_BIT, Region, Row, ThoughtTokens, lay_out

if TYPE_CHECKING:
    from latentthought.data.curriculum import Curriculum
    from latentthought.distillation.reader import Reader
    from latentthought.distillation.teaching import LiveTeaching

# steps before the student's words that only thoughts stand for, which fill a row up to its stage: they have no partner
_STUDENTS_PADDING, _TEACHERS_PADDING = StepPart(0), StepPart(-2)


class Task(NamedTuple):
    """A row that the student is to continue. slot: seeds its words. place: of the example in the teaching's rows. row: as its
    stage lays it out."""

    slot: int
    place: int
    row: Row


class OwnRows:
    """Makes rows for both of what the student wrote.

    Args:
        teaching: the readings of the data. reader: lays out what the teacher reads. curriculum, tokens: the student's.
        end_ids: tokens that end a text.
    """

    def __init__(
        self,
        teaching: LiveTeaching,
        reader: Reader,
        curriculum: Curriculum,
        tokens: ThoughtTokens,
        end_ids: Collection[int],
    ) -> None:
        self.teaching, self.reader, self.curriculum = teaching, reader, curriculum
        self.tokens, self.end_ids = tokens, end_ids
        self.soft = curriculum.method == "soft_mix"
        # whether the student closes its reasoning itself, and by which token
        self.encloses = curriculum.delimiters and (self.soft or curriculum.enclose == "reasoning")
        self.closing_id = tokens.end_id if self.encloses else None
        last = reader.curriculum.expand()[-1].latent_steps
        if self.encloses and (last == "all" or reader.curriculum.method == "none"):
            raise ConfigError(
                "teacher.on_policy: the teacher's last stage leaves no step in words, so it cannot read what the student writes "
                "within its delimiters; allowed for it: teacher.reads text"
            )
        self._latent_steps = 0 if isinstance(last, str) else last

    def read(self, task: Task, own: list[int]) -> tuple[Reading, Reading]:
        """The student's row with its own tokens, and the teacher's."""
        encoded, taught = self.teaching.rows[task.place], self.teaching.readings[task.place].encoded
        words, answer, closed = self._parts(own)
        # steps that the student has as thoughts, or skips; the teacher knows them by the same numbers
        first = task.row.first_step
        numbers = {encoded.part(step).number for step in range(first)}
        known = [step for step in range(len(taught.steps)) if taught.part(step).number in numbers]
        number = 1 + max(numbers, default=0)
        stand_for = max(first, thoughts_of(task.row) // task.row.per_step) if words else first
        # the answer's own words begin after as much as the student wrote of its format's opening
        lead = common_prefix(encoded.answer[: encoded.lead], answer)
        padding = [_STUDENTS_PADDING] * (stand_for - first)
        mine = self._with(encoded, range(first), padding, words, answer, number, lead)
        # what the student put into words, the teacher is not to have as a thought
        filling = max(0, self._latent_steps - len(known)) if words else 0
        padding = [_TEACHERS_PADDING] * filling
        theirs = self._with(taught, known, padding, words, answer, number, lead)
        row = self._lay_out(replace(task.row, first_step=stand_for), encoded.prompt, words, answer, closed)
        teacher = self.reader.lay_out(theirs)
        return Reading(row, mine), teacher._replace(row=_unlabelled(teacher.row))

    def _parts(self, own: list[int]) -> tuple[list[int], list[int], bool]:
        """Reasoning, answer, and whether a delimiter stands between them."""
        if not self.encloses:
            return [], own, False
        if self.closing_id is None or self.closing_id not in own:
            return own, [], False
        place = own.index(self.closing_id)
        return own[:place], own[place + 1 :], True

    def _lay_out(self, row: Row, prompt: list[int], words: list[int], answer: list[int], closed: bool) -> Row:
        made = lay_out(
            prompt,
            [words],
            answer,
            self.tokens,
            thoughts=thoughts_of(row),
            feed_thoughts=self.curriculum.method == "latent",
            mix_steps=self.soft,
            delimiters=self.curriculum.delimiters,
            enclose_steps=self.encloses,
            id=row.id,
            first_step=row.first_step,
            per_step=row.per_step,
        )
        if self.closing_id is not None and not closed:
            made = replace(made, ids=made.ids[:-1], flags=made.flags[:-1])
        return _unlabelled(made)

    def _with(
        self,
        encoded: Encoded,
        steps: Sequence[int],
        padding: Sequence[StepPart],
        words: list[int],
        answer: list[int],
        number: int,
        lead: int,
    ) -> Encoded:
        """An example whose text after some of its steps is another. padding: empty steps before it. number: the new step's.
        lead: of the new answer."""
        own = [words] if words else []
        blank: list[list[int]] = [[] for _ in padding]
        marks, spans = encoded.marks, encoded.spans
        new = [*blank, *own, answer]
        return replace(
            encoded,
            steps=[*(encoded.steps[step] for step in steps), *blank, *own],
            answer=answer,
            lead=lead,
            spans=spans and [spans[0], *(spans[1 + s] for s in steps), *map(_no_span, new)],
            marks=marks and [marks[0], *(marks[1 + s] for s in steps), *map(self._marks, new)],
            parts=(
                *(encoded.part(step) for step in steps),
                *padding,
                *(StepPart(number) for _ in own),
            ),
        )

    def _marks(self, tokens: list[int]) -> array[int]:
        # both sides read the same tokens, so that their numbers say what has been read
        return array("i", [UNMARKED if token in self.end_ids else n for n, token in enumerate(tokens)])


def thoughts_of(row: Row) -> int:
    """Positions between a row's delimiters that have no word: thoughts and pause tokens."""
    start, stop = row.run(Region.THOUGHT)
    return stop - start


def _unlabelled(row: Row) -> Row:
    return replace(row, flags=bytes(flag & ~LABEL_BIT for flag in row.flags))


def _no_span(tokens: list[int]) -> array[int]:
    return array("i", [0, 0] * len(tokens))
