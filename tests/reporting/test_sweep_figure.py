"""The figure of a sweep: what is drawn is what the CSV says, on the right kind of axis."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from latentthought.reporting import sweep_figure
from latentthought.reporting.sweep_figure import Mark, draw


def mark(x: object, group: str = "", value: float = 0.5, panel: str = "hops") -> Mark:
    return Mark(panel, group, x, str(x), value, (value - 0.1, value + 0.2), (value - 0.05, value + 0.05))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Draw marks, and hand over the axes before they are closed."""
    pytest.importorskip("matplotlib")
    kept = []
    write = sweep_figure.write

    def keep(figure, *rest):
        kept.append(figure)
        return write(figure, *rest)

    monkeypatch.setattr(sweep_figure, "write", keep)

    def run(marks: list[Mark], quantity: str = "accuracy"):
        files = draw(
            marks, key="r", groups="alpha", quantity=quantity, bars="95 % over seeds", stem=tmp_path / "f"
        )
        assert [file.suffix for file in files] == [".png", ".svg", ".csv"]
        return kept[-1], list(csv.DictReader(files[2].open()))

    return run


def test_numbers_get_an_axis(drawn) -> None:
    figure, rows = drawn([mark(16, value=0.8), mark(4), mark(8, value=0.6)])
    (axis,) = figure.axes
    line = axis.containers[0].lines[0]
    assert list(line.get_xdata()) == [4, 8, 16], "in order, wherever they stood"
    assert list(line.get_ydata()) == pytest.approx([50, 60, 80])
    assert axis.get_xscale() == "linear"
    assert axis.get_ylabel() == "accuracy, %\n(bars: 95 % over seeds)"
    assert [row["r"] for row in rows] == ["16", "4", "8"]
    assert [float(row["low"]) for row in rows] == pytest.approx([0.7, 0.4, 0.5])
    whiskers = axis.containers[0].lines[2][0].get_segments()
    assert whiskers[0][:, 1].tolist() == pytest.approx([40, 70])
    assert sorted(point[1] for point in axis.collections[-1].get_offsets().tolist()) == pytest.approx(
        [45, 55, 55, 65, 75, 85]
    )


def test_wide_numbers_get_a_logarithm(drawn) -> None:
    figure, _ = drawn([mark(1e-4), mark(1e-3), mark(1e-2)])
    assert figure.axes[0].get_xscale() == "log"
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0.0001", "0.001", "0.01"]


def test_the_second_key_is_told_apart_by_more_than_colour(drawn) -> None:
    figure, _ = drawn([mark(x, group) for x in (1, 2) for group in ("0.1", "0.5")])
    axis = figure.axes[0]
    lines = [container.lines[0] for container in axis.containers]
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 2
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["0.1", "0.5"]
    assert axis.get_legend().get_title().get_text() == "alpha"
    assert list(lines[0].get_xdata()) != list(lines[1].get_xdata()), "beside one another"


def test_names_get_bars_from_zero(drawn) -> None:
    figure, _ = drawn([mark([8, 9], "a"), mark("last", "a"), mark([8, 9], "b"), mark("last", "b")])
    axis = figure.axes[0]
    assert len(axis.patches) == 4
    assert axis.get_ylim()[0] == 0
    assert [text.get_text() for text in axis.get_xticklabels()] == ["[8, 9]", "last"]


def test_tied_keys_whose_first_value_comes_twice_get_bars(drawn) -> None:
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    figure, _ = drawn([Mark("", "", a, f"{a}, {b}", 0.5, None, (0.5,)) for a, b in pairs])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0, 0", "0, 1", "1, 0", "1, 1"]
    assert len({patch.get_x() for patch in figure.axes[0].patches}) == 4


def test_a_panel_for_every_task(drawn) -> None:
    figure, _ = drawn([mark(x, panel=panel) for x in (1, 2) for panel in ("hops", "gsm8k")])
    assert [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()] == ["hops", "gsm8k"]


def test_a_group_that_the_first_panel_lacks_is_named_all_the_same(drawn) -> None:
    marks = [
        mark(1, "g1", panel="a"),
        mark(2, "g1", panel="a"),
        mark(1, "g2", panel="b"),
        mark(2, "g2", panel="b"),
    ]
    figure, _ = drawn(marks)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["g1", "g2"]


def test_a_small_difference_is_not_drawn_as_a_cliff(drawn) -> None:
    figure, _ = drawn([Mark("", "", x, str(x), 0.5 + x / 1000, None, (0.5,)) for x in (1, 2)])
    low, high = figure.axes[0].get_ylim()
    assert high - low == pytest.approx(10)
    figure, _ = drawn([Mark("", "", x, str(x), 0.0, None, (0.0,)) for x in (1, 2)])
    assert figure.axes[0].get_ylim()[0] == -3, "and not far below what is possible"


def test_a_loss_is_no_share(drawn) -> None:
    figure, rows = drawn([mark(1, value=2.5), mark(2, value=2.0)], quantity="loss")
    assert list(figure.axes[0].containers[0].lines[0].get_ydata()) == [2.5, 2.0]
    assert "loss" in rows[0]


def test_a_single_seed_is_no_dot_and_may_have_no_bars(drawn) -> None:
    figure, rows = drawn([Mark("", "", 1, "1", 0.5, None, (0.5,)), Mark("", "", 2, "2", 0.6, None, (0.6,))])
    assert rows[0]["low"] == ""
    assert len(figure.axes[0].collections) == 1, "the whiskers, and no dots"
