"""What the teacher has to say about each row, joined with the row as the student reads it.

The student's row changes from stage to stage (steps become thoughts), the teacher's reading of it never does. So the teacher's
side is fixed before the run: readings in its own tokenizer, or records of a cache. For every slot both sides' sites are found
and joined by key (`objective.alignment`); a batch then holds index tensors, and nothing is searched on the device.
Rejected: joining by position or by step number of the run (EasyDistill's index by step breaks as soon as accumulation, length
groups or a resume change the order); example ids cannot be mixed up. And keeping the teacher's sites: a shuffled run comes back
to a row an epoch later, and until then they are dozens of kilobytes a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed

from latentthought.data.encoding import Encoded
from latentthought.distillation.cache.records import LogitsRecord, SampledRecord
from latentthought.objective.alignment import Reading, Rule, Sites, align, keys_of, sites
from latentthought.objective.comparison import Comparison
from latentthought.objective.divergence import SampledLogits, TopLogits
from latentthought.objective.places import Places
from latentthought.objective.terms import rule_of
from latentthought.objective.total import Objective
from latentthought.thoughts.layout import Row

if TYPE_CHECKING:
    from latentthought.distillation.cache.store import TeacherStateCache

_SHOWN = 5
# what is known of a row under a rule, in rising order: the higher counts
_UNSEEN, _EMPTY, _COMPARED = 0, 1, 2


class Lesson(NamedTuple):
    """What one slot of a run compares: the example's place, and for each rule student's and teacher's sites, pair by pair."""

    place: int
    pairs: Mapping[Rule, tuple[Sites, Sites]]


