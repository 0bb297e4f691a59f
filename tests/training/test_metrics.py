"""What a run reports: the lines of `metrics.jsonl`, their means and clocks, and trackers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from latentthought.errors import UserError
from latentthought.training.monitor import MetricsFile, RunningMeans, means_of
from latentthought.training.progress import Silent
from latentthought.training.recorder import Recorder
from latentthought.training.run import prepare, train
from tests.training.test_trainer import SOFT_MIX, metrics_of


def test_metrics_have_their_keys_and_the_last_line_the_last_loss(make_recipe, tmp_path: Path) -> None:
    result = train(make_recipe(**SOFT_MIX, training={"log_every": 2}), tmp_path / "run", progress=Silent())
    rows = metrics_of(tmp_path / "run")
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 9]
    assert [row["stage"] for row in rows] == ["text", "transition", "transition", "mixed", "mixed"]
    assert rows[0]["mix_ratio"] == 0.0
    assert rows[-1]["mix_ratio"] == 0.5
    assert rows[-1]["loss"] == result.loss
    wanted = {
        "loss_ce",
        "loss_hidden",
        "loss_hidden_mse",
        "loss_hidden_cosine",
        "loss_text",
        "train_accuracy",
        "epoch",
    }
    wanted |= {
        "learning_rate",
        "tokens_per_second",
        "seconds",
        "grad_norm",
        "thought_rms_ratio",
        "thought_cosine",
        "thought_gap",
    }
    assert wanted <= rows[-1].keys()
    assert rows[-1]["loss"] == pytest.approx(
        rows[-1]["loss_ce"] + 0.3 * rows[-1]["loss_hidden"] + rows[-1]["loss_text"], rel=1e-5
    )


def test_seconds_go_on_from_a_checkpoint_and_count_what_was_done_twice(
    make_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("latentthought.training.monitor.time.perf_counter", lambda: now[0])
    recipe = make_recipe(training={"log_every": 4})

    def recorder() -> Recorder:
        device = torch.device("cpu")
        return Recorder(prepare(recipe).plan, recipe.training, tmp_path, device, 1, lambda sums: sums)

    first = recorder()
    now[0] = 10.0  # stopped before its first line
    state = first.state()
    second = recorder()
    second.restore(state, owner=True)
    now[0] = 15.0
    row = second.row(4, 0.1, None)
    assert row["seconds"] == 15.0
    second.file.write(row)
    now[0] = 40.0
    second.file.write({**second.row(8, 0.2, None), "loss": 1.0})
    third = recorder()  # after a way back to the checkpoint
    third.restore(state, owner=True)
    third.file.truncate(0)
    now[0] = 42.0
    assert third.row(4, 0.1, None)["seconds"] == 42.0


def test_running_means_are_restored_exactly() -> None:
    means = RunningMeans()
    for value in (0.1, 0.2, 1 / 3):
        means.add("a", torch.tensor(value), 2.0)
    stored = json.loads(json.dumps(means.sums()))
    other = RunningMeans()
    other.restore(stored)
    for running in (means, other):
        running.add("a", torch.tensor(0.7))
    assert means_of(means.sums()) == means_of(other.sums())


def test_metrics_file_drops_what_a_resume_repeats(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        file.write({"step": step, "loss": float("nan") if step == 2 else 1.0})
    with file.path.open("a") as handle:
        handle.write('{"step": 4, "lo')
    file.truncate(2)
    assert file.path.read_text().splitlines() == ['{"step": 1, "loss": 1.0}', '{"step": 2, "loss": null}']
    assert file.last() == {"step": 2, "loss": None}


def test_the_mix_ratio_is_in_every_line_whatever_a_batch_replays(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(curriculum={"replay": 0.9}, training={"log_every": 1})
    train(recipe, tmp_path / "run", progress=Silent())
    prepared = prepare(recipe)
    assert prepared.plan.at(prepared.plan.end - 1).laid_out != 2, "the test needs a last step that replays"
    ratios = {row["stage"]: row.get("mix_ratio") for row in metrics_of(tmp_path / "run")}
    assert ratios == {"text": 0.0, "latent-1": 1.0, "latent-2": 1.0}


def test_trackers_are_told_what_metrics_hold(make_recipe, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    class Tracker(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **unused: Any) -> None:
            if "loss" in logs:
                told.append({"step": state.global_step, **logs})

    train(make_recipe(), tmp_path / "run", progress=Silent(), callbacks=(Tracker(),))
    rows = metrics_of(tmp_path / "run")
    assert told == [{key: value for key, value in row.items() if not isinstance(value, str)} for row in rows]


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        ("wandbb", "did you mean wandb"),
        ("tensorboard", "report_to: TensorBoardCallback requires tensorboard"),
    ],
)
def test_a_tracker_that_is_not_there_is_said_at_once(
    make_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, message: str
) -> None:
    from transformers.integrations import integration_utils

    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: False)
    with pytest.raises(UserError, match=f"(?i){message}"):
        train(make_recipe(training={"report_to": [tracker]}), tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run").exists()
