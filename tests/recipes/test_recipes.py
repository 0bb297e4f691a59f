"""Every shipped recipe loads and trains with --smoke, offline, in seconds; every shipped task loads and scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.config import read_yaml
from latentthought.data.sources.loading import load_examples
from latentthought.distillation.cache.store import TeacherStateCache
from latentthought.distillation.responses import ROWS
from latentthought.evaluation import load_task
from latentthought.recipe import load_recipe
from latentthought.resources import find_recipe, list_recipes, list_tasks
from tests.warm import run_ranks

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
    expected |= {
        "codi-gpt2-gsm8k",
        "simcot-gpt2-gsm8k",
        "logic-distill",
        "latent-thought-r1-1.5b-teacher",
    }
    expected |= {f"levels/{level}" for level in ("response", "logit", "feature", "all")}
    expected |= {f"knights/{arm}" for arm in ("teacher", "ce", "logit", "feature", "logit-feature")}
    baselines = {f"baseline-{name}" for name in ("full", "distillation", "distillation-lora", "latent-lora")}
    phases = {"1-teacher", "2-states", "3-student", *baselines}
    expected |= {f"{folder}/{phase}" for folder in ("lrd", "lrd/small") for phase in phases}
    expected |= {f"universal/{name}" for name in ("depth", "width", "both", "web")}
    expected |= {f"universal/small/{name}" for name in ("original", "depth", "width", "both")}
    assert expected <= set(RECIPES)
    assert {"gsm8k", "math", "math500", "aqua", "prosqa", "prontoqa", "knights", "zebra", "hops"} <= set(
        TASKS
    )


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_says_what_it_is(name: str) -> None:
    file = find_recipe(name)
    values = read_yaml(file)
    assert values["name"] == file.stem, "as a recipe that gives no name is called"
    assert values["description"]
    assert file.read_text(encoding="utf-8").startswith("# "), "a recipe opens with where it comes from"
    recipe = load_recipe(name)
    # a recipe of plain documents has no questions to be scored on
    assert recipe.data.packing if recipe.evaluation.task is None else load_task(recipe.evaluation.task)


@pytest.fixture(scope="module")
def teachers() -> dict[str, Path]:
    """Smoke runs of this file by recipe: several recipes have one teacher, and making it anew takes seconds each time."""
    return {}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_smoke(
    name: str,
    teachers: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LATENTTHOUGHT_DATA", raising=False)
    taught = load_recipe(name).teacher
    if taught is not None and taught.recipe in teachers:
        shutil.copytree(teachers[taught.recipe], tmp_path / "run-teacher")
    assert main(["train", name, "--smoke", "--output", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    teachers[name] = tmp_path / "run"
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    stages = len(load_recipe(name).curriculum.expand())
    assert {row["stage_index"] for row in rows} == set(range(stages)), "the smoke run walks every stage"
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    terms = {f"loss_{term.name}" for term in load_recipe(name).objective}
    assert terms <= rows[-1].keys(), "each term is logged apart"


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in RECIPES if "engine" in read_yaml(find_recipe(name))])
def test_recipe_smoke_on_two_processes_of_zero3(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    pytest.importorskip("deepspeed")
    monkeypatch.delenv("LATENTTHOUGHT_DATA", raising=False)
    run = tmp_path / "run"
    # what a smoke run needs of earlier phases is made by one process, and stays beside it
    assert main(["train", name, "--smoke", "--output", str(run)]) == 0
    alone = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    shutil.rmtree(run)
    command = ["train", name, "engine=zero3", "--smoke", "--output", str(run)]
    run_ranks(2, "latentthought", command, tmp_path / "said")
    spread = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    # some of the models have dropout, whose masks differ from process to process
    assert spread[0] == pytest.approx(alone[0], abs=0.02) and len(spread) == len(alone)


def test_teacher_extract_smoke(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing there, the teacher is made first."""
    monkeypatch.delenv("LATENTTHOUGHT_DATA", raising=False)
    states = tmp_path / "states"
    assert main(["teacher", "extract", "lrd/2-states", "--smoke", "--output", str(states)]) == 0, (
        capsys.readouterr().err
    )
    assert (
        f"{tmp_path / 'states-teacher'}, a smoke run of lrd/1-teacher, made first" in capsys.readouterr().out
    )
    assert main(["teacher", "verify", str(states)]) == 0
    cache = TeacherStateCache.open(states)
    assert len(cache) == 3 * 64, "as many rows of each of the three data sets"
    assert cache.manifest.spec.rules == ("reasoning",)
    rows = load_examples(load_recipe("lrd/2-states", smoke=True).data, smoke=True)
    latent = [row for row in rows if len(row.steps) <= 3]  # longer ones go on in words
    assert latent
    assert all(len(cache.record(row.id).keys) == 2 * len(row.steps) for row in latent), (
        "two thoughts a step, and none for the steps that a row lacks"
    )


def test_teacher_respond_smoke(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LATENTTHOUGHT_DATA", raising=False)
    answers = tmp_path / "answers"
    assert main(["teacher", "respond", "levels/response", "--smoke", "--output", str(answers)]) == 0, (
        capsys.readouterr().err
    )
    rows = [json.loads(line) for line in (answers / ROWS).read_text(encoding="utf-8").splitlines()]
    assert rows
    assert {"id", "question", "answer", "provenance"} <= rows[0].keys()


@pytest.mark.parametrize("name", TASKS)
def test_task_loads(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert task.description
