"""Weight gradients of several passes through the same weights, as one product for each weight.

Feedback runs a batch in many passes, most of them a column wide. Autograd would work out a gradient of every weight at each pass,
as large as the weight however few the rows, and add them up: 16 bytes a weight and pass in fp32, more than the pass takes for
all else. Here a pass's backward keeps what the product is made of, its inputs (N, in) and the gradients of its outputs
(N, out), and when all passes are through, one product of all rows gives the gradient of the weight, written once. Values and
gradients are the same but for the order of sums.

Linear layers of the base take part by their `forward`, which is another one during a pass, so that any family of transformers
serves, hooks and wrappers included. All others (small, quantised, FP8, embeddings, norms) and weights that are spread over ranks
work as ever. The products of a pass itself, forward and backward, take the fastest kernel for as few rows (`few_rows.py`).
Cost: inputs and gradients of outputs wait for the last pass (16 D a column and block, of activations that are let go of
meanwhile); when `MOST_ROWS` wait they are summed up early, in 16 bits into sums of fp32. Rejected: torch-function modes (they
catch every attribute of every tensor, 1 % of a step), products at the end of backward by a callback (gradients would appear
behind the back of DDP and `autograd.grad`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from latentthought.model import few_rows
from latentthought.model.backward_passes import BackwardPass, refuse_second_derivatives
from latentthought.model.sharding import sharded

# waiting rows of a layer that are summed up: enough for a product bound by arithmetic, and about as large as the gradient
MOST_ROWS = 512
# and in a step that recomputes its passes, once it holds that gradient: waiting rows are a good part of what else it holds
MOST_BESIDE_GRADIENT = 64
# elements of a weight below which autograd's own way is faster: sharing costs some 40 us a pass and layer on the host, and spares
# 16 bytes an element; an accelerator moves those a hundred times faster
LEAST_ELEMENTS = {"cpu": 1 << 16, "elsewhere": 1 << 22}


class SharedProducts:
    """The linear layers of one base during one step: all passes that are to share their products go through it.

    recomputed: whether the passes keep nothing, so that memory counts for more than time.
    """

    def __init__(self, base: PreTrainedModel, recomputed: bool = False):
        self._base = base
        self._beside_gradient = MOST_BESIDE_GRADIENT if recomputed else MOST_ROWS
        self._layers: list[nn.Linear | Conv1D] | None = None
        self._shared: dict[nn.Module, Callable[[Tensor], Tensor]] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, the layers keep what their products are made of. Does nothing where no gradient is taken."""
        if self._layers is None and torch.is_grad_enabled():
            self._layers = [] if sharded() else _linear_layers(self._base)
        layers = self._layers if self._layers and torch.is_grad_enabled() else []
        for layer in layers:
            vars(layer)["forward"] = self._shared.get(layer) or partial(self._first, layer)
        try:
            yield
        finally:
            for layer in layers:
                del vars(layer)["forward"]

    def _first(self, layer: nn.Linear | Conv1D, hidden: Tensor) -> Tensor:
        """The first use of a layer, which tells the type that products are taken in."""
        device = hidden.device.type
        lowered = torch.is_autocast_enabled(device) and layer.weight.dtype != torch.float64
        dtype = torch.get_autocast_dtype(device) if lowered else layer.weight.dtype
        weight = _Weight(layer, dtype, self._beside_gradient)
        product = partial(_Product.apply, weight.rows, weight.weight, weight.bias)
        shared = partial(_lowered, product, dtype) if lowered else product
        self._shared[layer] = vars(layer)["forward"] = shared
        return shared(hidden)


def _lowered(product: Callable[[Tensor], Tensor], dtype: torch.dtype, hidden: Tensor) -> Tensor:
    """A product under autocast, which otherwise would copy the weight again at each pass."""
    with torch.autocast(hidden.device.type, enabled=False):
        return product(hidden.to(dtype))


