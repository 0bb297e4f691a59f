"""Caches of passes that are run one after the other over the columns of one batch: reserved, forked, taken apart.

A `DynamicCache` joins old and new columns anew at each pass, and in training every joined copy lives on until backward: S passes
over T columns keep S T columns of keys and values, and as many gradients are cut apart and added up again. A `ReservedCache`
has room for all columns from the start; a pass writes its own and attends to a view of all so far. The gradient of the columns
adds up in one tensor of the same size: the last pass of backward's order adds its part before the one before it reads
its own columns off. That order is autograd's own, by a link from each pass to the next.

A cache that is forked, for passes that are tried over the same prefix, copies at its first pass like any `DynamicCache`.
Rejected: transformers' `StaticCache` (attends to columns not yet written, behind a mask, and is not differentiable).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from latentthought.model.backward_passes import BackwardPass, refuse_second_derivatives

# columns that a cache grows by when its room is used up, at least
GROWTH = 64


class ReservedCache(DynamicCache):
    """A cache with room for `columns` columns, for every layer of attention; it grows beyond them where no gradient is taken."""

    def __init__(self, columns: int, rooms: list[Room] | None = None):
        super().__init__()
        self.columns = columns
        self._rooms = rooms

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new columns of a layer (B, H, t, D/H); returns keys and values of all columns so far."""
        while len(self.layers) <= layer_idx:
            self.layers.append(ReservedLayer(self._room(len(self.layers))))
        return self.layers[layer_idx].update(key_states, value_states)

    @property
    def links(self) -> list[Tensor | None]:
        """What the next pass follows in the order of autograd: a tensor without elements for each layer that has columns."""
        return [layer.link for layer in self.layers]

    @property
    def rooms(self) -> list[Room]:
        """The tensors behind the layers."""
        return [layer.room for layer in self.layers]

    @classmethod
    def resumed(
        cls, columns: int, rooms: list[Room], links: Sequence[Tensor | None], length: int
    ) -> ReservedCache:
        """A cache as it was after its first `length` columns, in the same rooms: what is run on it again is written again. Its
        columns carry no gradient of their own, only by its links. Rooms that it makes are added to `rooms`."""
        cache = cls(columns, rooms)
        for room, link in zip(rooms, links, strict=False):
            cache.layers.append(ReservedLayer(room, link, 0 if link is None else length))
        return cache

    def _room(self, number: int) -> Room:
        if self._rooms is None:
            return Room(self.columns)
        if number == len(self._rooms):
            self._rooms.append(Room(self.columns))
        return self._rooms[number]


class ReservedLayer(DynamicLayer):
    """Keys and values of one layer: views of the columns written so far, differentiable.

    One that was cropped, repeated or put into another order joins the next columns to what it now holds, and where no gradient is
    taken moves into room of its own with those after them: beam search, which reorders it at each step, only ever joins.
    """

    def __init__(self, room: Room, link: Tensor | None = None, length: int = 0):
        super().__init__()
        self.room: Room | None = room
        self.link = link
        self._own: Tensor | None = None  # the keys as they were left; others are somebody else's change
        self._resumed = length > 0
        if length:
            self.dtype, self.device = room.keys.dtype, room.keys.device
            self.keys, self.values = room.view(length)
            self._own, self.is_initialized = self.keys, True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._own = self.keys
        tracked = torch.is_grad_enabled()
        if self.keys is not self._own or (self.room is None and tracked):
            assert not (tracked and self._resumed), "columns without gradient would be joined to others"
            super().update(key_states, value_states)
            self.room, self._own = None, self.keys
            return self.keys, self.values
        start = self.get_seq_length()
        if self.room is None:
            self.room, self.link = Room(start + GROWTH), None
            if start:
                self.room.write(self.keys, self.values, 0)
        if tracked:
            append = _Append.apply(key_states, value_states, self.link, self.room, start)
            self.keys, self.values, self.link = append
        else:
            self.room.write(key_states, value_states, start)
            self.keys, self.values = self.room.view(start + key_states.shape[-2])
        self._own = self.keys
        return self.keys, self.values

    def reset(self) -> None:
        super().reset()
        self.room = self.link = self._own = None


