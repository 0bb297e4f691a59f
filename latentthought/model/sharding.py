"""Parameters that ZeRO-3 or FSDP2 have dealt out to the ranks: whole for a while, and calls that no rank may leave out.

Under either a module brings its parameters together when it is called (ZeRO-3: each one; FSDP2: each block), which takes all
ranks. So all have to call the same modules equally often and in the same order, however many positions their own rows happen to
have; a rank that leaves one out lets the others wait for ever. Passes are fixed by the stage; what depends on the rows, such as
the chunks that the head works in, is agreed on here.
Cost: under ZeRO-3 one number a call, exchanged between ranks. Rejected there: the head kept whole on every rank, as FSDP2 has it
during a step (it is the largest matrix of a small model), and one chunk for all (the logits of a whole batch).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

_BY_TORCH = False
_SUPPOSED = False


@contextmanager
def spread_by_torch() -> Iterator[None]:
    """Inside, models are trained by FSDP2, for which there is no sign that all of a process could see, as there is for ZeRO-3."""
    global _BY_TORCH
    _BY_TORCH = True
    try:
        yield
    finally:
        _BY_TORCH = False


@contextmanager
def supposed_sharded() -> Iterator[None]:
    """Inside, a step is run as on one of several ranks that parameters are spread over, for a forecast: nothing is exchanged."""
    global _SUPPOSED
    _SUPPOSED = True
    try:
        yield
    finally:
        _SUPPOSED = False


def sharded() -> bool:
    """Whether parameters are spread over several ranks, so that every rank has to make every call."""
    return _SUPPOSED or (
        (_BY_TORCH or is_deepspeed_zero3_enabled())
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    )


def recomputing() -> dict[str, Any]:
    """Arguments of `torch.utils.checkpoint` for a function that calls modules.

    Its check that a recomputed tensor looks like the first one is turned off under ZeRO-3: a frozen weight has been let go of by
    the time of the check, and is brought back before the backward pass reads it.
    """
    check = {"determinism_check": "none"} if is_deepspeed_zero3_enabled() else {}
    return {"use_reentrant": False, **check}


def most_of_all_ranks(number: int, device: torch.device) -> int:
    """The largest `number` of all ranks where a head is brought together for each call, and all ranks then have to ask; else
    `number`."""
    if _BY_TORCH or _SUPPOSED or not sharded():
        return number
    largest = torch.tensor(number, device=device)
    torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
    return int(largest)


def whole_shape(parameter: Tensor) -> torch.Size:
    """The shape of a parameter, also where ZeRO-3 has left an empty tensor in its place."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


@contextmanager
def whole(tensors: Iterable[Tensor], changed: bool = False) -> Iterator[None]:
    """Inside the block parameters among `tensors` that ZeRO-3 has spread are whole; all ranks have to enter it.

    changed: take over what rank 0 has made of them.
    """
    # tied ones once
    spread = list({id(tensor): tensor for tensor in tensors if hasattr(tensor, "ds_id")}.values())
    if not spread:
        yield
        return
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters

    with GatheredParameters(spread, modifier_rank=0 if changed else None):
        yield


@contextmanager
def at_hand(model: nn.Module) -> Iterator[None]:
    """Inside, what a step calls outside of the forward of `model` (as it was handed to the engine) finds its parameters: FSDP2
    knows when a block is called, and what is in no block (embeddings, head) has to be asked for. All ranks have to enter it."""
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


def spread_as(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor of a parameter's shape as this rank holds it: its part of it where FSDP2 has spread the parameter."""
    if value.dim() == 0 or not isinstance(parameter, DTensor):
        return value.to(parameter.device)
    # every rank has the whole of it, so nothing is sent
    value = value.to(parameter.device_mesh.device_type)
    part = distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return part.to(parameter.device)


def whole_copy(tensor: Tensor) -> Tensor:
    """A tensor in the memory of the host, brought together where it is spread; all ranks have to call it.

    One that lies there whole is not copied.
    """
    if isinstance(tensor, DTensor):
        # offloaded parts travel by the device, as the backend of a GPU's processes wants them
        there = cast("DTensor", tensor.detach().to(tensor.device_mesh.device_type))
        return there.full_tensor().cpu().contiguous()
    with whole([tensor]):
        copy = tensor.detach().cpu().contiguous()
        # what was brought together on the host is let go of with the block
        passing = hasattr(tensor, "ds_id") and copy.data_ptr() == tensor.data_ptr()
        return copy.clone() if passing else copy


def tell_readers(model: nn.Module) -> None:
    """Tell DeepSpeed which modules read parameters of others: peft's layers of new token rows read the table that they stand for,
    and a tied head the rows of the embedding's layer. Without it they would find them empty when a pass is recomputed."""
    from deepspeed.runtime.zero.partition_parameters import register_external_parameter

    reader: Any
    for reader in model.modules():
        if type(reader).__name__ == "TrainableTokensLayer":
            register_external_parameter(reader, reader.base_layer.weight)
            for rows in reader.trainable_tokens_delta.values():
                register_external_parameter(reader, rows)


def whole_copies(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """`whole_copy` of one tensor after the other; all ranks have to call it.

    keep: False on ranks that only take part.
    """
    copies = {}
    for name, tensor in tensors.items():
        if keep:
            copies[name] = whole_copy(tensor)
        elif is_spread(tensor):
            whole_copy(tensor)
    return copies


def bring_home(model: nn.Module, keep: bool = True) -> None:
    """Give a model its sharded parameters back, whole and in the memory of the host, for good; all ranks have to call it.

    keep: False on ranks that only take part, whose model stays as it is. One parameter at a time is whole on the devices. The
    model is there to be saved: an engine may still have its hooks on the modules' forward.
    """
    home: dict[int, nn.Parameter] = {}
    by_torch = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for unit in by_torch:
        unit.reshard()
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None or not is_spread(parameter):
                continue
            if id(parameter) not in home:  # tied ones stay one
                copy = whole_copy(parameter)
                home[id(parameter)] = nn.Parameter(copy, parameter.requires_grad) if keep else parameter
            module._parameters[name] = home[id(parameter)]
    if keep:
        for unit in by_torch:  # each has got a class of its own, under whose name the model would be saved
            unit.__class__ = type(unit).__mro__[2]


def is_spread(tensor: Tensor) -> bool:
    """Whether a rank holds only a part of a tensor."""
    return isinstance(tensor, DTensor) or hasattr(tensor, "ds_id")
