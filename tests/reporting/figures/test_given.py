"""What a path given to `plot` means, what runs are called, and which of them are one point."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy.stats import t as student_t

from latentthought.errors import ConfigError, DamagedFileError, DataError, MissingFileError
from latentthought.reporting.figures.catalog import FIGURES
from latentthought.reporting.figures.given import distinct_names, read_given
from latentthought.reporting.figures.points import (
    check_together,
    common_name,
    flat_recipe,
    grouped,
    names_of_groups,
)
from tests.reporting.made import loaded, metrics, recipe, results


def test_every_kind_of_path(tmp_path: Path) -> None:
    run = results(recipe(metrics(tmp_path / "runs" / "a")), [0, 1])
    leaf = run / "results" / "sums" / "none"
    for path in (
        run,
        run / "metrics.jsonl",
        leaf,
        leaf / "results.json",
        run / "results",
        tmp_path / "runs",
        tmp_path,
    ):
        given = read_given([path])
        assert [one.name for one in given.runs] == ["a"], path
        (found,) = given.runs
        assert found.folder == run
        assert (found.metrics is not None) == (path not in (leaf, leaf / "results.json", run / "results"))
        assert len(found.results) == (0 if path.suffix == ".jsonl" else 1)
        assert found.recipe is not None
    # one run given in two parts
    assert len(read_given([run / "metrics.jsonl", leaf]).runs) == 1
    # and under two names
    (tmp_path / "same").symlink_to(run)
    (point,) = read_given([run, tmp_path / "same"]).points
    assert (point.name, len(point.results(("sums", "none")))) == ("a", 1)
    (tmp_path / "same").unlink()
    apart = leaf / "results.json"
    apart = apart.rename(tmp_path / "kept.json")
    assert [one.name for one in read_given([apart]).runs] == ["kept"]


def test_names_tell_runs_apart() -> None:
    assert distinct_names([Path("/r/a/run"), Path("/r/b/run"), Path("/r/c")]) == ["a/run", "b/run", "c"]
    assert distinct_names([Path("/x/a/run"), Path("/y/a/run")]) == ["x/a/run", "y/a/run"]
    assert distinct_names([Path("/a"), Path("/b/a")]) == ["/a", "b/a"]


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such folder"):
        read_given([tmp_path / "absent"])
    with pytest.raises(MissingFileError, match="written no numbers yet"):
        read_given([recipe(tmp_path / "begun")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="latentthought evaluate"):
        read_given([tmp_path / "empty"])
    run = results(tmp_path / "a", [0])
    with pytest.raises(DataError, match=r"results\.json beside them"):
        read_given([run / "results" / "sums" / "none" / "samples.jsonl"])
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"neither a metrics\.jsonl nor a results\.json"):
        read_given([tmp_path / "a.txt"])


def test_damage_is_named(tmp_path: Path) -> None:
    run = results(metrics(tmp_path / "a"), [0])
    file = run / "results" / "sums" / "none" / "results.json"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    with pytest.raises(DamagedFileError, match=r"results\.json: not JSON .*line \d+"):
        read_given([run])
    file.write_text('{"task": "sums"}')
    with pytest.raises(DamagedFileError, match=r"results\.json"):
        read_given([run])
    file.write_text(whole)
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(DamagedFileError, match=r"metrics\.jsonl, line 2"):
        read_given([run])


def test_seeds_are_one_point(tmp_path: Path) -> None:
    for seed, right in ((1, range(10)), (2, range(14)), (3, range(12))):
        results(recipe(tmp_path / f"arm-{seed}", "hops/feature", f"seed={seed}"), list(right))
    results(recipe(tmp_path / "other", "hops/feature", "seed=1", "objective.1.weight=0.5"), [0])
    arm, other = read_given([tmp_path]).points
    assert (arm.label, other.label) == ("arm (3 seeds)", "other")
    score = arm.scores["sums", "none"]
    values = [0.5, 0.7, 0.6]
    half = student_t.ppf(0.975, 2) * 0.1 / 3**0.5
    assert (score.value, score.low, score.high) == pytest.approx((sum(values) / 3, 0.6 - half, 0.6 + half))
    single = loaded(tmp_path / "other").accuracy
    assert (other.scores["sums", "none"].low, other.scores["sums", "none"].high) == (single.low, single.high)


def test_one_model_asked_twice_is_no_second_training(tmp_path: Path) -> None:
    for thoughts in (1, 2):
        results(recipe(tmp_path / f"t{thoughts}"), [0], settings={"thoughts": thoughts})
    results(recipe(tmp_path / "t3"), [0], settings={"thoughts": 2})
    assert [point.name for point in read_given([tmp_path]).points] == ["t1", "t2", "t3"]


def test_where_a_run_lies_is_no_setting(tmp_path: Path) -> None:
    one = load(tmp_path / "a", "training.save_every=5", "teacher.device=cpu")
    two = load(tmp_path / "b", "training.save_every=7", "description=another")
    assert flat_recipe(one) == flat_recipe(two)
    assert flat_recipe(load(tmp_path / "c", "training.learning_rate=0.5")) != flat_recipe(one)
    # a recipe of another version is taken as it is
    assert flat_recipe({"name": "x", "nobody": {"knows": [1, 2]}}) == {"nobody.knows": "[1, 2]"}


def load(folder: Path, *overrides: str) -> dict:
    from latentthought.config import read_yaml

    return read_yaml(recipe(folder, "hops/feature", *overrides) / "recipe.yaml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "task version is 1 in .* and 2 in"),
        (
            {"grading": {"engine": "latentthought", "extraction": "strict", "policy": {}}},
            "grading.extraction",
        ),
        ({"settings": {"samples": 8}}, "samples is 1 in"),
        ({"settings": {"temperature": 0.7}}, "temperature is None"),
        ({"data": {"fingerprint": "e" * 64}}, "the data is ffffffffffff in"),
        ({"total": 21}, "the number of questions is 20 in"),
    ],
)
def test_what_cannot_stand_in_one_figure(change: dict, words: str, tmp_path: Path) -> None:
    results(tmp_path / "a", [0, 1])
    grading = change.pop("grading", None)
    run = results(tmp_path / "b", [0, 1], **change)
    file = run / "results" / "sums" / "none" / "results.json"
    if grading:
        file.write_text(json.dumps({**json.loads(file.read_text()), "grading": grading}))
    both = [one for run in read_given([tmp_path]).runs for one in run.results.items()]
    with pytest.raises(ConfigError, match=words):
        check_together(both)
    check_together(both[:1])


def test_thought_ends_are_the_models_own(tmp_path: Path) -> None:
    for name, ends in (("a", ["="]), ("b", ["</think>"])):
        file = results(tmp_path / name, [0]) / "results" / "sums" / "none" / "results.json"
        found = json.loads(file.read_text())
        found["grading"]["thought_ends"] = ends
        file.write_text(json.dumps(found))
    check_together([one for run in read_given([tmp_path]).runs for one in run.results.items()])


def test_a_sweep_is_read_from_its_runs(tmp_path: Path) -> None:
    metrics(results(tmp_path / "points" / "w-1", [0, 1]))
    (tmp_path / "table.json").write_text('{"lines": [], "points": [{"name": "w-1"}]}')
    assert [point.name for point in read_given([tmp_path]).points] == ["w-1"]


def test_no_runs_no_points() -> None:
    assert grouped([]) == []


def test_points_of_a_sweep_are_called_by_their_setting() -> None:
    assert common_name([f"r=4,seed={seed}" for seed in (1, 2)]) == "r=4"
    assert common_name(["runs/a-1", "runs/a-2"]) == "runs/a"
    assert common_name(["depth/ce-1", "deep/ce-2"]) == "ce"
    assert common_name(["depth/ce", "width/kl"]) == "depth/ce"
    assert common_name(["x/seed-1", "y/seed-1"]) == "x/seed-1"
    assert common_name(["x/a/seed-1", "y/a/seed-2"]) == "a"


def test_no_two_groups_have_one_name() -> None:
    groups = [["width/ce", "both/ce"], ["ce-301", "ce-302"]]
    assert names_of_groups(groups) == ["width/ce", "ce-301"]
    assert names_of_groups([["a-1", "a-2"], ["a"]]) == ["a-1", "a"]
    assert names_of_groups([["a-1", "a-2"], ["b"]]) == ["a", "b"]


def test_two_results_of_one_run_are_no_two_seeds(tmp_path: Path) -> None:
    metrics(tmp_path / "a")
    for number, right in ((2, 18), (8, 6)):
        results(tmp_path / "a" / "results" / str(number), range(right), settings={"thoughts": number})
    results(tmp_path / "b", range(9))
    for name in ("ablation", "pareto"):
        with pytest.raises(DataError, match=r"a has two results of sums, .*give the folder of one of them"):
            FIGURES[name].draw(read_given([tmp_path / "a", tmp_path / "b"]), tmp_path / "x")
    assert FIGURES["thoughts"].draw(read_given([tmp_path / "a"]), tmp_path / "y")
