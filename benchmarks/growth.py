"""How a training step grows: its time and memory as thoughts, batch, sequence and model do, one at a time from a base point.

A random model of GPT-2's architecture, exact thoughts, AdamW in float32, and the trainer's own forward. A point is measured where
its forecast (`training.hollow_step`) fits `MEMORY` and what is free, and where the points before it let expect no more than
`SECONDS`; beyond, the fitted rates say what it would take, and it is marked as extrapolated. Every point is run once without
counting, then `rounds` times, the least of which counts: others on the machine only ever add to a time.

The rates (`training.cost`) are fitted to all measured points, that of the optimizer to the updates, which are timed by
themselves, the others to the passes. They are put to three tests: their error at those points; the error
on each axis of a fit that has not seen it; and the error at points that lie on no axis, which no fit sees. With --write-docs
they become those that `train --dry-run` uses.
"""

from __future__ import annotations

import datetime
import gc
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmarks.findings import Findings, Table
from benchmarks.growth_figure import draw
from benchmarks.report import Target, machine
from benchmarks.settings import Settings
from benchmarks.timing import peak_bytes, seconds_of
from benchmarks.workload import Sizes, make_base, make_batch, make_model
from latentthought.memory import free_memory
from latentthought.thoughts.layout import Feedback
from latentthought.training.calibration import probe
from latentthought.training.cost import KINDS, ModelSizes, Rates, Work, fitted, step_work
from latentthought.training.hollow_step import StepShape, step_memory
from latentthought.training.measured import FILE, Measured

