"""What the teacher has to say about each row, joined with the row as the student reads it.

The student's row changes from stage to stage (steps become thoughts), the teacher's reading of it never does. So the teacher's
side is fixed before the run: readings in its own tokenizer, or records of a cache. For every slot the student's sites are found
anew and joined with the teacher's by key (`objective.alignment`); a batch then holds index tensors, and nothing is searched on
the device.
Rejected: joining by position or by step number of the run (EasyDistill's index by step breaks as soon as accumulation, length
groups or a resume change the order); example ids cannot be mixed up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from latentthought.data.encoding import Encoded
from latentthought.distillation.cache.records import Record, SampledRecord
from latentthought.objective.alignment import Places, Reading, Rule, Site, align, sites
from latentthought.objective.comparison import Comparison
from latentthought.objective.divergence import SampledLogits, TopLogits
from latentthought.objective.terms import rule_of
from latentthought.objective.total import Objective
from latentthought.thoughts.layout import Row

if TYPE_CHECKING:
    from latentthought.distillation.cache.store import TeacherStateCache

_SHOWN = 5
_AT_HAND = 512

Pair = tuple[Site, int]


class Lesson(NamedTuple):
    """What one slot of a run compares: the example's place, and for each rule its pairs (student's site, teacher's number)."""

    place: int
    pairs: Mapping[Rule, list[Pair]]


