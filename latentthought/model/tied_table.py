"""One gradient for a table of embeddings that is the head's matrix too.

Autograd makes two of the size of the table, one of the head's product and one of the lookups (zeros but for the rows of a batch),
and adds them up in a third: 3 x 147 MiB for GPT-2's 50,257 words, 80 ms of a step of two seconds, and the highest peak of a step
that recomputes its passes. Here the gradients of looked-up rows wait until the head's is there, and are added to it where it
lies.

While table or head are called they find a stand-in for their weight, which looks like any other tensor to whatever else they do
(hooks, scales, casts); everybody else sees the parameter. Tables in 16 bits stay as they are, since rows would be added one by
one to sums that are too coarse, and so do those that are spread over ranks. Rejected: sparse gradients (the engine copies the
other one to add them, and an optimizer may get one alone).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from latentthought.model.backward_passes import BackwardPass, refuse_second_derivatives
from latentthought.model.sharding import is_spread, sharded

P = ParamSpec("P")
R = TypeVar("R")


class TiedTable:
    """Table and head of one model during one forward."""

    def __init__(self, table: nn.Embedding, head: nn.Linear):
        self._table, self._head = table, head
        self._stand_in = _Table.apply(table.weight, _LookedUp())
        self._stand_in.grad_fn.stand_in = weakref.ref(self._stand_in)

    @classmethod
    def of(cls, base: PreTrainedModel) -> TiedTable | None:
        """None where there is nothing to be gained: no gradient is taken, or table and head are not plain ones that share it."""
        table, head = base.get_input_embeddings(), base.get_output_embeddings()
        if not (torch.is_grad_enabled() and isinstance(table, nn.Embedding) and type(head) is nn.Linear):
            return None
        weight = table._parameters.get("weight")
        fits = (
            weight is not None
            and weight is head._parameters.get("weight")
            and weight.requires_grad
            and weight.dtype in (torch.float32, torch.float64)
            and not is_traceable_wrapper_subclass(weight)
            and not (is_spread(weight) or sharded())
            and table.max_norm is None
            and not table.scale_grad_by_freq
            and not table.sparse
        )
        return cls(table, head) if fits else None

    def embed(self, input_ids: Tensor) -> Tensor:
        """The table's own forward."""
        with self._standing_in(self._table), _Lookups():
            return self._table(input_ids)

    def head(self, hidden: Tensor) -> Tensor:
        """The head's own forward."""
        with self._standing_in(self._head):
            return self._head(hidden)

    @contextmanager
    def _standing_in(self, module: nn.Module) -> Iterator[None]:
        vars(module)["weight"] = self._stand_in  # is found before the parameter
        try:
            yield
        finally:
            del vars(module)["weight"]


def with_one_gradient(forward: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """A forward of a model inside `self.backbone.one_gradient()`."""

    @wraps(forward)
    def inside(self: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.backbone.one_gradient():
            return forward(self, *args, **kwargs)

    return inside


def is_stand_in(weight: Any) -> bool:
    """Whether a weight is the stand-in for a tied table."""
    return stand_in_of(getattr(weight, "grad_fn", None)) is not None


def stand_in_of(node: Any) -> Tensor | None:
    """The stand-in that a node of autograd's graph made, if it made one."""
    return node.stand_in() if getattr(node, "_forward_cls", None) is _Table else None


class _LookedUp:
    """Gradients of looked-up rows, while a backward pass goes on."""

    def __init__(self) -> None:
        self._pass = BackwardPass()
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, ids_N: Tensor, gradient_ND: Tensor) -> None:
        if self._pass.begins():  # and the one before may have broken off
            self._waiting = []
        self._waiting.append((ids_N, gradient_ND))

    def add_to(self, gradient_VD: Tensor) -> None:
        for ids_N, gradient_ND in self._waiting:
            # the one whose sums come in the same order each time
            if gradient_VD.device.type == "cpu":
                gradient_VD.index_add_(0, ids_N, gradient_ND)
            else:
                gradient_VD.index_put_((ids_N,), gradient_ND, accumulate=True)
        self._waiting = []


class _Table(torch.autograd.Function):
    """A table (V, D) -> its stand-in. Autograd calls `backward` when the head and all lookups have had theirs."""

    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, looked_up: _LookedUp) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.looked_up = looked_up
        ctx.like = weight_VD.detach()
        return weight_VD.detach()

    @staticmethod
    def backward(ctx: Any, gradient_VD: Tensor | None) -> tuple[Tensor, None]:
        # made by products of the head, for the stand-in alone: it may be changed
        total_VD = torch.zeros_like(ctx.like) if gradient_VD is None else gradient_VD
        ctx.looked_up.add_to(total_VD)
        return total_VD, None


class _Lookups(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_embedding if func is F.embedding else func)(*args, **(kwargs or {}))


def _embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    if not is_stand_in(weight):
        return F.embedding(input, weight, padding_idx, *args, **kwargs)
    return _Lookup.apply(input, weight, padding_idx, weight.grad_fn.looked_up)  # type: ignore[union-attr]


class _Lookup(torch.autograd.Function):
    """F.embedding, whose backward leaves its gradient to `_Table`."""

    @staticmethod
    def forward(
        ctx: Any, input_ids: Tensor, table_VD: Tensor, padding: int | None, looked_up: _LookedUp
    ) -> Tensor:
        ctx.save_for_backward(input_ids)
        ctx.padding, ctx.looked_up = padding, looked_up
        return F.embedding(input_ids, table_VD)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        refuse_second_derivatives()
        (input_ids,) = ctx.saved_tensors
        ids_N, gradient_ND = input_ids.flatten(), gradient.flatten(0, -2)
        if ctx.padding is not None:  # its row is nobody's to train
            kept = ids_N != ctx.padding
            ids_N, gradient_ND = ids_N[kept], gradient_ND[kept]
        ctx.looked_up.add(ids_N, gradient_ND)
        return None, None, None, None
