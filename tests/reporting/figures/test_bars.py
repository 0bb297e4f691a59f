"""Ablations, gains and subjects: their numbers against the evaluation's own statistics and `compare`."""

from __future__ import annotations

import json
from math import hypot
from pathlib import Path
from statistics import stdev

import pytest
from scipy.stats import t as student_t

from latentthought.errors import ConfigError, DataError, MissingFileError
from latentthought.evaluation import compare
from latentthought.evaluation.statistics import paired_difference, wilson
from latentthought.reporting.figures.catalog import FIGURES
from latentthought.reporting.figures.given import NothingToDraw, read_given
from tests.reporting.made import grouped_results, metrics, read_csv, recipe, results


def test_ablation_has_the_intervals_of_the_evaluation(tmp_path: Path) -> None:
    results(tmp_path / "a", range(15))
    results(tmp_path / "a", range(3), control="no-thought")
    results(tmp_path / "b", range(10))
    FIGURES["ablation"].draw(read_given([tmp_path / "a", tmp_path / "b"]), tmp_path / "x")
    rows = read_csv(tmp_path / "x.csv")
    assert [row["run"] for row in rows] == ["a", "a / no-thought", "b"]
    for row, right in zip(rows, (15, 3, 10), strict=True):
        numbers = [float(row[name]) for name in ("accuracy", "low", "high")]
        assert numbers == pytest.approx([right / 20, *wilson(right, 20)])


def test_ablation_of_one_run_is_of_its_controls(tmp_path: Path) -> None:
    with pytest.raises(NothingToDraw, match="--control all"):
        FIGURES["ablation"].draw(read_given([results(tmp_path / "a", [1])]), tmp_path / "x")
    with pytest.raises(NothingToDraw, match="latentthought evaluate"):
        FIGURES["ablation"].draw(read_given([metrics(tmp_path / "m")]), tmp_path / "x")


def test_gain_is_that_of_compare(tmp_path: Path) -> None:
    base, better = results(tmp_path / "base", range(8)), results(tmp_path / "better", range(4, 18))
    FIGURES["gain"].draw(read_given([base, better]), tmp_path / "gain")
    first, second = read_csv(tmp_path / "gain.csv")
    difference = compare(better, base)[0].difference
    assert first["run"] == "base (baseline)"
    assert first["gain"] == ""
    found = [float(second[name]) for name in ("gain", "gain_low", "gain_high")]
    assert found == [difference.difference, difference.low, difference.high]
    assert second["interval_over"] == "questions"
    assert found[0] == pytest.approx(0.3)
    # the baseline is the run given first, whatever it is called
    FIGURES["gain"].draw(read_given([better, base]), tmp_path / "loss")
    assert float(read_csv(tmp_path / "loss.csv")[1]["gain"]) == pytest.approx(-0.3)


def test_gain_over_seeds_is_taken_seed_by_seed(tmp_path: Path) -> None:
    """Two in squares: what the seeds say by Student's t, and the questions by the paired interval."""
    rights = {1: range(8), 2: range(2, 12), 3: range(5)}
    for seed, right in rights.items():
        results(recipe(tmp_path / f"base-{seed}", "hops/ce", f"seed={seed}"), right)
        results(
            recipe(tmp_path / f"more-{seed}", "hops/logit", f"seed={seed}"), [*right, *range(14, 16 + seed)]
        )
    results(tmp_path / "single", range(16))
    FIGURES["gain"].draw(read_given([tmp_path]), tmp_path / "gain")
    _, more, single = read_csv(tmp_path / "gain.csv")
    values = {q: [float(q in [*right, *range(14, 16 + s)]) for s, right in rights.items()] for q in range(20)}
    base = {q: [float(q in right) for right in rights.values()] for q in range(20)}
    rows = paired_difference(values, base)
    each = [3 / 20, 4 / 20, 5 / 20]
    half = student_t.ppf(0.975, 2) * 0.05 / 3**0.5
    wanted = [0.2, 0.2 - hypot(half, 0.2 - rows.low), 0.2 + hypot(half, rows.high - 0.2)]
    assert [float(more[name]) for name in ("gain", "gain_low", "gain_high")] == pytest.approx(wanted)
    assert more["interval_over"] == single["interval_over"] == "seeds and questions"
    assert sum(each) / 3 == pytest.approx(0.2)
    # one run against three trainings: how these differ is part of what is not known
    each = [16 / 20 - len(right) / 20 for right in rights.values()]
    assert float(single["gain"]) == pytest.approx(sum(each) / 3)
    half = student_t.ppf(0.975, 2) * stdev(each) / 3**0.5
    assert float(single["gain_high"]) >= min(1.0, sum(each) / 3 + half)


