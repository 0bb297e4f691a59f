"""Optimizer settings and the learning rate of every step.

    rate(step) = learning_rate * stage factor * warm-up * stage warm-up * decay

A pure function of the step and of the stage plan, so a resumed run asks it anew instead of restoring a schedule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.training.incidents import BadSteps
from latentthought.training.stages import Moment

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR


class TrainingConfig(Config):
    """What is learnt from: batch, optimizer, learning rate; and when to log and save.

    batch_size: rows of an optimizer step, over all processes and micro-batches.
    warmup_steps: linear warm-up at the start of the run; stage_warmup_steps: at the start of every later stage.
    decay: of the rate over the whole run, to `final_learning_rate` (a share of the rate). With stages that end early the
        length of the run is not known beforehand: let the last stage decay instead (`curriculum.last.decay`).
    max_grad_norm: clip the gradient at this norm; 0 does not clip.
    group_by_length: batches of rows of like length.
    max_steps: stop the run here whatever the stages say, without changing their shape.
    accuracy: report the share of answers, and of whole rows (every word after the thoughts, then the answer), that the model
        predicts without a fault, teacher forced; needed by stages that end early.
    learnt_by: which of the two `advance_at` and `on_collapse` go by. While words remain, the answer can be read off them whatever
        the thoughts hold; the first word after the thoughts cannot. Where words can be put in many ways, go by the answer.
    log_every, save_every: steps; save_every 0 saves at the end only. keep_last: complete checkpoints kept.
    keep_best: and so many of the stage at hand with the highest `best_by`, a score of the validation (`evaluation`).
    final_model: which weights become `model/`: those of the last step, or of the best checkpoint of the last stage.
    gradient_norms: steps between reports of the gradient norm of each term (of a step's first micro-batch, on each process for
        itself; a backward pass a term); 0 reports none.
    bad_steps: what to do about a loss that is not a number, or jumps; see `training.incidents`. A resume may change it.
    report_to: experiment trackers, by their transformers names (wandb, tensorboard, mlflow, ...).
    """

    batch_size: int = Field(32, gt=0)
    learning_rate: float = Field(1e-4, gt=0.0)
    optimizer: Literal["adamw", "adafactor", "sgd"] = "adamw"
    weight_decay: float = Field(0.0, ge=0.0)
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = Field(1e-8, gt=0.0)
    max_grad_norm: float = Field(1.0, ge=0.0)
    warmup_steps: int = Field(0, ge=0)
    stage_warmup_steps: int = Field(0, ge=0)
    decay: Literal["constant", "linear", "cosine"] = "constant"
    final_learning_rate: float = Field(0.0, ge=0.0, le=1.0)
    group_by_length: bool = True
    max_steps: int | None = Field(None, gt=0)
    accuracy: bool = True
    learnt_by: Literal["row", "answer"] = "row"
    log_every: int = Field(10, gt=0)
    save_every: int = Field(500, ge=0)
    keep_last: int = Field(2, gt=0)
    keep_best: int = Field(0, ge=0)
    best_by: str = "accuracy"
    final_model: Literal["last", "best"] = "last"
    gradient_norms: int = Field(0, ge=0)
    bad_steps: BadSteps = BadSteps()
    report_to: tuple[str, ...] = ()
    run_name: str | None = None

    @model_validator(mode="after")
    def _best_is_kept(self) -> TrainingConfig:
        if self.final_model == "best" and not self.keep_best:
            raise ValueError("final_model: best needs the best checkpoint: set keep_best to 1 or more")
        return self

    @model_validator(mode="after")
    def _betas_in_range(self) -> TrainingConfig:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas lie within 0..1, got {self.betas}")
        return self

    def rate_factor(self, moment: Moment) -> float:
        """The learning rate at a moment of the run, as a share of `learning_rate`."""
        factor = moment.rate
        if self.warmup_steps:
            factor *= min(1.0, (moment.step + 1) / self.warmup_steps)
        if self.stage_warmup_steps and moment.leg > 0:
            factor *= min(1.0, (moment.local_step + 1) / self.stage_warmup_steps)
        return factor * self._decayed(moment)

    def _decayed(self, moment: Moment) -> float:
        if self.decay == "constant":
            return 1.0
        done = min(moment.step / moment.nominal_steps, 1.0)
        left = 1.0 - done if self.decay == "linear" else (1.0 + math.cos(math.pi * done)) / 2.0
        return self.final_learning_rate + (1.0 - self.final_learning_rate) * left


def set_rate_step(scheduler: LambdaLR, step: int) -> None:
    """Put a scheduler, and the rates of its optimizer, where they are after `step` steps."""
    scheduler.last_epoch, scheduler._step_count = step, step + 1
    rates = [
        base * factor(step) for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    ]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler._last_lr = rates


def split_groups(
    optimizer: Optimizer, modules: Mapping[str, nn.Module], learning_rates: Mapping[str, float]
) -> None:
    """Move the parameters of named modules into parameter groups with a learning rate of their own.

    modules: by name. learning_rates: of some of them, in absolute terms; warm-up and decay apply to all groups alike.
    """
    for name, rate in learning_rates.items():
        if name not in modules:
            continue
        own = {id(parameter) for parameter in modules[name].parameters()}
        for group in list(optimizer.param_groups):
            moved = [parameter for parameter in group["params"] if id(parameter) in own]
            if moved and len(moved) == len(group["params"]):
                group["lr"] = rate
            elif moved:
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
                settings = {key: value for key, value in group.items() if key not in ("params", "lr")}
                optimizer.add_param_group({**settings, "params": moved, "lr": rate})
