"""How fast the machine at hand is, by a second of small measurements, so that rates measured on another one hold for it.

For each kind of work (`training.cost`) something small is done that is bound by the same thing: a large matrix product; a
product of four rows with a matrix that no cache holds; adding up long vectors; operations on next to nothing, recorded and gone
through backward. A fitted rate is not the speed of its probe (a block is no single product), but where a probe takes twice as
long, so does the work: rates are scaled by the ratio to the same probe on the machine that they were fitted on.
Each probe is the least of a few rounds, which what else the machine does disturbs least.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from latentthought.training.cost import KINDS, Rates, Work

_SIZE = 1024
# float32 numbers of a matrix that no cache holds: 64 MiB
_LARGE = 1 << 24
_ROWS = 4
_CALLS = 100


@dataclass(frozen=True)
class Probes:
    """Seconds for one of what each probe does: an operation of a large product, a byte of a matrix that few rows multiply
    with, a byte of long vectors, a small operation with its backward."""

    product: float
    reading: float
    moving: float
    calling: float

    def of(self, kind: str) -> float:
        """The probe that a kind of work is bound like."""
        return getattr(self, _BOUND_LIKE[kind])


_BOUND_LIKE = {
    "products": "product",
    "attention": "product",
    "weights": "reading",
    "activations": "moving",
    "calls": "calling",
    "optimizer": "moving",
}


def probe(rounds: int = 4, dtype: torch.dtype = torch.float32) -> Probes:
    """Measure the machine at hand, with torch's present number of threads. dtype: of the products."""
    with torch.no_grad():
        square = torch.ones(_SIZE, _SIZE, dtype=dtype)
        wide = torch.ones(_LARGE // _SIZE, _SIZE, dtype=dtype)
        few = torch.ones(_ROWS, _SIZE, dtype=dtype)
        long, other = torch.ones(_LARGE), torch.ones(_LARGE)
        product = _least(lambda: square @ square, rounds) / (2 * _SIZE**3)
        reading = _least(lambda: torch.nn.functional.linear(few, wide), rounds) / (
            wide.numel() * wide.itemsize
        )
        moving = _least(lambda: long.add_(other), rounds) / (3 * 4 * _LARGE)
    small = torch.ones(8, requires_grad=True)

    def calls() -> None:
        x = small
        for _ in range(_CALLS):
            x = x * 1.0
        x.sum().backward()

    return Probes(product, reading, moving, _least(calls, rounds) / _CALLS)


def carried_over(rates: Rates, there: Probes, here: Probes) -> Rates:
    """Rates that were fitted where the probes took `there`, for where they take `here`."""
    return Rates(
        Work(**{kind: getattr(rates.costs, kind) * here.of(kind) / there.of(kind) for kind in KINDS})
    )


def _least(work: Callable[[], object], rounds: int) -> float:
    work()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)
