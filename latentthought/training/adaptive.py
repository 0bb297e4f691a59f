"""When a stage ends early, and when the run goes back: decisions from the training accuracy.

The accuracy comes in windows (one per line of metrics), counted over the leg's own layout only, never over replayed batches.
Whoever asks gets a decision that is already in the plan's log; everything remembered here is plain numbers that a
checkpoint holds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from latentthought.training.stages import DELAY, Decision, StagePlan


class Window(NamedTuple):
    """Rows predicted without a fault, rows seen, and the steps they were seen in."""

    correct: float
    rows: float
    steps: float


class LegWatch:
    """Watches one leg at a time.

    A stage with `advance_at` ends when a window reaches that accuracy. With `on_collapse`, the run goes back when the mean
    over `window` steps falls below `below` after having been above it in the same leg, or when the leg is about to end
    below it; never from a stage with none to go back to.
    """

    def __init__(self, plan: StagePlan, interval: int) -> None:
        self.plan = plan
        self.interval = interval  # steps between two windows
        self._leg = -1
        self._history: list[Window] = []
        self._was_fine = False

    def observe(self, finished: int, window: Window) -> Decision | None:
        """Take in the window that ends when `finished` steps are done; the decision taken, if any."""
        leg = self.plan.leg_at(finished - 1)
        if leg.number != self._leg:
            self._leg, self._history, self._was_fine = leg.number, [], False
        if window.rows > 0:
            self._history.append(window)
        pending = finished + DELAY >= leg.stop
        if pending or not self._history:
            return None
        stage = self.plan.stages[leg.stage]
        # a leg may begin inside a window; half a window of its own is enough to judge by
        reached = window.rows > 0 and 2 * window.steps >= self.interval
        if stage.advance_at is not None and reached and window.correct / window.rows >= stage.advance_at:
            return self.plan.decide(finished, leg.stage + 1, "learnt")
        return self._on_collapse(finished)

    def _on_collapse(self, finished: int) -> Decision | None:
        settings = self.plan.curriculum.on_collapse
        if settings is None or sum(d.reason == "collapse" for d in self.plan.decisions) >= settings.limit:
            return None
        leg = self.plan.leg_at(finished - 1)
        if leg.stage < settings.back:
            return None
        recent, complete = self._recent(settings.window)
        last_chance = finished + self.interval + DELAY >= leg.stop
        fine = recent >= settings.below
        if fine:
            self._was_fine = self._was_fine or complete
            return None
        if (self._was_fine and complete) or last_chance:
            return self.plan.decide(finished, leg.stage - settings.back, "collapse", settings.learning_rate)
        return None

    def _recent(self, steps: int) -> tuple[float, bool]:
        """Accuracy over the last `steps` steps of the leg, and whether the leg has had that many."""
        correct = rows = seen = 0.0
        for window in reversed(self._history):
            correct, rows, seen = correct + window.correct, rows + window.rows, seen + window.steps
            if seen >= steps:
                break
        return correct / rows, seen >= steps

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "leg": self._leg,
            "history": [list(window) for window in self._history],
            "was_fine": self._was_fine,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._leg, self._was_fine = state["leg"], state["was_fine"]
        self._history = [Window(*values) for values in state["history"]]
