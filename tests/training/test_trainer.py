"""What a run does: accumulation, folders, checkpoints, validation."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainingArguments

from latentthought.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    FolderInUseError,
    LatentThoughtError,
    UserError,
)
from latentthought.training import checkpoints
from latentthought.training.dataset import StageCollator
from latentthought.training.folder import claimed
from latentthought.training.monitor import CLOCKED
from latentthought.training.progress import Silent
from latentthought.training.run import prepare, train
from latentthought.training.trainer import LatentThoughtTrainer

SOFT_MIX: dict[str, Any] = {
    "curriculum": {
        "method": "soft_mix",
        "mix": 0.5,
        "max_latent_steps": None,
        "reset_optimizer": False,
        "replay": 0.0,
        "each": {"steps": 3},
    },
    "objective": [
        {"term": "ce"},
        {"term": "hidden", "weight": 0.3},
        {"term": "hidden", "name": "text", "target": "text_states"},
    ],
}


def metrics_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


BALANCED = {
    **SOFT_MIX,
    "objective": [{"term": "ce"}, {"term": "hidden", "weight": 0.3, "balance": "ce"}],
}


@pytest.mark.parametrize("changes", [{}, SOFT_MIX, BALANCED], ids=["latent", "soft_mix", "balanced"])
def test_one_micro_batch_of_eight_equals_eight_of_one(make_recipe, tmp_path: Path, changes: dict) -> None:
    """Plain gradient descent, so that a difference in the gradient stays a difference in the weights."""
    runs = []
    for micro in (8, 1):
        recipe = make_recipe(
            **{"curriculum": {"each": {"steps": 3}}, **changes},
            model={"scratch": {"architecture": "llama"}},  # no dropout
            training={"optimizer": "sgd", "learning_rate": 0.5, "log_every": 1, "max_grad_norm": 0.0},
            engine={"micro_batch_size": micro},
        )
        train(recipe, tmp_path / str(micro), progress=Silent())
        runs.append(tmp_path / str(micro))
    for name, tensor in weights_of(runs[0]).items():
        assert torch.allclose(tensor, weights_of(runs[1])[name], atol=1e-6), name
    for one, eight in zip(*map(metrics_of, runs), strict=True):
        for key in one.keys() - CLOCKED:
            assert one[key] == pytest.approx(eight[key], abs=2e-5), key


def test_the_trainer_equals_a_plain_loop(make_recipe, tmp_path: Path) -> None:
    """Order of rows, stages, learning rate, clipping and optimizer, written out once more without Trainer."""
    recipe = make_recipe(model={"scratch": {"architecture": "llama"}}, training={"betas": [0.9, 0.98]})
    train(recipe, tmp_path / "run", progress=Silent())
    prepared = prepare(recipe)
    model, plan, settings = prepared.model.train(), prepared.plan, recipe.training
    collate = StageCollator(prepared.tokenizer.pad_token_id, recipe.curriculum)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(plan.end):
        moment = plan.at(step)
        if moment.local_step == 0:
            model.measure_scale()
            optimizer.state.clear()
        optimizer.param_groups[0]["lr"] = settings.learning_rate * settings.rate_factor(moment)
        batch = collate([prepared.dataset[step * 8 + place] for place in range(8)])
        for key in ("regions", "slot", "moment"):
            del batch[key]
        optimizer.zero_grad()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    state = model.state_dict()
    for name, tensor in weights_of(tmp_path / "run").items():
        assert torch.allclose(tensor, state[name], atol=1e-4), name


def test_the_trainer_takes_encoded_rows_and_a_curriculum(make_recipe, tmp_path: Path) -> None:
    prepared = prepare(make_recipe())
    args = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=4,
        use_cpu=True,
        remove_unused_columns=False,
        report_to="none",
    )
    trainer = LatentThoughtTrainer(
        prepared.model,
        args,
        train_dataset=prepared.rows.rows,
        curriculum=prepared.recipe.curriculum.with_steps(2),
        objective=[{"term": "ce"}],
    )
    trainer.train()
    assert trainer.state.global_step == 6


def test_the_final_model_loads_and_knows_how_it_was_trained(make_recipe, tmp_path: Path) -> None:
    from latentthought.model.modeling import LatentThoughtForCausalLM

    result = train(make_recipe(curriculum={"each": {"steps": 1}}), tmp_path / "run", progress=Silent())
    model = LatentThoughtForCausalLM.from_pretrained(result.model)
    assert model.thought.thoughts == 2
    assert model.config.prompt_format["prompt"] == "{question}\n"
    assert not (result.model / "training_args.bin").exists()
    checkpoint = LatentThoughtForCausalLM.from_pretrained(tmp_path / "run" / "checkpoint-3")
    for name, tensor in checkpoint.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_pause_and_soft_mix_set_what_generation_does(make_recipe) -> None:
    pause = prepare(make_recipe(curriculum={"method": "pause"})).model.thought
    assert (pause.fill, pause.thoughts) == ("pause", 2)
    mixed = prepare(make_recipe(**SOFT_MIX)).model.thought
    assert (mixed.fill, mixed.thoughts, mixed.mix_ratio) == ("latent", 0, 0.5)


def test_validation_is_logged_and_changes_nothing(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(evaluation={"every": 5})
    calls = []

    def scorer(model: Any, tokenizer: Any, *, thoughts: int, mix_ratio: float) -> dict[str, float]:
        torch.rand(3)
        assert not model.training
        calls.append(thoughts)
        return {"accuracy": 0.25}

    train(recipe, tmp_path / "scored", scorer=scorer, progress=Silent())
    train(recipe, tmp_path / "plain", progress=Silent())
    assert calls == [0, 1, 2, 2]
    scored = {
        row["step"]: row["validation_accuracy"]
        for row in metrics_of(tmp_path / "scored")
        if "validation_accuracy" in row
    }
    assert scored == {5: 0.25, 10: 0.25, 15: 0.25, 18: 0.25}
    for name, tensor in weights_of(tmp_path / "plain").items():
        assert torch.equal(tensor, weights_of(tmp_path / "scored")[name]), name


@pytest.mark.parametrize("tied", [True, False])
def test_lora_trains_adapters_and_new_rows_only(make_recipe, tmp_path: Path, tied: bool) -> None:
    pytest.importorskip("peft")
    base = tmp_path / "base"
    scratch = prepare(make_recipe(model={"scratch": {"architecture": "llama", "tied": tied}}))
    scratch.model.to_base().save_pretrained(base)
    scratch.tokenizer.save_pretrained(base)
    old = load_file(base / "model.safetensors")
    recipe = make_recipe(
        model={
            "base": str(base),
            "scratch": None,
            "lora": {"r": 2},
            "thought": {"start_token": "<new>", "end_token": "</new>"},
        },
        curriculum={"each": {"steps": 2}},
        training={"weight_decay": 0.1},
    )
    prepared = prepare(recipe)
    trained = [name for name, parameter in prepared.model.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name or "token_adapter" in name or "trainable_tokens" in name for name in trained)
    train(recipe, tmp_path / "run", progress=Silent())
    new = {name.removeprefix("base."): tensor for name, tensor in weights_of(tmp_path / "run").items()}
    known = len(scratch.tokenizer)
    for name, tensor in old.items():
        adapted = any(part in name for part in ("q_proj", "v_proj"))
        rows = slice(0, known) if "embed" in name or "lm_head" in name else slice(None)
        assert torch.equal(new[name][rows], tensor[rows]) != adapted, name
    added = new["model.embed_tokens.weight"][known:]
    assert len(added) == 2
    assert not torch.equal(added[0], added[1]), "both start as a copy of one row"
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


def test_folder_in_use(make_recipe, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(FolderInUseError, match=r"not empty \(notes\.txt\)"):
        train(make_recipe(), tmp_path / "run", progress=Silent())
    with (
        claimed(tmp_path / "other", resume=False),
        pytest.raises(FolderInUseError, match="another run"),
        claimed(tmp_path / "other", resume=True),
    ):
        pass


def trained(make_recipe, tmp_path: Path) -> Path:
    """A finished run whose final model is gone, as if killed before it was written."""
    train(
        make_recipe(curriculum={"each": {"steps": 2}}, training={"save_every": 2}),
        tmp_path / "run",
        progress=Silent(),
    )
    for file in (tmp_path / "run" / "model").iterdir():
        file.unlink()
    (tmp_path / "run" / "model").rmdir()
    return tmp_path / "run"


def test_a_damaged_checkpoint_is_passed_over(make_recipe, tmp_path: Path) -> None:
    run = trained(make_recipe, tmp_path)
    newest, before = run / "checkpoint-6", run / "checkpoint-4"
    said: list[str] = []
    assert checkpoints.newest(run, said.append) == newest
    content = (newest / "optimizer.safetensors").read_bytes()
    (newest / "optimizer.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert checkpoints.newest(run, said.append) == before
    (newest / "complete.json").unlink()
    assert checkpoints.newest(run, said.append) == before
    assert said == [
        "checkpoint-6 is passed over: optimizer.safetensors is damaged (its hash differs)",
        "checkpoint-6 is passed over: it is not complete (no complete.json)",
    ]
    (before / "complete.json").unlink()
    with pytest.raises(DamagedFileError, match=r"no checkpoint to resume from.*checkpoint-6.*checkpoint-4"):
        checkpoints.newest(run, said.append)


def test_old_checkpoints_go(make_recipe, tmp_path: Path) -> None:
    run = trained(make_recipe, tmp_path)
    assert [path.name for path in checkpoints.checkpoints_in(run)] == ["checkpoint-4", "checkpoint-6"]


def test_a_full_disk_leaves_the_old_checkpoint(
    make_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()

    class FullDisk(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            if state.global_step == 8:

                def fail(values: Any, path: Any, *rest: Any, **more: Any) -> None:
                    Path(path).write_bytes(b"half")
                    raise OSError(28, "No space left on device")

                monkeypatch.setattr(torch, "save", fail)

    with pytest.raises(LatentThoughtError, match=r"No space left.*checkpoint-5 is intact") as caught:
        train(recipe, tmp_path / "run", progress=Silent(), callbacks=(FullDisk(),))
    assert caught.value.exit_code == 1
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "run").iterdir() if p.is_dir()) == ["checkpoint-5"]
    train(recipe, tmp_path / "run", resume=True, progress=Silent())


def test_weights_are_read_strictly(make_recipe, tmp_path: Path) -> None:
    model = prepare(make_recipe()).model
    checkpoints.save_weights(model, tmp_path)
    stored = load_file(tmp_path / checkpoints.WEIGHTS)
    name = next(iter(stored))
    save_file(
        {**{k: v for k, v in stored.items() if k != name}, "more": torch.zeros(1)},
        tmp_path / checkpoints.WEIGHTS,
    )
    with pytest.raises(DamagedFileError, match=rf"missing {name}; unexpected more"):
        checkpoints.load_weights(model, tmp_path)
    save_file({**stored, name: torch.zeros(2)}, tmp_path / checkpoints.WEIGHTS)
    with pytest.raises(DamagedFileError, match="shape"):
        checkpoints.load_weights(model, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(
        training={"learning_rate": 1e30, "optimizer": "sgd", "max_grad_norm": 0.0, "log_every": 1}
    )
    with pytest.raises(LatentThoughtError, match=r"the loss is .* at step"):
        train(recipe, tmp_path / "run", progress=Silent())


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"micro_batch_size": 3}, "allowed: 1, 2, 4, 8"),
        ({"precision": "fp16"}, "fp16 needs CUDA"),
    ],
)
def test_engine_errors(make_recipe, tmp_path: Path, engine: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(make_recipe(engine=engine), tmp_path / "run", progress=Silent())


@pytest.mark.parametrize("engine", [{"precision": "bf16"}, {"gradient_checkpointing": True}])
def test_engine_options_train(make_recipe, tmp_path: Path, engine: dict) -> None:
    result = train(
        make_recipe(engine=engine, curriculum={"each": {"steps": 2}}), tmp_path / "run", progress=Silent()
    )
    assert result.steps == 6
    assert all(tensor.dtype == torch.float32 for tensor in weights_of(tmp_path / "run").values())


def test_arguments_of_ones_own_set_length_and_warm_up(make_recipe, tmp_path: Path) -> None:
    prepared = prepare(make_recipe())
    args = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=8,
        max_steps=4,
        warmup_steps=2,
        use_cpu=True,
        report_to="none",
    )
    trainer = LatentThoughtTrainer(
        prepared.model, args, train_dataset=prepared.rows.rows, curriculum=prepared.recipe.curriculum
    )
    trainer.train()
    assert trainer.state.global_step == 4
    assert [trainer.rate_factor(step) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
    assert metrics_of(tmp_path)[-1]["step"] == 4


@pytest.mark.parametrize("lora", [None, {"r": 2}], ids=["model", "adapter"])
def test_a_full_disk_at_the_end_leaves_nothing_half_written(
    make_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: dict | None
) -> None:
    if lora:
        pytest.importorskip("peft")
    recipe = make_recipe(
        model={"scratch": {"architecture": "llama"}, "lora": lora}, curriculum={"each": {"steps": 1}}
    )
    owner: Any = type(prepare(recipe).model)

    def fail(self: Any, folder: Path, *rest: Any, **more: Any) -> None:
        (Path(folder) / "half").write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(owner, "save_pretrained", fail)
    with pytest.raises(LatentThoughtError, match=r"cannot save .*No space left.*--resume") as caught:
        train(recipe, tmp_path / "run", progress=Silent())
    assert caught.value.exit_code == 1
    assert [path.name for path in (tmp_path / "run").iterdir() if path.is_dir()] == ["checkpoint-3"]
    monkeypatch.undo()
    assert train(recipe, tmp_path / "run", resume=True, progress=Silent()).model.is_dir()


def test_a_tokenizer_is_trained_on_what_the_format_writes(make_recipe, tmp_path: Path) -> None:
    rows = [
        {"question": "one", "answer": "x", "solution": "thus x", "steps": ["a"]},
        {
            "question": "two",
            "answer": "y",
            "solution": "hence y",
            "messages": [{"role": "user", "content": "earlier"}, {"role": "user", "content": "two"}],
        },
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = make_recipe(
        data={
            "path": str(tmp_path / "own.jsonl"),
            "format": {"answer": "so {solution}", "chat": True, "system": "kindly"},
        }
    )
    prepared = prepare(recipe)
    assert {"thus", "hence", "so", "earlier", "kindly"} <= {
        token.strip("\u2581") for token in prepared.tokenizer.get_vocab()
    }
    unknown = prepared.tokenizer.unk_token_id
    pieces = [piece for row in prepared.rows.rows for piece in (row.prompt, *row.steps, row.answer)]
    assert all(unknown not in piece for piece in pieces)
    rows[0].pop("solution")
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match="asks for its solution"):
        prepare(recipe)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_projector_has_no_part_in_words_and_both_losses_are_finite(
    make_recipe, tmp_path: Path, precision: str
) -> None:
    recipe = make_recipe(
        **SOFT_MIX,
        model={"thought": {"scale": "mlp"}},
        engine={"precision": precision, "gradient_checkpointing": True},
        training={"log_every": 3},
    )
    train(recipe, tmp_path / "run", progress=Silent())
    rows = metrics_of(tmp_path / "run")
    assert [row["mix_ratio"] for row in rows] == [0.0, 0.25, 0.5]
    assert all(0 < row[key] < 100 for row in rows for key in ("loss_ce", "loss_hidden"))


def test_a_signal_that_comes_while_the_processes_agree_is_not_lost() -> None:
    """Python runs a handler when the call that waits for the others returns, so that is when most of them come."""
    trainer: Any = MagicMock()
    trainer.stop_requested, trainer.args.device = False, "cpu"
    trainer.accelerator.num_processes, trainer.plan.end, trainer.settings.save_every = 2, 9, 0

    def agreeing(flag: torch.Tensor) -> torch.Tensor:
        trainer.stop_requested = True  # told
        return flag

    trainer._over_ranks = agreeing
    trainer._asked_to_stop = lambda: LatentThoughtTrainer._asked_to_stop(trainer)
    assert LatentThoughtTrainer.end_step(trainer, 3) == (False, False)
    assert LatentThoughtTrainer.end_step(trainer, 4) == (True, True)
    trainer.stop_requested, trainer._over_ranks = False, lambda flag: flag + 1  # another process was told
    assert LatentThoughtTrainer.end_step(trainer, 5) == (True, True)
    assert trainer.stop_requested


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lustre without -o flock; it is not another run."""

    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("latentthought.training.folder.fcntl.flock", without_locks)
    with (
        pytest.raises(UserError, match=r"does not lock files .Function not implemented.*flock"),
        claimed(tmp_path, False),
    ):
        pass
