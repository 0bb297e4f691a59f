"""Rows of unequal length become one rectangle in which thoughts share columns.

With sequential feedback every thought column costs a forward pass, so all rows think in the same columns: a row is shifted
right until its last thought stands in the last thought column, and padded on both sides. How many columns there are is
the stage's business and never the batch's: every rank then runs the same passes, and nothing asks the device which.
Where nothing is fed back column by column (words only, pause tokens, soft mix) rows are padded on the right only.
Rejected: left padding throughout (a batch then costs longest prompt + longest rest even where nothing has to be aligned).
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from typing import Any

import torch

from latentthought.data.curriculum import Curriculum
from latentthought.thoughts.layout import IGNORED, LABEL_BIT, REGION_BITS, THOUGHT_BIT, Region, Row


class Collator:
    """Makes batches of one stage: `collator(rows, stage=2, mix_ratio=0.5)`.

    pad_id: id written at padding (never seen by the model: masked). pad_to_multiple_of: round the width up, on the right.
    """

    def __init__(self, pad_id: int, curriculum: Curriculum, *, pad_to_multiple_of: int | None = None):
        self.pad_id = pad_id
        self.curriculum = curriculum
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, rows: Sequence[Row], stage: int, mix_ratio: float = 1.0) -> dict[str, Any]:
        """The batch of one stage, as arguments of the model's forward and what belongs beside them.

        input_ids, labels, position_ids, regions: (B, T) int64. attention_mask: (B, T) int64. thought_mask: (B, T) bool.
        thought_columns: (start, stop), `stop - start` = the stage's columns; (0, 0) when the stage feeds nothing back; None
        for soft_mix, whose thoughts are where the mask says. mix_ratio: float. feedback, jacobi_iterations: the stage's.
        Beside them: regions, ids (list of the rows' ids), and before (list: columns of padding put before each row).
        """
        settings = self.curriculum.expand()[stage]
        columns = self.curriculum.columns(stage)
        batch = collate(rows, self.pad_id, columns, self.pad_to_multiple_of)
        batch.update(
            mix_ratio=mix_ratio, feedback=settings.feedback, jacobi_iterations=settings.jacobi_iterations
        )
        return batch


def collate(
    rows: Sequence[Row], pad_id: int, columns: int | None, pad_to_multiple_of: int | None = None
) -> dict[str, Any]:
    """Pad rows into tensors, their last thoughts in one column; see `Collator.__call__`.

    A row with fewer thoughts than `columns` fills the first of them with the end of its prompt: rows have no holes.
    """
    if columns:
        # the first thought needs a position before it, also in a batch of prompts shorter than the thoughts they lack
        stop = max(columns + 1, max(row.pivot for row in rows))
        before = [stop - row.pivot for row in rows]
        assert all(row.thoughts <= columns for row in rows), "a row of a later stage in this stage's batch"
    else:
        stop, before = 0, [0] * len(rows)
    width = max(left + len(row.ids) for left, row in zip(before, rows, strict=True))
    if pad_to_multiple_of:
        width = -(-width // pad_to_multiple_of) * pad_to_multiple_of

    # flat, and shared with the tensor: torch.tensor on nested lists costs ten times the layout of the rows
    ids, flags = array("q"), bytearray()
    for left, row in zip(before, rows, strict=True):
        right = width - left - len(row.ids)
        ids.extend([pad_id] * left + row.ids + [pad_id] * right)
        flags += bytes(left) + row.flags + bytes(right)
    shape = (len(rows), width)
    input_ids = torch.frombuffer(ids, dtype=torch.int64).view(shape)
    flags_BT = torch.frombuffer(flags, dtype=torch.uint8).view(shape)
    regions_BT = (flags_BT & REGION_BITS).long()
    attention_mask = (regions_BT != int(Region.PAD)).long()
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": torch.where((flags_BT & LABEL_BIT).bool(), input_ids, IGNORED),
        "thought_mask": (flags_BT & THOUGHT_BIT).bool(),
        "regions": regions_BT,
        "position_ids": (attention_mask.cumsum(-1) - 1).clamp_(min=0),
        "thought_columns": None if columns is None else (stop - columns, stop),
        "ids": [row.id for row in rows],
        "before": before,
    }


def grouped_order(lengths: Sequence[int], batch_size: int, seed: int, *, groups: int = 50) -> list[int]:
    """A shuffled order of all examples in which the members of a batch have similar lengths; a pure function of its arguments.

    Shuffles, sorts by length within runs of `groups` batches, then shuffles the batches. What does not fill a batch is
    drawn first, so that it is not always the longest rows, and stands last.
    """
    rng = random.Random(seed)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    whole = len(order) - len(order) % batch_size
    span = batch_size * groups
    batches = []
    for start in range(0, whole, span):
        run = sorted(order[start : min(start + span, whole)], key=lambda index: lengths[index])
        batches += [run[i : i + batch_size] for i in range(0, len(run), batch_size)]
    rng.shuffle(batches)
    return [index for batch in batches for index in batch] + order[whole:]
