"""What the base model does alone: plain text with a cache, attentions or all hidden states."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from latentthought.model.output import LatentThoughtOutput
from latentthought.model.scoring import kept_positions, next_token_loss


def run_base(
    base: PreTrainedModel,
    labels: Tensor | None,
    vocabulary: int,
    *,
    logits_to_keep: int | Tensor,
    return_logits: bool | None,
    num_items_in_batch: Tensor | int | None,
    return_predictions: bool,
    **inputs: Any,
) -> LatentThoughtOutput:
    """The base's own forward on `inputs`, with our loss where there are labels."""
    known = base(**inputs, logits_to_keep=logits_to_keep if labels is None else 0)
    if labels is None:
        return LatentThoughtOutput(**known)
    # not by the base, which would divide by rules of its own
    loss, predictions = next_token_loss(
        nn.Identity(), known.logits, labels, vocabulary, num_items_in_batch, return_predictions
    )
    logits = kept_positions(known.logits, logits_to_keep) if return_logits else None
    return LatentThoughtOutput(**{**known, "loss": loss, "logits": logits, "predictions": predictions})
