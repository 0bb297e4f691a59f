"""What a training step costs in time: a few kinds of work, counted, each at a rate that was measured.

For a model of P block weights, L blocks, width D, vocabulary V, and a batch of B rows:

    products      FLOP of products with weights: 2 P B n forward for a pass over n columns, 2 V D for a scored position; the same
                  again backward for the activations and for the weights that train, and once more where a pass is recomputed
    attention     FLOP of scores and sums: 4 L H (n c + n (n + 1) / 2) B after c cached columns (H: width of all heads), as often
    weights       bytes of weights that passes read, 4 P each way: what a pass over a single column costs, however few its rows
    activations   bytes that go through memory beside the weights: about 40 D a position and block, 12 V a scored position, and
                  the keys and values of cached columns, 8 K c B a block and pass (K: width of all key heads)
    calls         blocks times passes, a backward pass counting twice: what starting the work costs, however little it is
    optimizer     bytes that an update reads and writes: 28 a trained weight for AdamW, 12 more where gradients are clipped

Sequential thoughts are S - 1 passes over one column, Jacobi's are k over S - 1, the first of them with the prefix; both add
`weights` and `calls`, Jacobi adds `products` too. The times of all kinds are added, as if nothing overlapped. Rates are fitted to
measured steps (`fitted`, by `python -m benchmarks growth`), and hold for the machine and precision that they were measured on;
`training.calibration` carries them over to another. What a rate takes in beside its kind (products of few rows, slower than large
ones, lie in `weights`) makes it smaller than the machine's own. Not counted: comparison with a teacher, validation, saving,
waiting.
Rejected: the larger of arithmetic and memory traffic (a roofline; a pass is many operations, each bound by one of them, and the
fit is no longer linear), and measured tables to interpolate (thousands of steps, and nothing said about why).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from latentthought.model.backbone import piece_columns
from latentthought.model.feedback import shares_nothing
from latentthought.training.hollow_step import StepShape

# bytes that an update moves for each trained float32 weight: weight, gradient and what the optimizer keeps, read and written
_MOVED = {"adamw": 28, "sgd": 12, "adafactor": 16}
# the norm of the gradients, and the gradients scaled by it
_CLIPPING = 12
# float32 numbers that a position takes through memory in a block, beside its products, in widths of the model
_ACTIVATIONS = 10


@dataclass(frozen=True)
class ModelSizes:
    """blocks L; in_blocks P, their parameters; inner, keys: the width of all query heads together, and of all key heads; width
    D; vocabulary V; trained: parameters that train; share: of all parameters."""

    blocks: int
    in_blocks: int
    inner: int
    keys: int
    width: int
    vocabulary: int
    trained: int
    share: float = 1.0


class Pass(NamedTuple):
    """One pass over `columns` columns after `cached` ones; gradient: whether a backward pass goes through it."""

    columns: int
    cached: int = 0
    gradient: bool = True


@dataclass(frozen=True)
class Work:
    """Amounts of each kind of work; see the module. As `Rates` hold them: seconds, by kind, for one of each."""

    products: float = 0.0
    attention: float = 0.0
    weights: float = 0.0
    activations: float = 0.0
    calls: float = 0.0
    optimizer: float = 0.0

    def plus(self, other: Work, times: float = 1.0) -> Work:
        """This work and `times` the other."""
        pairs = zip(self.amounts, other.amounts, strict=True)
        return Work(*(mine + times * theirs for mine, theirs in pairs))

    @property
    def amounts(self) -> tuple[float, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


KINDS = tuple(field.name for field in fields(Work))


@dataclass(frozen=True)
class Rates:
    """Seconds for a unit of each kind of work; 0 where a fit found nothing left for it."""

    costs: Work

    def seconds(self, work: Work) -> float:
        """Of some work."""
        return float(np.dot(self.costs.amounts, work.amounts))

    def parts(self, work: Work) -> dict[str, float]:
        """Seconds by kind."""
        return {kind: getattr(self.costs, kind) * getattr(work, kind) for kind in KINDS}


def passes_of(shape: StepShape, recomputing: bool = False) -> list[Pass]:
    """The passes of a micro-batch, as `model.feedback` runs them; recomputed ones over a cache in pieces, as `model.backbone`."""
    chain = [Pass(shape.chain, gradient=shape.chain_labels > 0)] if shape.chain else []
    if not shape.thoughts:
        return [*chain, Pass(shape.positions)]
    if shape.feedback == "single_pass" and shares_nothing(shape.before, shape.thoughts):
        return [*chain, Pass(shape.before + shape.thoughts - 1, gradient=False), Pass(shape.positions)]
    passes = _cached_passes(shape)
    if recomputing:
        passes = [piece for one in passes for piece in _pieces(one)]
    return [*chain, *passes]


def _cached_passes(shape: StepShape) -> list[Pass]:
    prefix, start, thoughts = Pass(shape.before), shape.before, shape.thoughts
    if shape.feedback == "sequential":
        single = [Pass(1, start + number) for number in range(thoughts - 1)]
        return [prefix, *single, Pass(1 + shape.after, start + thoughts - 1)]
    exact = shape.feedback != "single_pass"
    updates = (shape.iterations or thoughts) - 1 if exact else 1
    if exact:  # the first update is the prefix's own pass
        prefix = Pass(start + thoughts - 1)
    repeated = [Pass(thoughts - 1, start, exact)] * updates if thoughts > 1 else []
    return [prefix, *repeated, Pass(thoughts + shape.after, start)]


def _pieces(one: Pass) -> list[Pass]:
    if not one.gradient:
        return [one]
    size = piece_columns(one.columns)
    starts = range(0, one.columns, size)
    return [Pass(min(size, one.columns - start), one.cached + start) for start in starts]


def micro_work(sizes: ModelSizes, shape: StepShape, recomputing: bool = False) -> Work:
    """Forward and backward of one micro-batch."""
    work = Work()
    for one in passes_of(shape, recomputing):
        work = work.plus(_pass_work(sizes, shape.rows, one, recomputing))
    scored = shape.rows * (shape.labels + shape.chain_labels)
    table = sizes.vocabulary * sizes.width
    head = Work(
        products=2 * table * scored * (2 + sizes.share),
        weights=4 * table * 2 * bool(scored),
        activations=4 * 3 * sizes.vocabulary * scored,
    )
    return work.plus(head)


def _pass_work(sizes: ModelSizes, rows: int, one: Pass, recomputing: bool = False) -> Work:
    forth = 1 + one.gradient * (
        1 + recomputing
    )  # times that the weights are read: forward, backward, and again
    both = forth + one.gradient  # of what has two operands, which both get a gradient
    columns = rows * one.columns
    reached = one.cached + (one.columns + 1) / 2  # columns that a position attends to, on average
    moved = _ACTIVATIONS * sizes.width * columns + 2 * sizes.keys * rows * one.cached
    return Work(
        products=2 * sizes.in_blocks * columns * (forth + one.gradient * sizes.share),
        attention=4 * sizes.blocks * sizes.inner * columns * reached * both,
        weights=4 * sizes.in_blocks * forth,
        activations=4 * sizes.blocks * moved * both,
        calls=sizes.blocks * both,
    )


def step_work(
    sizes: ModelSizes,
    shape: StepShape,
    *,
    accumulation: int = 1,
    recomputing: bool = False,
    optimizer: str = "adamw",
    clipping: bool = False,
) -> Work:
    """One optimizer step of `accumulation` micro-batches."""
    update = Work(optimizer=(_MOVED[optimizer] + clipping * _CLIPPING) * sizes.trained)
    return update.plus(micro_work(sizes, shape, recomputing), accumulation)


def reading_work(sizes: ModelSizes, rows: int, positions: int) -> Work:
    """A forward without backward and without head, as a live teacher's."""
    return _pass_work(sizes, rows, Pass(positions, gradient=False))


