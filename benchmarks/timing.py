"""Time and memory of several sides, measured so that they can be compared.

All sides run in one process on the same weights, once a round, in an order drawn anew for every round: a machine that gets
slower or busier then does so for all of them, and no side always runs behind the same neighbour. A ratio is the median over
rounds of (side / floor in that round), which a drift cancels out of; the ratio of two medians would keep it.

Peak memory is what the allocator held at most during one run beyond what it held before (weights, gradients kept and
optimizer state are at rest then). On a CPU the profiler's allocation events are summed, exact and repeatable, without the
scratch space of the math library; the resident set of the process was rejected, since it never shrinks from side to side.

Saved activations are what autograd keeps between forward and backward, counted where it packs them: storages, since a view keeps
the whole of its storage alive, each once, and no parameters. Recomputed passes keep their inputs outside of that, and so may an
autograd function; what is held at the end of the forward by the allocator's count stands beside it.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Side:
    """One contestant. `run` does the whole unit of work (a step, a batch of answers) and returns nothing of interest.

    role: "floor" (what all are divided by), "ours", "rival" (computes the same as ours), "text" (no thoughts), or
    "approximate" (thoughts by another method than the exact one).
    over: the side that its ratio refers to, when it is not the floor.
    share: what part of the unit `run` does; 1/32 for one row of 32, 64 for 64 steps. Its times are divided by it. A side that
        does a part is slow: it is not warmed up, and its memory would be that of the part.
    units: what the unit yields, and its name, where that differs from the other sides'.
    """

    name: str
    role: str
    run: Callable[[], Any]
    note: str = ""
    over: str | None = None
    share: float = 1.0
    units: tuple[int, str] | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds of the whole unit for each round, in order, and the peak bytes of one run."""

    seconds: tuple[float, ...]
    peak_bytes: int | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, relative to the median."""
        if len(self.seconds) < 3:
            return (max(self.seconds) - min(self.seconds)) / 2 / self.median
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median

    def ratio(self, floor: Timing) -> float:
        """Median over rounds of own time over the floor's."""
        return statistics.median(a / b for a, b in zip(self.seconds, floor.seconds, strict=True))


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds of one run, from an idle device to an idle device."""
    gc.collect()
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


@dataclass(frozen=True)
class Allocated:
    """Bytes allocated by one run beyond those before it: the most at any moment, and those that its result still holds."""

    peak: int
    held: int


def allocated_by(run: Callable[[], Any], device: torch.device) -> Allocated:
    """Run once and follow the allocator."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = run()
        synchronize(device)
        after = torch.cuda.memory_allocated(device)
        del result
        return Allocated(torch.cuda.max_memory_allocated(device) - before, after - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = run()
    del result
    held = peak = 0
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return Allocated(peak, held)


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    """The most bytes allocated at any moment of one run, beyond those allocated before it."""
    return allocated_by(run, device).peak


class _Saved:
    """A tensor as autograd keeps it; alive for as long as the graph that needs it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def saved_bytes(loss_of: Callable[[], Tensor], parameters: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages that autograd keeps for the backward pass at the end of a forward, without `parameters`."""
    standing = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def pack(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor.detach())
        kept.add(saved)
        return saved

    with saved_tensors_hooks(pack, lambda saved: saved.tensor):
        loss = loss_of()
    gc.collect()
    storages = {}
    for saved in kept:
        storage = saved.tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    del loss
    return sum(size for place, size in storages.items() if place not in standing)


def shortage(needed: int, device: torch.device) -> str:
    """Why so many bytes can't be had on a device, or nothing."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if free >= needed:
        return ""
    return f"needs {needed / 2**30:.0f} GiB of free memory, there are {free / 2**30:.0f}"


def measure(
    sides: Sequence[Side],
    device: torch.device,
    rounds: int,
    warmup: int = 1,
    memory: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Timing]:
    """Run all sides in turn: `warmup` rounds that do not count, then `rounds` that do; then once each for memory."""
    order = random.Random(0)
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(warmup + rounds):
        progress(f"round {number + 1} of {warmup + rounds}" + (" (warm-up)" if number < warmup else ""))
        for side in order.sample(list(sides), len(sides)):
            if number < warmup and side.share < 1:
                continue
            taken = seconds_of(side.run, device) / side.share
            if number >= warmup:
                seconds[side.name].append(taken)
    peaks: dict[str, int | None] = dict.fromkeys(seconds)
    if memory:
        for side in sides:
            if side.share < 1:
                continue
            progress(f"memory of {side.name}")
            peaks[side.name] = peak_bytes(side.run, device)
    return {name: Timing(tuple(values), peaks[name]) for name, values in seconds.items()}
