"""A term whose weight follows the size of another: `{term: hidden, weight: 0.2, balance: kl}`.

    weight at step t = weight * mean of the other / mean of its own        running means over the steps before t, decay 0.98

Hidden states of different models, layers and distances differ in size by orders of magnitude, and so do the weights that suit
them; balanced, 0.2 means a fifth of the other term's size whatever the models are. The means are taken of whole steps, over
micro-batches and ranks, so that how a step is cut up changes nothing; they are buffers of a companion, so that a resumed run
goes on with them. The first step has no means yet, and leaves the term out. No weight grows more than `MOST` times.
Rejected: the ratio within each micro-batch (accumulation would change the gradient), gradients in place of values (one more
backward pass a term; GradNorm, arXiv 1711.02257), learnt uncertainties as weights (arXiv 1705.07115; they may turn a term off).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latentthought.errors import ConfigError

DECAY = 0.98
# a term of no size to speak of, such as one of states that are still the same, would else be blown up out of all proportion
MOST = 1e4


class Balance(nn.Module):
    """The running means of a term and of the one that it is balanced with, before any weights."""

    own: Tensor
    other: Tensor

    def __init__(self, against: str) -> None:
        super().__init__()
        self.against = against
        for name in ("own", "other"):
            self.register_buffer(name, torch.zeros(()))

    @property
    def description(self) -> dict[str, Any]:
        """What fixes its meaning; see `model.companions`."""
        return {"kind": "balance", "against": self.against}

    @property
    def factor(self) -> Tensor:
        """0-d, what the term's weight is multiplied by; 0 before the first step is done."""
        least = self.other / MOST
        ratio = self.other / self.own.maximum(least).clamp_min(torch.finfo(self.own.dtype).tiny)
        return torch.where(self.own > 0, ratio, 0.0)

    @torch.no_grad()
    def update(self, own: Tensor, other: Tensor) -> None:
        """Values of a whole step, 0-d; a step without either, or with what is no number, is passed over."""
        sound = torch.isfinite(own) & torch.isfinite(other) & (own > 0) & (other > 0)
        keep = torch.where(self.own > 0, DECAY, 0.0)
        for mean, value in ((self.own, own), (self.other, other)):
            mean.copy_(torch.where(sound, keep * mean + (1 - keep) * value, mean))


def companion_of(term: str) -> str:
    """What the balance of a term is called among the model's companions."""
    return f"{term}_balance"


def balance_factor(model: Any, term: str) -> Tensor:
    """0-d, what the weight of a balanced term is multiplied by. Raises `ConfigError` where nothing keeps its means."""
    if companion_of(term) not in model.companions:
        raise ConfigError(
            f"{term}.balance: this model keeps no running means of its terms; LatentThoughtTrainer sees to them, in a loop of "
            "your own use objective.balance.Balances(model, objective.terms): add() for a micro-batch, end_step() for a step"
        )
    return model.companions[companion_of(term)].factor


class Balances:
    """Keeps the balances of a model up to date, step by step.

    Args:
        model: a latent-thought model, which gets a `Balance` for each balanced term that has none yet. terms: of the objective.
    """

    def __init__(self, model: Any, terms: Sequence[Any]) -> None:
        self._model = model
        self._pairs = {
            term.name: term.balance for term in terms if getattr(term, "balance", None) is not None
        }
        self._sums: Tensor | None = None
        for name, against in self._pairs.items():
            if companion_of(name) not in model.companions:
                model.attach(companion_of(name), Balance(against))

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """The values of a micro-batch, as shares of the step's means (`ObjectiveValue.parts`)."""
        if self._pairs:
            values = torch.stack([parts[name].float() for pair in self._pairs.items() for name in pair])
            self._sums = values if self._sums is None else self._sums + values

    def end_step(self, over_ranks: Callable[[Tensor], Tensor] | None) -> None:
        """All micro-batches of a step are added. over_ranks: sums a tensor over the processes; None: the step was left out."""
        sums, self._sums = self._sums, None
        if sums is None or over_ranks is None:
            return
        values = over_ranks(sums)
        for name, (own, other) in zip(self._pairs, values.view(-1, 2), strict=True):
            self._model.companions[companion_of(name)].update(own, other)
