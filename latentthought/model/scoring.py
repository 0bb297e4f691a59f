"""From hidden states to the loss: the head on labelled positions only, in chunks, never the whole batch's logits.

A vocabulary of 150k makes the logits of one long batch the largest tensor of a training step. Prompt and thought positions
carry no label, so the head runs on the valid positions alone. Logits that fit one chunk are scored as one would by hand; more
go chunk by chunk through `chunks.py`, which works the gradients out with the value, so at most one chunk of logits lives at a
time, and nothing is computed twice. (Rejected: a checkpoint for each chunk, one product with the head's matrix more. It remains
where gradients have to come late.) Where the head is spread over ranks, all run it as often as the one with the most labels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from latentthought.model.chunks import CHUNK_BYTES, Head, chunks_of, late_gradients, summed_over_logits
from latentthought.model.sharding import sharded
from latentthought.thoughts.layout import IGNORED

# larger chunks where each is run twice, and the head brought together for each (ZeRO-3)
RECOMPUTED_BYTES = 2 * CHUNK_BYTES


class Score(NamedTuple):
    """loss: 0-d, mean cross-entropy. predictions: (B, T), the argmax made at t - 1 for the token at t, IGNORED elsewhere."""

    loss: Tensor
    predictions: Tensor | None


def next_token_loss(
    head: Head,
    hidden: Tensor,
    labels: Tensor,
    vocabulary: int,
    items: Tensor | int | None = None,
    predictions: bool = False,
) -> Score:
    """Cross-entropy of each label from the hidden state before it.

    Args:
        head: (N, D) -> (N, V) logits. hidden: (B, T, D). labels: (B, T), IGNORED where nothing is scored; the label at t
            is predicted at t - 1, so the one at t = 0 never counts.
        vocabulary: V, to size the chunks.
        items: divisor of the summed loss (the trainer's count over all ranks and micro-batches); the valid labels when None.
        predictions: also return the argmax.
    """
    # looked up once for all that follows: it waits for the device
    rows_N, places_N = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    hidden_ND, targets_N = hidden[rows_N, places_N], labels[rows_N, places_N + 1]
    total, best_N = summed_loss(head, hidden_ND, targets_N, vocabulary, predictions)
    count = max(1, len(targets_N)) if items is None else items
    argmax = None
    if predictions:
        argmax = torch.full_like(labels, IGNORED)
        argmax[rows_N, places_N + 1] = best_N
    return Score(total / count, argmax)


def summed_loss(
    head: Head, hidden_ND: Tensor, targets_N: Tensor, vocabulary: int, predictions: bool
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of (N,) targets from (N, D) states, summed, and with `predictions` the (N,) argmax of the logits."""
    if len(targets_N) == 0 and not sharded():
        # keeps the graph: a rank without labels still joins the backward pass
        return hidden_ND.float().sum() * 0.0, targets_N
    best_N = torch.empty_like(targets_N)

    def score(logits_nV: Tensor, targets_n: Tensor, best_n: Tensor) -> Tensor:
        if predictions:
            best_n.copy_(logits_nV.detach().argmax(-1))
        return F.cross_entropy(logits_nV, targets_n, reduction="sum")

    size = RECOMPUTED_BYTES if late_gradients(hidden_ND) else None
    chunks = chunks_of(hidden_ND, vocabulary, size)
    if len(chunks) == 1:
        logits_NV = head(hidden_ND)
        precision = torch.promote_types(logits_NV.dtype, torch.float32)
        return score(logits_NV.to(precision), targets_N, best_N), best_N
    total = summed_over_logits(head, hidden_ND, lambda rows: (targets_N[rows], best_N[rows]), score, chunks)
    return total, best_N


def kept_positions(hidden: Tensor, logits_to_keep: int | Tensor) -> Tensor:
    """The positions of (B, T, ...) whose logits are wanted, as transformers counts them: the last n, all for 0, or an index's."""
    if isinstance(logits_to_keep, Tensor):
        return hidden[:, logits_to_keep]
    return hidden[:, -logits_to_keep:] if logits_to_keep else hidden
