"""Whether the sides of a benchmark do the same work and get the same result. They must: a faster side that computes something
else has won nothing, so a difference ends the run with exit code 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from latentthought.errors import LatentThoughtError

# fp32 sums in another order differ by some 1e-6; a thought too few, or a state cut off from its gradient, by far more
TOLERANCE = 1e-4


class Disagreement(LatentThoughtError):
    """Two sides of a benchmark that should compute the same do not."""


@dataclass(frozen=True)
class Step:
    """Loss and gradients of one training step, before the optimizer."""

    loss: float
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """Relative differences: of the loss, and the largest of any parameter's gradient (max |a - b| / max |a|)."""

    loss: float
    gradient: float

    def __str__(self) -> str:
        return f"same: loss {self.loss:.1e}, gradients {self.gradient:.1e}"


def step_of(loss_of: Callable[[], Tensor], model: nn.Module) -> Step:
    """Run one forward and backward; leaves the model without gradients."""
    model.zero_grad(set_to_none=True)
    loss = loss_of()
    loss.backward()
    gradients = {name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None}
    model.zero_grad(set_to_none=True)
    return Step(float(loss.detach()), gradients)


def require_same_step(
    name: str, step: Step, reference: Step, tolerance: float = TOLERANCE, against: str = "reference"
) -> Difference:
    """Compare a side's step with another's; Disagreement beyond `tolerance`, naming both sides and the parameter."""
    loss = abs(step.loss - reference.loss) / abs(reference.loss)
    if not loss <= tolerance:  # also catches a NaN
        raise Disagreement(
            f"{name}: loss {step.loss:.8f}, {against} {reference.loss:.8f} (tolerance {tolerance:g})"
        )
    if step.gradients.keys() != reference.gradients.keys():
        odd = sorted(step.gradients.keys() ^ reference.gradients.keys())
        raise Disagreement(f"{name}, {against}: only one side has a gradient for {', '.join(odd[:5])}")
    # a gradient that is zero but for rounding has no meaningful relative difference
    smallest = 1e-6 * max(float(gradient.abs().max()) for gradient in reference.gradients.values())
    worst, where = 0.0, ""
    for parameter, expected in reference.gradients.items():
        size = max(float(expected.abs().max()), smallest)
        difference = float((step.gradients[parameter] - expected).abs().max()) / size
        if not difference <= worst:
            worst, where = difference, parameter
    if not worst <= tolerance:
        raise Disagreement(
            f"{name}: the gradient of {where} differs by {worst:.2e} from {against} (tolerance {tolerance:g})"
        )
    return Difference(loss, worst)


def require_same_tokens(name: str, tokens: Tensor, reference: Tensor, gaps: Tensor, tie: float = 1e-4) -> str:
    """Compare greedy tokens (R, N) with the reference's, each row up to its first near-tie.

    Args:
        gaps: (R, N), by how much the reference's best logit led. Below `tie` either token is right, and all that follows in
            that row answers another question.

    Returns: how much was compared. Raises: Disagreement, naming row and token, or when ties left less than a quarter to compare.
    """
    compared = 0
    for row in range(len(reference)):
        for position in range(reference.shape[1]):
            if float(gaps[row, position]) < tie:
                break
            found, expected = int(tokens[row, position]), int(reference[row, position])
            if found != expected:
                raise Disagreement(f"{name}: row {row}, new token {position}: {found}, reference {expected}")
            compared += 1
    if 4 * compared < reference.numel():
        raise Disagreement(f"{name}: near-ties left only {compared} of {reference.numel()} tokens to compare")
    return f"same: {compared} of {reference.numel()} tokens"


@dataclass
class Work:
    """Passes through a model, positions of one row over all passes, and those of all rows together."""

    passes: int = 0
    positions: int = 0
    all_positions: int = 0


@contextmanager
def counted(inner: nn.Module) -> Iterator[Work]:
    """Count what runs through `inner`, the part of a model between embeddings and head."""
    work = Work()

    def count(module: nn.Module, arguments: tuple, keywords: dict) -> None:
        given = keywords.get("inputs_embeds")
        if given is None:
            given = keywords["input_ids"] if keywords.get("input_ids") is not None else arguments[0]
        work.passes += 1
        work.positions += given.shape[1]
        work.all_positions += given.shape[0] * given.shape[1]

    handle = inner.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield work
    finally:
        handle.remove()


def require_same_work(name: str, work: Work, floor: Work) -> None:
    """The floor has to run as many positions as the side it is the floor of."""
    if work.positions != floor.positions:
        raise Disagreement(f"{name} runs {work.positions} positions a row, the floor {floor.positions}")


def require_same_passes(name: str, work: Work, floor: Work) -> None:
    """And in as many passes, where each of them waits for the one before it."""
    if work.passes != floor.passes:
        raise Disagreement(f"{name} makes {work.passes} passes, the floor {floor.passes}")
