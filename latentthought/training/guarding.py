"""How a trainer deals with bad steps; `training.incidents` says which they are, and what there is to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentthought.model.sharding import at_hand
from latentthought.training import checkpoints
from latentthought.training.checkpointing import CheckpointingTrainer
from latentthought.training.dataset import StagedDataset
from latentthought.training.incidents import (
    INCIDENTS_FILE,
    Incident,
    IncidentLog,
    Kind,
    RolledBack,
    StepGuard,
    stopped,
)
from latentthought.training.progress import Progress
from latentthought.training.validation import undisturbed


class GuardedTrainer(CheckpointingTrainer):
    """The part of `LatentThoughtTrainer` that judges steps."""

    guard: StepGuard
    stop_requested: bool
    progress: Progress
    train_dataset: StagedDataset
    _judged = -1
    _found: tuple[Kind, float, float | None] | None = None

    def _begin_guarding(self) -> None:
        """Once everything else is made: how often the run has gone back, and which rows that leaves out."""
        self._slots: list[int] = []
        self._writes_own_text = False
        self.guard = StepGuard(self.settings.bad_steps, self._over_ranks, self.args.device)
        self.incidents = IncidentLog(Path(self.args.output_dir) / INCIDENTS_FILE)
        self.train_dataset.skipped_ahead = self.incidents.skipped_ahead()
        self.guard.rolled_back = len(self.train_dataset.skipped_ahead)

    def _over_ranks(self, values: Tensor) -> Tensor:
        return values if self.accelerator.num_processes == 1 else self.accelerator.reduce(values, "sum")

    def _asked_to_stop(self) -> bool:
        """Whether any process had been asked to when they agree on it; all of them come to the same answer."""
        if self.accelerator.num_processes == 1:
            return self.stop_requested
        asked = torch.tensor(float(self.stop_requested), device=self.args.device)
        agreed = bool(self._over_ranks(asked) > 0)
        # never back to False: a signal that came while the processes agreed counts at the next step
        if agreed:
            self.stop_requested = True
        return agreed

    def _gather(self, values: Tensor) -> Tensor:
        return values if self.accelerator.num_processes == 1 else self.accelerator.gather(values)

    def create_optimizer(self, *arguments: Any, **keywords: Any) -> torch.optim.Optimizer:
        """As Trainer's; where steps are judged at once, its update waits for the judgement."""
        optimizer = super().create_optimizer(*arguments, **keywords)
        if self.guard.settings.at_once:
            optimizer.register_step_pre_hook(self._before_update)
        return optimizer

    def _guard_micro_batch(self, inputs: dict[str, Any], share: Tensor, first: bool) -> None:
        if first:
            self._slots.clear()
            if self.guard.settings.at_once:
                self.recorder.begin_step()
        rows = len(inputs["input_ids"])
        self._slots += range(inputs["slot"], inputs["slot"] + rows)
        self._writes_own_text = inputs.get("written") is not None
        self.guard.add(share, first)

    # --- judged at once -----------------------------------------------------------------------------------------------

    def _before_update(self, optimizer: torch.optim.Optimizer, *unused: Any) -> None:
        """Judge the step, once however often an engine calls the optimizer in it; a bad one finds no gradients."""
        step = self.state.global_step
        if step != self._judged:
            self._judge(step, self._gradient_norm(optimizer))
        if self._found is not None:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    def _judge(self, step: int, norm: Tensor | float) -> None:
        moment = self.train_dataset.plan.at(step)
        comparable = moment.laid_out == moment.stage and not self._writes_own_text
        self._judged, self._found = step, self.guard.judge(norm, comparable)

    def _gradient_norm(self, optimizer: torch.optim.Optimizer) -> Tensor | float:
        """Of this rank's gradients, or of all of them; under fp16 the loss scale has looked already."""
        if self.args.fp16:
            return 0.0
        engines = getattr(getattr(self.model_wrapped, "optimizer", None), "_global_grad_norm", None)
        if engines is not None:
            return engines
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        return torch.nn.utils.get_total_norm(gradients)

    def _settle_step(self, done: int) -> bool:
        """After a step whose update was withheld: write it down, and do what the policy says. Whether there was an update."""
        if self.guard.settings.at_once and self._judged != done - 1:
            # DeepSpeed, and the loss scale of fp16, leave a step out by themselves where a gradient is not finite
            self._judge(done - 1, 0.0 if self.args.fp16 else float("nan"))
        if self._found is None:
            return True
        (kind, loss, expected), self._found = self._found, None
        step, exhausted = self._judged, self.guard.exhausted
        action = self.guard.action_for(kind)
        back_to = None
        if action == "roll_back":
            last = checkpoints.newest(Path(self.args.output_dir), lambda line: None)
            back_to = checkpoints.step_of(last) if last is not None else 0
        suspects = sorted(self._row_losses(), key=lambda row: _badness(row[1]), reverse=True)
        stage = self.train_dataset.plan.at(step).name
        incident = Incident(step, stage, kind, action, loss, expected, suspects, len(suspects), back_to)
        self._report_incident(incident)
        if action == "stop":
            raise stopped(incident, exhausted)
        if action == "roll_back":
            self.accelerator.wait_for_everyone()  # all of them are going to read what the first one has written
            raise RolledBack(incident, self._asked_to_stop())
        self.guard.skipped += 1
        self.recorder.forget_step()
        return False

    def _report_incident(self, incident: Incident) -> None:
        if self.is_world_process_zero():
            self.incidents.write(incident)
            done = {"skip": "left out", "roll_back": f"back to step {incident.back_to}", "stop": "stopped"}
            self.progress.say(f"{incident.describe()}: {done[incident.action]}")

    def _row_losses(self) -> list[tuple[str, float | None]]:
        """Id and loss of every row of the step, over all ranks, each row by itself and in evaluation mode.

        Losses of the student's own text are None: a row would be written anew.
        """
        numbers = torch.tensor(self._slots, dtype=torch.float64, device=self.args.device)
        if self._writes_own_text:
            losses = torch.full_like(numbers, float("nan"))
        else:
            with at_hand(self.model), undisturbed(self.model):
                losses = torch.stack([self._row_loss(slot) for slot in self._slots])
        gathered = self._gather(torch.stack([numbers, losses], 1)).tolist()
        known = not self._writes_own_text
        return [(self._row_id(int(slot)), loss if known else None) for slot, loss in gathered]

    def _row_loss(self, slot: int) -> Tensor:
        batch = self._prepare_inputs(self.data_collator([self.train_dataset[slot]]))
        with self.compute_loss_context_manager():
            loss: Tensor = self.compute_loss(self.model_wrapped, batch)
        return loss.detach().double() / self.accelerator.num_processes

    def _row_id(self, slot: int) -> str:
        return self.train_dataset[slot].reading.row.id

    # --- noticed later ------------------------------------------------------------------------------------------------

    def _guard_step(self, done: int, norm: Tensor | float | None, due: bool) -> None:
        """After a step that nobody judged: note whether it was bad, and stop where a line or a checkpoint is due."""
        if self.guard.settings.at_once:
            return
        self.guard.note(done - 1, norm if not self.args.fp16 else None)
        found = self.guard.first_bad(self._gather) if due else None
        if found is None:
            return
        step, loss = found
        rows = self.settings.batch_size
        suspects = [(self._row_id(slot), None) for slot in range(step * rows, (step + 1) * rows)]
        stage = self.train_dataset.plan.at(step).name
        incident = Incident(step, stage, "not_finite", "stop", loss, None, suspects, rows)
        self._report_incident(incident)
        raise stopped(incident)


def _badness(loss: float | None) -> float:
    return float("inf") if loss is None or loss != loss else loss
