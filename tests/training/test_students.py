"""Parameter-efficient students: LoRA, DoRA and QLoRA, what they touch, how they merge, and where they go afterwards."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from latentthought.cli import main
from latentthought.errors import ConfigError, DamagedFileError, MissingExtraError, UnsupportedError
from latentthought.model.adapters import (
    AdapterOrigin,
    LoraSettings,
    load_adapter,
    load_base_for,
    merged,
    save_adapter,
    with_adapters,
)
from latentthought.model.configuration import ThoughtConfig
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.training.preparation import prepare
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.families import tiny_base
from tests.training.test_resume import assert_same_run, run_with_kills

pytest.importorskip("peft")

IDS = torch.randint(5, 60, (3, 10), generator=torch.Generator().manual_seed(0))
THOUGHTS = torch.zeros_like(IDS, dtype=torch.bool)
THOUGHTS[:, 4:6] = True
SIZES = {"llama": {"hidden_size": 64, "intermediate_size": 128}, "gpt2": {"n_embd": 64}}
# the sixteen levels of NF4, table E of QLoRA (arXiv 2305.14314)
NF4 = torch.tensor(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ]
)


def student(family: str, settings: LoraSettings, scale: str = "rms") -> Any:
    """A tiny model of width 64 (bitsandbytes' block) with two token rows of its own, wrapped."""
    base = load_base_for(tiny_base(family, **SIZES[family]), settings.quantize, settings.compute_dtype)
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig(scale=scale))
    model.config.added_token_ids = [3, 4]
    return with_adapters(model, settings)


def trained(wrapped: Any, steps: int = 4) -> Any:
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(wrapped).backward()
        optimizer.step()
    return wrapped.eval()


def loss(model: Any) -> Tensor:
    return model(input_ids=IDS, labels=IDS.masked_fill(THOUGHTS, -100), thought_mask=THOUGHTS).loss


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=IDS % model.config.get_text_config().vocab_size, thought_mask=THOUGHTS).logits


def adapted(wrapped: Any) -> dict[str, Any]:
    """Adapted layers by their name in the latent-thought model."""
    inner = wrapped.get_base_model()
    return {name: module for name, module in inner.named_modules() if hasattr(module, "lora_A")}


@pytest.mark.parametrize("rslora", [False, True])
def test_a_merged_weight_is_the_base_plus_its_update(rslora: bool) -> None:
    wrapped = trained(student("llama", LoraSettings(r=4, alpha=8, rslora=rslora)))
    factor = 8 / 4**0.5 if rslora else 8 / 4
    expected = {
        name: (
            layer.base_layer.weight + factor * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        )
        for name, layer in adapted(wrapped).items()
    }
    before = logits(wrapped)
    model = merged(wrapped)
    assert len(expected) == 4
    for name, weight in expected.items():
        torch.testing.assert_close(model.get_submodule(name).weight, weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(logits(model), before, atol=2e-5, rtol=0)


def test_dora_trains_magnitudes_apart_from_directions() -> None:
    wrapped = trained(student("llama", LoraSettings(r=4, alpha=8, dora=True)))
    expected = {}
    for name, layer in adapted(wrapped).items():
        direction = (
            layer.base_layer.weight + 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        )
        magnitude = layer.lora_magnitude_vector["default"].weight
        assert magnitude.requires_grad
        # equation 5 of arXiv 2402.09353; peft's norm runs over the inputs of each output
        expected[name] = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
    model = merged(wrapped)
    for name, weight in expected.items():
        torch.testing.assert_close(model.get_submodule(name).weight, weight, atol=1e-5, rtol=0)


def test_targets_are_sought_in_the_base_alone() -> None:
    """A companion with layers of the same names, and the scale's projector, are left alone, even attached before."""

    class Copy(nn.Module):
        description = {"kind": "copy"}

        def __init__(self) -> None:
            super().__init__()
            self.q_proj = nn.Linear(64, 64)

    for targets in (("q_proj",), ("all-linear",)):
        model = LatentThoughtForCausalLM.from_base(
            tiny_base("llama", **SIZES["llama"]), ThoughtConfig(scale="mlp")
        )
        model.attach("decoder", Copy())
        wrapped = with_adapters(model, LoraSettings(r=2, targets=targets))
        names = set(adapted(wrapped))
        assert all(name.startswith("base.model.layers.") for name in names), names
        assert len(names) == 2 * (1 if targets == ("q_proj",) else 7)
        trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert {name for name in trains if "lora_" not in name} == {
            f"scale.projector.{part}"
            for part in ("0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias")
        }


def test_a_target_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no layer 'q_prok'; did you mean q_proj"):
        student("llama", LoraSettings(targets=("v_proj", "q_prok")))
    with pytest.raises(ConfigError, match="all-linear takes in every other name"):
        LoraSettings.parse({"targets": ["all-linear", "q_proj"]})


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        MissingExtraError, match=r"model\.lora\.quantize: 4bit needs .*latentthought\[quantize\]"
    ):
        student("llama", LoraSettings(quantize="4bit"))