ROUNDS = 2
MEMORY = 16 * 2**30
SECONDS = 60.0
# a step that takes longer than this in its warm-up is timed once
LONG = 15.0
WANTED_MEDIAN, WANTED_HELD_OUT = 0.10, 0.25

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
        sizes = self.sizes
        return ModelSizes(
            sizes.layers, sizes.parameters, sizes.width, sizes.width, sizes.vocabulary, self.parameters
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
    thoughts, batches, sequences = THOUGHTS, BATCHES, SEQUENCES
    if settings.quick:
        models = {"tiny": (1, 2, 32, 256), "small": (2, 2, 64, 512)}
        base = replace(Sizes(*models["tiny"]), batch=2, sequence=24, thoughts=3, labelled=4)
        thoughts, batches, sequences = (6,), (4,), (48,)
    found = [Point("base", "", base)]
    found += [Point("thoughts", str(n), replace(base, thoughts=n)) for n in thoughts]
    found += [Point("batch", str(n), replace(base, batch=n)) for n in batches]
    found += [Point("sequence", str(n), replace(base, sequence=n)) for n in sequences]
    named = {name: _of(base, models[name]) for name in models}
    found += [Point("model", name, sizes) for name, sizes in named.items() if sizes != base]
    narrow = named["tiny" if settings.quick else "0.2M"]
    found += [Point("narrow", f"0.2M, batch {n}", replace(narrow, batch=n)) for n in NARROW]
    found += [
        Point("feedback", "no thoughts", replace(base, thoughts=0)),
        Point("feedback", "jacobi, 2 updates", base, "jacobi", 2),
        Point("feedback", "single pass", base, "single_pass"),
    ]
    if settings.quick:
        return [*found, Point("held out", "small", replace(named["small"], thoughts=2))]
    small = named["124M"]
    return [
        *found,
        Point("held out", "124M, 4 x 78, 6 thoughts", replace(small, batch=4, sequence=78, thoughts=6)),
        Point("held out", "124M, 8 x 256, 16 thoughts", replace(small, batch=8, sequence=256, thoughts=16)),
        Point("held out", "30M, 32 x 64, 24 thoughts", replace(base, batch=32, sequence=64, thoughts=24)),
    ]


def _of(base: Sizes, model: tuple[int, int, int, int]) -> Sizes:
    layers, heads, width, vocabulary = model
    return replace(base, layers=layers, heads=heads, width=width, vocabulary=vocabulary)


def run(settings: Settings) -> Findings:
    """Measure what can be measured, fit, and say how far the fit can be trusted."""
    found: list[Point] = []
    for point in points(settings):
        settings.progress(f"growth: {point.axis} {point.value}")
        found.append(_measured(settings, point, found))
    fit = Fit(found)
    probes = probe()
    known = Measured(
        rates=fit.rates,
        probes=probes,
        machine=machine(settings.device),
        threads=settings.threads,
        date=datetime.date.today().isoformat(),
        most=fit.most(),
        median_error=fit.median,
        worst_error=fit.worst,
    )
    targets = [
        Target.at_most("fitted rates", "median relative error", fit.median, WANTED_MEDIAN),
        Target.at_most("points that no fit sees", "worst relative error", fit.held_out, WANTED_HELD_OUT),
    ]
    files = {}
    if not settings.quick and settings.device.type == "cpu":
        files = {
            str(FILE.relative_to(FILE.parents[2])): known.text(),
            "docs/figures/growth.svg": draw(found, fit.rates),
        }
    base = found[0].sizes
    title = (
        f"{settings.threads} threads, float32; base point: {found[0].parameters / 1e6:,.0f} M weights, batch {base.batch}, "
        f"{base.sequence} positions of which {base.thoughts} are thoughts and {base.labelled} scored"
    )
    return Findings(
        name="growth",
        title=title,
        tables=[_points_table(found, fit), _rates_table(fit, probes), _errors_table(fit)],
        targets=targets,
        data={"points": [_plain(point, fit) for point in found], "rates": fit.rates.costs.__dict__},
        notes=_notes(found),
        files=files,
    )


@dataclass
class Fit:
    """Rates fitted to all measured points but those held out; errors are relative to the measured time."""

    found: Sequence[Point]
    rates: Rates = field(init=False)

    def __post_init__(self) -> None:
        self.rates = _fit(self.seen)

    @property
    def seen(self) -> list[Point]:
        return [point for point in self.found if point.seconds and point.axis != "held out"]

    def error(self, point: Point, rates: Rates | None = None) -> float:
        """What the rates say over what was measured, less 1."""
        assert point.best is not None
        return (rates or self.rates).seconds(point.work) / point.best - 1

    @property
    def median(self) -> float:
        return statistics.median(abs(self.error(point)) for point in self.seen)

    @property
    def worst(self) -> float:
        return max(abs(self.error(point)) for point in self.seen)

    @property
    def held_out(self) -> float:
        """The worst error at points that lie on no axis."""
        return max(
            abs(self.error(point)) for point in self.found if point.seconds and point.axis == "held out"
        )

    def without(self, axis: str) -> tuple[float, float]:
        """Median and worst error on an axis of a fit that has not seen it."""
        rates = _fit([point for point in self.seen if point.axis != axis])
        errors = [abs(self.error(point, rates)) for point in self.seen if point.axis == axis]
        return statistics.median(errors), max(errors)

    def most(self) -> dict[str, float]:
        """The largest step that was measured, by axis."""
        measured = [point for point in self.found if point.seconds]
        return {
            "thoughts": max(point.sizes.thoughts for point in measured),
            "batch": max(point.sizes.batch for point in measured),
            "sequence": max(point.sizes.sequence for point in measured),
            "parameters": max(point.parameters for point in measured),
        }


def _fit(seen: Sequence[Point]) -> Rates:
    works, updates = [point.work for point in seen], [min(point.updates) for point in seen]
    passes = [min(point.seconds) - update for point, update in zip(seen, updates, strict=True)]
    of_passes = fitted(works, passes, [kind for kind in KINDS if kind != "optimizer"])
    return Rates(of_passes.costs.plus(fitted(works, updates, ["optimizer"]).costs))


# --- one point --------------------------------------------------------------------------------------------------------


def _measured(settings: Settings, point: Point, before: Sequence[Point]) -> Point:
    """The point with its times and memory, or with why it was left out."""
    point = replace(point, forecast=forecast(point.sizes, point.shape))
    if reason := _too_much(settings, point, before):
        return replace(point, left_out=reason)
    seconds, updates, peak = _taken(settings, point)
    gc.collect()
    return replace(point, seconds=seconds, updates=updates, peak=peak)


def _too_much(settings: Settings, point: Point, before: Sequence[Point]) -> str:
    """Why a step cannot be run here; empty when it can."""
    free = free_memory(settings.device)
    if point.forecast > MEMORY:
        return "memory"
    if free is not None and point.forecast > 0.9 * free:
        return "free memory"
    timed = [one for one in before if one.seconds]
    return "time" if len(timed) > 1 and _fit(timed).seconds(point.work) > SECONDS else ""


def _taken(settings: Settings, point: Point) -> tuple[tuple[float, ...], tuple[float, ...], int | None]:
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
    one = _hollow(replace(sizes, layers=1), shape)
    return (
        one
        if sizes.layers == 1
        else one + (sizes.layers - 1) * (_hollow(replace(sizes, layers=2), shape) - one)
    )


def _hollow(sizes: Sizes, shape: StepShape) -> int:
    meta = torch.device("meta")
    with meta:
        model = make_model(make_base(sizes, meta, 0)).train()
    return 12 * sum(p.numel() for p in model.parameters()) + step_memory(model, shape)


# --- what is shown ----------------------------------------------------------------------------------------------------


def _points_table(found: Sequence[Point], fit: Fit) -> Table:
    rows = []
    for point in found:
        told = fit.rates.seconds(point.work)
        if point.best is None:
            time, spread, error = f"about {_seconds(told)} (extrapolated: {point.left_out})", "", ""
        else:
            time, spread, error = _seconds(point.best), f"{point.spread:.0%}", f"{fit.error(point):+.0%}"
        memory = f"about {_gib(point.forecast)} (forecast)" if point.peak is None else _gib(point.peak)
        rows.append([f"{point.axis} {point.value}".strip(), time, spread, _seconds(told), error, memory])
    return Table(
        "a training step, one axis at a time",
        ["step", "time", "±", "fitted", "error", "peak memory"],
        rows,
    )


def _rates_table(fit: Fit, probes: Any) -> Table:
    units = {
        "products": (1e9, "GFLOP/s"),
        "attention": (1e9, "GFLOP/s"),
        "weights": (1e9, "GB/s"),
        "activations": (1e9, "GB/s"),
        "calls": (0.0, "µs a block and pass"),
        "optimizer": (1e9, "GB/s"),
    }
    parts, rows = fit.rates.parts(fit.found[0].work), []
    for kind in KINDS:
        cost, (unit, name) = getattr(fit.rates.costs, kind), units[kind]
        share = parts[kind] / sum(parts.values())
        if not cost:
            rows.append([kind, "nothing left for it", "", ""])
            continue
        rate = f"{1e6 * cost:,.0f} {name}" if kind == "calls" else f"{1 / cost / unit:,.1f} {name}"
        speed = "" if kind == "calls" else f"{1 / probes.of(kind) / unit:,.1f} {name}"
        rows.append([kind, rate, speed, f"{share:.0%}"])
    return Table(
        "fitted rates of each kind of work, and of the probe that carries them over to another machine",
        ["work", "rate", "probe", "share of the base step"],
        rows,
    )


def _errors_table(fit: Fit) -> Table:
    rows = [["all points that were fitted", f"{fit.median:.1%}", f"{fit.worst:.1%}"]]
    for axis in ("thoughts", "batch", "sequence", "model", "narrow", "feedback"):
        median, worst = fit.without(axis)
        rows.append([f"{axis}, by a fit without it", f"{median:.1%}", f"{worst:.1%}"])
    held = [abs(fit.error(point)) for point in fit.found if point.seconds and point.axis == "held out"]
    rows.append(["points on no axis", f"{statistics.median(held):.1%}", f"{max(held):.1%}"])
    return Table(
        "errors of the fitted rates, relative to the measured time", ["where", "median", "worst"], rows
    )


def _notes(found: Sequence[Point]) -> list[str]:
    beyond = [point for point in found if not point.seconds]
    if not beyond:
        return []
    names = ", ".join(f"{point.axis} {point.value} ({point.left_out})" for point in beyond)
    return [
        f"Not measured, and extrapolated: {names}. Limits: {MEMORY / 2**30:.0f} GiB and what was free, {SECONDS:.0f} s a step."
    ]


def _plain(point: Point, fit: Fit) -> dict[str, Any]:
    return {
        "axis": point.axis,
        "value": point.value,
        "parameters": point.parameters,
        "seconds": point.seconds,
        "updates": point.updates,
        "fitted": fit.rates.seconds(point.work),
        "work": point.work.__dict__,
        "peak": point.peak,
        "forecast": point.forecast,
        "left_out": point.left_out,
    }


def _seconds(value: float) -> str:
    return f"{value:,.2f} s" if value >= 1 else f"{value * 1000:,.0f} ms"


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"
