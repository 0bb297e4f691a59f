"""Time and memory of several sides, measured so that they can be compared.

All sides run in one process on the same weights, once a round, in an order drawn anew for every round: a machine that gets
slower or busier then does so for all of them, and no side always runs behind the same neighbour. A ratio is the median over
rounds of (side / floor in that round), which a drift cancels out of; the ratio of two medians would keep it.

Peak memory is what the allocator held at most during one run beyond what it held before (weights, gradients kept and
optimizer state are at rest then). On a CPU the profiler's allocation events are summed, exact and repeatable, without the
scratch space of the math library; the resident set of the process was rejected, since it never shrinks from side to side.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Side:
    """One contestant. `run` does the whole unit of work (a step, a batch of answers) and returns nothing of interest.

    role: "floor" (what all are divided by), "ours", "rival" (computes the same as ours), "text" (no thoughts), or
    "approximate" (thoughts by another method than the exact one).
    over: the side that its ratio refers to, when it is not the floor.
    share: what part of the unit `run` does; 1/32 for one row of 32. Its times are divided by it and marked as extrapolated.
    """

    name: str
    role: str
    run: Callable[[], Any]
    note: str = ""
    over: str | None = None
    share: float = 1.0


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


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    """The most bytes allocated at any moment of one run, beyond those allocated before it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    held = peak = 0
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


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
            taken = seconds_of(side.run, device) / side.share
            if number >= warmup:
                seconds[side.name].append(taken)
    peaks: dict[str, int | None] = dict.fromkeys(seconds)
    if memory:
        for side in sides:
            progress(f"memory of {side.name}")
            peaks[side.name] = peak_bytes(side.run, device)
    return {name: Timing(tuple(values), peaks[name]) for name, values in seconds.items()}
