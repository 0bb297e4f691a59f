"""Runs on the student's own text: what their steps report, and that neither kills, micro-batches nor processes matter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentthought.config import write_yaml
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.distillation.test_on_policy import GENTLE, HIDDEN, KINDS, KL
from tests.distillation.test_on_policy import make as make  # a fixture
from tests.training.test_resume import assert_same_run, metrics_of, run_with_kills
from tests.warm import run_ranks


def assert_close_lines(left: Path, right: Path) -> None:
    for mine, theirs in zip(metrics_of(left), metrics_of(right), strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            wanted = theirs[key]
            assert value == (
                wanted if isinstance(wanted, str) else pytest.approx(wanted, rel=5e-5, abs=2e-5)
            ), key


def test_a_step_of_own_text_has_no_cross_entropy_and_no_accuracy(make, tmp_path: Path) -> None:
    train(make(), tmp_path / "run", progress=Silent())
    for row in metrics_of(tmp_path / "run"):
        absent = {"loss_ce", "loss_ce_weighted", "train_accuracy", "train_row_accuracy"}
        assert not absent & row.keys()
        assert row["on_policy"] == 1.0
        assert 1 <= row["own_tokens"] <= 6
        assert row["loss"] == pytest.approx(row["loss_kl"] + row.get("loss_hidden", 0.0), rel=1e-5)


def test_a_mean_weighs_the_steps_that_had_positions(make, tmp_path: Path) -> None:
    for every in (1, 6):
        recipe = make(teacher={"on_policy": {"share": 0.5}}, training={"log_every": every})
        train(recipe, tmp_path / str(every), progress=Silent())
    steps, (mean,) = metrics_of(tmp_path / "1"), metrics_of(tmp_path / "6")
    labelled = [row for row in steps if "loss_ce" in row]
    assert 0 < len(labelled) < 6
    assert [row["on_policy"] for row in labelled] == [0.0] * len(labelled)
    for name, rows in (("loss_ce", labelled), ("loss_kl", steps), ("loss", steps), ("on_policy", steps)):
        assert mean[name] == pytest.approx(sum(row[name] for row in rows) / len(rows), rel=1e-6), name
    assert mean["train_accuracy"] == pytest.approx(
        sum(row["train_accuracy"] for row in labelled) / len(labelled)
    )


def test_share_0_is_training_without_it(make, tmp_path: Path) -> None:
    """Bit for bit, with dropout."""
    gpt2 = {"scratch": {"architecture": "gpt2"}}
    for name, settings in (("none", None), ("zero", {"share": 0.0})):
        recipe = make(model=gpt2, teacher={"on_policy": settings}, training={"log_every": 4})
        train(recipe, tmp_path / name, progress=Silent())
    one, other = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("none", "zero"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    rows = [{k: v for k, v in row.items() if k != "on_policy"} for row in metrics_of(tmp_path / "zero")]
    assert metrics_of(tmp_path / "none") == rows


def test_a_resumed_run_equals_one_that_was_not_interrupted(make, tmp_path: Path) -> None:
    """Dropout, accumulation, replay, optimizer reset and half-filled windows lie in the way."""
    recipe = make(
        model={"scratch": {"architecture": "gpt2"}},
        teacher={"on_policy": {"share": 0.5}},
        curriculum={"each": {"steps": 5}, "replay": 0.3, "reset_optimizer": True},
        training={"optimizer": "adamw", "learning_rate": 0.01, "log_every": 4},
    )
    train(recipe, tmp_path / "whole", progress=Silent())
    run_with_kills(recipe, tmp_path / "killed", [(4, "end"), (8, "optimizer"), (11, "begin")])
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("kind", ["latent", "enclosed", "soft"])
def test_micro_batches_do_not_matter(make, tmp_path: Path, kind: str) -> None:
    for micro in (8, 1):
        # gradients have norms of 60 here, and a soft mix makes more of their rounding, by CPU
        gentler = {"learning_rate": 0.1 * GENTLE["learning_rate"]}
        recipe = make(curriculum=KINDS[kind], training=gentler, engine={"micro_batch_size": micro})
        train(recipe, tmp_path / str(micro), progress=Silent())
    one, other = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("8", "1"))
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], atol=5e-6), name
    assert_close_lines(tmp_path / "8", tmp_path / "1")


def test_adapters_in_bfloat16_learn_from_their_own_text(make, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    recipe = make(
        model={"lora": {"r": 2, "alpha": 4}},
        curriculum={"enclose": "reasoning"},
        engine={"precision": "bf16"},
        training={"optimizer": "adamw", "learning_rate": 0.02},
    )
    train(recipe, tmp_path / "run", progress=Silent())
    adapter = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    moved = [tensor for name, tensor in adapter.items() if "lora_B" in name]
    assert moved and all(tensor.abs().sum() > 0 for tensor in moved)


def test_the_divergence_falls(make, tmp_path: Path) -> None:
    recipe = make(
        curriculum={"stages": [{"latent_steps": 1, "steps": 60}]},
        objective=[KL],
        training={"optimizer": "adamw", "learning_rate": 0.02, "log_every": 10},
    )
    train(recipe, tmp_path / "run", progress=Silent())
    values = [row["loss_kl"] for row in metrics_of(tmp_path / "run")]
    assert values[-1] < values[0] / 3


@pytest.mark.slow
def test_two_processes_equal_one(make, tmp_path: Path) -> None:
    """Half of the steps have labels; the head has no part in the others, which DDP has to be told."""
    recipe = make(
        objective=[{"term": "ce"}, HIDDEN],
        teacher={"on_policy": {"share": 0.5}},
        training=GENTLE,
        engine={"micro_batch_size": 2},
    )
    train(recipe, tmp_path / "one", progress=Silent())
    write_yaml(tmp_path / "r.yaml", recipe.dump())
    command = ["train", str(tmp_path / "r.yaml"), "--output", str(tmp_path / "two")]
    run_ranks(2, "latentthought", command, tmp_path / "said")
    one, two = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two"))
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], atol=1e-6), name
    assert {row["on_policy"] for row in metrics_of(tmp_path / "one")} == {0.0, 1.0}
    assert_close_lines(tmp_path / "one", tmp_path / "two")
