"""The objective: a weighted sum of terms, each with a mask, a count and a report of its own.

    L = sum_i  weight_i * (1 / N_i) * sum over valid positions of term i

`N_i` is the number of valid positions of the term in the whole optimizer step, over micro-batches and ranks, so that eight
micro-batches of one row and one of eight rows give the same gradient. Each micro-batch therefore asks first
(`Objective.counts`), the trainer adds the counts up, and the term divides by the total (`Objective.__call__`).

Terms of a recipe:
    {term: ce, weight: 1.0}                                   next-token cross-entropy on the labels
    {term: hidden, weight: 0.1, target: next_embedding}       scale(h[t-1]) against the embedding of token t
    {term: hidden, weight: 0.1, target: text_states}          h[t] against the model's own state in a pure-text pass
`hidden` weighs a squared error and a cosine distance (`mse`, `cosine`) over the reasoning positions whose token is known
(labels kept); a pure-latent thought has no token to compare with and never counts. Targets are detached.
Rejected: losses as callables named by import path in YAML (unsafe, untyped), and a mean of micro-batch means (wrong as
soon as rows differ in length).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from latentthought.config import Config
from latentthought.errors import ConfigError
from latentthought.objective.losses import hidden_distances
from latentthought.thoughts.layout import IGNORED, reasoning_mask


class CrossEntropyTerm(Config):
    """Next-token cross-entropy over all labels, as the model computes it (head only where labels are)."""

    term: Literal["ce"]
    weight: float = Field(1.0, ge=0.0)
    name: str = "ce"


class HiddenTerm(Config):
    """Latent loss over reasoning positions: `mse` * mean squared error + `cosine` * (1 - cosine).

    target: `next_embedding`, the embedding of the token at t, compared with the scale-matched state at t-1; or
        `text_states`, the model's own state at t when it reads the same tokens as text (one more pass, without gradient).
    relative: see `losses.hidden_distances`.
    """

    term: Literal["hidden"]
    weight: float = Field(1.0, ge=0.0)
    target: Literal["next_embedding", "text_states"] = "next_embedding"
    mse: float = Field(1.0, ge=0.0)
    cosine: float = Field(1.0, ge=0.0)
    relative: bool = False
    name: str = "hidden"

    @model_validator(mode="after")
    def _compares(self) -> HiddenTerm:
        if not self.mse and not self.cosine:
            raise ValueError("a hidden term needs mse or cosine above 0")
        return self


TermConfig = Annotated[CrossEntropyTerm | HiddenTerm, Field(discriminator="term")]
DEFAULT_TERMS: tuple[CrossEntropyTerm | HiddenTerm, ...] = (CrossEntropyTerm(term="ce"),)


def check_names(terms: Sequence[CrossEntropyTerm | HiddenTerm]) -> None:
    """Raise `ValueError` unless every term reports under a name of its own and something is being minimised."""
    twice = [name for name, times in Counter(term.name for term in terms).items() if times > 1]
    if twice:
        raise ValueError(f"two terms report under the name {twice[0]!r}: give one of them another `name`")
    if not any(term.weight > 0 for term in terms):
        raise ValueError("no term has a weight above 0")


@dataclass(frozen=True, slots=True)
class ObjectiveValue:
    """The loss of one micro-batch and its parts, unweighted; all of them are shares of the step's mean (0-d tensors)."""

    total: Tensor
    parts: dict[str, Tensor]


class Objective:
    """Computes a list of terms from a model output and its batch."""

    def __init__(
        self, terms: Sequence[CrossEntropyTerm | HiddenTerm | Mapping[str, Any]] = DEFAULT_TERMS
    ) -> None:
        self.terms = tuple(_as_term(term) for term in terms)
        try:
            check_names(self.terms)
        except ValueError as error:
            raise ConfigError(f"objective: {error}") from None

    @property
    def forward_options(self) -> dict[str, bool]:
        """What the terms need of `model.forward` beyond its loss."""
        hidden = [term for term in self.terms if isinstance(term, HiddenTerm)]
        options = {}
        if hidden:
            options["return_states"] = True
        if any(term.target == "text_states" for term in hidden):
            options["text_states"] = True
        return options

    def counts(self, batch: Mapping[str, Any]) -> Tensor:
        """Valid positions of each term in a micro-batch, and last those of the labels: (terms + 1,) int64."""
        labels = _label_count(batch)
        each = [
            _known_reasoning(batch).sum() if isinstance(term, HiddenTerm) else labels for term in self.terms
        ]
        return torch.stack([*each, labels])

    def __call__(self, output: Any, batch: Mapping[str, Any], counts: Tensor) -> ObjectiveValue:
        """Terms of one micro-batch.

        output: a `LatentThoughtOutput` whose `.loss` is the summed cross-entropy divided by `counts[-1]`.
        counts: the step's totals over micro-batches and ranks, as `counts()` returns them.
        """
        total: Tensor | None = None
        parts: dict[str, Tensor] = {}
        for index, term in enumerate(self.terms):
            if isinstance(term, CrossEntropyTerm):
                value = output.loss
            else:
                value, mse, cosine = _hidden(term, output, batch, counts[index].clamp_min(1))
                parts[f"{term.name}_mse"], parts[f"{term.name}_cosine"] = mse.detach(), cosine.detach()
            parts[term.name] = value.detach()
            total = term.weight * value if total is None else total + term.weight * value
        assert total is not None
        return ObjectiveValue(total, parts)


def _as_term(term: CrossEntropyTerm | HiddenTerm | Mapping[str, Any]) -> CrossEntropyTerm | HiddenTerm:
    if not isinstance(term, Mapping):
        return term
    kinds: dict[Any, type[CrossEntropyTerm] | type[HiddenTerm]] = {
        "ce": CrossEntropyTerm,
        "hidden": HiddenTerm,
    }
    if term.get("term") not in kinds:
        raise ConfigError(f"objective: unknown term {term.get('term')!r}; allowed: {', '.join(kinds)}")
    return kinds[term["term"]].parse(term, "objective")


def _hidden(
    term: HiddenTerm, output: Any, batch: Mapping[str, Any], count: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    mask_BT = _known_reasoning(batch)
    if term.target == "next_embedding":
        # rows have no holes, so the state before position t is the one at t-1
        predicted, target, mask_BT = output.scaled[:, :-1], output.embeddings[:, 1:], mask_BT[:, 1:]
    else:
        predicted, target = output.hidden, output.text_states
    squared, cosine = hidden_distances(predicted, target, mask_BT, term.relative)
    squared, cosine = squared / count, cosine / count
    return term.mse * squared + term.cosine * cosine, squared, cosine


def _label_count(batch: Mapping[str, Any]) -> Tensor:
    # the label of the first column has no position before it that could predict it
    return (batch["labels"][:, 1:] != IGNORED).sum()


def _known_reasoning(batch: Mapping[str, Any]) -> Tensor:
    """Reasoning positions whose token is known: (B, T) bool, false in the first column."""
    mask_BT = reasoning_mask(batch["regions"]) & (batch["labels"] != IGNORED)
    mask_BT[:, 0] = False
    return mask_BT