def test_gain_of_other_seeds_has_no_pairs(tmp_path: Path) -> None:
    for name, first in (("ce", 1), ("logit", 3)):
        for seed in (first, first + 1):
            results(recipe(tmp_path / f"{name}-{seed}", f"hops/{name}", f"seed={seed}"), range(4))
    with pytest.raises(DataError, match="fewer than two seeds in common"):
        FIGURES["gain"].draw(read_given([tmp_path]), tmp_path / "gain")


def test_gain_refuses_other_questions(tmp_path: Path) -> None:
    base, other = results(tmp_path / "a", range(8)), results(tmp_path / "b", range(9))
    samples = other / "results" / "sums" / "none" / "samples.jsonl"
    whole = samples.read_text()
    samples.write_text(whole.replace('"gold": "7"', '"gold": "9"'))
    with pytest.raises(DataError, match="another answer"):
        FIGURES["gain"].draw(read_given([base, other]), tmp_path / "x")
    samples.unlink()
    with pytest.raises(MissingFileError, match="samples"):
        FIGURES["gain"].draw(read_given([base, other]), tmp_path / "x")
    file = samples.with_name("results.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 9}))
    with pytest.raises(ConfigError, match="task version is 1"):
        FIGURES["gain"].draw(read_given([base, other]), tmp_path / "x")


def test_domains(tmp_path: Path) -> None:
    subjects = {"level 10": [True, False], "level 2": [True] * 3, "algebra": [False, True, True, True]}
    run = grouped_results(tmp_path / "a", subjects)
    FIGURES["by_domain"].draw(read_given([run]), tmp_path / "x")
    rows = read_csv(tmp_path / "x.csv")
    assert [row["value"] for row in rows] == ["algebra", "level 2", "level 10"]
    for row in rows:
        right, total = sum(subjects[row["value"]]), len(subjects[row["value"]])
        wanted = [right / total, *wilson(right, total), total]
        assert [float(row[k]) for k in ("accuracy", "low", "high", "questions")] == pytest.approx(wanted)
    with pytest.raises(NothingToDraw, match=r"no results\.json has subjects"):
        FIGURES["by_domain"].draw(read_given([results(tmp_path / "b", [1])]), tmp_path / "y")


def test_radar_over_tasks_or_subjects(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for task, right in (("one", 3), ("two", 5), ("three", 9)):
            results(tmp_path / "tasks" / name, range(right), task=task)
    results(tmp_path / "tasks" / "c", range(3), task="one")
    FIGURES["radar"].draw(read_given([tmp_path / "tasks"]), tmp_path / "x")
    rows = read_csv(tmp_path / "x.csv")
    assert {row["run"] for row in rows} == {"a", "b"}, "who lacks a task has no polygon"
    shown = {row["axis"]: float(row["accuracy"]) for row in rows if row["run"] == "a"}
    assert shown == {"one": 0.15, "three": 0.45, "two": 0.25}
    run = grouped_results(tmp_path / "s", {"x": [True], "y": [False], "z": [True, False]})
    FIGURES["radar"].draw(read_given([run]), tmp_path / "y")
    assert {row["axis"]: float(row["accuracy"]) for row in read_csv(tmp_path / "y.csv")} == {
        "x": 1,
        "y": 0,
        "z": 0.5,
    }
    with pytest.raises(NothingToDraw, match="three tasks"):
        FIGURES["radar"].draw(read_given([tmp_path / "tasks" / "c"]), tmp_path / "z")
