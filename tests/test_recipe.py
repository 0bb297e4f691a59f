"""Recipes: extends, overrides, smoke, and all errors at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentthought.config import write_yaml
from latentthought.errors import ConfigError, MissingFileError, NotFoundError
from latentthought.recipe import Recipe, load_recipe

BASE = {
    "model": {"base": "owner/model"},
    "data": {"source": "gsm8k-aug"},
    "curriculum": {"method": "latent", "max_latent_steps": 3, "each": {"epochs": 3}},
    "training": {"learning_rate": 1e-4, "batch_size": 128, "warmup_steps": 100},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_yaml(tmp_path / "parent.yaml", {**BASE, "description": "the parent"})
    return tmp_path


def test_extends_merges_mappings_and_replaces_the_rest(folder: Path) -> None:
    child = {
        "extends": "parent.yaml",
        "training": {"batch_size": 64},
        "objective": [{"term": "ce"}, {"term": "hidden"}],
    }
    write_yaml(folder / "child.yaml", child)
    recipe = load_recipe(folder / "child.yaml")
    assert recipe.name == "child"
    assert recipe.description == ""
    assert recipe.training.batch_size == 64
    assert recipe.training.learning_rate == 1e-4
    assert [term.term for term in recipe.objective] == ["ce", "hidden"]


def test_extends_in_a_circle(folder: Path) -> None:
    write_yaml(folder / "a.yaml", {"extends": "b.yaml"})
    write_yaml(folder / "b.yaml", {"extends": "a.yaml"})
    with pytest.raises(ConfigError, match=r"circle: a\.yaml -> b\.yaml -> a\.yaml"):
        load_recipe(folder / "a.yaml")


def test_overrides_come_last(folder: Path) -> None:
    recipe = load_recipe(
        folder / "parent.yaml",
        ["training.learning_rate=1e-5", "curriculum.each.steps=7", "curriculum.each.epochs=null"],
    )
    assert recipe.training.learning_rate == 1e-5
    assert [stage.steps for stage in recipe.curriculum.expand()] == [7] * 4


def test_a_dumped_recipe_reads_back(folder: Path) -> None:
    recipe = load_recipe(folder / "parent.yaml")
    write_yaml(folder / "resolved.yaml", recipe.dump())
    again = load_recipe(folder / "resolved.yaml")
    assert again == recipe
    assert again.differences(recipe) == []


def test_all_errors_at_once_with_paths(folder: Path) -> None:
    overrides = [
        "training.learning_rat=1",
        "training.batch_size=many",
        "objective=[{term: cee}]",
        "engine.precision=bf61",
    ]
    with pytest.raises(ConfigError) as caught:
        load_recipe(folder / "parent.yaml", overrides)
    message = str(caught.value)
    assert "4 problems" in message
    assert "training.learning_rat: unknown key; did you mean learning_rate" in message
    assert "training.batch_size" in message
    assert "objective.0" in message
    assert "engine.precision" in message and "bf16" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.scratch={}", "either base .* or scratch"),
        ("model.scratch={architecture: lama}", "did you mean llama"),
        ("data.source=gsm8k-agu", "gsm8k-aug"),
        ("curriculum.method=latnet", "latent"),
        ("training.betas=[0.9, 1.0]", "betas"),
        ("model={base: null, scratch: {heads: 4, kv_heads: 3}}", "heads 4 do not divide among 3"),
        ("objective=[{term: hidden, mse: 0, cosine: 0}]", "mse, cosine or smooth_l1 above 0"),
        ("curriculum.mix=0.5", "ends at 0.5, and method latent thinks with 1"),
    ],
)
def test_errors_name_what_is_allowed(folder: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(folder / "parent.yaml", [override])


def test_unknown_names(folder: Path) -> None:
    with pytest.raises(MissingFileError, match=r"parent\.yaml"):
        load_recipe(folder / "paren.yaml")
    with pytest.raises(NotFoundError, match="unknown recipe"):
        load_recipe("no-such-recipe-at-all")


def test_early_ends_need_the_accuracy(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.accuracy"):
        load_recipe(folder / "parent.yaml", ["curriculum.each.advance_at=0.9", "training.accuracy=false"])


def test_smoke_is_small_and_the_recipes_own_changes_win(folder: Path) -> None:
    write_yaml(
        folder / "own.yaml",
        {
            "extends": "parent.yaml",
            "smoke": {"model": {"scratch": {"architecture": "gpt2"}}, "training": {"batch_size": 2}},
        },
    )
    recipe = load_recipe(folder / "own.yaml", ["training.log_every=1"], smoke=True)
    assert recipe.model.base is None
    assert recipe.model.scratch is not None
    assert (recipe.model.scratch.architecture, recipe.model.scratch.width) == ("gpt2", 32)
    assert [stage.steps for stage in recipe.curriculum.expand()] == [4] * 4
    assert (recipe.training.batch_size, recipe.training.log_every) == (2, 1)
    assert recipe.engine.device == "cpu"


def test_differences_name_keys_and_leave_out_descriptions() -> None:
    mine = Recipe.parse({**BASE, "description": "a"})
    theirs = Recipe.parse({**BASE, "description": "b", "training": {**BASE["training"], "batch_size": 64}})
    assert mine.differences(theirs) == ["training.batch_size (64 -> 128)"]


def test_smoke_is_cut_from_the_recipe_as_overridden(folder: Path) -> None:
    def steps(*overrides: str) -> list[int | None]:
        recipe = load_recipe(folder / "parent.yaml", overrides, smoke=True)
        return [stage.steps for stage in recipe.curriculum.expand()]

    assert steps("curriculum.max_latent_steps=1") == [4, 4]
    assert steps("curriculum.each.steps=6", "curriculum.each.epochs=null") == [6] * 4
    assert steps("curriculum.last.steps=2") == [4, 4, 4, 2]
    by_epochs = load_recipe(folder / "parent.yaml", ["curriculum.each.epochs=1"], smoke=True)
    assert [(stage.steps, stage.epochs) for stage in by_epochs.curriculum.expand()] == [(None, 1.0)] * 4


def test_smoke_reads_a_recipe_that_only_the_overrides_complete(folder: Path) -> None:
    write_yaml(folder / "open.yaml", {**BASE, "data": {"source": "file"}})
    recipe = load_recipe(folder / "open.yaml", ["data.path=rows.jsonl"], smoke=True)
    assert recipe.data.path == "rows.jsonl"


def test_a_smoke_run_takes_no_teacher_from_elsewhere() -> None:
    with pytest.raises(
        ConfigError, match=r"teacher.model=runs/big: a smoke run has a tiny teacher of its own"
    ):
        load_recipe("levels/feature", ["teacher.model=runs/big"], smoke=True)


def test_an_unknown_term_is_named_with_its_nearest_match() -> None:
    with pytest.raises(ConfigError, match=r"objective\.0\.term: unknown term 'cee'\. Did you mean ce\?"):
        load_recipe("quickstart", ["objective=[{term: cee}]"])


def test_a_number_without_end_is_refused_and_the_override_is_named() -> None:
    with pytest.raises(ConfigError, match=r"training\.learning_rate=\.inf.*training\.learning_rate"):
        load_recipe("quickstart", ["training.learning_rate=.inf"])


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("[{weight: 1}]", r"objective.0.term: required, and missing"),
        ("[{term: hidden, target: teacher, layers: [[1, 2], [3]]}]", r"objective.0.layers"),
        ("[{term: ce, weight: {kind: linear, start: 0.5}}]", r"needs start and end"),
        ("[{term: hidden, layers: last}]", r"only with target: teacher"),
    ],
)
def test_objectives_that_do_not_hold_are_one_message(objective: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("quickstart", [f"objective={objective}"])


def test_a_projector_may_be_its_kind_alone() -> None:
    term = "{term: hidden, target: teacher, projector: linear}"
    recipe = load_recipe("quickstart", [f"objective=[{term}]", "teacher={model: some/model}"])
    assert recipe.objective[0].projector.kind == "linear"
