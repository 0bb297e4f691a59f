"""Losses of next-token logits that never hold the logits of more than some positions.

At 2,048 positions and 151,936 words, one fp32 copy of the logits takes 1.2 GB, and a divergence written plainly holds eight.
Here the head runs on chunks of positions, and a loss is computed on smaller blocks of each chunk, which stay in the CPU's
cache. Two ways through, of equal result:

    in one pass   Gradients are computed in the forward pass, chunk by chunk, and only wait there for the factor that the
                  backward pass brings. Four products with the head's matrix, as many as the dense form. The head's gradient
                  is held twice for a moment.
    recomputed    Each chunk is a checkpoint: six such products. Where parameters are whole only between the hooks of the
                  engine (ZeRO-3), and where the loss scale has to arrive before gradients are rounded to fp16.

The head is anything that can be called: gradients go to whatever its graph leads to, which finds tied rows, LoRA and token
rows that no `parameters()` lists. Rejected: the head's matrix as an argument, split by words (blind to LoRA and to what some
families put after the head); one kernel for the product and the loss (one device, one loss).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from latentthought.model.sharding import most_of_all_ranks, recomputing

Head = Callable[[Tensor], Tensor]
# what a chunk of positions is compared with: tensors whose first dimension is the chunk
Targets = Callable[[slice], tuple[Tensor, ...]]
# (logits (n, V), *targets (n, ...)) -> 0-d sum over the n positions
Score = Callable[..., Tensor]

# logits held at once, and those of a block: 64 MiB and 4 MiB in fp32
CHUNK_ELEMENTS = 1 << 24
BLOCK_ELEMENTS = 1 << 20


def summed_over_logits(
    head: Head,
    hidden_ND: Tensor,
    targets: Targets,
    score: Score,
    *,
    words: int,
    recompute: bool | None = None,
) -> Tensor:
    """Sum of a loss over N positions, 0-d in fp32; its gradient reaches `hidden_ND` and the parameters of the head.

    Args:
        head: (n, D) -> (n, V) logits. It also runs, on no position, for N = 0: all ranks then have the same parameters in
            their graphs.
        targets, score: see the types above. Targets are made without gradient; `score` gets logits in fp32 (fp64 if the head
            gives that).
        words: about V, to size the chunks.
        recompute: which way through; None takes the recomputed one where it has to.
    """
    if recompute is None:
        recompute = _late_gradients(hidden_ND)
    size = max(1, CHUNK_ELEMENTS // words)
    calls = most_of_all_ranks(max(1, -(-len(hidden_ND) // size)), hidden_ND.device)
    chunks = [slice(number * size, (number + 1) * size) for number in range(calls)]
    if torch.is_grad_enabled() and not recompute:
        return _in_one_pass(head, hidden_ND, targets, score, chunks)

    def value_of(hidden_nD: Tensor, rows: slice) -> Tensor:
        return _Scored.apply(head(hidden_nD), targets, score, rows)

    total = torch.zeros((), device=hidden_ND.device)
    for rows in chunks:
        if torch.is_grad_enabled():
            total = total + checkpoint(value_of, hidden_ND[rows], rows, **recomputing())
        else:
            total = total + value_of(hidden_ND[rows], rows)
    return total


def _late_gradients(hidden: Tensor) -> bool:
    """Whether gradients can only be computed in the backward pass; see the module."""
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    device = hidden.device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return torch.float16 in (hidden.dtype, autocast) or is_deepspeed_zero3_enabled()


def _in_one_pass(
    head: Head, hidden_ND: Tensor, targets: Targets, score: Score, chunks: Sequence[slice]
) -> Tensor:
    total = torch.zeros((), device=hidden_ND.device)
    hidden_gradient_ND = torch.empty_like(hidden_ND)
    leaves: list[Tensor] = []
    gradients: list[Tensor] = []
    for number, rows in enumerate(chunks):
        hidden_nD = hidden_ND[rows].detach().requires_grad_()
        logits_nV = head(hidden_nD)
        if number == 0:
            leaves = [leaf for leaf in _leaves(logits_nV) if leaf is not hidden_nD]
            gradients = [torch.zeros_like(leaf) for leaf in leaves]
        value, gradient_nV = _value_and_gradient(logits_nV.detach(), targets, score, rows)
        total += value
        # the graph is let go with the chunk; what all chunks share (a cast weight) must outlive it
        shares = torch.autograd.grad(
            logits_nV,
            [hidden_nD, *leaves],
            gradient_nV.to(logits_nV.dtype),
            retain_graph=True,
            allow_unused=True,
        )
        hidden_gradient_ND[rows] = shares[0]
        _add(gradients, shares[1:])
        # nothing of this chunk lies beside the next one, least of all a second gradient of the head
        del logits_nV, gradient_nV, shares
    return _Waiting.apply(total, (hidden_gradient_ND, *gradients), hidden_ND, *leaves)


def _add(sums: Sequence[Tensor], shares: Sequence[Tensor | None]) -> None:
    for whole, share in zip(sums, shares, strict=True):
        if share is not None:
            whole += share


def _leaves(output: Tensor) -> list[Tensor]:
    """The tensors that wait for a gradient at the ends of a graph, in a fixed order."""
    found, seen, ahead = [], set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            found.append(node.variable)  # type: ignore[attr-defined]
        ahead.extend(after for after, _ in node.next_functions)
    return found


def _value_and_gradient(
    logits_nV: Tensor, targets: Targets, score: Score, rows: slice
) -> tuple[Tensor, Tensor]:
    """Score of one chunk and its gradient with respect to the logits, block by block; the latter in their dtype, but in fp32
    of fp16 logits, since without the loss scale most of it would be rounded to 0."""
    precision = torch.promote_types(logits_nV.dtype, torch.float32)
    with torch.no_grad():
        compared = targets(rows)
    total = torch.zeros((), device=logits_nV.device)
    kept = precision if logits_nV.dtype == torch.float16 else logits_nV.dtype
    gradient_nV = torch.empty_like(logits_nV, dtype=kept)
    size = max(1, BLOCK_ELEMENTS // logits_nV.shape[-1])
    for start in range(0, len(logits_nV), size):
        block = slice(start, start + size)
        # the graph of a block ends here, and is nothing that a checkpoint around the chunk should recompute
        with torch.enable_grad(), saved_tensors_hooks(_itself, _itself):
            logits_bV = logits_nV[block].to(precision).requires_grad_()
            value = score(logits_bV, *(target[block] for target in compared))
        (gradient_nV[block],) = torch.autograd.grad(value, logits_bV)
        total += value.detach()
    return total, gradient_nV


def _itself(tensor: Tensor) -> Tensor:
    return tensor


class _Scored(torch.autograd.Function):
    """The score of a chunk's logits; `rows` says which positions they are."""

    @staticmethod
    def forward(ctx: Any, logits_nV: Tensor, targets: Targets, score: Score, rows: slice) -> Tensor:
        value, gradient_nV = _value_and_gradient(logits_nV.detach(), targets, score, rows)
        ctx.save_for_backward(gradient_nV)
        ctx.dtype = logits_nV.dtype
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_nV,) = ctx.saved_tensors
        return (gradient_nV * factor).to(ctx.dtype), None, None, None


class _Waiting(torch.autograd.Function):
    """A value whose gradients are known already, and only lack the factor that the backward pass brings."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        # not in place: a term's gradient norm is asked for before the backward pass of the step
        return None, None, *(gradient * factor for gradient in ctx.saved_tensors)
