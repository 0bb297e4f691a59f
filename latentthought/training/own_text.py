"""Steps whose rows end in the student's own text instead of the data's: on-policy distillation inside a run.

The batch of a step is on its way before the weights it is to be written with are there. So it comes as ever, and is written anew
when its step begins: its slots say which rows it has, and `distillation.on_policy` what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

from latentthought.distillation.own_rows import Task
from latentthought.training.dataset import Slot, StageCollator, StagedDataset
from latentthought.training.validation import undisturbed

if TYPE_CHECKING:
    from latentthought.distillation.on_policy import OnPolicy


class OwnText:
    """Writes the micro-batches of the steps that `on_policy` draws.

    dataset, collate: of the run. autocast: the precision that the run computes in.
    """

    def __init__(
        self,
        on_policy: OnPolicy,
        dataset: StagedDataset,
        collate: StageCollator,
        autocast: Callable[[], AbstractContextManager],
    ) -> None:
        self._on_policy, self._dataset, self._collate, self._autocast = on_policy, dataset, collate, autocast

    def __call__(self, model: Any, batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The micro-batches of one step on this process, `written` (B,) the tokens of the student in each row; None where the
        rows are the data's. model: unwrapped; its mode and all random states are as before."""
        moment = batches[0]["moment"]
        if not self._on_policy.applies(moment.step):
            return [{**batch, "written": None} for batch in batches]
        if moment.starts_leg:
            model.measure_scale()  # with which the step will read what is written
        with undisturbed(model), self._autocast():
            return [self._written(model, batch) for batch in batches]

    def _written(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        first, moment = batch["slot"], batch["moment"]
        slots = [self._dataset[first + place] for place in range(len(batch["input_ids"]))]
        tasks = [Task(slot.number, slot.lesson.place, slot.reading.row) for slot in slots if slot.lesson]
        own = self._on_policy.write(model, tasks, moment.mix)
        made = [
            Slot(task.slot, moment, reading, own.teaching.lesson(place, reading.row))
            for place, (task, reading) in enumerate(zip(tasks, own.readings, strict=True))
        ]
        rows = {**self._collate(made, own.teaching), "written": torch.tensor(own.lengths)}
        return send_to_device(rows, batch["input_ids"].device)
