"""Every shipped recipe loads and trains with --smoke, offline, in seconds; every shipped task loads and scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.config import read_yaml
from latentthought.evaluation import load_task
from latentthought.recipe import load_recipe
from latentthought.resources import find_recipe, list_recipes, list_tasks

RECIPES, TASKS = list_recipes(), list_tasks()


def test_there_are_recipes_and_tasks() -> None:
    expected = {
        "quickstart",
        "latent-thought-r1-1.5b",
        "coconut-gpt2-gsm8k",
        "coconut-gpt2-prosqa",
        "jacobi-gpt2-gsm8k",
    }
    expected |= {
        "icot-gpt2-gsm8k",
        "pause-gpt2-prosqa",
        "cot-gpt2-gsm8k",
        "no-thought-gpt2-gsm8k",
        "prosqa-scratch",
    }
    assert expected <= set(RECIPES)
    assert {"gsm8k", "math", "math500", "aqua", "prosqa", "prontoqa", "knights", "zebra", "hops"} <= set(
        TASKS
    )


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_says_what_it_is(name: str) -> None:
    values = read_yaml(find_recipe(name))
    assert values["name"] == name
    assert values["description"]
    assert find_recipe(name).read_text(encoding="utf-8").startswith("# "), (
        "a recipe opens with where it comes from"
    )
    recipe = load_recipe(name)
    assert load_task(recipe.evaluation.task)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_smoke(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LATENTTHOUGHT_DATA", raising=False)
    assert main(["train", name, "--smoke", "--output", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    stages = len(load_recipe(name).curriculum.expand())
    assert {row["stage_index"] for row in rows} == set(range(stages)), "the smoke run walks every stage"
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    terms = {f"loss_{term.name}" for term in load_recipe(name).objective}
    assert terms <= rows[-1].keys(), "each term is logged apart"


@pytest.mark.parametrize("name", TASKS)
def test_task_loads(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert task.description
