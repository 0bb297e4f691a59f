"""The gradient of a head's matrix, added up over chunks of positions without a second one beside it.

Autograd makes the gradient of a matrix whole before it adds it to anything: 519 MiB for 151,936 words of width 896, anew for
each chunk. Inside `ProductsInPlace` the product that makes it adds to the sum instead. It stands for `F.linear` alone, wherever
in the head it is called, on a plain matrix that is a leaf, or stands for one (`tied_table.py`); what else a head is made of
(LoRA, new token rows, a soft cap) stays with autograd, and so does a matrix that is no such leaf.

Rejected: looking for a head that is one `nn.Linear` (blind to hooks, casts and what some families put after it); `.grad` as the
sum (a term's value must not train anything yet, and its factor is unknown).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from latentthought.model.backward_passes import refuse_second_derivatives
from latentthought.model.tied_table import is_stand_in, stand_in_of

# of a product in lower precision, which is made or rounded apart, so much at once
PART_ELEMENTS = 1 << 22


class ProductsInPlace(TorchFunctionMode):
    """Inside, `F.linear` is differentiable as ever, but a gradient of its matrix is added to `sums`, and autograd gets none.

    sums: leaf -> the sum of its gradients, in its dtype, from the first one on. May be entered for one chunk after the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sums: dict[Tensor, Tensor] = {}
        self._cast: dict[Tensor, Tensor] = {}

    def add(self, leaf: Tensor, gradient: Tensor | None) -> None:
        """Add what autograd found for a leaf beside the products, or nothing: then too it has a sum."""
        if leaf not in self.sums:
            self.sums[leaf] = torch.zeros_like(leaf)
        if gradient is not None:
            self.sums[leaf] += gradient

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear and _plain(*args, **(kwargs or {})):
            return self._linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        device = input.device.type
        if not torch.is_autocast_enabled(device) or weight.dtype == torch.float64:
            return _Linear.apply(input, weight, bias, weight.detach(), self.sums)
        if weight not in self._cast:  # as autocast would have it, once for all chunks
            self._cast[weight] = weight.detach().to(torch.get_autocast_dtype(device))
        return _Linear.apply(input, weight, bias, self._cast[weight], self.sums)


def _plain(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether this product can be differentiated here."""
    return (
        torch.is_grad_enabled()
        and (weight.is_leaf or is_stand_in(weight))
        and input.dim() == weight.dim() == 2
        # neither spread over ranks nor quantized
        and all(
            tensor.is_floating_point() and not is_traceable_wrapper_subclass(tensor)
            for tensor in (input, weight, bias)
            if tensor is not None
        )
    )


class _Linear(torch.autograd.Function):
    """`F.linear` of (n, D) states; `matrix_VD` is what `weight_VD` is in the precision of the product."""

    @staticmethod
    def forward(
        ctx: Any,
        input_nD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        matrix_VD: Tensor,
        sums: dict[Tensor, Tensor],
    ) -> Tensor:
        ctx.weight, ctx.sums, ctx.dtype = weight_VD, sums, input_nD.dtype
        if torch.is_autocast_enabled(input_nD.device.type):
            input_nD = input_nD.to(matrix_VD.dtype)
        ctx.save_for_backward(input_nD, matrix_VD)
        return F.linear(input_nD, matrix_VD, bias_V)

    @staticmethod
    def backward(ctx: Any, gradient_nV: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        input_nD, matrix_VD = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        if needs_weight:
            _add_product(ctx.sums, ctx.weight, gradient_nV, input_nD)
        return (
            (gradient_nV @ matrix_VD).to(ctx.dtype) if needs_input else None,
            None,
            gradient_nV.sum(0) if needs_bias else None,
            None,
            None,
        )


def _add_product(
    sums: dict[Tensor, Tensor], weight_VD: Tensor, gradient_nV: Tensor, input_nD: Tensor
) -> None:
    """Add gradient^T input to the sum of a matrix."""
    same = gradient_nV.dtype == input_nD.dtype == weight_VD.dtype
    whole = same and weight_VD.dtype.itemsize >= 4
    if whole and weight_VD not in sums:  # written rather than cleared and added to
        sums[weight_VD] = torch.mm(gradient_nV.T, input_nD, out=torch.empty_like(weight_VD))
        return
    if weight_VD not in sums:
        sums[weight_VD] = torch.zeros_like(weight_VD)
    sum_VD = sums[weight_VD]
    if whole:
        sum_VD.addmm_(gradient_nV.T, input_nD)
        return
    words = max(1, PART_ELEMENTS // sum_VD.shape[1])
    for sum_vD, gradient_nv in zip(sum_VD.split(words), gradient_nV.split(words, dim=1), strict=True):
        if same:
            sum_vD.addmm_(gradient_nv.T, input_nD)
        else:
            sum_vD += gradient_nv.T @ input_nD


def makes_no_use_of(output: Tensor) -> bool:
    """Whether the graph that made a tensor can do without it, so that something else may take its place."""
    return getattr(output.grad_fn, "_forward_cls", None) is _Linear


def leaves_of(output: Tensor) -> Iterator[Tensor]:
    """The tensors that wait for a gradient at the ends of a graph, in a fixed order; a tied table's stand-in is an end."""
    seen, ahead = set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (stand_in := stand_in_of(node)) is not None:
            yield stand_in
            continue
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable  # type: ignore[attr-defined]
        ahead.extend(after for after, _ in node.next_functions)
