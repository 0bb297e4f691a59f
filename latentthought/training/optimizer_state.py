"""What an optimizer remembers, by the names of the parameters, whatever engine holds it and on however many processes.

Trainer would save a copy of the optimizer's own dictionary, and DeepSpeed one of each rank's partition: pickles both, bound to
the engine and to the number of processes that wrote them. Here the moments of every trained parameter are brought together and
written as one safetensors file, and on the way back each process takes its own part of them. So a run goes on under another
number of processes, or another strategy, without being asked.
Cost: each state is gathered once a save, a parameter at a time; it is rank 0 that writes. Rejected: DeepSpeed's universal
checkpoint (a conversion between two commands, and pickles on both sides of it).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from latentthought.errors import DamagedFileError
from latentthought.model.sharding import is_spread, spread_as, whole_copy, whole_shape

FILE = "optimizer.safetensors"
_STEP = "step"


def save_optimizer(model: nn.Module, optimizer: Any, folder: Path, write: bool = True) -> None:
    """Write `optimizer.safetensors`. All ranks have to call it; write: whether this one writes.

    model: unwrapped. optimizer: torch's own, or accelerate's around torch's or DeepSpeed's.
    """
    holder = _holder(optimizer)
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for name, parameter in _trained(model):
        for key, value in holder.states(parameter):
            if not write:
                continue
            if key == _STEP or value.dim() == 0 < parameter.dim():
                numbers[f"{name}:{key}"] = float(value)
            else:
                tensors[f"{name}:{key}"] = value.detach().cpu().contiguous()
    if write:
        save_file(tensors, folder / FILE, metadata={"numbers": json.dumps(numbers)})


def load_optimizer(model: nn.Module, optimizer: Any, folder: Path) -> None:
    """Read back what `save_optimizer` wrote, by any engine on any number of processes.

    A parameter without states has not made a step yet. Raises `DamagedFileError` for a file that does not read, or that holds
    states of parameters that the model does not train.
    """
    path = folder / FILE
    holder = _holder(optimizer)
    trained = dict(_trained(model))
    keys_of: dict[str, list[str]] = {name: [] for name in trained}
    try:
        with safe_open(path, framework="pt") as file:
            numbers: dict[str, float] = json.loads((file.metadata() or {})["numbers"])
            for whole in sorted({*file.keys(), *numbers}):
                name, _, key = whole.rpartition(":")
                if name not in trained:
                    raise DamagedFileError(f"{path}: states of {name}, which the model does not train")
                keys_of[name].append(key)
            for name, parameter in trained.items():
                stored = {key: f"{name}:{key}" for key in keys_of[name]}
                values = {
                    key: torch.tensor(numbers[whole]) if whole in numbers else file.get_tensor(whole)
                    for key, whole in stored.items()
                }
                holder.restore(parameter, values)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DamagedFileError(f"{path}: unreadable states of the optimizer: {error}") from error
    holder.restored()


def clear_optimizer(optimizer: Any) -> None:
    """Forget all moments, as at the first step."""
    _holder(optimizer).clear()


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _holder(optimizer: Any) -> _Torch | _Sharded | _Spread:
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper
    if hasattr(inner, "fp32_partitioned_groups_flat"):
        return _Spread(inner)
    if hasattr(inner, "single_partition_of_fp32_groups"):
        return _Sharded(inner)
    return _Torch(inner)


class _Torch:
    """States as torch keeps them: of whole parameters, or of those that FSDP2 has spread, which are tensors of their own kind."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def states(self, parameter: nn.Parameter) -> Iterator[tuple[str, Tensor]]:
        """(key, value) of a parameter; empty before its first step."""
        own = self.optimizer.state.get(parameter, {})
        return (
            (key, whole_copy(value) if is_spread(value) else torch.as_tensor(value))
            for key, value in own.items()
        )

    def restore(self, parameter: nn.Parameter, values: Mapping[str, Tensor]) -> None:
        """Take over the states of a parameter."""
        if not values:
            return
        # a step count lies on the host, but for fused optimizers on a GPU
        own = self.optimizer.state[parameter]
        fused = any(group.get("fused") for group in self.optimizer.param_groups)
        for key, value in values.items():
            stays = value.dim() == 0 and not fused
            own[key] = value if stays else spread_as(value, parameter)

    def restored(self) -> None:
        """After the last parameter."""

    def clear(self) -> None:
        """Forget everything."""
        self.optimizer.state.clear()


