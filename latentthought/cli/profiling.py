"""Where a training step's time goes, by stage: data, forward, backward (loss and clipping too), optimizer, and
what comes between steps.

Clock readings at the borders of a step, by hooks and callbacks, waiting for the device at each of them so that a number means
what it says (which makes a GPU a little slower than without `--profile`). Rejected: torch's profiler, whose table of
operators answers another question and slows small models down several times.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch
from transformers import TrainerCallback

PARTS = ("data", "forward", "backward", "optimizer", "reports", "saving")
# the first steps of a run allocate memory and compile kernels
SKIPPED_STEPS = 2


class StepTimes(TrainerCallback):
    """A transformers callback that adds up seconds by stage and part."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(PARTS, 0.0))
        self.steps: dict[str, int] = defaultdict(int)
        self._since: float | None = None
        self._stage = ""
        self._seen = 0
        self._plan: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._plan = given["train_dataloader"].dataset.plan
        model = given["model"]
        model.register_forward_pre_hook(lambda *unused: self._mark("data"))
        model.register_forward_hook(lambda *unused: self._mark("forward"))

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._stage = self._plan.at(state.global_step).name
        self._mark("data")

    def on_substep_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._mark("backward")

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._mark("backward")

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._mark("reports")

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._mark("saving")

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._mark("optimizer")
        self._seen += 1
        if self._seen > SKIPPED_STEPS:
            self.steps[self._stage] += 1

    def _mark(self, part: str) -> None:
        """Everything since the last mark was `part`."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._since is not None and self._seen >= SKIPPED_STEPS:
            self.seconds[self._stage][part] += now - self._since
        self._since = now

    def table(self) -> Any:
        """A rich table: milliseconds a step and shares, a line a stage."""
        from rich.table import Table

        table = Table(title="where a step's time goes", title_justify="left")
        table.add_column("stage")
        for column in ("steps", "ms a step", *PARTS):
            table.add_column(column, justify="right")
        for stage, steps in self.steps.items():
            parts = self.seconds[stage]
            total = sum(parts.values()) or 1.0
            table.add_row(
                stage,
                str(steps),
                f"{1000 * total / steps:.1f}",
                *(f"{100 * parts[part] / total:.0f} %" for part in PARTS),
            )
        return table
