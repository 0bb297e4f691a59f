"""Linear probes: is the result of a reasoning step to be read off a thought?

For every thought and every step one classifier from the thought's state to the step's result, by ridge regression on one-hot
targets: a system of equations that gives the same answer every time. It is fitted on two rows in three and scored on the third.
Beside it stand the commonest result, and probes of the same kind fitted on shuffled results: a wide state fits anything it was
fitted on, so only rows that were held out and this control say whether something was there.

A probe tells that a result is there, not that the answer makes use of it; that is what interventions are for.
Rejected: logistic regression (iterations, a learning rate and a stopping rule for the same ranking of classes), deeper probes
(what they find may be their own work).
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from latentthought.evaluation.inspection.results import ProbeScore
from latentthought.evaluation.statistics import estimate

# results that fewer rows than these show cannot be learnt, and more classes than these cannot be read
_LEAST_ROWS, _MOST_CLASSES = 5, 100
_MOST_STEPS = 16
_LEAST_SCORED = 20
_SHUFFLES = 5
# relative to a standardised state's mean squared entry: enough for states wider than there are rows
_RIDGE = 0.1

Results = Sequence[Sequence[str]]


def result_of(step: str) -> str:
    """The intermediate result that a step ends in: what stands after its last "=", else its last word."""
    text = step.rpartition("=")[2] if "=" in step else (step.split() or [""])[-1]
    return re.sub(r"^[\s$<>(]+|[\s$<>).,;:!?]+$", "", text)


def probe(states: Tensor, results: Results, seed: int = 0) -> tuple[list[ProbeScore], str]:
    """Scores of every thought and step, and why there are none, if there are none.

    Args:
        states: (N, S, D). results: N rows of the results of their steps, of any number.
    """
    steps = min(max(map(len, results), default=0), _MOST_STEPS)
    if not steps:
        return (
            [],
            "no probes: the rows of this task have no steps, so there are no intermediate results to look for",
        )
    order = list(range(len(results)))
    random.Random(f"probe {seed}").shuffle(order)
    cut = (2 * len(order) + 2) // 3
    fitted, held_out = order[:cut], order[cut:]
    targets = [target for j in range(steps) if (target := _Target.of(j, results, fitted, held_out, seed))]
    if not targets:
        return [], (
            f"no probes: no step has two results or more that {_LEAST_ROWS} rows to fit on share, "
            f"with {_LEAST_SCORED} rows to score on; look at more rows, or a task with fewer different results"
        )
    found = []
    for thought in range(states.shape[1]):
        # each step leaves out other rows, so each has a system of its own
        found += [_score(states[:, thought].double(), thought, target) for target in targets]
    return found, ""


class _Target:
    """The results of one step: rows to fit on and to score on, and their classes; shuffled: classes of other rows to fit on."""

    def __init__(
        self, step: int, fitted: list[int], scored: list[int], classes: list[Tensor], left_out: int, seed: int
    ):
        self.step, self.fitted, self.scored, self.left_out = step, fitted, scored, left_out
        self.fitted_classes, self.scored_classes = classes
        self.count = int(self.fitted_classes.max()) + 1
        generator = torch.Generator().manual_seed(seed + step)
        self.shuffled = [
            self.fitted_classes[torch.randperm(len(fitted), generator=generator)] for _ in range(_SHUFFLES)
        ]

    @classmethod
    def of(
        cls, step: int, results: Results, fitted: list[int], held_out: list[int], seed: int
    ) -> _Target | None:
        """None where there is nothing to tell apart."""
        having = [[row for row in rows if step < len(results[row])] for rows in (fitted, held_out)]
        counts = Counter(results[row][step] for row in having[0])
        known = [result for result, n in counts.most_common(_MOST_CLASSES) if n >= _LEAST_ROWS]
        number = {result: place for place, result in enumerate(known)}
        kept = [[row for row in rows if results[row][step] in number] for rows in having]
        if len(known) < 2 or len(kept[1]) < _LEAST_SCORED:
            return None
        classes = [torch.tensor([number[results[row][step]] for row in rows]) for rows in kept]
        return cls(step, kept[0], kept[1], classes, sum(map(len, having)) - sum(map(len, kept)), seed)


def _score(states: Tensor, thought: int, target: _Target) -> ProbeScore:
    fitted, scored = states[target.fitted], states[target.scored]
    mean, spread = fitted.mean(0), fitted.std(0).clamp_min(1e-9)
    fitted, scored = (fitted - mean) / spread, (scored - mean) / spread
    one_hot = [
        torch.nn.functional.one_hot(classes, target.count).double()
        for classes in (target.fitted_classes, *target.shuffled)
    ]
    guesses = _ridge(fitted, torch.cat(one_hot, dim=1), scored)
    right = [
        (part.argmax(1) == target.scored_classes).double() for part in guesses.split(target.count, dim=1)
    ]
    # classes are in the order of how common they are among the fitted rows
    majority = (target.scored_classes == 0).double().mean()
    return ProbeScore(
        thought=thought + 1,
        step=target.step + 1,
        accuracy=estimate({row: [value] for row, value in enumerate(right[0].tolist())}),
        majority=float(majority),
        shuffled=float(torch.stack(right[1:]).mean()),
        classes=target.count,
        rows=(len(target.fitted), len(target.scored)),
        left_out=target.left_out,
    )


def _ridge(fitted: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
    """Ridge regression of `targets` (n, C) on `fitted` (n, D), for the rows `scored` (m, D): (m, C)."""
    rows, width = fitted.shape
    mean = targets.mean(0)
    if width <= rows:
        gram = fitted.T @ fitted + _RIDGE * rows * torch.eye(width, dtype=fitted.dtype)
        return scored @ torch.linalg.solve(gram, fitted.T @ (targets - mean)) + mean
    kernel = fitted @ fitted.T + _RIDGE * rows * torch.eye(rows, dtype=fitted.dtype)
    return scored @ (fitted.T @ torch.linalg.solve(kernel, targets - mean)) + mean
