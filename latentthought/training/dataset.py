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
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from latentthought.data.collation import Collator, grouped_order
from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import Encoded
from latentthought.model.configuration import ThoughtConfig
from latentthought.thoughts.layout import Row, ThoughtTokens
from latentthought.training.optimization import TrainingConfig
from latentthought.training.stages import Moment, StagePlan, epoch_rows


class Slot(NamedTuple):
    """One row of the run: its slot number, where its step stands, and the row laid out."""

    number: int
    moment: Moment
    row: Row


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
    ) -> None:
        self.rows = rows
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

    def __len__(self) -> int:
        return self.plan.longest * self.batch_size

    def __getitem__(self, slot: int) -> Slot:
        step, place = divmod(slot, self.batch_size)
        # a decision never touches a step whose rows are being drawn already
        moment = self._last if self._last is not None and self._last.step == step else self.plan.at(step)
        self._last = moment
        encoded = self.rows[self.example_index(moment, place)]
        rng = random.Random(f"{self.seed} slot {slot}")
        return Slot(slot, moment, self.curriculum.layout(encoded, moment.laid_out, rng, self.tokens))

    def example_index(self, moment: Moment, place: int) -> int:
        """Which example stands at a place of a step's batch."""
        epoch, position = divmod(moment.local_step * self.batch_size + place, self._per_epoch)
        return self._order(moment.leg, epoch)[position]

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
) -> StagedDataset:
    """The slots of a run over encoded rows, for a model that thinks by `thought`."""
    tokens = ThoughtTokens(thought.start_token_id, thought.end_token_id, thought.thought_token_id or 0)
    plan = StagePlan(curriculum, len(rows), settings.batch_size, seed, settings.max_steps)
    return StagedDataset(rows, curriculum, tokens, plan, settings.batch_size, seed, settings.group_by_length)


class StageCollator:
    """Turns slots of one step into the model's arguments.

    Adds to what `data.collation.Collator` gives: `slot`, the number of the first row, which seeds the step's dropout and
    Bernoulli draws; and `moment`.
    """

    def __init__(self, pad_id: int, curriculum: Curriculum) -> None:
        self._collate = Collator(pad_id, curriculum)

    def __call__(self, slots: Sequence[Slot]) -> dict[str, Any]:
        moment = slots[0].moment
        assert all(slot.moment.step == moment.step for slot in slots), "a batch lies within one step"
        batch = self._collate([slot.row for slot in slots], stage=moment.laid_out, mix_ratio=moment.mix)
        del batch["ids"]  # nothing on the device's side reads them
        return {**batch, "slot": slots[0].number, "moment": moment}


def slot_seed(seed: int, slot: int) -> int:
    """Seed of torch's generator for the micro-batch that starts at a slot; independent of what was drawn before."""
    return zlib.crc32(f"{seed} draw {slot}".encode())


def seed_slot(seed: int, slot: int) -> None:
    """Make everything that the model draws for a micro-batch a function of its slot."""
    torch.manual_seed(slot_seed(seed, slot))
