"""One training step of soft mixing over a long chain of thought, against the same step in plain text.

Prompt, 512 reasoning positions whose inputs blend word and previous state, answer; all but the prompt is labelled. Exact feedback
would take 512 passes that wait for each other; `single_pass` takes the states from a pass over the words, without gradient.

Floor, in operations and bytes: the plain step, as in `benchmarks/train_step.py`, with N = reasoning + answer labels a row; at the
sizes of the CPU (GPT-2 small, 1 x 640) 483 GFLOP and 5 GB. Single pass adds, for R positions of prompt and reasoning:
    2 P B R               one more forward over them, without head
    + 2 L D B R R         its attention
and reads the block weights once more, 4 P bytes: 104 GFLOP, 1.22 times the floor's. (Sharing the 64 positions of the prompt would
spare 11 of them, and cost more: a cache, and attention behind a mask.)

Its rival is the same in two passes over the whole row, as one would write it. Loss and every gradient of both must agree, and at
m = 0, given as a tensor so that all passes are run, those of the plain step. All sides share weights and the fused AdamW.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks import rivals, workload
from benchmarks.agreement import require_same_step, step_of
from benchmarks.report import Report, Row, Target
from benchmarks.settings import Settings
from benchmarks.timing import Side, measure, shortage
from benchmarks.train_step import Loss, floor_of, our_loss, whole_step
from benchmarks.workload import Batch, Sizes
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.thoughts.mixing import MixRatio

ROUNDS = 7
RATIO = 0.5
FLOOR, OURS, LOOP = "words alone, head on labels", "latentthought, single pass", "two passes written plainly"


def sizes_of(settings: Settings) -> Sizes:
    """Prompt 64, reasoning 512, answer 64; one row on a CPU, so that a round takes seconds."""
    sizes = replace(settings.sizes, mixed=True, padded=False)
    if settings.quick:
        return replace(sizes, batch=2, sequence=40, thoughts=24, labelled=7)
    batch = sizes.batch if settings.device.type == "cuda" else 1
    return replace(sizes, batch=batch, sequence=640, thoughts=512, labelled=63)


def run(settings: Settings) -> Report:
    """Check that the sides agree, then time them."""
    sizes, device = sizes_of(settings), settings.device
    title = (
        f"soft mix of m = {RATIO} over {sizes.thoughts} reasoning positions, batch {sizes.batch}, sequence {sizes.sequence}, "
        f"{sizes.scored} labels a row"
    )
    if why := shortage(sizes.training_bytes, device):
        return Report("soft_mix", title, floor_of(sizes), [], {"soft_mix": why})
    base = workload.make_base(sizes, device, settings.seed).train()
    model = workload.make_model(base, scale="rms").train()
    model.measure_scale()
    batch = workload.make_batch(sizes, device, settings.seed)
    settings.progress("soft_mix: comparing losses and gradients")
    agreement = check(model, batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    notes = {FLOOR: ("floor", "plain step"), OURS: ("ours", ""), LOOP: ("rival", "")}
    sides = [
        Side(name, role, partial(whole_step, losses(model, batch)[name], optimizer, settings), note)
        for name, (role, note) in notes.items()
    ]
    timings = measure(
        sides,
        device,
        settings.rounds_or(ROUNDS),
        progress=lambda text: settings.progress(f"soft_mix: {text}"),
    )
    rows = Row.of(sides, timings, agreement, "positions/s", sizes.batch * sizes.sequence)
    target = Target.at_most(OURS, "time over a plain step", timings[OURS].ratio(timings[FLOOR]), 1.25)
    return Report("soft_mix", title, floor_of(sizes), rows, targets=[target])


def losses(model: LatentThoughtForCausalLM, batch: Batch) -> dict[str, Loss]:
    return {
        FLOOR: partial(rivals.text_loss, model.base, batch),
        OURS: partial(mixed_loss, model, batch, RATIO),
        LOOP: partial(rivals.two_pass_loss, model.base, batch, RATIO, partial(matched, model)),
    }


def mixed_loss(model: LatentThoughtForCausalLM, batch: Batch, ratio: MixRatio) -> Tensor:
    """Our forward, as the trainer calls it."""
    return our_loss(model, batch, feedback="single_pass", mix_ratio=ratio)


def matched(model: LatentThoughtForCausalLM, states: Tensor) -> Tensor:
    """States at the size of the model's own embeddings, by hand."""
    return states * (model.scale.target / states.square().mean(-1, keepdim=True).sqrt())


def check(model: LatentThoughtForCausalLM, batch: Batch) -> dict[str, str]:
    """Side -> what the comparison found. Disagreement when sides that should agree do not."""
    step = {name: step_of(loss_of, model) for name, loss_of in losses(model, batch).items()}
    plain = step_of(partial(rivals.plain_text_loss, model.base, batch), model)
    zero = torch.zeros_like(batch.input_ids, dtype=torch.float32)
    words = step_of(partial(mixed_loss, model, batch, zero), model)
    against = "plain fine-tuning"
    require_same_step(f"{OURS}, at m = 0", words, plain, against=against)
    return {
        FLOOR: str(require_same_step(FLOOR, step[FLOOR], plain, against=against)),
        OURS: f"{require_same_step(OURS, step[OURS], step[LOOP], against=LOOP)}; at m = 0 the plain step",
        LOOP: "the reference",
    }
