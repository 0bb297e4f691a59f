"""The best checkpoints are kept beside the last, are the best after a kill too, and may become the finished model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from latentthought.errors import ConfigError, DamagedFileError
from latentthought.files import sha256_of
from latentthought.recipe import Recipe
from latentthought.training.best import BestSteps
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.training.test_resume import KillAt, Killed, assert_same_run

# by the step at which they are given: 3, 6, 9, 12, 15, 18
SCORES = {3: 0.1, 6: 0.7, 9: 0.3, 12: 0.7, 15: 0.6, 18: 0.2}


class Scorer:
    """Gives the scores in their order, from the step that a run is resumed at."""

    def __init__(self, first: int = 0) -> None:
        self._left = [score for step, score in SCORES.items() if step > first]

    def __call__(self, model: Any, tokenizer: Any, *, thoughts: int, mix_ratio: float) -> dict[str, float]:
        return {"accuracy": self._left.pop(0), "tokens": 3.0}


def recipe(make_recipe: Any, **training: Any) -> Recipe:
    settings = {"save_every": 4, "keep_last": 1, "keep_best": 2, "log_every": 2, **training}
    one_stage = {"method": "text", "max_latent_steps": None, "replay": 0.0, "each": {"steps": 18}}
    return make_recipe(training=settings, evaluation={"task": "hops", "every": 3}, curriculum=one_stage)


def saved(run: Path) -> set[int]:
    return {int(path.name.removeprefix("checkpoint-")) for path in run.glob("checkpoint-*")}


def test_ranks() -> None:
    best = BestSteps(2, "accuracy")
    assert [best.offer(step, score) for step, score in SCORES.items()] == [
        True,
        True,
        True,
        True,
        False,
        False,
    ]
    assert best.steps == (6, 12)  # of two equal ones the earlier first
    again = BestSteps(2, "accuracy")
    assert again.restore(json.loads(json.dumps(best.state())), lambda step: None) == []
    assert again.steps == best.steps
    lost = again.restore(best.state(), lambda step: "gone" if step == 6 else None)
    assert again.steps == (12,) and lost == ["checkpoint-6, one of the best, is lost: gone"]
    assert not best.offer(21, float("nan")) and best.steps == (6, 12)
    best.start_leg()
    assert best.steps == () and best.offer(24, 0.01)


def test_each_stage_ranks_anew(make_recipe, tmp_path: Path) -> None:
    """Stages end at steps 6, 12 and 18; with as many thoughts as the last one answers with, only its own scores compare."""
    settings = {"save_every": 4, "keep_last": 1, "keep_best": 2, "log_every": 2, "final_model": "best"}
    staged = make_recipe(training=settings, evaluation={"task": "hops", "every": 3})
    train(staged, tmp_path / "run", scorer=Scorer(), progress=Silent())
    assert saved(tmp_path / "run") == {15, 18}
    model = load_file(tmp_path / "run" / "model" / "model.safetensors")
    best = load_file(tmp_path / "run" / "checkpoint-15" / "model.safetensors")
    assert all(model[name].equal(tensor) for name, tensor in best.items() if name in model)


def test_no_rows_to_score_by(make_recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keep_best: evaluation\.task hops has no validation rows"):
        train(recipe(make_recipe), tmp_path / "run", progress=Silent())


def test_the_best_are_kept(make_recipe, tmp_path: Path) -> None:
    train(recipe(make_recipe), tmp_path / "run", scorer=Scorer(), progress=Silent())
    assert saved(tmp_path / "run") == {6, 12, 18}
    train(recipe(make_recipe, keep_best=0), tmp_path / "plain", scorer=Scorer(), progress=Silent())
    assert saved(tmp_path / "plain") == {18}
    assert_same_run(tmp_path / "run", tmp_path / "plain")


def test_the_best_becomes_the_model(make_recipe, tmp_path: Path) -> None:
    train(recipe(make_recipe, final_model="best"), tmp_path / "run", scorer=Scorer(), progress=Silent())
    model = load_file(tmp_path / "run" / "model" / "model.safetensors")
    best, last = (load_file(tmp_path / "run" / f"checkpoint-{n}" / "model.safetensors") for n in (6, 18))
    assert all(model[name].equal(tensor) for name, tensor in best.items() if name in model)
    assert not all(model[name].equal(tensor) for name, tensor in last.items() if name in model)


def test_the_best_are_the_same_after_kills(make_recipe, tmp_path: Path) -> None:
    settings = recipe(make_recipe, final_model="best")
    train(settings, tmp_path / "whole", scorer=Scorer(), progress=Silent())
    for step, checkpoint in ((8, 0), (14, 6)):
        with pytest.raises(Killed):
            train(
                settings,
                tmp_path / "run",
                resume=checkpoint > 0,
                scorer=Scorer(checkpoint),
                progress=Silent(),
                callbacks=(KillAt(step, "begin"),),
            )
    train(settings, tmp_path / "run", resume=True, scorer=Scorer(12), progress=Silent())
    assert saved(tmp_path / "run") == saved(tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_damaged_best_checkpoint(make_recipe, tmp_path: Path) -> None:
    settings = recipe(make_recipe)
    train(settings, tmp_path / "run", scorer=Scorer(), progress=Silent())
    (tmp_path / "run" / "model").rename(tmp_path / "old")
    with (tmp_path / "run" / "checkpoint-6" / "model.safetensors").open("r+b") as file:
        file.write(b"x")
    best = settings.replace(training={**settings.training.dump(), "final_model": "best"})
    train(best, tmp_path / "run", resume=True, scorer=Scorer(18), progress=Silent())
    model, second = (
        load_file(tmp_path / "run" / name / "model.safetensors") for name in ("model", "checkpoint-12")
    )
    assert all(model[name].equal(tensor) for name, tensor in second.items() if name in model)
    (tmp_path / "run" / "model").rename(tmp_path / "second")
    (tmp_path / "run" / "checkpoint-12" / "complete.json").unlink()
    with pytest.raises(
        DamagedFileError, match=r"no best checkpoint of the last stage .*training\.final_model=last"
    ):
        train(best, tmp_path / "run", resume=True, scorer=Scorer(18), progress=Silent())
    train(settings, tmp_path / "run", resume=True, scorer=Scorer(18), progress=Silent())
    new, old = (
        load_file(path / "model.safetensors") for path in (tmp_path / "run" / "model", tmp_path / "old")
    )
    assert all(torch.equal(new[name], tensor) for name, tensor in old.items())


def test_what_cannot_be_ranked(make_recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keep_best goes by the validation.*evaluation\.every"):
        make_recipe(training={"keep_best": 1})
    with pytest.raises(ConfigError, match="best needs the best checkpoint"):
        make_recipe(training={"final_model": "best"})
    misspelt = recipe(make_recipe, best_by="acuracy")
    with pytest.raises(ConfigError, match=r"training\.best_by: .*acuracy.*Did you mean accuracy"):
        train(misspelt, tmp_path / "run", scorer=Scorer(), progress=Silent())


def test_a_finished_run_keeps_the_model_it_has(make_recipe, tmp_path: Path) -> None:
    settings = recipe(make_recipe)
    train(settings, tmp_path / "run", scorer=Scorer(), progress=Silent())
    best = settings.replace(training={**settings.training.dump(), "final_model": "best"})
    with pytest.raises(
        ConfigError, match=r"final_model: best, and this run is finished with last; .*run/model away"
    ):
        train(best, tmp_path / "run", resume=True, scorer=Scorer(18), progress=Silent())


def test_a_checkpoint_of_an_earlier_version_is_said(make_recipe, tmp_path: Path) -> None:
    settings = recipe(make_recipe)
    train(settings, tmp_path / "run", scorer=Scorer(), progress=Silent())
    (tmp_path / "run" / "model").rename(tmp_path / "old")
    for folder in (tmp_path / "run").glob("checkpoint-*"):
        state = json.loads((folder / "run_state.json").read_text())
        del state["guard"]
        (folder / "run_state.json").write_text(json.dumps(state))
        marker = json.loads((folder / "complete.json").read_text())
        marker["files"]["run_state.json"] = sha256_of(folder / "run_state.json")
        (folder / "complete.json").write_text(json.dumps(marker))
    with pytest.raises(ConfigError, match="no 'guard': an earlier version has written it"):
        train(settings, tmp_path / "run", resume=True, scorer=Scorer(18), progress=Silent())