def fitted(works: Sequence[Work], seconds: Sequence[float], kinds: Sequence[str] = KINDS) -> Rates:
    """The rates that come nearest to measured steps: none below 0, and the sum of squared relative errors least.

    There are few kinds, so every choice of those that cost something is tried, which finds the very best one.
    """
    measured = np.asarray(seconds)
    amounts = np.array([[getattr(work, kind) for kind in kinds] for work in works]) / measured[:, None]
    best, least = np.zeros(len(kinds)), np.inf
    for count in range(1, len(kinds) + 1):
        for chosen in combinations(range(len(kinds)), count):
            columns = amounts[:, list(chosen)]
            unit = np.abs(columns).max(0)
            if not unit.all():
                continue
            found, *_ = np.linalg.lstsq(columns / unit, np.ones(len(measured)), rcond=None)
            error = float(((columns / unit) @ found - 1) @ ((columns / unit) @ found - 1))
            if (found >= 0).all() and error < least:
                least, best = error, np.zeros(len(kinds))
                best[list(chosen)] = found / unit
    return Rates(Work(**dict(zip(kinds, best.tolist(), strict=True))))


def with_attention(rates: Rates) -> Rates:
    """Rates at which attention costs at least what products do: short rows hardly show it, and a fit to them that found nothing
    for it would tell nothing of long ones."""
    costs = rates.costs
    return Rates(replace(costs, attention=max(costs.attention, costs.products)))
