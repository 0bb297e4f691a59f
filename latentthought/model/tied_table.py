"""One gradient for a table of embeddings that is the head's matrix too.

Autograd makes two of the size of the table, one of the head's product and one of the lookups (zeros but for the rows of a batch),
and adds them up in a third: 3 x 147 MiB for GPT-2's 50,257 words, 80 ms of a step of two seconds, and the highest peak of a step
that recomputes its passes. Here the gradients of looked-up rows wait until the head's is there, and are added to it where it
lies.

Inside `one_gradient` both modules find a stand-in for their weight, which looks like any other tensor to whatever else they do
(hooks, scales, casts). Tables in 16 bits stay as they are, since rows would be added one by one to sums that are too coarse,
and so do those that are spread over ranks. Rejected: sparse gradients (the engine copies the other one to add them, and an
optimizer may get one alone).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from latentthought.model.first_order import refuse_second_derivatives
from latentthought.model.sharding import is_spread


@contextmanager
def one_gradient(base: PreTrainedModel) -> Iterator[None]:
    """Inside, rows that `looked_up` finds and the head add to one gradient, where the model ties them and a gradient is taken."""
    table, head = base.get_input_embeddings(), base.get_output_embeddings()
    weight = _tied_weight(table, head)
    if weight is None or "weight" in vars(table):  # or in here already
        yield
        return
    stand_in = _Table.apply(weight, _Rows())
    stand_in.grad_fn.stand_in = weakref.ref(stand_in)
    vars(table)["weight"] = vars(head)["weight"] = stand_in
    try:
        yield
    finally:
        del vars(table)["weight"], vars(head)["weight"]


def with_one_gradient(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward of a model around `self.base`, inside `one_gradient`."""

    @wraps(forward)
    def inside(self: Any, *args: Any, **kwargs: Any) -> Any:
        with one_gradient(self.base):
            return forward(self, *args, **kwargs)

    return inside


def looked_up(table: nn.Module, input_ids: Tensor) -> Tensor:
    """`table(input_ids)`, whose gradient joins the head's inside `one_gradient`."""
    if not is_stand_in(vars(table).get("weight")):
        return table(input_ids)
    with _Lookups():
        return table(input_ids)


def is_stand_in(weight: Any) -> bool:
    """Whether a weight is the stand-in for a tied table."""
    return stand_in_of(getattr(weight, "grad_fn", None)) is not None


def stand_in_of(node: Any) -> Tensor | None:
    """The stand-in that a node of autograd's graph made, if it made one."""
    return node.stand_in() if getattr(node, "_forward_cls", None) is _Table else None


def _tied_weight(table: nn.Module, head: nn.Module | None) -> Tensor | None:
    if not (torch.is_grad_enabled() and isinstance(table, nn.Embedding) and isinstance(head, nn.Linear)):
        return None
    weight = table._parameters.get("weight")
    fits = (
        weight is not None
        and weight is head._parameters.get("weight")
        and weight.requires_grad
        and weight.dtype in (torch.float32, torch.float64)
        and not is_traceable_wrapper_subclass(weight)
        and not is_spread(weight)
        and table.max_norm is None
        and not table.scale_grad_by_freq
        and not table.sparse
    )
    return weight if fits else None


class _Rows:
    """Gradients of looked-up rows, while a backward pass goes on."""

    def __init__(self) -> None:
        self._task = -1
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, ids_N: Tensor, gradient_ND: Tensor) -> None:
        # a backward pass that broke off has left its rows behind
        if (task := torch._C._current_graph_task_id()) != self._task:
            self._task = task
            self._waiting = []
        self._waiting.append((ids_N, gradient_ND))

    def add_to(self, gradient_VD: Tensor) -> None:
        for ids_N, gradient_ND in self._waiting:
            # not index_add_, whose sums come in another order each time on an accelerator
            gradient_VD.index_put_((ids_N,), gradient_ND, accumulate=True)
        self._waiting = []


class _Table(torch.autograd.Function):
    """A table (V, D) -> its stand-in. Autograd calls `backward` when the head and all lookups have had theirs."""

    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, rows: _Rows) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.rows = rows
        ctx.like = weight_VD.detach()
        return weight_VD.detach()

    @staticmethod
    def backward(ctx: Any, gradient_VD: Tensor | None) -> tuple[Tensor, None]:
        # made for the stand-in, which nobody else knows: it may be changed
        total_VD = torch.zeros_like(ctx.like) if gradient_VD is None else gradient_VD
        ctx.rows.add_to(total_VD)
        return total_VD, None


class _Lookups(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_embedding if func is F.embedding else func)(*args, **(kwargs or {}))


def _embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    if not is_stand_in(weight):
        return F.embedding(input, weight, padding_idx, *args, **kwargs)
    return _Lookup.apply(input, weight, padding_idx, weight.grad_fn.rows)  # type: ignore[union-attr]


class _Lookup(torch.autograd.Function):
    """F.embedding, whose backward leaves its gradient to `_Table`."""

    @staticmethod
    def forward(ctx: Any, input_ids: Tensor, table_VD: Tensor, padding: int | None, rows: _Rows) -> Tensor:
        ctx.save_for_backward(input_ids)
        ctx.padding, ctx.rows = padding, rows
        return F.embedding(input_ids, table_VD)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        refuse_second_derivatives()
        (input_ids,) = ctx.saved_tensors
        ids_N, gradient_ND = input_ids.flatten(), gradient.flatten(0, -2)
        if ctx.padding is not None:  # its row is nobody's to train
            kept = ids_N != ctx.padding
            ids_N, gradient_ND = ids_N[kept], gradient_ND[kept]
        ctx.rows.add(ids_N, gradient_ND)
        return None, None, None, None