def test_four_bits_are_nf4_with_doubly_quantised_scales() -> None:
    pytest.importorskip("bitsandbytes")
    from latentthought.model.quantization import dequantize, is_quantized

    origin = tiny_base("llama", **SIZES["llama"])
    base = load_base_for(tiny_base("llama", **SIZES["llama"]), "4bit", "fp32")
    assert is_quantized(base)
    stored = base.model.layers[0].self_attn.q_proj.weight
    assert stored.dtype == torch.uint8
    assert stored.numel() == 64 * 64 // 2
    assert base.lm_head.weight.dtype == base.get_input_embeddings().weight.dtype == torch.float32
    dequantize(base)
    assert not is_quantized(base)
    assert "quantization_config" not in base.config.to_dict()
    for name, weight in origin.named_parameters():
        found = base.get_parameter(name)
        if "proj" not in name:
            assert torch.equal(found, weight), name
            continue
        blocks = weight.reshape(-1, 64)
        scales = blocks.abs().amax(1, keepdim=True)
        nearest = NF4[(blocks[..., None] / scales[..., None] - NF4).abs().argmin(-1)] * scales
        # the scales themselves are rounded to 8 bits; half way between two levels either will do
        error = (found.reshape(-1, 64) - blocks).abs() - (nearest - blocks).abs()
        assert (error / scales).max() < 0.02, name
        assert (found - weight).abs().max() > 0.01 * weight.abs().max(), name


def test_eight_bits_are_rows_of_whole_numbers() -> None:
    pytest.importorskip("bitsandbytes")
    from latentthought.model.quantization import dequantize

    origin = tiny_base("llama", **SIZES["llama"])
    base = dequantize(load_base_for(tiny_base("llama", **SIZES["llama"]), "8bit", "fp32"))
    for name, weight in origin.named_parameters():
        if "proj" in name:
            step = weight.abs().amax(1, keepdim=True) / 127
            # half a step, and the fp16 that bitsandbytes rounds to first
            assert ((base.get_parameter(name) - weight).abs() <= 0.56 * step).all(), name


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("dora", [False, True])
def test_a_four_bit_student_merges_exactly(family: str, dora: bool) -> None:
    """GPT-2's Conv1D comes back with its weight the right way round."""
    pytest.importorskip("bitsandbytes")
    settings = LoraSettings(r=2, quantize="4bit", dora=dora, compute_dtype="fp32", targets=("all-linear",))
    wrapped = student(family, settings, scale="mlp")
    frozen = {name: p.detach().clone() for name, p in wrapped.named_parameters() if not p.requires_grad}
    start = loss(wrapped).item()
    trained(wrapped)
    assert loss(wrapped).item() < start
    assert all(torch.equal(p, frozen[name]) for name, p in wrapped.named_parameters() if name in frozen)
    before = logits(wrapped)
    model = merged(wrapped)
    torch.testing.assert_close(logits(model), before, atol=2e-5, rtol=0)
    fresh = tiny_base(family, **SIZES[family])
    assert {n: p.shape for n, p in model.base.named_parameters()} == {
        n: p.shape for n, p in fresh.named_parameters()
    }


def test_four_bits_of_a_narrow_layer_are_refused_on_a_cpu() -> None:
    """bitsandbytes 0.50 reads rows that are no multiple of its block back with another block's scale."""
    pytest.importorskip("bitsandbytes")
    with pytest.raises(UnsupportedError, match=r"down_proj has 48 .*take 8bit"):
        load_base_for(tiny_base("llama", hidden_size=64), "4bit", "fp32")


def test_dora_in_eight_bits_is_refused_on_a_cpu() -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(UnsupportedError, match="take quantize: 4bit"):
        student("llama", LoraSettings(quantize="8bit", dora=True))


# --- whole runs, and what leaves them ----------------------------------------------------------------------------------


@pytest.fixture
def base_folder(make_recipe: Callable[..., Any], tmp_path: Path) -> Path:
    """A saved base with its tokenizer, which knows nothing of thoughts."""
    values = {"architecture": "llama", "width": 64, "layers": 1, "heads": 2, "tied": False}
    scratch = prepare(make_recipe(model={"scratch": values}))
    scratch.model.to_base().save_pretrained(tmp_path / "base")
    scratch.tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("quantize", ["none", "4bit"])
