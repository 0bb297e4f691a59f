"""A run that is killed and resumed ends with the weights and the metrics of one that was not, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from latentthought.config import write_yaml
from latentthought.errors import ConfigError, Preempted
from latentthought.recipe import load_recipe
from latentthought.training import checkpoints
from latentthought.training.monitor import CLOCKED
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.warm import Program


class Killed(BaseException):
    """Stands for a kill: nothing of ours may catch it."""


class KillAt(TrainerCallback):
    def __init__(self, step: int, moment: str) -> None:
        self._step, self._moment = step, moment

    def _maybe(self, moment: str, state: Any) -> None:
        if self._moment == moment and state.global_step == self._step:
            raise Killed

    def on_step_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self._maybe("begin", state)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self._maybe("optimizer", state)

    def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self._maybe("end", state)

    def on_save(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self._maybe("save", state)


def metrics_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCKED} for line in lines]


def assert_same_run(left: Path, right: Path) -> None:
    for run in (left, right):
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        seconds = [json.loads(line)["seconds"] for line in lines]
        assert seconds[0] >= 0 and seconds == sorted(seconds), (
            "a resumed run counts on from what it took before"
        )
    for file in ("model/model.safetensors", "companions.safetensors"):
        assert (left / file).is_file() == (right / file).is_file(), file
        mine, theirs = (load_file(run / file) if (run / file).is_file() else {} for run in (left, right))
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            assert torch.equal(tensor, theirs[name]), name
    assert metrics_of(left) == metrics_of(right)


def run_with_kills(recipe: Any, output: Path, kills: list[tuple[int, str]]) -> None:
    for number, (step, moment) in enumerate(kills):
        with pytest.raises(Killed):
            train(recipe, output, resume=number > 0, progress=Silent(), callbacks=(KillAt(step, moment),))
        assert not (output / "model").exists()
    train(recipe, output, resume=True, progress=Silent())


@pytest.mark.parametrize("seed", range(3))
def test_random_kills(make_recipe, tmp_path: Path, seed: int) -> None:
    """Dropout, accumulation, replay, optimizer reset, stage boundaries (6, 12) and checkpoints (every 5) all lie in the way."""
    recipe = make_recipe()
    train(recipe, tmp_path / "whole", progress=Silent())
    rng = random.Random(seed)
    steps = sorted(rng.sample(range(1, 18), 3))
    kills = [(step, rng.choice(["begin", "optimizer", "end"])) for step in steps]
    run_with_kills(recipe, tmp_path / "killed", kills)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_kill_at_stage_boundary_and_after_last_checkpoint(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(training={"save_every": 6})
    train(recipe, tmp_path / "whole", progress=Silent())
    run_with_kills(recipe, tmp_path / "killed", [(6, "save"), (12, "begin"), (18, "save")])
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_adaptive_decisions_survive(make_recipe, tmp_path: Path) -> None:
    """The stage ends early by its accuracy; the kill falls between the decision and the step at which it takes effect."""
    recipe = make_recipe(
        curriculum={
            "each": {"steps": 30, "advance_at": 0.6},
            "last": {"steps": 6, "decay": "linear"},
            "replay": 0.0,
        },
        training={"log_every": 4, "save_every": 4, "learnt_by": "answer"},
    )
    train(recipe, tmp_path / "whole", progress=Silent())
    decided = [row["step"] for row in metrics_of(tmp_path / "whole") if "decision" in row]
    assert decided, "the test needs a run that decides something"
    run_with_kills(recipe, tmp_path / "killed", [(decided[0], "save"), (decided[0] + 1, "end")])
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


TEACHER = {"scratch": {"architecture": "llama", "layers": 3, "width": 24, "heads": 2, "max_positions": 64}}
TAUGHT = [
    {"term": "ce"},
    {"term": "kl", "weight": 0.3},
    {
        "term": "hidden",
        "weight": {"kind": "linear", "start": 1.0, "end": 0.1},
        "target": "teacher",
        "alignment": "step_ends",
        "projector": {"kind": "mlp", "learning_rate": 0.02},
        "balance": "kl",
    },
]
SELF_TAUGHT = [
    {"term": "ce"},
    {"term": "ce", "of": "chain", "name": "words"},
    {"term": "hidden", "target": "teacher", "alignment": "answer", "layers": "all", "scale_match": "std"},
    {"term": "spell", "weight": 0.5},
]


@pytest.mark.parametrize(
    ("teacher", "terms"), [(TEACHER, TAUGHT), ({"model": "self"}, SELF_TAUGHT)], ids=["teacher", "self"]
)
def test_teachers_projectors_decoders_and_lora_resume(
    make_recipe, tmp_path: Path, teacher: dict, terms: list
) -> None:
    pytest.importorskip("peft")
    recipe = make_recipe(
        model={"scratch": {"architecture": "llama"}, "lora": {"r": 2, "alpha": 4, "dropout": 0.2}},
        teacher=teacher,
        objective=terms,
        curriculum={"each": {"steps": 3}},
        training={"save_every": 2},
    )
    train(recipe, tmp_path / "whole", progress=Silent())
    run_with_kills(recipe, tmp_path / "killed", [(3, "end"), (5, "optimizer"), (8, "save")])
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("architecture", ["llama"])
def test_lora_resumes(make_recipe, tmp_path: Path, architecture: str) -> None:
    pytest.importorskip("peft")
    recipe = make_recipe(
        model={"scratch": {"architecture": architecture}, "lora": {"r": 2, "alpha": 4, "dropout": 0.2}},
        curriculum={"each": {"steps": 3}},
    )
    train(recipe, tmp_path / "whole", progress=Silent())
    run_with_kills(recipe, tmp_path / "killed", [(7, "end")])
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_kill_minus_nine(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(curriculum={"each": {"steps": 20}}, training={"log_every": 1})
    train(recipe, tmp_path / "whole", progress=Silent())
    write_yaml(tmp_path / "r.yaml", recipe.dump())
    command = ["train", str(tmp_path / "r.yaml"), "--output", str(tmp_path / "killed")]
    program = Program("latentthought", command, tmp_path / "said.txt")
    metrics = tmp_path / "killed" / "metrics.jsonl"
    try:
        for _ in range(2400):
            if metrics.exists() and metrics.read_text(encoding="utf-8").count("\n") > 12:
                break
            assert program.returncode is None
            time.sleep(0.05)
    finally:
        program.kill()
    assert not (tmp_path / "killed" / "model").exists(), "killed too late to prove anything"
    train(recipe, tmp_path / "killed", resume=True, progress=Silent())
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_saves_and_stops(make_recipe, tmp_path: Path, number: int) -> None:
    recipe = make_recipe(training={"save_every": 0})
    train(recipe, tmp_path / "whole", progress=Silent())

    class Signal(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            if state.global_step == 7:
                os.kill(os.getpid(), number)

    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(Preempted, match="step 8 of 18") as caught:
        train(recipe, tmp_path / "stopped", progress=Silent(), callbacks=(Signal(),))
    assert caught.value.exit_code == 75
    assert (tmp_path / "stopped" / "checkpoint-8" / "complete.json").is_file()
    train(recipe, tmp_path / "stopped", resume=True, progress=Silent())
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_resume_of_a_finished_run_changes_nothing(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(curriculum={"each": {"steps": 2}})
    first = train(recipe, tmp_path / "run", progress=Silent())
    again = train(recipe, tmp_path / "run", resume=True, progress=Silent())
    assert again.steps == first.steps == 6
    assert again.metrics == first.metrics


def test_resume_with_another_recipe_names_the_keys(make_recipe, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(make_recipe(), tmp_path / "run", progress=Silent(), callbacks=(KillAt(2, "end"),))
    with pytest.raises(ConfigError, match=r"training\.learning_rate \(0\.01 -> 0\.02\)"):
        train(make_recipe(training={"learning_rate": 0.02}), tmp_path / "run", resume=True, progress=Silent())


def test_resume_with_other_rows_is_refused(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe()
    with pytest.raises(Killed):
        train(recipe, tmp_path / "run", progress=Silent(), callbacks=(KillAt(6, "end"),))
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text(encoding="utf-8").replace('"yes"', '"maybe"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="training rows are not those"):
        train(recipe, tmp_path / "run", resume=True, progress=Silent())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_before_the_first_step_leaves_a_folder_that_resumes(
    make_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from latentthought.training import run

    recipe = make_recipe(curriculum={"each": {"steps": 1}})
    prepare = run.prepare

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), number)
        return prepare(*arguments)

    monkeypatch.setattr(run, "prepare", interrupted)
    with pytest.raises(Preempted, match="--resume"):
        train(recipe, tmp_path / "run", progress=Silent())
    monkeypatch.undo()
    assert train(recipe, tmp_path / "run", resume=True, progress=Silent()).steps == 3


def test_a_leftover_of_a_later_step_does_not_cost_the_good_checkpoint(tmp_path: Path) -> None:
    """A damaged checkpoint that the resume passed over is the newest by its name."""
    for step in (5, 10, 15):
        (tmp_path / f"checkpoint-{step}").mkdir()
    checkpoints.prune(tmp_path, step=10, keep=1)
    assert [path.name for path in checkpoints.checkpoints_in(tmp_path)] == ["checkpoint-10"]


def test_a_resolved_recipe_reads_without_its_parent(make_recipe, tmp_path: Path) -> None:
    write_yaml(tmp_path / "parent.yaml", make_recipe(curriculum={"each": {"steps": 1}}).dump())
    (tmp_path / "child.yaml").write_text("extends: parent.yaml\n", encoding="utf-8")
    recipe = load_recipe(tmp_path / "child.yaml")
    train(recipe, tmp_path / "run", progress=Silent())
    assert load_recipe(tmp_path / "run" / "recipe.yaml").differences(recipe) == []
