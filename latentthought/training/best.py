"""Which checkpoints of a stage are the best so far, by a score of the validation; they are kept beside the last ones.

Each stage begins a ranking of its own: scores of other stages are of a model that answers with another number of thoughts, and
the first stage of a curriculum, all in words, would mostly win.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from latentthought.errors import unknown


class BestSteps:
    """The steps of the `keep` highest scores, best first; the earlier of two equal ones counts as better."""

    def __init__(self, keep: int, score: str) -> None:
        self.keep, self.score = keep, score
        self._ranked: list[tuple[int, float]] = []

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(step for step, _ in self._ranked)

    def start_leg(self) -> None:
        """Another stage begins."""
        self._ranked = []

    def offer(self, step: int, value: float) -> bool:
        """Take in the score after `step` steps; whether it is among the best, so that a checkpoint is due. NaN never is."""
        if math.isnan(value):
            return False
        self._ranked = sorted([*self._ranked, (step, value)], key=lambda one: (-one[1], one[0]))[: self.keep]
        return step in self.steps

    def problem_with(self, row: Mapping[str, Any]) -> str | None:
        """Why a line of metrics does not hold the score, or None."""
        if f"validation_{self.score}" in row:
            return None
        scores = [key.removeprefix("validation_") for key in row if key.startswith("validation_")]
        return f"training.best_by: {unknown('score of the validation', self.score, scores)}"

    def read(self, row: Mapping[str, Any]) -> float:
        """The score in a line of metrics."""
        return float(row[f"validation_{self.score}"])

    def state(self) -> list[tuple[int, float]]:
        """Plain values for a checkpoint."""
        return self._ranked

    def restore(
        self, state: Sequence[tuple[int, float]], problem_with: Callable[[int], str | None]
    ) -> list[str]:
        """Go on from a checkpoint, with those whose checkpoints are whole; a line for each of the others."""
        problems = {int(step): problem_with(int(step)) for step, _ in state}
        ranked = [(int(step), float(value)) for step, value in state if problems[int(step)] is None]
        self._ranked = ranked[: self.keep]
        return [
            f"checkpoint-{step}, one of the best, is lost: {why}" for step, why in problems.items() if why
        ]
