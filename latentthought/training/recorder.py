"""What happened in the steps since the last line of metrics, and the decisions that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from latentthought.objective.total import ObjectiveValue
from latentthought.thoughts.layout import answer_mask
from latentthought.training.adaptive import LegWatch, Window
from latentthought.training.monitor import (
    METRICS_FILE,
    MetricsFile,
    Reduce,
    RunningMeans,
    Throughput,
    means_of,
)
from latentthought.training.optimization import TrainingConfig
from latentthought.training.stages import Moment, StagePlan


class Recorder:
    """Gathers every micro-batch, makes the rows of `metrics.jsonl`, and asks the watch what to do.

    Args:
        plan, settings: of the run.
        folder: of `metrics.jsonl`.
        device: where sums are kept.
        ranks, reduce: number of processes, and the sum of a vector over them.
    """

    def __init__(
        self,
        plan: StagePlan,
        settings: TrainingConfig,
        folder: Path,
        device: torch.device,
        ranks: int,
        reduce: Reduce,
    ) -> None:
        self.plan, self.settings = plan, settings
        self.file = MetricsFile(folder / METRICS_FILE)
        self.last: dict[str, Any] = {}
        self._ranks, self._reduce = ranks, reduce
        self._means, self._leg_means = RunningMeans(device), RunningMeans(device)
        self._throughput = Throughput()
        # of a run that goes on, as far as its lines tell: what a kill or a way back cost was spent too
        self._seconds = float(self.file.last().get("seconds", 0.0))
        self._before: tuple[RunningMeans, RunningMeans] | None = None
        self._skipped = 0
        self._watch = LegWatch(plan, settings.log_every)

    def begin_step(self) -> None:
        """Remember what was seen before a step that may turn out to be no part of it."""
        self._before = self._means.copy(), self._leg_means.copy()

    def forget_step(self) -> None:
        """The step that has begun is not to count: its update was not made."""
        assert self._before is not None
        self._means, self._leg_means = self._before
        self._skipped += 1

    def observe(self, batch: Mapping[str, Any], output: Any, value: ObjectiveValue, first: bool) -> None:
        """Take in one micro-batch; `first`: it is the first of its step. Waits for nothing."""
        # a part is a share of the step's mean, so the step counts once, however many micro-batches it has
        weight = float(first)
        self._means.add("loss", value.total * self._ranks, weight)
        # a step in which a term has no position says nothing about it
        weights = {name: (count > 0) * weight for name, count in value.counts.items()}
        for name, part in value.parts.items():
            self._means.add(f"loss_{name}", part * self._ranks, weights[name])
        for name, share in value.weighted.items() if len(value.weighted) > 1 else ():
            self._means.add(f"loss_{name}_weighted", share.detach() * self._ranks, weights[name])
        self._throughput.add(batch["attention_mask"].sum())
        moment: Moment = batch["moment"]
        self._means.add("mix_ratio", moment.stage_mix)
        if "written" in batch:
            self._observe_own_text(batch["written"], weight)
        if moment.laid_out != moment.stage:
            return
        if output.monitor is not None:
            thoughts = batch["thought_mask"].sum().double()
            for name in ("rms_ratio", "cosine", "gap"):
                self._means.add(f"thought_{name}", output.monitor[name] * thoughts, thoughts)
        if output.predictions is None:
            return
        if batch.get("written") is None:
            self._observe_accuracy(batch, output.predictions, weight)
        else:
            # no label says whether the student's own text is right; the step has gone by all the same
            self._leg_means.add("right", 0.0, 0.0)
            self._leg_means.add("steps", weight)

    def _observe_own_text(self, lengths: torch.Tensor | None, weight: float) -> None:
        self._means.add("on_policy", 0.0 if lengths is None else weight, weight)
        if lengths is not None:
            self._means.add("own_tokens", lengths.sum(), float(len(lengths)))

    def _observe_accuracy(self, batch: Mapping[str, Any], predictions: torch.Tensor, weight: float) -> None:
        # where nothing is labelled, predictions and labels are both -100
        right_BT = predictions == batch["labels"]
        right_BT[:, 0] = True
        answers, rows = (right_BT | ~answer_mask(batch["regions"])).all(1).sum(), right_BT.all(1).sum()
        count = float(len(right_BT))
        self._means.add("train_accuracy", answers, count)
        self._means.add("train_row_accuracy", rows, count)
        self._leg_means.add("right", rows if self.settings.learnt_by == "row" else answers, count)
        self._leg_means.add("steps", weight)

    def observe_norms(self, norms: Mapping[str, torch.Tensor]) -> None:
        """Take in the gradient norm of each term."""
        for name, norm in norms.items():
            self._means.add(f"grad_norm_{name}", norm, 1.0)

    def start_leg(self) -> None:
        """What was seen of the leg before is no evidence about the next one."""
        self._leg_means.clear()

    def row(self, done: int, epoch: float, grad_norm: float | None) -> dict[str, Any]:
        """The row for the steps since the last one; a decision that follows is in it, and in the plan's log."""
        moment = self.plan.at(done - 1)
        values = means_of(self._means.sums(self._reduce))
        self._means.clear()
        if "loss" not in values and (before := self.file.last().get("loss")) is not None:
            # every step was left out: the last line carries the last loss
            values = {"loss": before, **values}
        rate, seconds = self._throughput.read()
        self._seconds += seconds
        row = {
            "step": done,
            "stage": moment.name,
            "stage_index": moment.stage,
            "epoch": epoch,
            **values,
            "learning_rate": self.settings.learning_rate * self.settings.rate_factor(moment),
            "tokens_per_second": rate * self._ranks,
            "seconds": round(self._seconds, 3),
        }
        if grad_norm is not None:
            row["grad_norm"] = grad_norm
        if self._skipped:
            row["skipped_steps"] = self._skipped
            self._skipped = 0
        # lines in between (validation) must not change what is decided
        if done % self.settings.log_every == 0:
            row.update(self._decide(done))
        self.last = row
        return row

    def _decide(self, done: int) -> dict[str, str]:
        sums = self._leg_means.sums(self._reduce)
        self._leg_means.clear()
        if not sums:
            return {}
        decision = self._watch.observe(done, Window(*sums["right"], sums["steps"][0] / self._ranks))
        if decision is None:
            return {}
        name = (
            self.plan.stages[decision.stage].name
            if decision.stage < len(self.plan.stages)
            else "end of the run"
        )
        return {"decision": f"{decision.reason}: {name} from step {decision.step}"}

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs: decisions, and half-filled windows summed over all ranks."""
        return {
            "decisions": self.plan.log(),
            "watch": self._watch.state(),
            "means": self._means.sums(self._reduce),
            "leg_means": self._leg_means.sums(self._reduce),
            "skipped": self._skipped,
            "seconds": self._seconds + self._throughput.elapsed(),
        }

    def restore(self, state: Mapping[str, Any], owner: bool) -> None:
        """Go on from a checkpoint. owner: the one process that takes the sums over all ranks."""
        self.plan.restore(state["decisions"])
        self._watch.restore(state["watch"])
        self._skipped = state["skipped"]
        self._seconds = max(self._seconds, state.get("seconds", 0.0))
        if owner:
            self._means.restore(state["means"])
            self._leg_means.restore(state["leg_means"])
