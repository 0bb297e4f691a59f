"""What each measure that makes a training step fast is worth: ours as it is, and without one of them at a time.

What is expected of each, for P block weights (bytes of fp32), S thoughts, and memory that is read at r bytes/s:
    one product a weight    S passes write a gradient as large as the weight and add it up: 4 P + 12 P bytes each, 16 P S / r
    reserved cache          2 D bytes a column, block and pass that would be copied: little time, but a copy of all columns so far
                            a pass stays in memory until backward
    kernels for few rows    passes over a column read weights at nearly r: a third of 8 P S / r
    one gradient of a tied  a gradient of V D floats for the lookups is not cleared, and not added up in a third: 20 V D / r
    table
    first update with the   jacobi spares a pass over S - 1 columns, forward and backward: 8 P / r, and the starting of its calls
    prefix
All sides compute the same: each is held against ours in loss and every gradient before anything is timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks import rivals, workload
from benchmarks.agreement import require_same_step, step_of
from benchmarks.report import Report, Row
from benchmarks.settings import Settings
from benchmarks.timing import Side, measure, shortage
from benchmarks.train_step import FLOOR, JACOBI, OURS, floor_of, our_loss, whole_step
from latentthought.model import feedback, few_rows, shared_products, tied_table
from latentthought.model.backbone import States
from latentthought.model.cache import fork_cache
from latentthought.model.feedback import FeedbackPasses
from latentthought.model.inputs import ThoughtInputs

ROUNDS = 7


def _apart(passes: FeedbackPasses, inputs: ThoughtInputs, cache: DynamicCache) -> tuple[States, Tensor]:
    """The prefix, and the first update in a pass of its own."""
    prefix = passes._prefix(inputs, cache)
    start, stop = inputs.start, inputs.stop - 1
    text = passes._pass(inputs, inputs.embeddings[:, start:stop], start, stop, fork_cache(cache))
    return prefix, text.fed


# without which measure -> what is put in whose place
MEASURES: dict[str, tuple[Any, str, Any]] = {
    "a product a pass and weight": (shared_products, "_linear_layers", lambda base: []),
    "cache joined at each pass": (feedback, "ReservedCache", lambda columns: DynamicCache()),
    "the usual kernel for few rows": (few_rows, "MOST_ROWS", 0),
    "two gradients of the tied table": (tied_table.TiedTable, "of", lambda base: None),
    "first update apart": (FeedbackPasses, "_prefix_and_text", _apart),
}


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Inside, the measures are not taken."""
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(*MEASURES[name]))
        yield


def run(settings: Settings) -> Report:
    """Check that all sides agree, then time them."""
    sizes, device = settings.sizes, settings.device
    title = f"training step, batch {sizes.batch}, sequence {sizes.sequence}, {sizes.thoughts} thoughts"
    if why := shortage(sizes.training_bytes, device):
        return Report("ablation", title, floor_of(sizes), [], {"ablation": why})
    base = workload.make_base(sizes, device, settings.seed).train()
    model = workload.make_model(base)
    batch = workload.make_batch(sizes, device, settings.seed)
    sequential = partial(our_loss, model, batch, feedback="sequential")
    jacobi = partial(our_loss, model, batch, feedback="jacobi", jacobi_iterations=1)
    of_a_pass = [name for name in MEASURES if name != "first update apart"]
    # side -> (loss, what it goes without, the side that it has to agree with)
    chosen = {OURS: (sequential, (), OURS)}
    chosen |= {f"{OURS}: {name}": (sequential, (name,), OURS) for name in of_a_pass}
    chosen[f"{OURS}: all four"] = (sequential, tuple(of_a_pass), OURS)
    chosen[JACOBI] = (jacobi, (), JACOBI)
    chosen[f"{JACOBI}: first update apart"] = (jacobi, ("first update apart",), JACOBI)
    settings.progress("ablation: comparing losses and gradients")
    agreement = {FLOOR: ""}
    expected = {name: step_of(chosen[name][0], model) for name in (OURS, JACOBI)}
    for name, (loss, measures, other) in chosen.items():
        with without(*measures):
            found = step_of(loss, model)
        agreement[name] = str(require_same_step(name, found, expected[other], against=other))

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step(loss: Any, measures: tuple[str, ...]) -> None:
        with without(*measures):
            whole_step(loss, optimizer, settings)

    floor = partial(whole_step, partial(rivals.text_loss, base, batch), optimizer, settings)
    sides = [Side(FLOOR, "floor", floor)]
    for name, (loss, measures, _) in chosen.items():
        sides.append(Side(name, "rival" if measures else "ours", partial(step, loss, measures)))
    timings = measure(
        sides,
        device,
        settings.rounds_or(ROUNDS),
        progress=lambda text: settings.progress(f"ablation: {text}"),
    )
    rows = Row.of(sides, timings, agreement, unit="positions/s", units=sizes.batch * sizes.sequence)
    return Report("ablation", title, floor_of(sizes), rows)
