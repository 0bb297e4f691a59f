"""The benchmark of growth: its points, its forecast of memory, what it leaves out, its figure. Its quick run is in test_run."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from benchmarks import growth
from benchmarks.growth import Fit
from benchmarks.growth_steps import BASE_SIZES, MODELS, Point, forecast, hollow_memory, points
from benchmarks.settings import Settings
from benchmarks.workload import Sizes, make_base
from latentthought.training.cost import Rates, Work

RATES = Rates(Work(1e-11, 3e-11, 2e-10, 1e-10, 4e-5, 1.5e-10))


def timed(settings: Settings) -> list[Point]:
    """All points with the times that the rates give them; batch 256 left out."""
    found = [
        replace(
            one,
            seconds=(RATES.seconds(one.work),),
            updates=(RATES.parts(one.work)["optimizer"],),
            peak=10**9,
            forecast=10**9,
        )
        for one in points(settings)
    ]
    return [
        replace(one, seconds=(), peak=None, left_out="time")
        if one.value == "256" and one.axis == "batch"
        else one
        for one in found
    ]


def test_the_axes_reach_as_far_as_they_are_said_to() -> None:
    found = points(Settings())
    values = {
        "thoughts": [one.sizes.thoughts for one in found],
        "batch": [one.sizes.batch for one in found],
        "sequence": [one.sizes.sequence for one in found],
        "model": [one.parameters for one in found],
    }
    assert [(min(v or 1 for v in seen), max(seen)) for axis, seen in values.items() if axis != "model"] == [
        (1, 64),
        (1, 256),
        (64, 4096),
    ]
    assert {round(value / 10e6, 1) for value in values["model"]} >= {1.1}, "about 10 M"
    assert max(values["model"]) == pytest.approx(1e9, rel=0.05)
    # one thing at a time
    for one in found[1:]:
        if one.axis in ("thoughts", "batch", "sequence"):
            assert replace(one.sizes, **{one.axis: getattr(BASE_SIZES, one.axis)}) == BASE_SIZES


@pytest.mark.parametrize("name", ["10M", "30M", "124M"])
def test_weights_are_counted_as_the_model_has_them(name: str) -> None:
    point = Point(
        "model",
        name,
        replace(
            BASE_SIZES, **dict(zip(("layers", "heads", "width", "vocabulary"), MODELS[name], strict=True))
        ),
    )
    with torch.device("meta"):
        base = make_base(point.sizes, torch.device("meta"), 0)
    # biases and norms are left out
    assert point.parameters == pytest.approx(sum(p.numel() for p in base.parameters()), rel=0.005)


def test_memory_drawn_out_from_two_blocks() -> None:
    sizes = replace(Sizes(4, 2, 64, 500), batch=3, sequence=40, thoughts=3, labelled=6)
    shape = Point("base", "", sizes).shape
    assert forecast(sizes, shape) == pytest.approx(hollow_memory(sizes, shape), rel=0.02)


def test_what_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, before = Settings(), timed(Settings())[:8]
    point = replace(before[0], forecast=growth.MEMORY + 1)
    assert growth._too_much(settings, point, before) == "memory"
    monkeypatch.setattr(growth, "free_memory", lambda device: 10**9)
    assert growth._too_much(settings, replace(point, forecast=10**9), before) == "free memory"
    monkeypatch.setattr(growth, "free_memory", lambda device: None)
    long = replace(point, forecast=10**9, sizes=replace(BASE_SIZES, batch=10**5))
    assert growth._too_much(settings, long, before) == "time"
    assert growth._too_much(settings, replace(point, forecast=10**9), before) == ""


def test_a_fit_to_times_of_known_rates() -> None:
    fit = Fit(timed(Settings()))
    assert fit.worst < 1e-6 and fit.held_out < 1e-6
    assert all(
        fit.without(axis)[1] < 1e-3
        for axis in ("thoughts", "batch", "sequence", "model", "narrow", "feedback")
    )
    assert fit.most()["batch"] == 64, "what was left out was not measured"
    # a point that the fit does not see makes no difference to it
    off = [replace(one, seconds=(9.0,)) if one.axis == "held out" else one for one in timed(Settings())]
    assert Fit(off).rates == fit.rates and Fit(off).held_out > 0.1


def test_measured_marks_are_full_and_extrapolated_ones_hollow() -> None:
    pytest.importorskip("matplotlib")
    found = timed(Settings())
    from benchmarks.growth_figure import draw
    from latentthought.reporting.plots import COLOURS

    svg = draw(found, RATES)
    assert svg == draw(found, RATES), "the same numbers, the same file"
    marks = re.findall(r"<use [^>]*style=\"fill: (#\w+); stroke: (#\w+)", svg)
    full = [mark for mark in marks if mark[0] == COLOURS[1].lower() and mark[1] == COLOURS[1].lower()]
    hollow = [mark for mark in marks if mark[0] == "#ffffff"]
    axes = ("thoughts", "batch", "sequence", "model")
    # the base point lies on each axis; time and memory; one mark of each kind in the legend
    count = sum(one.axis in axes for one in found) + len(axes)
    assert len(hollow) == 2 + 1 and len(full) == 2 * count - 2 + 1


def test_tables_mark_what_was_not_measured() -> None:
    found = timed(Settings())
    table = str(growth._points_table(found, Fit(found)))
    (line,) = (line for line in table.splitlines() if line.startswith("| batch 256 |"))
    assert "about" in line and "(extrapolated: time)" in line and "(forecast)" in line
    (note,) = growth._notes(found)
    assert "batch 256 (time)" in note and "16 GiB" in note
