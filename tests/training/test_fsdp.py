"""What FSDP2 cuts up, when it brings it together, and what a run may do between its steps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from latentthought import LatentThoughtForCausalLM
from latentthought.cli import main
from latentthought.config import merge, write_yaml
from latentthought.model.capture import blocks_of
from latentthought.model.sharding import at_hand, bring_home, is_spread, sharded, whole_copy
from latentthought.recipe import Recipe
from latentthought.training import fsdp
from latentthought.training.engine import EngineConfig
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.training.ranks import Job, run_on

FSDP2 = EngineConfig(strategy="fsdp2", device="cpu")


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def made(**changes: Any) -> Recipe:
        values = {
            "model": {"scratch": {"architecture": "llama", "layers": 2}},
            "curriculum": {"each": {"steps": 3}, "reset_optimizer": False},
            "training": {"max_steps": 6, "log_every": 1, "save_every": 0},
        }
        return make_recipe(**merge(values, changes))

    return made


def tiny(tied: bool, layers: int = 4) -> LatentThoughtForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 30}
    base = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=layers, tie_word_embeddings=tied))
    return LatentThoughtForCausalLM.from_base(base).train()


@contextmanager
def spread(model: nn.Module, offload: bool = False) -> Iterator[None]:
    """The model is cut up, by a process alone."""
    with fsdp.fsdp_process(FSDP2):
        fsdp.shard(model, torch.device("cpu"), offload)
        yield


def thinking(model: nn.Module) -> Tensor:
    """The loss of two rows of two thoughts."""
    ids = torch.arange(16).view(2, 8)
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[:, 3:5] = True
    return model(ids, labels=ids, thought_mask=mask, thought_columns=(3, 5)).loss


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("offload", [True, False])
def test_gradients_are_those_of_the_whole_model(tied: bool, offload: bool) -> None:
    whole, model, had_group = tiny(tied), tiny(tied), torch.distributed.is_initialized()
    thinking(whole).backward()
    with spread(model, offload):
        assert all(is_spread(parameter) for parameter in model.parameters())
        thinking(model).backward()
        assert all(is_spread(parameter) for parameter in model.parameters())
        found = {name: whole_copy(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    wanted = {name: p.grad for name, p in whole.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, atol=1e-7), name
    assert torch.distributed.is_initialized() == had_group  # DeepSpeed, for one, keeps its own


@pytest.mark.parametrize("checkpointing", [True, False])
def test_one_block_at_a_time_is_whole(checkpointing: bool) -> None:
    """Also where backward recomputes a whole pass; the one whose turn is next may be on its way."""
    model, seen = tiny(tied=True), []
    if checkpointing:
        model.gradient_checkpointing_enable()
    with spread(model):
        blocks = blocks_of(model.base)

        def count(*unused: Any) -> None:
            seen.append(sum(not is_spread(next(block.parameters())) for block in blocks))

        for block in blocks:
            block.self_attn.register_forward_hook(count)
        loss = thinking(model)
        forward = len(seen)
        loss.backward()
    # a prefix, the first thought, the second with the rest
    assert forward == 3 * len(blocks) and len(seen) == (2 if checkpointing else 1) * forward
    assert max(seen[:forward]) == 1 and max(seen) <= 2


def test_what_is_called_between_steps_finds_its_parameters() -> None:
    whole, model = tiny(tied=False), tiny(tied=False)
    ids = torch.arange(6).view(2, 3)
    arguments = {"thoughts": 2, "max_new_tokens": 4, "do_sample": False}
    with spread(model):
        with at_hand(model):
            assert model.measure_scale() == whole.measure_scale()
        thinking(model).backward()
        with at_hand(model), torch.no_grad():
            assert torch.equal(model.generate(ids, **arguments), whole.generate(ids, **arguments))
        assert all(is_spread(parameter) for parameter in model.parameters())


def test_a_model_comes_home_as_it_left(tmp_path: Path) -> None:
    model, before = tiny(tied=True), tiny(tied=True).state_dict()
    with spread(model):
        thinking(model)
        bring_home(model)
    assert type(model) is LatentThoughtForCausalLM
    assert model.base.lm_head.weight is model.base.model.embed_tokens.weight
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LatentThoughtForCausalLM"]


def test_the_final_model_is_a_plain_one(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Trained by either, with adapters: equal logits, from what transformers itself loads."""
    ids, logits = torch.arange(8).view(2, 4), {}
    for strategy in ("ddp", "fsdp2"):
        run = tmp_path / strategy
        train(recipe(model={"lora": {"r": 4}}, engine={"strategy": strategy}), run, progress=Silent())
        adapter = load_file(run / "adapter" / "adapter_model.safetensors")
        assert any(tensor.abs().sum() > 0 for name, tensor in adapter.items() if "lora_B" in name)
        plain = LatentThoughtForCausalLM.from_pretrained(run / "model").to_base()
        plain.save_pretrained(run / "plain")
        with torch.no_grad():
            logits[strategy] = AutoModelForCausalLM.from_pretrained(run / "plain").eval()(ids).logits
    assert torch.allclose(logits["fsdp2"], logits["ddp"], atol=1e-5)


def test_offload_and_sgd(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    for name, engine in {"one": {}, "host": {"strategy": "fsdp2", "offload": "all"}}.items():
        train(recipe(training={"optimizer": "sgd"}, engine=engine), tmp_path / name, progress=Silent())
    assert rows(tmp_path / "host", "loss") == pytest.approx(rows(tmp_path / "one", "loss"), abs=1e-5)
    assert rows(tmp_path / "host", "grad_norm") == pytest.approx(
        rows(tmp_path / "one", "grad_norm"), abs=1e-4
    )


@pytest.mark.slow
def test_validation_while_training(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Two processes generate together between steps, and train on as if they had not."""
    settings = {"evaluation": {"every": 2}}
    jobs: list[Job] = [
        (recipe(**settings, engine={"strategy": strategy}), tmp_path / strategy, {"scored": True})
        for strategy in ("ddp", "fsdp2")
    ]
    run_on(2, jobs, tmp_path / "jobs")
    train(recipe(), tmp_path / "one", progress=Silent())
    for strategy in ("ddp", "fsdp2"):
        assert rows(tmp_path / strategy, "loss") == pytest.approx(rows(tmp_path / "one", "loss"), abs=1e-5)
    found = rows(tmp_path / "fsdp2", "validation_words")
    assert len(found) == 3 and found == rows(tmp_path / "ddp", "validation_words")


def test_dry_run_shows_the_units(
    recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_yaml(tmp_path / "r.yaml", recipe(engine={"strategy": "fsdp2"}).dump())
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", str(tmp_path / "r.yaml"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "FSDP2's units on 2 processes" in shown and '"class": "LlamaDecoderLayer"' in shown
    model = tiny(tied=True)
    made = fsdp.fsdp_settings(FSDP2, model, 2)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert made["blocks"]["number"] * made["blocks"]["parameters_each"] + made["rest"]["parameters"] == total
    assert made["parameters_a_process"] == total // 2 + total % 2


def rows(run: Path, key: str) -> list[float]:
    """A value of every line of the log that has it."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def test_surroundings_stay_as_they_were(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    before, had_group = dict(os.environ), torch.distributed.is_initialized()
    train(recipe(engine={"strategy": "fsdp2"}), tmp_path / "run", progress=Silent())
    changed = {name for name, value in os.environ.items() if before.get(name) != value}
    assert changed <= {"ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU", "DS_ACCELERATOR"}
    assert not sharded() and torch.distributed.is_initialized() == had_group
