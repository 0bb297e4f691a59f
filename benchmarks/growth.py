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

from benchmarks.findings import Findings, Table
from benchmarks.growth_figure import draw
from benchmarks.growth_steps import Point, forecast, points, taken
from benchmarks.report import Target, machine
from benchmarks.settings import Settings
from latentthought.memory import free_memory
from latentthought.training.calibration import probe
from latentthought.training.cost import KINDS, Rates, fitted, with_attention
from latentthought.training.measured import FILE, Measured

MEMORY = 16 * 2**30
SECONDS = 60.0
FIGURE = (
    "![Time and peak memory of a training step, by thoughts, batch, sequence and model](figures/growth.svg)"
)
WANTED_MEDIAN, WANTED_HELD_OUT = 0.10, 0.25


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
        notes=[*([FIGURE] if files else []), *_notes(found)],
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
        """The largest step that was measured, by axis; many rows of a very small model do not make a large step."""
        measured = [point for point in self.found if point.seconds and point.axis != "narrow"]
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
    return with_attention(Rates(of_passes.costs.plus(fitted(works, updates, ["optimizer"]).costs)))


# --- one point --------------------------------------------------------------------------------------------------------


def _measured(settings: Settings, point: Point, before: Sequence[Point]) -> Point:
    """The point with its times and memory, or with why it was left out."""
    point = replace(point, forecast=forecast(point.sizes, point.shape))
    if reason := _too_much(settings, point, before):
        return replace(point, left_out=reason)
    seconds, updates, peak = taken(settings, point)
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
        "calls": (0.0, "µs a block and pass, each way"),
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
