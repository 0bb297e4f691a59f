"""The table of a sweep on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from latentthought.evaluation.replicates import over_seeds
from latentthought.sweeping import table
from latentthought.sweeping.plan import EvaluationChoice, plan_sweep
from latentthought.sweeping.results import Line
from latentthought.sweeping.table import remarks_of, render, write_figure

RATE = "training.learning_rate"
COSTS = ("loss", "training_seconds", "tokens_per_second", "thoughts", "tokens", "milliseconds", "consistency")


def test_a_narrow_terminal_goes_without_the_least_important() -> None:
    sweep = plan_sweep("quickstart", [f"{RATE}=1e-3,3e-3"], None, EvaluationChoice())
    accuracy = over_seeds([{"a": [1.0], "b": [0.0]}] * 2)
    lines = [
        Line(
            settings={RATE: rate},
            task="hops",
            control="none",
            seeds=(1, 2),
            accuracy=accuracy,
            means=dict.fromkeys(COSTS, 0.5),
        )
        for rate in ("1e-3", "3e-3")
    ]

    def headings(width: int) -> list[str]:
        return [" ".join(str(column.header).split()) for column in render(sweep, lines, width).columns]

    everything = [
        "learning_rate",
        "task",
        "seeds",
        "accuracy",
        "95 % over seeds",
        "95 % over seeds and rows",
        "consistency",
        "loss",
        "training, s",
        "tokens/s",
        "thoughts",
        "tokens",
        "ms",
    ]
    assert headings(200) == everything
    less = [name for name in everything if name not in ("ms", "tokens", "consistency", "loss")]
    assert headings(100) == less
    assert headings(20) == less, "and never without the rest"
    assert Console(width=1000).measure(render(sweep, lines, 100)).maximum <= 100
    assert "2 lines have the same accuracy under every seed" in " ".join(remarks_of(sweep, lines, []))


def test_bars_of_one_figure_are_of_one_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting whose other seed failed has no interval over seeds, and is not drawn with a narrow one of another kind; a loss is
    named by its own."""
    sweep = plan_sweep("quickstart", [f"{RATE}=1e-3,3e-3"], None, EvaluationChoice())
    asked: list[tuple] = []
    monkeypatch.setattr(table, "draw", lambda marks, **more: asked.append((marks, more["bars"])) or [])
    answers = {str(n): [float(n % 2)] for n in range(20)}

    def line(rate: str, **values: Any) -> Line:
        return Line(settings={RATE: rate}, task="hops", control="none", seeds=(1, 2), means={}, **values)

    both, one = over_seeds([answers, {**answers, "0": [1.0]}]), over_seeds([answers])
    assert both.seeds and one.rows and not one.seeds
    write_figure(sweep, [line("1e-3", accuracy=both), line("3e-3", accuracy=one)], tmp_path)
    write_figure(sweep, [line("1e-3", loss=both), line("3e-3", loss=both)], tmp_path)
    write_figure(sweep, [line("1e-3", accuracy=one), line("3e-3", accuracy=one)], tmp_path)
    assert [bars for _, bars in asked] == ["95 % over seeds", "95 % over seeds", "95 % over rows"]
    assert [[mark.interval for mark in marks] for marks, _ in asked] == [
        [both.seeds, None],
        [both.seeds, both.seeds],
        [one.rows, one.rows],
    ]
