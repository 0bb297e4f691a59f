"""Where a step of transformers' loop begins and ends, which it tells its callbacks only."""

from __future__ import annotations

from typing import Any, Protocol

from transformers import TrainerCallback


class Stepping(Protocol):
    """What has something to do before and after every step; `end_step` says whether to save, and whether to stop."""

    def begin_step(self, step: int) -> None: ...

    def end_step(self, done: int) -> tuple[bool, bool]: ...


class StepFlow(TrainerCallback):
    """Hands the trainer the beginning and the end of every step."""

    def __init__(self, trainer: Stepping) -> None:
        self._trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self._trainer.begin_step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        control.should_save, stop = self._trainer.end_step(state.global_step)
        control.should_training_stop = control.should_training_stop or stop
