"""One exact training step with thoughts, against the same positions without them.

Floor, in operations: P block weights, B rows of T positions, N labelled, D width, V vocabulary, L layers:
    6 P B T                  each weight is multiplied once forward and twice backward for every position
    + 12 L D B T^2 / 2       attention scores and sums, causal, forward and twice backward
    + 6 D V B N              the head, on labelled positions only
Floor, in bytes (fp32, W = P + V D weights): 4 W forward, 4 W backward, 4 W gradients written, and 28 W for AdamW, which reads
weight, gradient and two moments and writes all but the gradient: 40 W.
Sizes as published (GPT-2 small, 4 x 78, 6 thoughts, 11 labels a row) make it 170 GFLOP and 5 GB: bound by arithmetic.

Thoughts add no position, hence no operation, but they have to wait for each other. Each of the S small passes reads the
block weights again, forward (4 P bytes) and backward (4 P), writes a gradient of its own for each (4 P) and adds it to the
sum (12 P): 24 P bytes a thought, 12 GB for six. That is nearly the whole distance to the floor.

All sides share weights and optimizer, and are compared in fp32. The optimizer is PyTorch's AdamW as it comes, which the
published program uses too. Our trainer takes the fused one; it spares all sides the same time, which makes ratios larger, so
ours is also shown with it, over a floor that has it as well.

What was promised depends on what is run: on a CPU the distance to the floor and to Coconut, on a GPU that to Coconut, and with
`--model 1b` (1.0 billion block weights) that to plain fine-tuning, the head on every position.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks import rivals, workload
from benchmarks.agreement import counted, require_same_step, require_same_work, step_of
from benchmarks.report import Floor, Report, Row, Target
from benchmarks.settings import Settings
from benchmarks.timing import Side, Timing, measure, shortage
from benchmarks.workload import Batch, Sizes
from latentthought.model.modeling import LatentThoughtForCausalLM

Loss = Callable[[], Tensor]
ROUNDS = 5
FLOOR, OURS = "no thoughts, head on labels", "latentthought, sequential"
TUNING, JACOBI = "no thoughts, head everywhere", "latentthought, jacobi, 1 update"


def floor_of(sizes: Sizes) -> Floor:
    """Operations and bytes of a step without thoughts; see the module."""
    positions = sizes.batch * sizes.sequence
    weights = sizes.parameters + sizes.vocabulary * sizes.width
    operations = 6 * sizes.parameters * positions
    operations += 6 * sizes.layers * sizes.width * positions * sizes.sequence
    operations += 6 * sizes.width * sizes.vocabulary * sizes.batch * sizes.scored
    return Floor(operations, 40 * weights)


def our_loss(model: LatentThoughtForCausalLM, batch: Batch, **feedback: object) -> Tensor:
    """Our forward, as the trainer calls it."""
    return model(
        batch.input_ids,
        batch.attention_mask,
        batch.labels,
        batch.thought_mask,
        thought_columns=(batch.start, batch.stop),
        **feedback,
    ).loss


def whole_step(loss_of: Loss, optimizer: torch.optim.Optimizer, settings: Settings) -> None:
    """Forward, backward and update."""
    with settings.mixed():
        loss = loss_of()
    loss.backward()
    optimizer.step()
    # at the end, so that no side finds gradients of the one before it: peak memory counts its own
    optimizer.zero_grad(set_to_none=True)


def run(settings: Settings) -> Report:
    """Check that the sides agree, then time them."""
    sizes, device = settings.sizes, settings.device
    title = f"training step, batch {sizes.batch}, sequence {sizes.sequence}, {sizes.thoughts} thoughts"
    if why := shortage(sizes.training_bytes, device):
        return Report("train_step", title, floor_of(sizes), [], {"train_step": why})
    base = workload.make_base(sizes, device, settings.seed).train()
    model = workload.make_model(base)
    batch = workload.make_batch(sizes, device, settings.seed)
    thought_id = workload.placeholder(sizes)
    skipped, published = {}, None
    if settings.coconut is None:
        skipped[rivals.PUBLISHED] = "no folder given (--coconut DIR)"
    else:
        published = rivals.PublishedProgram(settings.coconut, base, thought_id)

    # name -> (role, loss, note)
    losses: dict[str, tuple[str, Loss, str]] = {
        FLOOR: ("floor", partial(rivals.text_loss, base, batch), ""),
        OURS: (
            "ours",
            partial(our_loss, model, batch, feedback="sequential"),
            "exact",
        ),
        "cached loop, head everywhere": ("rival", partial(rivals.cached_loss, base, batch), ""),
        "CODI-like loop": (
            "rival",
            partial(rivals.cached_loss, base, batch, apart=True),
            "every thought in a pass of its own",
        ),
        rivals.NAIVE: ("rival", partial(rivals.naive_loss, base, batch, thought_id), ""),
    }
    if published is not None:
        losses[rivals.PUBLISHED] = ("rival", partial(published.loss, batch), published.note)
    losses |= {
        TUNING: (
            "text",
            partial(rivals.plain_text_loss, base, batch),
            "plain fine-tuning",
        ),
        JACOBI: (
            "approximate",
            partial(our_loss, model, batch, feedback="jacobi", jacobi_iterations=1),
            "2 passes over the thoughts",
        ),
        "latentthought, jacobi, 2 updates": (
            "approximate",
            partial(our_loss, model, batch, feedback="jacobi", jacobi_iterations=2),
            "3 passes over the thoughts",
        ),
        "latentthought, single pass": (
            "approximate",
            partial(our_loss, model, batch, feedback="single_pass"),
            "",
        ),
    }
    settings.progress("train_step: comparing losses and gradients")
    agreement = check(base, model, batch, losses)

    plain = torch.optim.AdamW(model.parameters(), lr=1e-5)
    fused = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    sides = [
        Side(name, role, partial(whole_step, loss, plain, settings), note)
        for name, (role, loss, note) in losses.items()
    ]
    for name in (FLOOR, OURS):
        with_fused = partial(whole_step, losses[name][1], fused, settings)
        role = "ours" if name == OURS else "text"
        sides.append(Side(f"{name}, fused AdamW", role, with_fused, over=f"{FLOOR}, fused AdamW"))
        agreement[sides[-1].name] = agreement[name]
    timings = measure(
        sides,
        device,
        settings.rounds_or(ROUNDS),
        progress=lambda text: settings.progress(f"train_step: {text}"),
    )
    rows = Row.of(sides, timings, agreement, unit="positions/s", units=sizes.batch * sizes.sequence)
    return Report(
        name="train_step",
        title=title,
        floor=floor_of(sizes),
        rows=rows,
        skipped=skipped,
        targets=targets_of(timings, settings),
    )


def targets_of(timings: dict[str, Timing], settings: Settings) -> list[Target]:
    """What was promised for this device and model."""
    ours = timings[OURS]
    if settings.model == "1b":
        return [
            Target.at_most(OURS, "1B model: time over plain fine-tuning", ours.ratio(timings[TUNING]), 1.2)
        ]
    coconut = rivals.PUBLISHED if rivals.PUBLISHED in timings else rivals.NAIVE
    speed, what = timings[coconut].ratio(ours), f"speed over Coconut ({coconut})"
    if settings.device.type == "cuda":
        return [Target.at_least(OURS, what, speed, 4.0)]
    return [
        Target.at_most(OURS, "time over the floor", ours.ratio(timings[FLOOR]), 1.3),
        Target.at_least(OURS, what, speed, 1.7),
        Target.at_most(
            JACOBI,
            "2 passes over the thoughts: time over the floor",
            timings[JACOBI].ratio(timings[FLOOR]),
            1.15,
        ),
    ]


def check(
    base: torch.nn.Module,
    model: LatentThoughtForCausalLM,
    batch: Batch,
    losses: dict[str, tuple[str, Loss, str]],
) -> dict[str, str]:
    """Side -> what the comparison found. Disagreement when sides that should agree do not.

    Exact sides are held against a loop without any cache, the text sides against each other, and jacobi, which is another
    function at a few iterations, at as many iterations as there are thoughts, where it is exact.
    """
    exact = step_of(partial(rivals.recomputed_loss, base, batch), model)
    text = step_of(partial(rivals.plain_text_loss, base, batch), model)
    found = {}
    for name, (role, loss_of, _) in losses.items():
        if role == "approximate":
            found[name] = "differs by design"
            continue
        reference, against = (
            (text, TUNING) if role in ("floor", "text") else (exact, "a loop without a cache")
        )
        found[name] = str(require_same_step(name, step_of(loss_of, model), reference, against=against))
    settled = partial(our_loss, model, batch, feedback="jacobi", jacobi_iterations=batch.stop - batch.start)
    require_same_step(
        "jacobi with as many iterations as thoughts",
        step_of(settled, model),
        exact,
        against="a loop without a cache",
    )
    (floor,) = (loss_of for role, loss_of, _ in losses.values() if role == "floor")
    (ours,) = (loss_of for role, loss_of, _ in losses.values() if role == "ours")
    with torch.no_grad(), counted(base.base_model) as floor_work:
        floor()
    with torch.no_grad(), counted(base.base_model) as our_work:
        ours()
    require_same_work("latentthought", our_work, floor_work)
    return found
