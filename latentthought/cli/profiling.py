"""Where a training step's time goes, by stage and part.

    data        the next batch is waited for, and brought to the device
    own text    the student writes its own rows (`teacher.on_policy`)
    teacher     a live teacher reads its side of the batch
    prefix, thoughts, rest      the passes over the columns before the thoughts, over thought columns, and over all that follows;
                the last thought shares its pass with the rest, and a stage of words is `rest` alone
    chain       the whole chain of thought, where the model reads that too
    head        head and cross-entropy; comparison: with a teacher's states or words; spelling: by auxiliary decoders
    other       whatever remains of the forward: embedding, blending, what an engine adds
    backward    with clipping, and with what is not kept and computed again (checkpointing, chunks of a large head)
    optimizer, reports (validation too), saving

The parts of a forward come from marks in the model (`model.spans`), the others from hooks and callbacks at the borders of a
step. At each of them a CPU's clock is read; on a CUDA device an event is recorded, which waits for nothing, and read when the
step is over. Rejected: waiting for the device at every mark (thoughts are small passes, and a GPU works one off while the next
is being launched), and torch's profiler, whose table of operators answers another question and slows small models down
several times.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback

# in the order of a step
PARTS = (
    *("data", "own text", "teacher", "prefix", "thoughts", "rest", "chain", "head", "comparison", "spelling"),
    *("other", "backward", "optimizer", "reports", "saving"),
)
# columns of every table; the others appear where a stage has them
_ALWAYS = ("data", "prefix", "thoughts", "rest", "head", "other", "backward", "optimizer")
# the first steps of a run allocate memory and compile kernels
SKIPPED_STEPS = 2
FILE = "profile.json"


class StepTimes(TrainerCallback):
    """Adds up seconds by stage and part: a transformers callback, and a listener of `model.spans`.

    seconds, steps: by stage. timed: False where the run's device cannot be timed; `say` is then told so, once.
    """

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        self.seconds: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(PARTS, 0.0))
        self.steps: dict[str, int] = defaultdict(int)
        self.timed = False
        self._say = say
        self._facts: dict[str, Any] = {}
        self._hooks: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        self._part: str | None = None  # what time is going to; None before the first step
        self._since: Any = None
        self._intervals: list[tuple[str, Any, Any]] = []
        self._stage, self._seen, self._stepping = "", 0, False
        self._depth, self._back = 0, ""

    # --- the borders of a step ----------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        from latentthought.training.checkpointing import inside

        self._begin()  # again, where a bad step was rolled back
        clock = _clock_of(args.device)
        self.timed = clock is not None
        if clock is None:
            self._say(
                f"--profile: the parts of a step can be timed on cpu and cuda, not on {args.device.type}: no times"
            )
            return
        self._clock = clock
        self._plan = given["train_dataloader"].dataset.plan
        self._facts = {
            "device": args.device.type,
            "processes": args.world_size,
            "gradient_checkpointing": inside(given["model"]).is_gradient_checkpointing,
            "skipped_steps": SKIPPED_STEPS,
        }
        self._unhook()
        self._hooks = [
            given["model"].register_forward_pre_hook(lambda *unused: self._pass("other")),
            given["model"].register_forward_hook(lambda *unused: self._pass("backward")),
        ]

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _pass(self, part: str) -> None:
        if self._stepping:  # else it is a validation, or the student writes
            self._switch(part)

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self.timed:
            self._stage, self._stepping = self._plan.at(state.global_step).name, True
            self._switch("data")

    def on_substep_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._switch("data")

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._switch("optimizer")
        self._stepping = False

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._switch("reports")

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._part = "saving"  # which is over; what was reported before it has been set apart by on_log
        self._switch("reports")

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._switch("reports")

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._switch("")
        self._settle()
        self._unhook()

    # --- parts within it ----------------------------------------------------------------------------------------------

    def enter(self, part: str) -> None:
        """A part begins. Of parts within parts the outermost counts, and only where a step is getting ready or on its way
        forward: what a validation does is a report."""
        self._depth += 1
        if self._depth > 1 or not self.timed:
            return
        if part == "data":  # with which the step before is over
            self._switch(part)
            self._settle()
            self._back = part
        elif self._part in ("data", "other"):
            self._back = self._part
            self._switch(part)

    def leave(self, part: str) -> None:
        self._depth -= 1
        if self._depth == 0 and self._back:
            self._switch(self._back)
            self._back = ""

    # --- the sum ------------------------------------------------------------------------------------------------------

    def _switch(self, part: str) -> None:
        """From now on time goes to `part`."""
        if not self.timed:
            return
        now = self._clock.now()
        if self._part:
            self._intervals.append((self._part, self._since, now))
        self._part, self._since = part, now

    def _settle(self) -> None:
        """What has been timed so far was one step, from the wait for its batch to its report."""
        if not any(part == "optimizer" for part, _, _ in self._intervals):
            return  # the batch before the first step
        self._seen += 1
        if self._seen > SKIPPED_STEPS:
            self.steps[self._stage] += 1
            for part, start, stop in self._intervals:
                self.seconds[self._stage][part] += self._clock.between(start, stop)
        self._intervals = []

    # --- what is shown ------------------------------------------------------------------------------------------------

    def table(self) -> Any:
        """A rich table: milliseconds of a step and shares, a line a stage; and below it what the shares do not say."""
        from rich.console import Group
        from rich.table import Table

        shown = [
            part
            for part in PARTS
            if part in _ALWAYS or any(seconds[part] for seconds in self.seconds.values())
        ]
        # without lines between them, all columns have room for their names
        table = Table(
            title="where a step's time goes",
            title_justify="left",
            box=None,
            padding=(0, 1, 0, 0),
        )
        table.add_column("stage", min_width=8, overflow="fold")
        for column in ("steps", "ms", *shown):
            table.add_column(column, justify="right", no_wrap=True)
        for stage, steps in self.steps.items():
            parts = self.seconds[stage]
            total = sum(parts.values()) or 1.0
            table.add_row(
                stage,
                str(steps),
                f"{1000 * total / steps:.1f}",
                *(f"{100 * parts[part] / total:.0f} %" if parts[part] else "-" for part in shown),
            )
        return Group(table, *self._notes())

    def _notes(self) -> list[str]:
        notes = [f"without the first {SKIPPED_STEPS} steps; the last thought shares its pass with the rest"]
        if self._facts.get("gradient_checkpointing"):
            notes.append("gradient checkpointing: backward has the passes in it that it computes again")
        if self._facts.get("processes", 1) > 1:
            notes.append(
                "times of the first process; where it waits for the others, its part is the longer for it"
            )
        return notes

    def write(self, folder: Path) -> None:
        """The sums as `profile.json` in the run folder: seconds by stage and part, of so many steps."""
        from latentthought.evaluation.samples import write_json

        stages = {
            stage: {"steps": steps, "seconds": {part: s for part, s in self.seconds[stage].items() if s}}
            for stage, steps in self.steps.items()
        }
        write_json(folder / FILE, {"version": 1, **self._facts, "stages": stages})


class _Clock(Protocol):
    def now(self) -> Any: ...

    def between(self, start: Any, stop: Any) -> float: ...


def _clock_of(device: torch.device) -> _Clock | None:
    """None for a device whose work goes on while the host's clock is read."""
    clocks: dict[str, type[_Clock]] = {"cpu": _HostClock, "cuda": _CudaClock}
    return clocks[device.type]() if device.type in clocks else None


class _HostClock:
    def now(self) -> float:
        return time.perf_counter()

    def between(self, start: float, stop: float) -> float:
        return stop - start


class _CudaClock:
    """Events in the order of the device's own work."""

    def now(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: torch.cuda.Event, stop: torch.cuda.Event) -> float:
        stop.synchronize()
        return start.elapsed_time(stop) / 1000
