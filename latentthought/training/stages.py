"""The stage plan: from a step of the run to its stage, place in the stage, mix ratio and learning rate.

A run is a row of *legs*; a leg is one stay in a stage. Leg boundaries follow from the stages' lengths and from a log of
*decisions* (a stage ended early, a collapse sent the run back). Everything here is a pure function of (step, decision log):
the log is the only thing that a checkpoint has to hold, and a resumed run, another rank or a prefetched batch gets the
same answer. A decision taken after step index s-1 takes effect at step s+1, because the batch of step s is on its way already.
Rejected: a callback that sets the stage (wrong for the prefetched batch), and one `train()` a stage (checkpoint names collide,
and the optimizer's history is lost where it should be kept).
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from latentthought.data.curriculum import Curriculum, Stage

Reason = Literal["learnt", "collapse"]

# steps between the end of the step after which a decision is taken and the first step that follows it: one batch is
# prefetched
DELAY = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """A leg boundary that was not planned. step: the first step index of the new leg; stage: its stage, or the number of
    stages for the end of the run; rate: factor on the learning rate from then on."""

    step: int
    stage: int
    reason: Reason
    rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Leg:
    """One stay in a stage: step indices start..stop-1; `steps` is what it was planned for."""

    number: int
    stage: int
    start: int
    stop: int
    steps: int
    rate: float
    after_collapse: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a step stands. All counts are from 0.

    leg, stage: numbers; name: the stage's. laid_out: the stage whose layout the step's batch has (an earlier one in replay).
    local_step: step within the leg, leg_steps: its planned length. rate: learning-rate factor of stage, stage decay and
    collapses. mix: the batch's mix ratio; stage_mix: what the stage itself is at, whatever its batch replays, 0 where nothing is
    fed back. nominal_steps: length of the run when every stage lasts as planned.
    """

    step: int
    leg: int
    stage: int
    name: str
    laid_out: int
    local_step: int
    leg_steps: int
    rate: float
    mix: float
    stage_mix: float
    nominal_steps: int

    @property
    def starts_leg(self) -> bool:
        return self.local_step == 0

    @property
    def progress(self) -> tuple[float, float]:
        """Shares of the run and of the stage that are done, each from 0 at its first step to 1 at its planned last."""
        of_run, of_stage = max(self.nominal_steps - 1, 1), max(self.leg_steps - 1, 1)
        return min(self.step / of_run, 1.0), min(self.local_step / of_stage, 1.0)


