"""What thoughts cost in memory: a training step with them, against plain fine-tuning of the same positions.

Floor, in bytes: thoughts add no position, so a step has to keep what the same positions keep as text, some 130 L D B T in fp32
for L layers of width D and B rows of T positions, and the logits of its labels; gradients are as many. A cache that is
concatenated at each pass keeps a copy of all columns before it: at most 8 L D B T S for S thoughts, 1.4 times as much in all
at six thoughts and several times at 64. Operations are those of `benchmarks/train_step.py`.

`saved` is what autograd keeps between forward and backward, in distinct storages, without parameters; `held` what the
allocator says is left of a forward, whoever keeps it; `peak` the most of a whole step, without weights and moments.

With recomputation (`gradient_checkpointing_enable`) a step keeps little more than each pass's inputs. It is judged on a shape of
long reasoning, against fine-tuning that recomputes nothing. Allocations are counted one by one, so a single run of each tells.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from transformers import GPT2LMHeadModel

from benchmarks import rivals, workload
from benchmarks.agreement import require_same_step, step_of
from benchmarks.findings import Findings, Table
from benchmarks.report import Target
from benchmarks.settings import Settings
from benchmarks.timing import allocated_by, peak_bytes, saved_bytes, shortage
from benchmarks.train_step import OURS, Loss, our_loss, whole_step
from benchmarks.workload import Batch, Sizes

TEXT, LOOP = "plain fine-tuning, head on labels", "cached loop (concatenated), head on labels"
RECOMPUTED = "latentthought, sequential, recomputed"
SHORT, LONG = "as trained", "long reasoning"
# bytes that the profiler takes for one block in one pass, forward, recomputed and backward
PROFILED = 4 << 20


@dataclass(frozen=True)
class Taken:
    """Bytes of one side: peak of a step, saved activations (None where passes are recomputed), held after a forward."""

    peak: int
    saved: int | None
    held: int


def long_sizes(settings: Settings) -> Sizes:
    """64 prompt, 64 thoughts and 64 answer positions, 4 rows."""
    part = 8 if settings.quick else 64
    return replace(settings.sizes, batch=4, sequence=3 * part, thoughts=part, labelled=part - 1, padded=False)


def run(settings: Settings) -> Findings:
    """Check that the sides agree, then measure them, on both shapes."""
    short, long = settings.sizes, long_sizes(settings)
    base = workload.make_base(short, settings.device, settings.seed).train()
    tables, targets, data, skipped = [], [], {}, {}
    for name, sizes in ((SHORT, short), (LONG, long)):
        shape = f"batch {sizes.batch}, {sizes.sequence} positions of which {sizes.thoughts} are thoughts"
        why = shortage(needed_bytes(sizes), settings.device)
        if why:
            skipped[name] = why
            targets += targets_of(name, {}, why)
            continue
        settings.progress(f"activations, {name}: comparing losses and gradients")
        batch = workload.make_batch(sizes, settings.device, settings.seed)
        sides = sides_of(base, batch)
        agreement = check(base, batch, sides, looped=name == LONG)
        found = measured(list(sides), sizes, settings, name)
        tables.append(table(f"{name}: {shape}", found, agreement))
        targets += targets_of(name, found)
        data[name] = {side: asdict(taken) for side, taken in found.items()}
    title = (
        f"memory of a training step, {short.layers} layers x {short.width}, vocabulary {short.vocabulary}, "
        f"{str(settings.dtype).removeprefix('torch.')}"
    )
    return Findings("activations", title, tables, targets, data, skipped)


def needed_bytes(sizes: Sizes) -> int:
    """Roughly. The concatenated cache of the loop stands out, and what torch's profiler remembers of each block and pass."""
    positions = sizes.batch * sizes.sequence
    copies = 8 * sizes.layers * sizes.width * positions * sizes.thoughts
    return sizes.training_bytes + copies + PROFILED * sizes.layers * (sizes.thoughts + 1)


