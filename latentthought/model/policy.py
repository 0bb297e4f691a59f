"""How many thoughts a row gets, and how they may be varied.

A count is known beforehand (an int, one per row) or found while thinking (`ThoughtPolicy`). Adaptive rows of a batch run on
together until all have stopped; what a row thought beyond its own end is dropped, so a row gets the same thoughts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from latentthought.config import Config
from latentthought.errors import ConfigError
from latentthought.thoughts.scale import root_mean_square

PolicyKind = Literal["fixed", "end_probability", "settled"]

_DEFAULT_THRESHOLD = {"end_probability": 0.5, "settled": 0.99}
# what "auto" allows a model that does not say how many thoughts it was trained with
_AUTO_CEILING = 12


class ThoughtPolicy(Config):
    """When a row stops thinking. With h_k the state after k thoughts (h_0: after the prompt), the count is

    fixed            `maximum`.
    end_probability  the smallest k >= minimum at which the head, on h_k, gives the end token more than `threshold` (0.5).
    settled          the smallest k >= max(minimum, 1) at which cos(h_k, h_{k-1}) exceeds `threshold` (0.99): the thought
                     that would come next is the one that was just fed.

    and `maximum` when that never happens. A count of 0 is text: such a row has no delimiters either.
    """

    kind: PolicyKind = "fixed"
    maximum: int = Field(6, ge=0)
    minimum: int = Field(1, ge=0)
    threshold: float | None = Field(None, ge=-1.0, le=1.0)

    @model_validator(mode="after")
    def _holds_together(self) -> ThoughtPolicy:
        if self.kind == "fixed" and self.threshold is not None:
            raise ValueError("a fixed number of thoughts has no threshold")
        if self.kind != "fixed" and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self

    @property
    def bound(self) -> float:
        """The threshold in force."""
        return _DEFAULT_THRESHOLD[self.kind] if self.threshold is None else self.threshold

    def stops(self, state: Tensor, previous: Tensor | None, end_probability: Tensor | None) -> Tensor:
        """Which rows stop here, whatever `minimum` and `maximum` say: (B,) bool.

        Args:
            state, previous: h_k and h_{k-1}, (B, D); previous is None at k = 0.
            end_probability: (B,), P(end token | h_k), for `end_probability`.
        """
        if self.kind == "end_probability" and end_probability is not None:
            return end_probability > self.bound
        if self.kind == "settled" and previous is not None:
            return torch.cosine_similarity(state.float(), previous.float(), dim=-1) > self.bound
        return torch.zeros(len(state), dtype=torch.bool, device=state.device)


Budget = list[int] | ThoughtPolicy
Thoughts = int | Sequence[int] | Tensor | ThoughtPolicy | str | None


def read_thoughts(thoughts: Thoughts, rows: int, default: int, has_end_token: bool) -> Budget:
    """The `thoughts` argument as one count a row, or as an adaptive policy.

    Args:
        thoughts: an int, (B,) counts, a policy, "auto" (until the model's own end, or until the thought settles where it has
            no end token), or None for `default`.
    """
    if thoughts is None:
        thoughts = default
    if isinstance(thoughts, str):
        if thoughts != "auto":
            raise ConfigError(
                f"thoughts: a number, one number per row, a ThoughtPolicy or 'auto', not {thoughts!r}"
            )
        return ThoughtPolicy(
            kind="end_probability" if has_end_token else "settled", maximum=2 * default or _AUTO_CEILING
        )
    if isinstance(thoughts, ThoughtPolicy):
        if thoughts.kind == "end_probability" and not has_end_token:
            raise ConfigError(
                "ThoughtPolicy(kind='end_probability') needs an end token: give thought.end_token_id, or use 'settled'"
            )
        return [thoughts.maximum] * rows if thoughts.kind == "fixed" else thoughts
    return _counts(thoughts, rows)


def _counts(thoughts: Any, rows: int) -> list[int]:
    if isinstance(thoughts, Tensor):
        if thoughts.is_floating_point() or thoughts.dtype == torch.bool:
            raise ConfigError(f"thoughts: whole numbers, not a tensor of {thoughts.dtype}")
        thoughts = thoughts.tolist()
    counts = list(thoughts) if isinstance(thoughts, Sequence) else [thoughts] * rows
    if any(isinstance(count, bool) or not isinstance(count, int) for count in counts):
        raise ConfigError(
            f"thoughts: a number, one number per row, a ThoughtPolicy or 'auto', not {thoughts!r}"
        )
    if len(counts) != rows:
        raise ConfigError(f"thoughts: {len(counts)} counts for {rows} rows")
    if any(count < 0 for count in counts):
        raise ConfigError(f"thoughts: 0 or more, not {min(counts)}")
    return counts


class ThoughtSampling(Config):
    """Random variation of thoughts, for diverse samples of one prompt.

    noise: relative RMS of Gaussian noise added to a scaled state: 0.1 adds noise a tenth as large as the thought.
    dropout: share of a scaled state's entries set to 0, the rest scaled up to keep its mean.
    seed: draws of their own, repeatable; None uses torch's global generator, as `do_sample` does.
    """

    noise: float = Field(0.0, ge=0.0)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    seed: int | None = None

    @property
    def active(self) -> bool:
        """True when thoughts differ from draw to draw."""
        return self.noise > 0 or self.dropout > 0


@dataclass
class Perturbation:
    """`ThoughtSampling` at work in one call of `generate`: holds the generator."""

    sampling: ThoughtSampling
    device: torch.device
    generator: torch.Generator | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.sampling.seed is not None:
            self.generator = torch.Generator(device=self.device).manual_seed(self.sampling.seed)

    def __call__(self, scaled: Tensor) -> Tensor:
        """(..., D) scaled states -> the same shape and dtype, varied."""
        if self.sampling.dropout > 0:
            kept = (
                torch.rand(scaled.shape, device=scaled.device, generator=self.generator)
                >= self.sampling.dropout
            )
            scaled = scaled * kept / (1.0 - self.sampling.dropout)
        if self.sampling.noise > 0:
            drawn = torch.randn(scaled.shape, device=scaled.device, generator=self.generator)
            scaled = scaled + (self.sampling.noise * root_mean_square(scaled) * drawn).to(scaled.dtype)
        return scaled
