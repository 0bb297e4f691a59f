"""The steps that `growth` looks at, along each axis, and what one of them takes: seconds, and memory measured and forecast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.settings import Settings
from benchmarks.timing import peak_bytes, seconds_of
from benchmarks.workload import Sizes, make_base, make_batch, make_model
from latentthought.thoughts.layout import Feedback
from latentthought.training.cost import ModelSizes, Work, step_work
from latentthought.training.hollow_step import StepShape, step_memory

ROUNDS = 2
# a step that takes longer than this in its warm-up is timed once
LONG = 15.0

# layers, heads, width and vocabulary; the published sizes from 124M on but for the last
MODELS = {
    "0.2M": (2, 2, 64, 256),
    "10M": (8, 4, 256, 16_384),
    "30M": (10, 6, 384, 32_768),
    "124M": (12, 12, 768, 50_257),
    "355M": (24, 16, 1024, 50_257),
    "774M": (36, 20, 1280, 50_257),
    "1B": (32, 24, 1536, 50_257),
}
BASE = "30M"
THOUGHTS = (1, 4, 16, 32, 64)
BATCHES = (1, 16, 64, 256)
# rows for the smallest model, about that of the quickstart, which few rows would hardly occupy
NARROW = (64, 256)
SEQUENCES = (256, 512, 1024, 2048, 4096)
BASE_SIZES = Sizes(*MODELS[BASE], batch=4, sequence=128, thoughts=8, labelled=16)


@dataclass(frozen=True)
class Point:
    """One step: where it lies (axis, value), its sizes and feedback, and what was found of it. seconds, updates: of the steps
    that were timed, and of the optimizer's share in each."""

    axis: str
    value: str
    sizes: Sizes
    feedback: Feedback = "sequential"
    iterations: int | None = None
    seconds: tuple[float, ...] = ()
    updates: tuple[float, ...] = ()
    peak: int | None = None
    forecast: int = 0
    left_out: str = ""

    @property
    def shape(self) -> StepShape:
        sizes = self.sizes
        before = sizes.first_thought
        after = sizes.sequence - before - sizes.thoughts
        return StepShape(
            sizes.batch, before, sizes.thoughts, after, sizes.labelled, self.feedback, self.iterations
        )

    @property
    def model(self) -> ModelSizes:
        width, blocks = self.sizes.width, self.sizes.parameters
        return ModelSizes(
            blocks=self.sizes.layers,
            in_blocks=blocks,
            inner=width,
            keys=width,
            width=width,
            vocabulary=self.sizes.vocabulary,
            trained=self.parameters,
        )

    @property
    def parameters(self) -> int:
        """Weights, without biases and norms."""
        sizes = self.sizes
        return sizes.parameters + (sizes.vocabulary + max(1024, sizes.sequence)) * sizes.width

    @property
    def work(self) -> Work:
        return step_work(self.model, self.shape)

    @property
    def best(self) -> float | None:
        return min(self.seconds, default=None)

    @property
    def spread(self) -> float:
        return (max(self.seconds) - min(self.seconds)) / min(self.seconds)


def points(settings: Settings) -> list[Point]:
    """The base point, then each axis in rising order, then feedback, then points that no fit sees."""
    base, models = BASE_SIZES, MODELS
    thoughts, batches, sequences, narrow_batches = THOUGHTS, BATCHES, SEQUENCES, NARROW
    if settings.quick:
        models = {"tiny": (1, 2, 32, 256), "small": (2, 2, 64, 512)}
        base = replace(Sizes(*models["tiny"]), batch=2, sequence=24, thoughts=3, labelled=4)
        thoughts, batches, sequences, narrow_batches = (6,), (4,), (48,), (8,)
    found = [Point("base", "", base)]
    found += [Point("thoughts", str(n), replace(base, thoughts=n)) for n in thoughts]
    found += [Point("batch", str(n), replace(base, batch=n)) for n in batches]
    found += [Point("sequence", str(n), replace(base, sequence=n)) for n in sequences]
    named = {name: _of(base, models[name]) for name in models}
    found += [Point("model", name, sizes) for name, sizes in named.items() if sizes != base]
    narrow = named["tiny" if settings.quick else "0.2M"]
    found += [Point("narrow", f"0.2M, batch {n}", replace(narrow, batch=n)) for n in narrow_batches]
    found.append(Point("feedback", "jacobi, 2 updates", base, "jacobi", 2))
    if settings.quick:
        return [*found, Point("held out", "small", replace(named["small"], thoughts=2))]
    small = named["124M"]
    return [
        *found,
        Point("feedback", "no thoughts", replace(base, thoughts=0)),
        Point("feedback", "single pass", base, "single_pass"),
        Point("held out", "124M, 4 x 78, 6 thoughts", replace(small, batch=4, sequence=78, thoughts=6)),
        Point("held out", "124M, 8 x 256, 16 thoughts", replace(small, batch=8, sequence=256, thoughts=16)),
        Point("held out", "30M, 32 x 64, 24 thoughts", replace(base, batch=32, sequence=64, thoughts=24)),
    ]


def _of(base: Sizes, model: tuple[int, int, int, int]) -> Sizes:
    layers, heads, width, vocabulary = model
    return replace(base, layers=layers, heads=heads, width=width, vocabulary=vocabulary)


def taken(settings: Settings, point: Point) -> tuple[tuple[float, ...], tuple[float, ...], int | None]:
    """Seconds of steps, of the update in each, and the peak bytes of one, weights and moments included, unless it takes long."""
    sizes, device = point.sizes, settings.device
    model = make_model(make_base(sizes, device, settings.seed).train())
    batch = make_batch(sizes, device, settings.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    thinks: dict[str, Any] = {
        "thought_mask": batch.thought_mask,
        "thought_columns": (batch.start, batch.stop),
        "feedback": point.feedback,
        "jacobi_iterations": point.iterations,
    }

    def passes() -> None:
        with torch.autocast(device.type, settings.dtype, enabled=settings.dtype != torch.float32):
            options = thinks if sizes.thoughts else {}
            loss = model(batch.input_ids, batch.attention_mask, batch.labels, **options).loss
        loss.backward()

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def step() -> tuple[float, float]:
        return seconds_of(passes, device), seconds_of(update, device)

    first = sum(step())
    timed = [step() for _ in range(1 if first > LONG else settings.rounds_or(ROUNDS))]
    seconds, updates = tuple(map(sum, timed)), tuple(own for _, own in timed)
    if first > LONG:  # a profiler keeps every allocation of it
        return seconds, updates, None
    standing = 12 * sum(p.numel() for p in model.parameters())
    return seconds, updates, standing + peak_bytes(passes, device)


def forecast(sizes: Sizes, shape: StepShape) -> int:
    """Bytes of a step: weights, moments, and what forward and backward take at their highest. Counted on models of one block and
    of two and drawn out, since every further block takes as much: counting all of them takes longer than a step."""
    one = hollow_memory(replace(sizes, layers=1), shape)
    return (
        one
        if sizes.layers == 1
        else one + (sizes.layers - 1) * (hollow_memory(replace(sizes, layers=2), shape) - one)
    )


def hollow_memory(sizes: Sizes, shape: StepShape) -> int:
    meta = torch.device("meta")
    with meta:
        model = make_model(make_base(sizes, meta, 0)).train()
    return 12 * sum(p.numel() for p in model.parameters()) + step_memory(model, shape)