def _linear_layers(base: PreTrainedModel) -> list[nn.Linear | Conv1D]:
    def large(weight: Tensor) -> bool:
        return weight.numel() >= LEAST_ELEMENTS["cpu" if weight.device.type == "cpu" else "elsewhere"]

    wrapped = {
        inner
        for wrapper in base.base_model.modules()
        if isinstance(wrapper, CheckpointWrapper)
        for inner in wrapper.modules()
    }  # what is recomputed there finds the layers' own forward
    return [
        module
        for module in base.base_model.modules()
        if type(module) in (nn.Linear, Conv1D)
        and module.weight.requires_grad
        and not is_traceable_wrapper_subclass(module.weight)  # quantised, or spread over ranks
        and module not in wrapped
        and large(module.weight)
        and (module.bias is None or module.bias.requires_grad)
        and "forward" not in vars(module)
    ]


class _Weight:
    """weight: (out, in) and bias: (out,) in the type of the products, as they follow in autograd from the layer's own."""

    def __init__(self, layer: nn.Linear | Conv1D, dtype: torch.dtype, beside_gradient: int):
        self.rows = _Rows(isinstance(layer, Conv1D), beside_gradient)
        self.weight, self.bias = _Collect.apply(layer.weight, layer.bias, dtype, self.rows)


class _Rows:
    """What the gradients of one weight are made of, while a backward pass goes on."""

    def __init__(self, transposed: bool, beside_gradient: int):
        self.transposed = transposed
        self._beside_gradient = beside_gradient
        self._pass = BackwardPass()
        self._clear()

    def _clear(self) -> None:
        self._inputs: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self._waiting = 0
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None

    def add(self, inputs_NI: Tensor, gradients_NO: Tensor) -> None:
        if self._pass.begins():  # and the one before may not have asked for this weight (autograd.grad)
            self._clear()
        self._inputs.append(inputs_NI)
        self._gradients.append(gradients_NO)
        self._waiting += len(inputs_NI)
        if self._waiting >= (MOST_ROWS if self._weight is None else self._beside_gradient):
            self._sum_up()

    def take(self) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of weight (as the layer has it) and bias, None where no pass has been; nothing waits any more."""
        if self._inputs:
            self._sum_up()
        found = self._weight, self._bias
        self._clear()
        return found

    def _sum_up(self) -> None:
        gradients, inputs = _joined(self._gradients), _joined(self._inputs)
        left, right = (inputs, gradients) if self.transposed else (gradients, inputs)
        bias = gradients.sum(0)
        if self._weight is None or self._bias is None:
            self._weight, self._bias = left.t() @ right, bias
        elif left.dtype == torch.float32:
            self._weight.addmm_(left.t(), right)
            self._bias += bias
        else:  # sums of sums are too coarse in 16 bits
            self._weight = self._weight.float().add_(left.t() @ right)
            self._bias = self._bias.float().add_(bias)
        self._inputs, self._gradients, self._waiting = [], [], 0


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Collect(torch.autograd.Function):
    """A layer's weight and bias -> (out, in) and (out,) in another type; the gradients are those of all rows together.

    Autograd calls `backward` when all products have had theirs, though none of them gives it a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, rows: _Rows
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        ctx.rows, ctx.dtype = rows, weight.dtype
        turned = weight.detach().to(dtype)
        return turned.t() if rows.transposed else turned, None if bias is None else bias.detach().to(dtype)

    @staticmethod
    def backward(ctx: Any, *unused: None) -> tuple[Any, ...]:
        weight, bias = (None if part is None else part.to(ctx.dtype) for part in ctx.rows.take())
        return weight, bias if ctx.needs_input_grad[1] else None, None, None


class _Product(torch.autograd.Function):
    """F.linear, whose backward leaves the gradient of the weight to `_Collect`."""

    @staticmethod
    def forward(ctx: Any, rows: _Rows, weight: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.rows = rows
        flat_NI = inputs.reshape(-1, weight.shape[1])
        return few_rows.linear(flat_NI, weight, bias).view(*inputs.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        refuse_second_derivatives()
        inputs, weight = ctx.saved_tensors
        flat_NO = gradient.reshape(-1, weight.shape[0])
        ctx.rows.add(inputs.reshape(-1, weight.shape[1]), flat_NO)
        if not ctx.needs_input_grad[3]:
            return None, None, None, None
        return None, None, None, few_rows.linear(flat_NO, weight.t()).view(inputs.shape)
