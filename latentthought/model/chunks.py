"""Losses of next-token logits that never hold the logits of more than some positions.

At 2,048 positions and 151,936 words, one fp32 copy of the logits takes 1.2 GB, and a divergence written plainly holds eight.
Here the head runs on chunks of positions, and a loss is computed on smaller blocks of each chunk, which stay in the CPU's
cache. Two ways through, of equal result:

    in one pass   Gradients are computed in the forward pass, chunk by chunk, and only wait there for the factor that the
                  backward pass brings. As many products with the head's matrix as the dense form has. Each gradient is held
                  once: what is summed up here is scaled where it lies and becomes `.grad` (`head_gradient.py`), and a
                  chunk's logits give their place to their gradient.
    recomputed    Each chunk is a checkpoint, which costs one product more for each head. Where parameters are whole only
                  between the hooks of the engine (ZeRO-3), and where the loss scale has to arrive before gradients are
                  rounded to fp16.

The head is anything that can be called: gradients go to whatever its graph leads to, which finds tied rows, LoRA and token
rows that no `parameters()` lists. Gradients have none of their own: `create_graph` is refused.
Rejected: the head's matrix as an argument, split by words (blind to LoRA and to what some families put after the head); one
kernel for the product and the loss (one device, one loss).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from latentthought.model.backward_passes import refuse_second_derivatives
from latentthought.model.head_gradient import ProductsInPlace, leaves_of, makes_no_use_of
from latentthought.model.sharding import most_of_all_ranks, recomputing

Head = Callable[[Tensor], Tensor]
# what a chunk of positions is compared with: tensors whose first dimension is the chunk
Targets = Callable[[slice], tuple[Tensor, ...]]
# (logits (n, V), *targets (n, ...)) -> 0-d sum over the n positions
Score = Callable[..., Tensor]

# logits held at once, in the dtype that the head gives them; fewer make the products with a large head slow
CHUNK_BYTES = 128 << 20
# of these a block is scored at once, in fp32: 4 MiB stay in a CPU's cache; elsewhere fewer calls count for more
BLOCK_ELEMENTS = {"cpu": 1 << 20, "elsewhere": 1 << 22}


def chunks_of(hidden_ND: Tensor, words: int, logits_bytes: int | None = None) -> list[slice]:
    """The positions of each call of a head of some V words, whose logits take CHUNK_BYTES, or so many: at least one call, and as
    many as on any other rank where ranks have to call it together."""
    size = positions_at_once(hidden_ND, words, logits_bytes)
    calls = most_of_all_ranks(max(1, -(-len(hidden_ND) // size)), hidden_ND.device)
    return [slice(number * size, (number + 1) * size) for number in range(calls)]


def positions_at_once(hidden: Tensor, words: int, logits_bytes: int | None = None) -> int:
    """The positions of a chunk of states like these, at least one."""
    return max(1, (logits_bytes or CHUNK_BYTES) // (words * _dtype_of_logits(hidden).itemsize))


def summed_over_logits(
    head: Head,
    hidden_ND: Tensor,
    targets: Targets,
    score: Score,
    chunks: Sequence[slice],
    *,
    recompute: bool | None = None,
) -> Tensor:
    """Sum of a loss over N positions, 0-d in fp32 (fp64 of such states); its gradient reaches `hidden_ND` and the parameters of
    the head.

    Args:
        head: (n, D) -> (n, V) logits, which nobody else may keep. It also runs, on no position, for N = 0: all ranks then have
            the same parameters in their graphs.
        targets, score: see the types above. Targets are made without gradient; `score` gets logits in fp32 (fp64 if the head
            gives that).
        chunks: of `chunks_of`.
        recompute: which way through; None takes the recomputed one where it has to.
    """
    if recompute is None:
        recompute = late_gradients(hidden_ND)
    if torch.is_grad_enabled() and not recompute:
        return _in_one_pass(head, hidden_ND, targets, score, chunks)

    def value_of(hidden_nD: Tensor, rows: slice) -> Tensor:
        return _Scored.apply(head(hidden_nD), targets, score, rows)

    total = _zero(hidden_ND)
    for rows in chunks:
        if torch.is_grad_enabled():
            total = total + checkpoint(value_of, hidden_ND[rows], rows, **recomputing())
        else:
            total = total + value_of(hidden_ND[rows], rows)
    return total


def _zero(hidden: Tensor) -> Tensor:
    return torch.zeros((), device=hidden.device, dtype=torch.promote_types(hidden.dtype, torch.float32))


def _dtype_of_logits(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def late_gradients(hidden: Tensor) -> bool:
    """Whether gradients can only be computed in the backward pass; see the module."""
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    return torch.float16 in (hidden.dtype, _dtype_of_logits(hidden)) or is_deepspeed_zero3_enabled()


def _in_one_pass(
    head: Head, hidden_ND: Tensor, targets: Targets, score: Score, chunks: Sequence[slice]
) -> Tensor:
    total = _zero(hidden_ND)
    hidden_gradient_ND = torch.empty_like(hidden_ND)
    products = ProductsInPlace()
    for rows in chunks:
        hidden_nD = hidden_ND[rows].detach().requires_grad_()
        with products:
            logits_nV = head(hidden_nD)
        leaves = [leaf for leaf in leaves_of(logits_nV) if leaf is not hidden_nD]
        value, gradient_nV = _value_and_gradient(
            logits_nV.detach(), targets, score, rows, spent=makes_no_use_of(logits_nV)
        )
        total += value
        # the graph is let go with the chunk; what all chunks share (a cast weight) must outlive it
        hidden_gradient_ND[rows], *shares = torch.autograd.grad(
            logits_nV,
            [hidden_nD, *leaves],
            gradient_nV.to(logits_nV.dtype),
            retain_graph=True,
            allow_unused=True,
        )
        for leaf, share in zip(leaves, shares, strict=True):
            products.add(leaf, share)
        # nothing of this chunk lies beside the next one
        del logits_nV, gradient_nV, shares
    return _Waiting.apply(total, (hidden_gradient_ND, *products.sums.values()), hidden_ND, *products.sums)


def _value_and_gradient(
    logits_nV: Tensor, targets: Targets, score: Score, rows: slice, spent: bool = False
) -> tuple[Tensor, Tensor]:
    """Score of one chunk and its gradient with respect to the logits, block by block; the latter in their dtype, but in fp32
    of fp16 logits, since without the loss scale most of it would be rounded to 0.

    spent: the gradient may take the place of the logits.
    """
    precision = torch.promote_types(logits_nV.dtype, torch.float32)
    with torch.no_grad():
        compared = targets(rows)
    total = torch.zeros((), device=logits_nV.device, dtype=precision)
    kept = precision if logits_nV.dtype == torch.float16 else logits_nV.dtype
    gradient_nV = logits_nV if spent else torch.empty_like(logits_nV, dtype=kept)
    elements = BLOCK_ELEMENTS["cpu" if logits_nV.device.type == "cpu" else "elsewhere"]
    size = max(1, elements // logits_nV.shape[-1])
    for start in range(0, len(logits_nV), size):
        block = slice(start, start + size)
        # the graph of a block ends here, and is nothing that a checkpoint around the chunk should recompute
        with torch.enable_grad(), saved_tensors_hooks(_itself, _itself):
            logits_bV = logits_nV[block].to(precision).requires_grad_()
            value = score(logits_bV, *(target[block] for target in compared))
        (gradient_bV,) = torch.autograd.grad(value, logits_bV)
        gradient_nV[block] = gradient_bV
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
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        (gradient_nV,) = ctx.saved_tensors
        return (gradient_nV * factor).to(ctx.dtype), None, None, None


class _Waiting(torch.autograd.Function):
    """A value whose gradients are known already, and only lack the factor that the backward pass brings."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        gradients = ctx.saved_tensors
        # in place in the last pass through this graph, after which autograd lets go of them, and the caller is their only holder;
        # but a term's gradient norm is asked for before the backward pass of the step
        if not torch._C._autograd._get_current_graph_task_keep_graph():
            return None, None, *(gradient.mul_(factor) for gradient in gradients)
        return None, None, *(gradient * factor for gradient in gradients)
