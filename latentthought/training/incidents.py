"""Steps that go wrong: a loss or gradient that is not a number, or a loss that jumps; and what a run does about them.

    stop        end with exit code 1 and the rows of the step; the checkpoint before it stays as it is
    skip        the step is counted, but its update is not made: weights and moments stay as they are
    roll_back   go back to the last checkpoint, and on from there with the rows that follow the bad step's, as PaLM's authors
                did (arXiv 2204.02311, section 5.1); the rows in between are seen no more in that epoch

A jump is a loss above the median of the last losses of the same leg by more than `threshold` robust standard deviations (1.4826
times the median absolute deviation). The update is withheld inside the optimizer's own step, by taking its gradients away, which
holds for every engine. Every incident is a line of `incidents.jsonl`, with the rows that the loss comes from.
Cost: `stop` alone is noticed on the device, and read when a line or a checkpoint is due anyway; to skip or roll back, the host
has to know before the update, which is one wait for the device a step.
Rejected: leaving a batch's worst rows out (the mean is then of another batch on every rank), and lowering the rate by itself.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from latentthought.config import Config
from latentthought.errors import LatentThoughtError
from latentthought.training.monitor import MetricsFile, Reduce

INCIDENTS_FILE = "incidents.jsonl"
Kind = Literal["not_finite", "spike"]
Action = Literal["stop", "skip", "roll_back"]
# one tensor of every rank, put together along its first dimension
Gather = Callable[[Tensor], Tensor]

_SHOWN = 8
# losses of a leg before any of them can be a jump
_FEWEST = 16
_ROBUST = 1.4826


class BadSteps(Config):
    """What to do about a bad step; see `training.incidents`.

    not_finite: of a loss or gradient that is not a number (under fp16 the loss scale sees to gradients).
    spike: of a loss that jumps; `ignore` does not look for jumps.
    threshold: robust standard deviations above the median that are a jump. window: steps whose losses it goes by.
    limit: incidents of a run, after which it stops whatever the policy.
    """

    not_finite: Action = "stop"
    spike: Literal["ignore", "stop", "skip", "roll_back"] = "ignore"
    threshold: float = Field(10.0, gt=0.0)
    window: int = Field(64, ge=_FEWEST)
    limit: int = Field(10, gt=0)

    @property
    def at_once(self) -> bool:
        """Whether each step has to be judged before its update."""
        return self.not_finite != "stop" or self.spike != "ignore"


@dataclass(frozen=True)
class Incident:
    """One bad step. step: its index from 0. expected: the median that a jump is measured by. suspects: (id, own loss) of the
    step's rows, worst first; losses are None where they were not asked for. rows: how many the step had. back_to: the steps
    that were done at the checkpoint that the run goes back to."""

    step: int
    stage: str
    kind: Kind
    action: Action
    loss: float
    expected: float | None = None
    suspects: Sequence[tuple[str, float | None]] = ()
    rows: int = 0
    back_to: int | None = None

    def describe(self) -> str:
        """One sentence for a person."""
        what = f"the loss is {self.loss:.4g}"
        if self.kind == "not_finite" and math.isfinite(self.loss):
            what = "a gradient is not finite"
        elif self.expected is not None:
            what += f", and was about {self.expected:.4g} before"
        shown = ", ".join(
            name if loss is None else f"{name} (loss {loss:.4g})" for name, loss in self.suspects[:_SHOWN]
        )
        more = f" and {self.rows - _SHOWN} more" if self.rows > _SHOWN else ""
        return f"{what} at step {self.step + 1} (stage {self.stage}); rows {shown}{more}"

    def line(self) -> dict[str, Any]:
        """Plain values for `incidents.jsonl`."""
        return {
            "step": self.step + 1,
            "stage": self.stage,
            "kind": self.kind,
            "action": self.action,
            "loss": self.loss,
            "expected": self.expected,
            "rows": [
                {"id": name, "loss": None if loss is None or not math.isfinite(loss) else loss}
                for name, loss in self.suspects
            ],
            "back_to": self.back_to,
        }


class RolledBack(Exception):
    """The run goes back to its last checkpoint; what is to be left out stands in `incidents.jsonl`."""

    def __init__(self, incident: Incident, asked_to_stop: bool = False) -> None:
        super().__init__(incident.describe())
        self.incident, self.asked_to_stop = incident, asked_to_stop


class StepGuard:
    """Judges every step.

    Args:
        settings: the policy. reduce: sums a tensor over the ranks. device: where values are kept.
    """

    def __init__(self, settings: BadSteps, reduce: Reduce, device: torch.device) -> None:
        self.settings = settings
        self._reduce, self._device = reduce, device
        self._losses: deque[float] = deque(maxlen=settings.window)
        self.skipped = self.rolled_back = 0
        self._loss: Tensor | float = 0.0
        # its step, and this rank's share of its loss
        self._first_bad = torch.tensor([-1.0, 0.0], dtype=torch.float64, device=device)

    def add(self, share: Tensor, first: bool) -> None:
        """Take in a micro-batch's share of the step's loss (of this rank). first: it begins the step."""
        self._loss = share.detach().double() + (0.0 if first else self._loss)

    def start_leg(self) -> None:
        """Losses of another stage say nothing about this one."""
        self._losses.clear()

    # --- noticed later ------------------------------------------------------------------------------------------------

    def note(self, step: int, norm: Tensor | float | None) -> None:
        """After a step: remember on the device whether it was bad. norm: of its gradient, where it was measured."""
        loss = torch.as_tensor(self._loss, dtype=torch.float64, device=self._device)
        bad = ~torch.isfinite(loss)
        if norm is not None:
            bad = bad | ~torch.isfinite(whole_norm(norm, self._device))
        now = torch.stack([torch.full_like(loss, step), loss])
        self._first_bad = torch.where(bad & (self._first_bad[0] < 0), now, self._first_bad)

    def first_bad(self, gather: Gather) -> tuple[int, float] | None:
        """The first bad step of any rank since the start and its loss (finite where only a gradient was not), or None.
        Waits for the device."""
        found = [(int(step), loss) for step, loss in gather(self._first_bad[None]).tolist() if step >= 0]
        if not found:
            return None
        step = min(found)[0]
        return step, sum(loss for at, loss in found if at == step)

    # --- judged at once -----------------------------------------------------------------------------------------------

    def judge(self, norm: Tensor | float, comparable: bool) -> tuple[Kind, float, float | None] | None:
        """Before the update: what is wrong with the step, its loss, and what was expected; None where nothing is.

        norm: of this rank's gradients. comparable: whether its loss may be compared with those before it (not that of a batch
        that replays another stage). Waits for the device; all ranks come to the same judgement.
        """
        finite = torch.isfinite(whole_norm(norm, self._device))
        mine = torch.stack([torch.as_tensor(self._loss, device=self._device), (~finite).double()])
        loss, bad = self._reduce(mine).tolist()
        if bad or not math.isfinite(loss):
            return "not_finite", loss, None
        if not comparable:
            return None
        expected = self._jumps(loss)
        if expected is not None:
            return "spike", loss, expected
        self._losses.append(loss)
        return None

    def _jumps(self, loss: float) -> float | None:
        """The median that a loss jumps above, or None where it does not."""
        if self.settings.spike == "ignore" or len(self._losses) < _FEWEST:
            return None
        middle = statistics.median(self._losses)
        deviation = _ROBUST * statistics.median(abs(value - middle) for value in self._losses)
        # losses that hardly move would call any ripple a jump
        deviation = max(deviation, 0.01 * abs(middle))
        return middle if loss > middle + self.settings.threshold * deviation else None

    def action_for(self, kind: Kind) -> Action:
        """The policy, until there are too many incidents."""
        action = self.settings.not_finite if kind == "not_finite" else self.settings.spike
        assert action != "ignore"
        return "stop" if self.exhausted else action

    @property
    def exhausted(self) -> bool:
        """Whether there have been as many incidents as the run may have."""
        return self.skipped + self.rolled_back >= self.settings.limit

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint; how often the run has gone back stands in its log alone."""
        return {"losses": list(self._losses), "skipped": self.skipped}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._losses.extend(state["losses"])
        self.skipped = state["skipped"]