class Teaching(ABC):
    """Makes lessons, and batches of them.

    objective: says which terms look at the teacher. rows: the student's examples, encoded with spans, in the order of the run.
    """

    def __init__(self, objective: Objective, rows: Sequence[Encoded]) -> None:
        self.objective, self.rows = objective, rows
        self.rules = {term.name: rule for term in objective.terms if (rule := rule_of(term)) is not None}
        self.empty: Counter[tuple[str, Rule]] = Counter()

    @abstractmethod
    def keys(self, index: int, rule: Rule) -> Sequence[tuple[int, int]]:
        """Keys of the teacher's sites of an example."""

    @abstractmethod
    def teacher_side(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        """What a batch holds of the teacher, `comparisons` apart."""

    @abstractmethod
    def comparison(self, term: str, student: Places, lessons: Sequence[Lesson], side: Any) -> Comparison:
        """The pairs of one term. side: what `teacher_side` gave."""

    def lesson(self, index: int, row: Row) -> Lesson:
        """The pairs of example `index` when the student reads it as `row`."""
        reading = Reading(row, self.rows[index])
        pairs = {
            rule: align(sites(reading, rule), self.keys(index, rule))
            for rule in dict.fromkeys(self.rules.values())
        }
        for rule, found in pairs.items():
            if not found:
                self.empty[row.id, rule] += 1
        return Lesson(index, pairs)

    def collate(self, lessons: Sequence[Lesson], before: Sequence[int]) -> dict[str, Any]:
        """What a batch needs beside the student's rows. before: columns of padding before each of them."""
        side = self.teacher_side(lessons)
        comparisons = {}
        for term, rule in self.rules.items():
            student = Places.of(
                (place, site.start + shift, site.stop + shift)
                for place, (lesson, shift) in enumerate(zip(lessons, before, strict=True))
                for site, _ in lesson.pairs[rule]
            )
            comparisons[term] = self.comparison(term, student, lessons, side)
        side.pop("before", None)
        return {**side, "comparisons": comparisons}

    def report(self) -> str:
        """One line about rows that had nothing to compare, with the first of their ids; empty where all had."""
        if not self.empty:
            return ""
        shown = ", ".join(f"{id} ({rule})" for id, rule in list(self.empty)[:_SHOWN])
        more = f" and {len(self.empty) - _SHOWN} more" if len(self.empty) > _SHOWN else ""
        return f"{len(self.empty)} rows had no position that student and teacher share: {shown}{more}"


class LiveTeaching(Teaching):
    """A teacher that reads along with the student: its rows are batched like the student's.

    readings: its own reading of each example. collate: rows -> a batch, with `before`. key: where the batch keeps it:
    `teacher`, for a model of its own; `chain`, for the student itself as it reads the whole chain of thought.
    """

    def __init__(
        self,
        objective: Objective,
        rows: Sequence[Encoded],
        readings: Sequence[Reading],
        collate: Callable[[list[Row]], dict[str, Any]],
        key: str = "teacher",
    ) -> None:
        super().__init__(objective, rows)
        self.readings, self._collate, self._key = readings, collate, key
        self._known: dict[tuple[int, Rule], list[Site]] = {}

    def upon(self, rows: Sequence[Encoded], readings: Sequence[Reading]) -> LiveTeaching:
        """The same about other rows."""
        return LiveTeaching(self.objective, rows, readings, self._collate, self._key)

    def keys(self, index: int, rule: Rule) -> list[tuple[int, int]]:
        return [(site.piece, site.end) for site in self._sites(index, rule)]

    def _sites(self, index: int, rule: Rule) -> list[Site]:
        if (index, rule) not in self._known:
            self._known[index, rule] = sites(self.readings[index], rule)
        return self._known[index, rule]

    def teacher_side(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        batch = self._collate([self.readings[lesson.place].row for lesson in lessons])
        before = batch.pop("before")
        batch.pop("ids", None)
        return {self._key: batch, "before": before}

    def comparison(self, term: str, student: Places, lessons: Sequence[Lesson], side: Any) -> Comparison:
        rule = self.rules[term]
        places = []
        for place, (lesson, shift) in enumerate(zip(lessons, side["before"], strict=True)):
            known = self._sites(lesson.place, rule)
            places += [
                (place, known[number].start + shift, known[number].stop + shift)
                for _, number in lesson.pairs[rule]
            ]
        return Comparison(student, Places.of(places))


class CachedTeaching(Teaching):
    """A teacher whose states were stored beforehand; nothing of it is in memory but the rows of the batch at hand."""

    def __init__(self, objective: Objective, rows: Sequence[Encoded], cache: TeacherStateCache) -> None:
        super().__init__(objective, rows)
        spec = cache.manifest.spec
        self._numbers = {rule: number for number, rule in enumerate(spec.rules)}
        self._columns = {layer: column for column, layer in enumerate(spec.layers)}
        # a row is asked for its keys when it is laid out, and for its states when its batch is put together
        self._record = lru_cache(maxsize=_AT_HAND)(cache.record)

    def keys(self, index: int, rule: Rule) -> list[tuple[int, int]]:
        return [(piece, end) for piece, end in self._keys(index, rule)[1]]

    def _keys(self, index: int, rule: Rule) -> tuple[Tensor | None, list[list[int]]]:
        """Which sites of the record belong to a rule (None: those of its logits), and their keys."""
        record = self._record(self.rows[index].id)
        if rule == "predictions":
            return None, record.logits.keys.tolist() if record.logits is not None else []
        ours = (record.keys[:, 0] == self._numbers[rule]).nonzero()[:, 0]
        return ours, record.keys[ours, 1:].tolist()

    def teacher_side(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        return {}

    def comparison(self, term: str, student: Places, lessons: Sequence[Lesson], side: Any) -> Comparison:
        rule = self.rules[term]
        numbers = [[number for _, number in lesson.pairs[rule]] for lesson in lessons]
        records = [self._record(self.rows[lesson.place].id) for lesson in lessons]
        if rule == "predictions":
            return Comparison(student, words=_words(records, numbers))
        columns = [self._columns[layer] for _, layer in self.objective.layer_pairs[term]]
        states = []
        for record, lesson, chosen in zip(records, lessons, numbers, strict=True):
            ours, _ = self._keys(lesson.place, rule)
            assert ours is not None
            states.append(record.states[ours[torch.tensor(chosen, dtype=torch.int64)]][:, columns])
        return Comparison(student, states=torch.cat(states))


def _words(records: Sequence[Record], numbers: Sequence[Sequence[int]]) -> TopLogits | SampledLogits:
    """What was kept of the teacher's distributions, at the chosen positions of each record."""
    kept = [record.logits for record in records]
    chosen = [torch.tensor(picked, dtype=torch.int64) for picked in numbers]

    def of(name: str) -> Tensor:
        return torch.cat([getattr(logits, name)[places] for logits, places in zip(kept, chosen, strict=True)])

    if isinstance(kept[0], SampledRecord):
        return SampledLogits(of("ids"), of("entropy"))
    return TopLogits(of("ids"), of("log_probs"), of("tail"))
