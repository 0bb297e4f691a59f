"""Pareto front against brute force, sizes against the weights' own shapes, sensitivity and numbers of thoughts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from latentthought.errors import ConfigError
from latentthought.evaluation.statistics import wilson
from latentthought.recipe import load_recipe
from latentthought.reporting.figures.catalog import FIGURES
from latentthought.reporting.figures.costs import pareto_front
from latentthought.reporting.figures.given import NothingToDraw, read_given
from tests.reporting.made import metrics, read_csv, recipe, results, weights


@pytest.mark.parametrize("seed", range(20))
def test_front_is_what_nothing_beats(seed: int) -> None:
    draws = random.Random(seed)
    points = [(draws.randint(0, 6), draws.randint(0, 6)) for _ in range(draws.randint(1, 25))]

    def beaten(one: tuple[int, int]) -> bool:
        return any(o[0] <= one[0] and o[1] >= one[1] and o != one for o in points)

    wanted = {place for place, one in enumerate(points) if not beaten(one)}
    found = pareto_front([cost for cost, _ in points], [accuracy for _, accuracy in points])
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert [points[place][0] for place in found] == sorted(points[place][0] for place in found)


def test_pareto_has_every_cost_that_differs(tmp_path: Path) -> None:
    for name, right, tokens, milliseconds in (("a", 5, 3, 4.0), ("b", 9, 30, 4.0), ("c", 4, 10, 4.0)):
        results(tmp_path / name, range(right), thoughts=2, tokens=tokens, milliseconds=milliseconds)
    FIGURES["pareto"].draw(read_given([tmp_path]), tmp_path / "x")
    rows = read_csv(tmp_path / "x.csv")
    assert {row["cost"] for row in rows} == {"tokens"}, "what all cost alike is not drawn"
    assert {row["run"]: (float(row["amount"]), row["on_front"]) for row in rows} == {
        "a": (3, "1"),
        "b": (30, "1"),
        "c": (10, "0"),
    }
    metrics(tmp_path / "a", [{"step": 60, "seconds": 7.0}, {"step": 100, "seconds": 12.5}])
    metrics(tmp_path / "b", [{"step": 50, "loss": 1.0}])
    metrics(tmp_path / "c", [{"step": 50, "seconds": 6.5}])
    FIGURES["pareto"].draw(read_given([tmp_path]), tmp_path / "y")
    rows = read_csv(tmp_path / "y.csv")
    amounts = {
        cost: {row["run"]: float(row["amount"]) for row in rows if row["cost"] == cost}
        for cost in ("steps", "seconds")
    }
    assert amounts == {"steps": {"a": 100, "b": 50, "c": 50}, "seconds": {"a": 12.5, "c": 6.5}}


def test_size_counts_the_weights(tmp_path: Path) -> None:
    counts = {}
    for name, width, right in (("small", 8, 4), ("large", 64, 12)):
        run = results(recipe(tmp_path / name, "hops/ce", f"model.scratch.width={width}"), range(right))
        counts[name] = weights(run / "model", (width, width), (3, width), (width,))
    FIGURES["size"].draw(read_given([tmp_path]), tmp_path / "x")
    rows = read_csv(tmp_path / "x.csv")
    assert {row["run"]: int(row["parameters"]) for row in rows} == counts
    assert len({row["method"] for row in rows}) == 1, "they differ in their model alone: one line"
    with pytest.raises(NothingToDraw, match="two sizes"):
        FIGURES["size"].draw(read_given([tmp_path / "small"]), tmp_path / "y")


def swept(folder: Path, *changes: tuple[str, ...]) -> Path:
    for number, overrides in enumerate(changes):
        results(recipe(folder / f"p{number}", "hops/feature", *overrides), range(3 + number))
    return folder


def test_sensitivity_finds_the_key(tmp_path: Path) -> None:
    swept(tmp_path, *((f"objective.1.weight={w}", f"objective.0.weight={1 - w}") for w in (0.1, 0.5, 0.9)))
    FIGURES["sensitivity"].draw(read_given([tmp_path]), tmp_path / "x")
    rows = read_csv(tmp_path / "x.csv")
    assert [float(row["objective.1.weight"]) + float(row["objective.0.weight"]) for row in rows] == [1, 1, 1]
    found = {
        float(row["objective.1.weight"]): [float(row[k]) for k in ("accuracy", "low", "high")] for row in rows
    }
    for place, weight in enumerate((0.1, 0.5, 0.9)):
        assert found[weight] == pytest.approx([(3 + place) / 20, *wilson(3 + place, 20)])


def test_sensitivity_of_two_keys_is_a_line_each(tmp_path: Path, axes: list[Any]) -> None:
    grid = [
        (f"objective.1.weight={w}", f"training.learning_rate={r}")
        for w in (0.1, 0.5, 0.9)
        for r in (1e-3, 1e-2)
    ]
    FIGURES["sensitivity"].draw(read_given([swept(tmp_path, *grid)]), tmp_path / "x")
    (axis,) = axes
    assert axis.get_xlabel() == "objective.1.weight", "the key with more values is the axis"
    (legend,) = axis.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "training.learning_rate = 0.001",
        "training.learning_rate = 0.01",
    ]


def test_sensitivity_of_names(tmp_path: Path, axes: list[Any]) -> None:
    ways = ("uniform", "last", "middle_final")
    swept(tmp_path, *((f"objective.1.layers.strategy={way}",) for way in ways))
    FIGURES["sensitivity"].draw(read_given([tmp_path]), tmp_path / "x")
    (axis,) = axes
    assert [text.get_text() for text in axis.get_xticklabels()] == list(ways)


def test_sensitivity_refuses_what_varies_in_too_many_ways(tmp_path: Path) -> None:
    keys = ("objective.1.weight", "training.learning_rate", "training.weight_decay")
    draws = random.Random(0)
    changes = [tuple(f"{key}={draws.choice((0.1, 0.2))}" for key in keys) for _ in range(12)]
    swept(tmp_path, *dict.fromkeys(changes))
    with pytest.raises(ConfigError, match=r"3 settings that vary by themselves \(.*training.weight_decay"):
        FIGURES["sensitivity"].draw(read_given([tmp_path]), tmp_path / "x")
    with pytest.raises(NothingToDraw, match="latentthought sweep"):
        FIGURES["sensitivity"].draw(read_given([tmp_path / "p0"]), tmp_path / "x")
    results(recipe(tmp_path / "kind", "hops/ce"), [1])
    with pytest.raises(NothingToDraw, match=r"differ in kind.*only some have teacher"):
        FIGURES["sensitivity"].draw(read_given([tmp_path / "p0", tmp_path / "kind"]), tmp_path / "x")
    results(tmp_path / "bare", [1])
    with pytest.raises(NothingToDraw, match="bare has no recipe"):
        FIGURES["sensitivity"].draw(read_given([tmp_path / "p0", tmp_path / "bare"]), tmp_path / "x")


def test_thoughts_are_told_by_what_was_asked(tmp_path: Path) -> None:
    own = load_recipe("quickstart").dump()
    for thoughts, right in ((0, 2), (3, 9), (8, 6)):
        results(
            tmp_path / f"t{thoughts}",
            range(right),
            settings={"thoughts": thoughts},
            model="runs/mine/model",
            recipe=own,
        )
    results(tmp_path / "as-trained", range(18), thoughts=5, model="runs/mine/model", recipe=own)
    FIGURES["thoughts"].draw(read_given([tmp_path]), tmp_path / "x")
    rows = read_csv(tmp_path / "x.csv")
    assert [(float(row["thoughts"]), float(row["accuracy"]), row["beyond"]) for row in rows] == [
        (0, 0.1, "0"),
        (3, 0.45, "0"),
        (5, 0.9, "0"),
        (8, 0.3, "1"),
    ]
    assert {(row["model"], row["trained_with"]) for row in rows} == {("mine", "5")}
    with pytest.raises(NothingToDraw, match="--thoughts N --output"):
        FIGURES["thoughts"].draw(read_given([tmp_path / "t3"]), tmp_path / "y")