class Room:
    """The tensors (B, H, columns, D/H) behind a layer, and the gradients that add up during a backward pass."""

    def __init__(self, columns: int):
        self.columns = columns
        self.keys: Tensor = torch.empty(0)
        self.values: Tensor = torch.empty(0)
        self._pass = BackwardPass()
        self._gradients: tuple[Tensor, Tensor] | None = None

    def write(self, keys: Tensor, values: Tensor, start: int) -> None:
        stop = start + keys.shape[-2]
        if not self.keys.numel() or stop > self.keys.shape[-2]:
            self.columns = max(self.columns, stop if not start else stop + GROWTH)
            self.keys, self.values = (
                self._grown(old, new, start) for old, new in ((self.keys, keys), (self.values, values))
            )
        self.keys[..., start:stop, :] = keys
        self.values[..., start:stop, :] = values

    def view(self, stop: int) -> tuple[Tensor, Tensor]:
        """All columns before `stop`, as tensors of their own: what is written behind them later is no change of theirs."""
        return self.keys[..., :stop, :].data, self.values[..., :stop, :].data

    def add_gradients(self, keys: Tensor | None, values: Tensor | None, stop: int) -> tuple[Tensor, Tensor]:
        """Add a pass's part, and return the sums (B, H, columns, D/H) of the backward pass that is going on."""
        if self._pass.begins() or self._gradients is None:
            self._gradients = _first(self.keys, keys, stop), _first(self.values, values, stop)
            return self._gradients
        for total, part in zip(self._gradients, (keys, values), strict=True):
            if part is not None:
                total.narrow(-2, 0, stop).add_(part)
        return self._gradients

    def forget_gradients(self) -> None:
        self._gradients = None

    def _grown(self, old: Tensor, new: Tensor, length: int) -> Tensor:
        room = new.new_empty(*new.shape[:-2], self.columns, new.shape[-1])
        if length:
            room[..., :length, :] = old[..., :length, :]
        return room


class _Append(torch.autograd.Function):
    """(new keys, new values, link) -> (all keys, all values, next link)."""

    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, values: Tensor, link: Tensor | None, room: Room, start: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        stop = start + keys.shape[-2]
        room.write(keys, values, start)
        ctx.set_materialize_grads(False)
        ctx.room, ctx.start, ctx.stop = room, start, stop
        return *room.view(stop), keys.new_empty(0)

    @staticmethod
    def backward(ctx: Any, keys: Tensor | None, values: Tensor | None, _link: None) -> tuple[Any, ...]:
        refuse_second_derivatives()
        sums = ctx.room.add_gradients(keys, values, ctx.stop)
        if ctx.start == 0:
            ctx.room.forget_gradients()
        own = (total[..., ctx.start : ctx.stop, :] for total in sums)
        return *own, None, None, None


def _first(room: Tensor, part: Tensor | None, stop: int) -> Tensor:
    """A sum (B, H, columns, D/H) of one part, of the first `stop` columns."""
    if part is not None and stop == room.shape[-2]:
        return part.clone(memory_format=torch.contiguous_format)
    total = torch.zeros_like(room)
    if part is not None:
        total.narrow(-2, 0, stop).copy_(part)
    return total


def flatten_cache(cache: DynamicCache) -> list[Tensor]:
    """[keys 0, values 0, keys 1, values 1, ...], each (B, H, T, D/H); empty for an empty cache."""
    return [tensor for layer in cache.layers if layer.is_initialized for tensor in (layer.keys, layer.values)]


def rebuild_cache(keys_values: Sequence[Tensor]) -> DynamicCache:
    """The cache that `flatten_cache` came from, sharing its tensors: extending one leaves the other as it was."""
    cache = DynamicCache()
    for keys, values in zip(keys_values[::2], keys_values[1::2], strict=True):
        layer = DynamicLayer()
        layer.dtype, layer.device = keys.dtype, keys.device
        layer.keys, layer.values, layer.is_initialized = keys, values, True
        cache.layers.append(layer)
    return cache


def fork_cache(cache: DynamicCache, detach: bool = False) -> DynamicCache:
    """A cache that can be extended without touching `cache`; no copy is made."""
    tensors = flatten_cache(cache)
    return rebuild_cache([tensor.detach() for tensor in tensors] if detach else tensors)
