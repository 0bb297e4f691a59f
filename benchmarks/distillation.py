"""What a teacher adds to a training step: cached states, a live teacher, distributions, and the student as its own teacher.

Every side is `LatentThoughtTrainer.training_step` on the next rows of the data set, joined with the teacher's, and the optimizer.
The student reads `prompt | thoughts | answer`, one thought a step; the teacher the same rows with every step in words. What a
step costs beyond the student's own is, at least, for P block weights and T positions of the teacher's batch:
    cached states    nothing but their bytes: N L D' numbers for N sites and L layers
    live teacher     2 P T operations, its forward without head; measured as a side of its own
    kl               that, and 2 N D' V for its logits and 6 N D V for the student's (forward and both gradients)
    projector        6 N L D D' operations, and 40 L D D' bytes with AdamW (fp32): bound by memory where N is small
    self             6 P T operations: the chain of thought is learnt as well
The published program of self distillation reads the chain of thought twice, with gradient for its words and without for its
states; ours takes both from one pass, and has to be cheaper by the other one.

Each step is timed on rows that it has not seen, so that no state comes from the memory of an earlier step; the files lie in the
page cache. Weights are random, dropout is off, gradients are not clipped. Before anything is timed, the losses from the cache
(bf16) are held against the live teacher's, and loss and gradients of both ways of self distillation against each other.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.agreement import Disagreement, require_same_step, step_of
from benchmarks.findings import Findings, Table
from benchmarks.report import Target
from benchmarks.settings import Settings
from benchmarks.taught_steps import (
    ALONE,
    CACHED,
    DIVERGENCE,
    FORWARD,
    LIVE,
    ONE_PASS,
    ROUNDS,
    TWO_PASSES,
    Steps,
    Work,
    prepare,
    read,
)
from benchmarks.timing import Side, Timing, measure
from latentthought.objective.projectors import ProjectorConfig, Projectors

# bf16 keeps 8 bits of a state, and their errors average out over a loss
CACHE_TOLERANCE = 1e-3
# the widths of S3, from a student of 1.5B to a teacher of 70B; its paper claims this many milliseconds a step
S3_WIDTHS, S3_MILLISECONDS = (1536, 8192), 1.2
# a projector alone takes a millisecond: one timing is of this many
REPEATS = 10

PROJECTOR, S3_PROJECTOR = "projector", "projector of S3's widths"
TEACHER, SECOND = "teacher's forward", "second pass over the chain of thought"
# step -> what it is compared with, beside the student alone
AGAINST = {CACHED: LIVE, LIVE: FORWARD, DIVERGENCE: FORWARD, ONE_PASS: TWO_PASSES}


class ProjectorAlone:
    """Forward, backward and update of projectors on N x L random states, whose gradient the student would need too."""

    def __init__(
        self, kind: str, widths: tuple[int, int], positions: int, pairs: int, settings: Settings
    ) -> None:
        config = ProjectorConfig.parse({"kind": kind})
        self.projectors = Projectors(config, *widths, [(place, place) for place in range(pairs)])
        self.projectors.to(settings.device)
        self.optimizer = torch.optim.AdamW(self.projectors.parameters(), lr=1e-5, fused=True)
        draw = partial(torch.randn, positions, pairs, device=settings.device)
        self.states = draw(widths[0]).requires_grad_()
        self.gradient = draw(widths[1])
        self.settings = settings

    def run(self) -> None:
        for _ in range(REPEATS):
            with self.settings.mixed():
                projected = self.projectors(self.states)
            projected.backward(self.gradient.to(projected.dtype))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.states.grad = None


def run(settings: Settings) -> Findings:
    folder = Path(tempfile.mkdtemp(prefix="distillation-"))
    try:
        work = prepare(settings, folder)
        settings.progress("distillation: comparing losses and gradients")
        agreement = check(work)
        steps, parts = sides_of(work)
        timings = measure(
            [*steps, *parts],
            settings.device,
            settings.rounds_or(ROUNDS),
            progress=lambda text: settings.progress(f"distillation: {text}"),
        )
    finally:
        shutil.rmtree(folder)
    tables = [
        steps_table([side.name for side in steps], timings, agreement),
        parts_table([side.name for side in parts], timings),
    ]
    return Findings("distillation", title_of(work), tables, targets_of(timings, settings), data_of(timings))


# ------------------------------------------------------------------------------------------------------------- sides
def sides_of(work: Work) -> tuple[list[Side], list[Side]]:
    """Whole steps, and the parts that they are made of."""
    settings, own = work.settings, work.settings.sizes.width

    def teacher_forward() -> None:
        work.teacher.states(work.reading, ())

    def student_then_teacher() -> None:
        work.steps[FORWARD].run()
        teacher_forward()

    @torch.no_grad()
    def second_pass() -> None:
        with settings.mixed():
            read(work.student, work.reading)

    whole = {**{name: steps.run for name, steps in work.steps.items()}, FORWARD: student_then_teacher}
    steps = [Side(name, "", run) for name, run in whole.items()]
    projectors = {
        PROJECTOR: ("linear", (own, work.teacher.width)),
        S3_PROJECTOR: ("linear_relu", (16, 32) if settings.quick else S3_WIDTHS),
    }
    parts = [
        # a share of several runs: `measure` divides by it
        Side(
            name,
            "",
            ProjectorAlone(kind, widths, work.pairs, work.layer_pairs, settings).run,
            share=float(REPEATS),
        )
        for name, (kind, widths) in projectors.items()
    ]
    parts += [Side(name, "", batches.next_batch) for name, batches in work.batches.items()]
    parts += [Side(TEACHER, "", teacher_forward), Side(SECOND, "", second_pass)]
    return steps, parts


# --------------------------------------------------------------------------------------------------------- agreement
def check(work: Work) -> dict[str, str]:
    """Step -> what the comparison found; Disagreement between cache and live teacher, and between one pass and two."""
    found = dict.fromkeys(work.steps, "")
    with torch.no_grad():
        cached, live = (work.steps[name].loss(work.steps[name].batch(0)) for name in (CACHED, LIVE))
    worst = 0.0
    for part, expected in {"loss": live[0], **live[1]}.items():
        value = {"loss": cached[0], **cached[1]}[part]
        difference = abs(float(value) - float(expected)) / abs(float(expected))
        if not difference <= CACHE_TOLERANCE:
            raise Disagreement(
                f"{CACHED}: {part} {float(value):.8f}, of the live teacher {float(expected):.8f} "
                f"(tolerance {CACHE_TOLERANCE:g})"
            )
        worst = max(worst, difference)
    found[CACHED] = f"losses within {worst:.0e} of the live teacher's"
    one, two = (step_of(partial(loss_of, work.steps[name]), work.student) for name in (ONE_PASS, TWO_PASSES))
    found[ONE_PASS] = str(require_same_step(ONE_PASS, one, two))
    return found


def loss_of(steps: Steps) -> Tensor:
    """Loss of the first step."""
    return steps.loss(steps.batch(0))[0]


# ----------------------------------------------------------------------------------------------------------- results
def more(timing: Timing, other: Timing) -> float:
    """Seconds above another side, the median over rounds of the difference in that round."""
    return statistics.median(a - b for a, b in zip(timing.seconds, other.seconds, strict=True))


def steps_table(names: list[str], timings: dict[str, Timing], agreement: dict[str, str]) -> Table:
    alone, rows = timings[ALONE], []
    for name in names:
        timing, against = timings[name], AGAINST.get(name)
        rows.append(
            (
                f"**{name}**" if name in AGAINST else name,
                milliseconds(timing.median),
                f"{timing.spread:.0%}",
                f"{timing.ratio(alone):.3f}",
                milliseconds(more(timing, alone)),
                f"{timing.ratio(timings[against]):.3f} of: {against}" if against else "",
                f"{(timing.peak_bytes or 0) / 2**20:,.1f} MiB",
                agreement[name],
            )
        )
    columns = (
        "step",
        "median",
        "±",
        "/ student alone",
        "above it",
        "/ another step",
        "peak memory",
        "result",
    )
    return Table("A training step", columns, rows)


def parts_table(names: list[str], timings: dict[str, Timing]) -> Table:
    rows = [
        (
            name,
            milliseconds(timings[name].median),
            f"{timings[name].spread:.0%}",
            f"{timings[name].ratio(timings[ALONE]):.2%}",
        )
        for name in names
    ]
    return Table("Parts of it, alone", ("part", "median", "±", "share of the student's step"), rows)


def targets_of(timings: dict[str, Timing], settings: Settings) -> list[Target]:
    found = [
        Target.at_least(
            LIVE,
            "of the throughput of the student's step and the teacher's forward",
            1 / timings[LIVE].ratio(timings[FORWARD]),
            0.9,
        ),
        Target.at_most(ONE_PASS, "time over two passes", timings[ONE_PASS].ratio(timings[TWO_PASSES]), 1.0),
    ]
    if settings.device.type == "cuda":
        # the claim is a GPU's: weights, gradients and moments of these widths are 400 MB, which a CPU moves in tens of ms
        spent = 1000 * timings[S3_PROJECTOR].median
        what = "ms a step, forward, backward and update (claimed by S3)"
        found.append(Target.at_most(S3_PROJECTOR, what, spent, S3_MILLISECONDS))
    return found


def data_of(timings: dict[str, Timing]) -> dict[str, Any]:
    return {
        name: {
            **asdict(timing),
            "median": timing.median,
            "ratio": timing.ratio(timings[ALONE]),
            "more": more(timing, timings[ALONE]),
        }
        for name, timing in timings.items()
    }


def title_of(work: Work) -> str:
    settings, sizes, teacher = work.settings, work.settings.sizes, work.teacher
    parts = [
        f"{settings.threads} threads, {str(settings.dtype).removeprefix('torch.')}",
        f"batch {sizes.batch}, {sizes.sequence} positions of which {sizes.thoughts} are thoughts",
        f"{work.reading['input_ids'].shape[1]} positions for the teacher",
        f"student of {sizes.layers} layers x {sizes.width}, teacher of {teacher.blocks} x {teacher.width}",
        f"vocabulary {sizes.vocabulary}",
        f"states at {work.pairs} step ends in {work.layer_pairs} layers, linear projectors",
    ]
    return "; ".join(parts)


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.2f} ms" if abs(seconds) < 0.1 else f"{1000 * seconds:,.0f} ms"