class _Flat:
    """States of flat float32 partitions (DeepSpeed), each of which holds a piece of some parameters."""

    def __init__(self, zero: Any) -> None:
        self.zero = zero
        self.optimizer: torch.optim.Optimizer = zero.optimizer
        self._found: list[str] | None = None
        self._step: Tensor | None = None

    def flats(self) -> list[Tensor]:
        """The partitions of this rank."""
        raise NotImplementedError

    def piece(self, parameter: nn.Parameter) -> tuple[Tensor, slice, slice] | None:
        """(partition, where in it, where in the flattened parameter) of this rank's piece; None where it has none."""
        raise NotImplementedError

    def states(self, parameter: nn.Parameter) -> Iterator[tuple[str, Tensor]]:
        """(key, whole value) of a parameter; every rank has to go through all of it."""
        shape = whole_shape(parameter)
        for key in self._keys():
            piece = self.piece(parameter)
            if key == _STEP:
                # one count for a whole partition
                step = 0.0 if piece is None else float(self.optimizer.state[piece[0]].get(key, 0.0))
                yield key, self._sum_or_most(torch.tensor(step), most=True)
                continue
            whole = torch.zeros(shape.numel(), device=self.flats()[0].device)
            if piece is not None and key in self.optimizer.state[piece[0]]:
                flat, inside, outside = piece
                own = self.optimizer.state[flat][key][inside]
                whole[outside] = own[: len(whole[outside])]  # a piece may end in padding
            yield key, self._sum_or_most(whole, most=False).view(shape)

    def restore(self, parameter: nn.Parameter, values: Mapping[str, Tensor]) -> None:
        """Take over this rank's piece of a parameter's states."""
        if _STEP in values:
            self._step = values[_STEP] if self._step is None else torch.maximum(self._step, values[_STEP])
        if (piece := self.piece(parameter)) is None:
            return
        flat, inside, outside = piece
        for key, value in values.items():
            if key == _STEP:
                continue
            own = self.optimizer.state[flat]
            if key not in own:
                own[key] = torch.zeros_like(flat)
            held, part = own[key][inside], value.flatten()[outside]
            held[: len(part)] = part.to(held.device)

    def restored(self) -> None:
        """After the last parameter: those that have skipped steps elsewhere share the one count of all here."""
        fused = any(group.get("fused") for group in self.optimizer.param_groups)
        for flat in self.flats():
            if self._step is not None and len(self.optimizer.state[flat]):
                # each its own: the optimizer counts in place
                place = flat.device if fused else self._step.device
                self.optimizer.state[flat][_STEP] = self._step.to(place, copy=True)

    def clear(self) -> None:
        """Forget everything."""
        for flat in self.flats():
            self.optimizer.state.pop(flat, None)

    def _keys(self) -> list[str]:
        """Names of the states, the same on all ranks: a rank's own partitions may hold none yet."""
        if self._found is None:
            own = {key for flat in self.flats() for key in self.optimizer.state.get(flat, {})}
            every: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(every, sorted(own))
            self._found = sorted({key for keys in every for key in keys})
        return self._found

    def _sum_or_most(self, value: Tensor, most: bool) -> Tensor:
        value = value.to(self.flats()[0].device)
        # offloaded partitions lie on the host, and a GPU's backend takes what lies on a GPU
        home, place = value.device, torch.device("cpu")
        if torch.distributed.get_backend() == "nccl":
            place = torch.device("cuda", torch.cuda.current_device())
        shared = value.to(place)
        operation = torch.distributed.ReduceOp.MAX if most else torch.distributed.ReduceOp.SUM
        torch.distributed.all_reduce(shared, op=operation)
        return shared.to(home)


class _Sharded(_Flat):
    """ZeRO 1 and 2: all parameters of a group in a row, cut into one partition a rank."""

    def flats(self) -> list[Tensor]:
        return list(self.zero.single_partition_of_fp32_groups)

    def piece(self, parameter: nn.Parameter) -> tuple[Tensor, slice, slice] | None:
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            return None
        inside, outside = mapping.hp_fragment_address, mapping.lp_fragment_address
        return (
            self.flats()[mapping.param_group_index],
            slice(inside.start, inside.start + inside.numel),
            slice(outside.start, outside.start + outside.numel),
        )


class _Spread(_Flat):
    """ZeRO 3: every parameter cut into one piece a rank, the last one padded."""

    def flats(self) -> list[Tensor]:
        return list(self.zero.fp32_partitioned_groups_flat)

    def piece(self, parameter: nn.Parameter) -> tuple[Tensor, slice, slice] | None:
        group, start, size = self.zero.grad_position[self.zero.get_param_id(parameter)]
        first = torch.distributed.get_rank() * size
        return self.flats()[group], slice(start, start + size), slice(first, first + size)
