"""From hidden states to the loss: the head on labelled positions only, in chunks, never the whole batch's logits.

A vocabulary of 150k makes the logits of one long batch the largest tensor of a training step. Prompt and thought positions
carry no label, so the head runs on the valid positions alone; above `CHUNK_ELEMENTS` logits it runs chunk by chunk and each
chunk is recomputed in backward, so at most one chunk of logits lives at a time. Where the head is spread over ranks, all run it
as often as the one with the most labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from latentthought.model.sharding import most_of_all_ranks, recomputing, sharded
from latentthought.thoughts.layout import IGNORED

# logits held at once: 64 Mi elements are 256 MiB in fp32
CHUNK_ELEMENTS = 1 << 26

Head = Callable[[Tensor], Tensor]


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
    chunk = max(1, CHUNK_ELEMENTS // vocabulary)
    if (
        len(targets_N) == 0 and not sharded()
    ):  # keeps the graph: a rank without labels still joins the backward pass
        return hidden_ND.float().sum() * 0.0, targets_N

    def scored(hidden_nD: Tensor, targets_n: Tensor) -> tuple[Tensor, Tensor]:
        logits_nV = head(hidden_nD)
        loss = F.cross_entropy(logits_nV.float(), targets_n, reduction="sum")
        return loss, logits_nV.detach().argmax(-1) if predictions else targets_n

    calls = most_of_all_ranks(max(1, -(-len(targets_N) // chunk)), hidden_ND.device)
    if calls == 1:
        return scored(hidden_ND, targets_N)
    losses, best = [], []
    for part in (slice(number * chunk, (number + 1) * chunk) for number in range(calls)):
        loss, best_n = checkpoint(scored, hidden_ND[part], targets_N[part], **recomputing())
        losses.append(loss)
        best.append(best_n)
    return torch.stack(losses).sum(), torch.cat(best)


def kept_positions(hidden: Tensor, logits_to_keep: int | Tensor) -> Tensor:
    """The positions of (B, T, ...) whose logits are wanted, as transformers counts them: the last n, all for 0, or an index's."""
    if isinstance(logits_to_keep, Tensor):
        return hidden[:, logits_to_keep]
    return hidden[:, -logits_to_keep:] if logits_to_keep else hidden