class Teaching(ABC):
    """Makes lessons, and batches of them.

    objective: says which terms look at the teacher. rows: the student's examples, encoded with spans, in the order of the run.
    """

    def __init__(self, objective: Objective, rows: Sequence[Encoded]) -> None:
        self.objective, self.rows = objective, rows
        self.rules = {term.name: rule for term in objective.terms if (rule := rule_of(term)) is not None}
        self._seen: dict[Rule, bytearray] = {rule: bytearray(len(rows)) for rule in self.rules.values()}

    @abstractmethod
    def sites(self, index: int, rule: Rule) -> Sites:
        """The teacher's sites of an example; their positions are places where `comparison` finds them."""

    @abstractmethod
    def teacher_side(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        """What a batch holds of the teacher, `comparisons` apart."""

    @abstractmethod
    def comparison(self, term: str, student: Places, lessons: Sequence[Lesson], side: Any) -> Comparison:
        """The pairs of one term. side: what `teacher_side` gave."""

    def lesson(self, index: int, row: Row) -> Lesson:
        """The pairs of example `index` when the student reads it as `row`."""
        reading, pairs = Reading(row, self.rows[index]), {}
        for rule, seen in self._seen.items():
            mine, theirs = sites(reading, rule), self.sites(index, rule)
            chosen, partners = align(mine.keys_N, theirs.keys_N)
            pairs[rule] = mine.at(chosen), theirs.at(partners)
            seen[index] = max(seen[index], _COMPARED if len(chosen) else _EMPTY)
        return Lesson(index, pairs)

    def collate(self, lessons: Sequence[Lesson], before: Sequence[int]) -> dict[str, Any]:
        """What a batch needs beside the student's rows. before: columns of padding before each of them."""
        side = self.teacher_side(lessons)
        students = {
            rule: Places.in_batch([lesson.pairs[rule][0] for lesson in lessons], before)
            for rule in self._seen
        }
        comparisons = {
            term: self.comparison(term, students[rule], lessons, side) for term, rule in self.rules.items()
        }
        side.pop("before", None)
        return {**side, "comparisons": comparisons}

    def forget(self) -> None:
        """Start the account of `report` anew."""
        self._seen = {rule: bytearray(len(self.rows)) for rule in self._seen}

    def report(self) -> str:
        """One line about the rows that had nothing to compare at any stage they were read at, with the first of their ids;
        empty where all had. Under torch's distributed about the rows of all processes, which call it together."""
        empty: dict[str, list[Rule]] = {}
        for rule, seen in _of_all(self._seen).items():
            for index in (np.frombuffer(seen, np.uint8) == _EMPTY).nonzero()[0]:
                empty.setdefault(self.rows[index].id, []).append(rule)
        if not empty:
            return ""
        shown = ", ".join(f"{id} ({', '.join(rules)})" for id, rules in list(empty.items())[:_SHOWN])
        more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
        return (
            f"{len(empty)} rows had no position that student and teacher share, at any stage: {shown}{more}"
        )


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

    def upon(self, rows: Sequence[Encoded], readings: Sequence[Reading]) -> LiveTeaching:
        """The same about other rows."""
        return LiveTeaching(self.objective, rows, readings, self._collate, self._key)

    def sites(self, index: int, rule: Rule) -> Sites:
        return sites(self.readings[index], rule)

    def teacher_side(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        batch = self._collate([self.readings[lesson.place].row for lesson in lessons])
        before = batch.pop("before")
        batch.pop("ids", None)
        return {self._key: batch, "before": before}

    def comparison(self, term: str, student: Places, lessons: Sequence[Lesson], side: Any) -> Comparison:
        theirs = [lesson.pairs[self.rules[term]][1] for lesson in lessons]
        return Comparison(student, Places.in_batch(theirs, side["before"]))


class CachedTeaching(Teaching):
    """A teacher whose states were stored beforehand. A lesson reads their keys; the states, when its batch is put together,
    and no others than it compares."""

    def __init__(self, objective: Objective, rows: Sequence[Encoded], cache: TeacherStateCache) -> None:
        super().__init__(objective, rows)
        spec = cache.manifest.spec
        self._cache = cache
        self._numbers = {rule: number for number, rule in enumerate(spec.rules)}
        self._columns = {layer: column for column, layer in enumerate(spec.layers)}

    def sites(self, index: int, rule: Rule) -> Sites:
        """Sites at places of the example's record: of its states, or under `predictions` of its distributions."""
        name = self.rows[index].id
        if rule == "predictions":
            keys_N2 = self._cache.logit_keys(name).numpy()
            places_N = np.arange(len(keys_N2))
        else:
            keys_P3 = self._cache.keys(name).numpy()
            places_N = (keys_P3[:, 0] == self._numbers[rule]).nonzero()[0]
            keys_N2 = keys_P3[places_N, 1:]
        return Sites(places_N, places_N + 1, keys_of(keys_N2[:, 0], keys_N2[:, 1]))

    def teacher_side(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        return {}

    def comparison(self, term: str, student: Places, lessons: Sequence[Lesson], side: Any) -> Comparison:
        rule, names = self.rules[term], [self.rows[lesson.place].id for lesson in lessons]
        places = [lesson.pairs[rule][1].starts_N for lesson in lessons]
        if rule == "predictions":
            return Comparison(student, words=_words(map(self._cache.logits, names), places))
        columns = [self._columns[layer] for _, layer in self.objective.layer_pairs[term]]
        states = [
            self._cache.states(name, chosen.tolist(), columns)
            for name, chosen in zip(names, places, strict=True)
        ]
        return Comparison(student, states=torch.cat(states))


def _of_all(seen: dict[Rule, bytearray]) -> dict[Rule, bytearray]:
    """What all processes have seen together."""
    if not distributed.is_initialized():
        return seen
    everyone: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, seen)
    return {
        rule: bytearray(np.maximum.reduce([np.frombuffer(one[rule], np.uint8) for one in everyone]).tobytes())
        for rule in seen
    }


def _words(kept: Iterable[LogitsRecord | None], places: Sequence[np.ndarray]) -> TopLogits | SampledLogits:
    """What was kept of the teacher's distributions, at the chosen places of each record."""
    kept = list(kept)

    def of(name: str) -> Tensor:
        picked = zip(kept, map(torch.from_numpy, places), strict=True)
        return torch.cat([getattr(logits, name)[chosen] for logits, chosen in picked])

    if isinstance(kept[0], SampledRecord):
        return SampledLogits(of("ids"), of("entropy"))
    return TopLogits(of("ids"), of("log_probs"), of("tail"))