@dataclass
class IncidentLog:
    """`incidents.jsonl` of a run."""

    path: Path
    _file: MetricsFile = field(init=False)

    def __post_init__(self) -> None:
        self._file = MetricsFile(self.path)

    def write(self, incident: Incident) -> None:
        self._file.write(incident.line())

    def truncate(self, step: int) -> None:
        """Drop incidents beyond a step that will be met again; a step back is a decision, and stays."""
        self._file.truncate(step, lasting=lambda row: row.get("action") == "roll_back")

    def skipped_ahead(self) -> list[tuple[int, int]]:
        """(step from which on, rows of how many steps are left out) of each time that the run has gone back."""
        back = [row for row in self._file.rows() if row.get("action") == "roll_back"]
        return [(row["back_to"], row["step"] - row["back_to"]) for row in back]


def whole_norm(norm: Tensor | float, device: torch.device) -> Tensor:
    """A gradient's norm as a 0-d tensor, also where FSDP2 has left a part of it on each rank: all of them have to ask."""
    if not isinstance(norm, Tensor):
        return torch.full((), norm, device=device)  # filled in on the device: a copy would wait for it
    return (norm.full_tensor() if hasattr(norm, "full_tensor") else norm).to(device).reshape(())


def stopped(incident: Incident, exhausted: bool = False) -> LatentThoughtError:
    """The error that ends a run. exhausted: there have been too many."""
    key = f"training.bad_steps.{incident.kind}"
    advice = f"go on from the last checkpoint with --resume {key}=skip, or {key}=roll_back"
    if exhausted:
        advice = "this run has had as many bad steps as training.bad_steps.limit allows"
    return LatentThoughtError(
        f"{incident.describe()}. Lower training.learning_rate or clip with training.max_grad_norm; {advice}"
    )
