"""A data set whose items are the slots of a whole run.

Slot i belongs to step i // batch_size, and everything about it is a function of i and of the decision log: which example,
laid out as which stage, with which random numbers. A sequential sampler over the slots then walks all stages, and a resumed
run has only to skip to its slot. Examples are encoded once, before the run; laying a row out is a few list joins, cheap
enough to do for every slot anew.
Rejected: a data set built for every stage (a resume has to rebuild and shuffle alike), and random state carried from
batch to batch (a resume would have to replay it).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import Dataset

from latentthought.data.collation import Collator, grouped_order
from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import Encoded
from latentthought.model.configuration import ThoughtConfig
from latentthought.objective.alignment import Reading
from latentthought.objective.spelling import collate_spelling
from latentthought.thoughts.layout import ThoughtTokens
from latentthought.training.optimization import TrainingConfig
from latentthought.training.stages import Moment, StagePlan, epoch_rows

if TYPE_CHECKING:
    from latentthought.distillation.teaching import Lesson, Teaching


class Slot(NamedTuple):
    """One row of the run: its slot number, where its step stands, the row as it is read, and what it compares with a teacher."""

    number: int
    moment: Moment
    reading: Reading
    lesson: Lesson | None = None


class StagedDataset(Dataset):
    """All slots of a run.

    Args:
        rows: the encoded examples.
        curriculum: lays them out.
        tokens: ids of delimiters and placeholder.
        plan: from a step to its stage. Its decision log may grow while the data set is read.
        batch_size: slots of a step (the global batch).
        seed: of the order and of the layouts.
        grouped: batches of rows of like length.
        teaching: finds what each row has to compare with a teacher.
    """

    def __init__(
        self,
        rows: Sequence[Encoded],
        curriculum: Curriculum,
        tokens: ThoughtTokens,
        plan: StagePlan,
        batch_size: int,
        seed: int = 0,
        grouped: bool = True,
        teaching: Teaching | None = None,
    ) -> None:
        self.rows = rows
        self.teaching = teaching
        self.curriculum = curriculum
        self.tokens = tokens
        self.plan = plan
        self.batch_size = batch_size
        self.seed = seed
        # without grouping all lengths count as equal, and the same shuffle serves
        self._lengths = [len(row) if grouped else 0 for row in rows]
        self._order = lru_cache(maxsize=2)(self._epoch_order)
        self._per_epoch = epoch_rows(len(rows), batch_size)
        self._last: Moment | None = None
        # (step from which on, how many steps' rows are left out): a run that went back does not read the same rows again
        self.skipped_ahead: Sequence[tuple[int, int]] = ()

    def __len__(self) -> int:
        return self.plan.longest * self.batch_size

    def __getitem__(self, slot: int) -> Slot:
        step, place = divmod(slot, self.batch_size)
        # a decision never touches a step whose rows are being drawn already
        moment = self._last if self._last is not None and self._last.step == step else self.plan.at(step)
        self._last = moment
        index = self.example_index(moment, place)
        rng = random.Random(f"{self.seed} slot {slot}")
        row = self.curriculum.layout(self.rows[index], moment.laid_out, rng, self.tokens)
        lesson = self.teaching.lesson(index, row) if self.teaching else None
        return Slot(slot, moment, Reading(row, self.rows[index]), lesson)

    def example_index(self, moment: Moment, place: int) -> int:
        """Which example stands at a place of a step's batch."""
        step = moment.local_step + self._skipped_before(moment)
        epoch, position = divmod(step * self.batch_size + place, self._per_epoch)
        return self._order(moment.leg, epoch)[position]

    def _skipped_before(self, moment: Moment) -> int:
        """Steps of the moment's leg whose rows are left out. A way back over the border of two legs leaves out some of either."""
        leg = self.plan.legs[moment.leg]
        return sum(
            max(0, min(start + width, leg.stop) - max(start, leg.start))
            for start, width in self.skipped_ahead
            if moment.step >= start
        )

    def epoch_of(self, step: int) -> float:
        """Epochs shown when `step` steps are done."""
        return step * self.batch_size / len(self.rows)

    def _epoch_order(self, leg: int, epoch: int) -> list[int]:
        return grouped_order(
            self._lengths, self.batch_size, zlib.crc32(f"{self.seed} order {leg} {epoch}".encode())
        )


def staged(
    rows: Sequence[Encoded],
    curriculum: Curriculum,
    thought: ThoughtConfig,
    settings: TrainingConfig,
    seed: int,
    teaching: Teaching | None = None,
) -> StagedDataset:
    """The slots of a run over encoded rows, for a model that thinks by `thought`."""
    plan = StagePlan(curriculum, len(rows), settings.batch_size, seed, settings.max_steps)
    return StagedDataset(
        rows, curriculum, thought.tokens, plan, settings.batch_size, seed, settings.group_by_length, teaching
    )


class StageCollator:
    """Turns slots of one step into the model's arguments.

    Adds to what `data.collation.Collator` gives: `slot`, the number of the first row, which seeds the step's dropout and
    Bernoulli draws; `moment`; with a teacher what `Teaching.collate` gives; and where steps are to be spelled, which.

    Args:
        spelling: names of the terms that spell steps. end_id: the token that ends a step there.
    """

    def __init__(
        self,
        pad_id: int,
        curriculum: Curriculum,
        teaching: Teaching | None = None,
        spelling: Sequence[str] = (),
        end_id: int | None = None,
    ) -> None:
        self._collate = Collator(pad_id, curriculum)
        self._teaching = teaching
        self._spelling, self._end_id = tuple(spelling), end_id

    def __call__(self, slots: Sequence[Slot], teaching: Teaching | None = None) -> dict[str, Any]:
        """teaching: what made the slots' lessons, where it is not the run's own."""
        moment, teaching = slots[0].moment, teaching or self._teaching
        assert all(slot.moment.step == moment.step for slot in slots), "a batch lies within one step"
        readings = [slot.reading for slot in slots]
        batch = self._collate(
            [reading.row for reading in readings], stage=moment.laid_out, mix_ratio=moment.mix
        )
        before = batch.pop("before")
        del batch["ids"]  # nothing on the device's side reads them
        if teaching is not None:
            batch.update(teaching.collate([slot.lesson for slot in slots if slot.lesson], before))
        if self._spelling:
            batch["spelling"] = dict.fromkeys(
                self._spelling, collate_spelling(readings, before, self._end_id)
            )
        return {**batch, "slot": slots[0].number, "moment": moment}


def slot_seed(seed: int, slot: int) -> int:
    """Seed of torch's generator for the micro-batch that starts at a slot; independent of what was drawn before."""
    return zlib.crc32(f"{seed} draw {slot}".encode())


def seed_slot(seed: int, slot: int) -> None:
    """Make everything that the model draws for a micro-batch a function of its slot."""
    torch.manual_seed(slot_seed(seed, slot))