class StagePlan:
    """Legs of a run.

    Args:
        curriculum: its stages, and what to do about a collapse.
        rows: number of training examples, for stages that last a number of epochs.
        batch_size: rows of an optimizer step.
        seed: decides which steps replay an earlier stage.
        max_steps: cut the run here.
        decisions: a decision log to go on from.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        rows: int,
        batch_size: int,
        seed: int = 0,
        max_steps: int | None = None,
        decisions: Iterable[Decision | Mapping[str, Any]] = (),
    ) -> None:
        self.curriculum = curriculum
        self.stages: tuple[Stage, ...] = tuple(curriculum.expand())
        self.lengths = tuple(stage_steps(stage, rows, batch_size) for stage in self.stages)
        self.seed = seed
        self._cut = max_steps
        self._decisions = [d if isinstance(d, Decision) else Decision(**d) for d in decisions]
        self._rebuild()

    @property
    def nominal_steps(self) -> int:
        """Length of the run when every stage lasts as planned."""
        return self._capped(sum(self.lengths))

    @property
    def longest(self) -> int:
        """The most steps that the run can take: every collapse allowed, each at the end of the costliest stage."""
        collapse = self.curriculum.on_collapse
        total = sum(self.lengths)
        if collapse is not None:
            again = (sum(self.lengths[max(0, s - collapse.back) : s + 1]) for s in range(len(self.lengths)))
            total += collapse.limit * max(again)
        return self._capped(total)

    @property
    def end(self) -> int:
        """Length of the run as decided so far: the first step index that is not run."""
        return self._capped(self.legs[-1].stop)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return tuple(self._decisions)

    def log(self) -> list[dict[str, Any]]:
        """The decision log as plain values."""
        return [asdict(decision) for decision in self._decisions]

    def restore(self, log: Sequence[Mapping[str, Any]]) -> None:
        """Take over the decision log of a checkpoint."""
        self._decisions = [Decision(**entry) for entry in log]
        self._rebuild()

    def decide(self, finished: int, stage: int, reason: Reason, rate: float = 1.0) -> Decision:
        """Record a decision taken when `finished` steps are done; it takes effect one step after the prefetched one."""
        decision = Decision(finished + DELAY, stage, reason, rate)
        assert all(earlier.step < decision.step for earlier in self._decisions), "one decision a leg"
        self._decisions.append(decision)
        self._rebuild()
        return decision

    def leg_at(self, step: int) -> Leg:
        """The leg that a step index lies in; the last one for steps after the end."""
        return self.legs[max(0, bisect.bisect_right(self._starts, step) - 1)]

    def at(self, step: int) -> Moment:
        """Everything about a step index."""
        leg = self.leg_at(step)
        stage = self.stages[leg.stage]
        local = step - leg.start
        laid_out = self.curriculum.pick_stage(leg.stage, random.Random(f"{self.seed} replay {step}"))
        own = stage.mix.ratio(local, leg.steps)
        return Moment(
            step=step,
            leg=leg.number,
            stage=leg.stage,
            name=stage.name,
            laid_out=laid_out,
            local_step=local,
            leg_steps=leg.steps,
            rate=leg.rate * stage.learning_rate * _decayed(stage, local / leg.steps),
            # a replayed stage is as it was when it ended
            mix=own if laid_out == leg.stage else self.stages[laid_out].mix.at(1.0),
            stage_mix=0.0 if self.curriculum.columns(leg.stage) == 0 else own,
            nominal_steps=self.nominal_steps,
        )

    def resets_optimizer(self, step: int) -> bool:
        """Whether the optimizer's moments are forgotten before this step: asked for by its stage, or after a collapse."""
        leg = self.leg_at(step)
        return (
            step == leg.start and step > 0 and (self.stages[leg.stage].reset_optimizer or leg.after_collapse)
        )

    def _capped(self, steps: int) -> int:
        return steps if self._cut is None else min(steps, self._cut)

    def _rebuild(self) -> None:
        legs: list[Leg] = []
        pending = list(self._decisions)
        stage, start, rate, after_collapse = 0, 0, 1.0, False
        while stage < len(self.stages):
            steps = self.lengths[stage]
            stop, following = start + steps, stage + 1
            decision = pending.pop(0) if pending and pending[0].step <= stop else None
            if decision is not None:
                stop, following = decision.step, decision.stage
            legs.append(Leg(len(legs), stage, start, stop, steps, rate, after_collapse))
            after_collapse = decision is not None and decision.reason == "collapse"
            rate *= decision.rate if decision is not None else 1.0
            stage, start = following, stop
        self.legs: tuple[Leg, ...] = tuple(legs)
        self._starts = [leg.start for leg in legs]


def epoch_rows(rows: int, batch_size: int) -> int:
    """Rows that an epoch shows: full batches only, so which few are left out differs from epoch to epoch; all of them when
    they do not fill a single batch."""
    return rows // batch_size * batch_size or rows


def stage_steps(stage: Stage, rows: int, batch_size: int) -> int:
    """Planned steps of a stage."""
    if stage.steps is not None:
        return stage.steps
    assert stage.epochs is not None
    return max(1, math.ceil(stage.epochs * epoch_rows(rows, batch_size) / batch_size - 1e-9))


def _decayed(stage: Stage, done: float) -> float:
    done = min(done, 1.0)
    if stage.decay == "linear":
        return 1.0 - done
    if stage.decay == "cosine":
        return (1.0 + math.cos(math.pi * done)) / 2.0
    return 1.0