# ------------------------------------------------------------------------------------------------------------- sides
def sides_of(base: GPT2LMHeadModel, batch: Batch) -> dict[str, Loss]:
    """All of them on one set of weights."""
    model, recomputing = workload.make_model(base), workload.make_model(base)
    recomputing.gradient_checkpointing_enable()
    return {
        TEXT: partial(rivals.text_loss, base, batch),
        OURS: partial(our_loss, model, batch, feedback="sequential"),
        RECOMPUTED: partial(our_loss, recomputing, batch, feedback="sequential"),
        LOOP: partial(rivals.cached_loss, base, batch, everywhere=False),
    }


def check(base: GPT2LMHeadModel, batch: Batch, sides: dict[str, Loss], looped: bool) -> dict[str, str]:
    """Side -> what the comparison found. Disagreement when sides that should agree do not.

    Args:
        looped: the exact sides are held against the cached loop; a loop without a cache would keep every pass over all positions.
    """
    text = step_of(partial(rivals.plain_text_loss, base, batch), base)
    against = LOOP if looped else "a loop without a cache"
    exact = step_of(sides[LOOP] if looped else partial(rivals.recomputed_loss, base, batch), base)
    found = {}
    for name, loss_of in sides.items():
        if name == TEXT:
            same = require_same_step(name, step_of(loss_of, base), text, against="plain fine-tuning")
        elif name == against:
            found[name] = "the reference"
            continue
        else:
            same = require_same_step(name, step_of(loss_of, base), exact, against=against)
        found[name] = str(same)
    return found


def measured(names: Sequence[str], sizes: Sizes, settings: Settings, shape: str) -> dict[str, Taken]:
    """What each side takes; on a CPU in a process of its own, since the profiler's gigabytes don't come back before it ends."""
    found = {}
    for name in names:
        settings.progress(f"activations, {shape}: {name}")
        if settings.quick or settings.device.type != "cpu":
            found[name] = taken_by(name, sizes, settings)
            continue
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found[name] = pool.submit(taken_by, name, sizes, settings).result()
    return found


def taken_by(name: str, sizes: Sizes, settings: Settings) -> Taken:
    """What one side takes, once its moments are there."""
    torch.set_num_threads(settings.threads)
    base = workload.make_base(sizes, settings.device, settings.seed).train()
    sides = sides_of(base, workload.make_batch(sizes, settings.device, settings.seed))
    optimizer = torch.optim.AdamW(base.parameters(), lr=1e-5, fused=True)
    whole_step(sides[TEXT], optimizer, settings)

    def forward() -> torch.Tensor:
        with settings.mixed():
            return sides[name]()

    return Taken(
        peak_bytes(partial(whole_step, sides[name], optimizer, settings), settings.device),
        None if name == RECOMPUTED else saved_bytes(forward, base.parameters()),
        allocated_by(forward, settings.device).held,
    )


# ----------------------------------------------------------------------------------------------------------- results
def table(title: str, found: dict[str, Taken], agreement: dict[str, str]) -> Table:
    """A row a side; shares are of plain fine-tuning."""
    rows = []
    for name, taken in found.items():
        cells = [f"**{name}**" if name in (OURS, RECOMPUTED) else name]
        for kind in ("peak", "saved", "held"):
            size, least = getattr(taken, kind), getattr(found[TEXT], kind)
            cells += ["", ""] if size is None else [f"{size / 2**20:,.1f} MiB", f"{size / least:.3f}"]
        rows.append([*cells, agreement[name]])
    columns = ("side", "peak", "/ text", "saved", "/ text", "held", "/ text", "result")
    return Table(title, columns, rows)


def targets_of(shape: str, found: dict[str, Taken], why: str = "") -> list[Target]:
    """What was promised for a shape; without figures where it could not run."""

    def share(name: str, kind: str) -> float | None:
        return getattr(found[name], kind) / getattr(found[TEXT], kind) if found else None

    if shape == LONG:
        what = "long reasoning: peak over plain fine-tuning's, not recomputed"
        return [Target.at_most(RECOMPUTED, what, share(RECOMPUTED, "peak"), 0.7, why)]
    return [
        Target.at_most(OURS, "peak of a step over plain fine-tuning's", share(OURS, "peak"), 1.1, why),
        Target.at_most(OURS, "saved activations over plain fine-tuning's", share(OURS, "saved"), 1.15, why),
    ]