def test_an_adapter_leaves_its_run_and_comes_back(
    make_recipe: Callable[..., Any],
    base_folder: Path,
    tmp_path: Path,
    quantize: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if quantize != "none":
        pytest.importorskip("bitsandbytes")
    recipe = make_recipe(
        model={
            "base": str(base_folder),
            "scratch": None,
            "lora": {"r": 2, "quantize": quantize, "compute_dtype": "fp32"},
            "thought": {"start_token": "<new>", "end_token": "</new>", "scale": "mlp"},
        },
        curriculum={"each": {"steps": 4}},
    )
    train(recipe, tmp_path / "run", progress=Silent())
    kept = load_file(next((tmp_path / "run").glob("checkpoint-*")) / "model.safetensors")
    assert not [name for name in kept if "absmax" in name or "quant" in name], (
        "the base's scales come with it"
    )
    finished = LatentThoughtForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert "quantization_config" not in finished.config.to_dict()["text_config"]

    assert main(["export", str(tmp_path / "run"), "--to", "adapter", "--output", str(tmp_path / "out")]) == 0
    assert str(base_folder) in capsys.readouterr().out
    size = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors"))
    assert size < (base_folder / "model.safetensors").stat().st_size
    again = load_adapter(tmp_path / "out")
    assert again.thought == finished.thought
    assert again.config.prompt_format == finished.config.prompt_format
    torch.testing.assert_close(logits(again), logits(finished), atol=1e-5, rtol=0)

    rows = tmp_path / "prompts.txt"
    rows.write_text("a e h\n", encoding="utf-8")
    arguments = ["--input", str(rows), "--max-new-tokens", "2", "--device", "cpu"]
    capsys.readouterr()
    assert main(["generate", str(tmp_path / "out"), *arguments, "--jsonl"]) == 0
    answer = json.loads(capsys.readouterr().out)
    served = tmp_path / "served"
    arguments = [*arguments[:2], "--device", "cpu", "--to", "prompt-embeds", "--output", str(served)]
    assert main(["export", str(tmp_path / "out"), *arguments]) == 0
    embeds = load_file(served / "prompts-00000.safetensors")["0"]
    plain = AutoModelForCausalLM.from_pretrained(served / "model")
    new = plain.generate(inputs_embeds=embeds[None], max_new_tokens=2, do_sample=False)
    text = AutoTokenizer.from_pretrained(served / "model").decode(new[0], skip_special_tokens=True)
    assert (text, answer["thoughts"]) == (answer["completion"], 2), "adapters are merged in the served model"


def test_a_four_bit_run_resumes(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    """The quantised base is made anew, the same to the last bit."""
    pytest.importorskip("bitsandbytes")
    recipe = make_recipe(
        model={
            "scratch": {"architecture": "llama", "width": 64, "mlp_width": 64},
            "lora": {"r": 2, "dora": True, "dropout": 0.2, "quantize": "4bit", "compute_dtype": "fp32"},
        },
        curriculum={"each": {"steps": 3}},
    )
    train(recipe, tmp_path / "whole", progress=Silent())
    run_with_kills(recipe, tmp_path / "killed", [(7, "end")])
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_adapters_of_a_base_from_nothing_stay_with_their_run(
    make_recipe: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe(model={"lora": {"r": 2}}, curriculum={"each": {"steps": 1}})
    train(recipe, tmp_path / "run", progress=Silent())
    assert main(["export", str(tmp_path / "run"), "--to", "adapter", "--output", str(tmp_path / "out")]) == 2
    assert "made from nothing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(UnsupportedError, match="made from nothing"):
        load_adapter(tmp_path / "run" / "adapter")


def test_a_run_without_adapters_has_none_to_export(
    make_recipe: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make_recipe(curriculum={"each": {"steps": 1}}), tmp_path / "run", progress=Silent())
    assert main(["export", str(tmp_path / "run"), "--to", "adapter", "--output", str(tmp_path / "out")]) == 2
    assert "trained whole, without model.lora" in capsys.readouterr().err


@pytest.fixture
def adapter_folder(base_folder: Path, tmp_path: Path) -> Path:
    from latentthought.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(base_folder)
    base = load_base_for(str(base_folder), "none", "fp32")
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig(), tokenizer)
    wrapped = with_adapters(model, LoraSettings(r=2))
    return save_adapter(wrapped, tokenizer, tmp_path / "adapter", AdapterOrigin(base=str(base_folder)))


def test_an_adapter_and_a_base_that_do_not_fit(
    make_recipe: Callable[..., Any], adapter_folder: Path, tmp_path: Path
) -> None:
    wider = prepare(make_recipe(model={"scratch": {"architecture": "llama", "width": 32, "layers": 1}}))
    wider.model.to_base().save_pretrained(tmp_path / "other")
    wider.tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(DamagedFileError, match=r"does not fit its base .*other"):
        load_adapter(adapter_folder, base=str(tmp_path / "other"))
    with pytest.raises(FileNotFoundError, match=r"the base of .*adapter: .*nowhere"):
        load_adapter(adapter_folder, base=str(tmp_path / "nowhere"))


def test_a_damaged_adapter_is_named(adapter_folder: Path) -> None:
    path = adapter_folder / "thought.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(DamagedFileError, match=r"thought\.safetensors: unreadable"):
        load_adapter(adapter_folder)
    path.write_bytes(whole.replace(b'"version":"1"', b'"version":"9"'))
    with pytest.raises(ConfigError, match="written in version 9, this release reads version 1"):
        load_adapter(adapter_folder)


def test_the_adapter_says_what_it_goes_onto(adapter_folder: Path, base_folder: Path) -> None:
    settings = json.loads((adapter_folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == str(base_folder)
