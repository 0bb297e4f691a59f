"""FP8: what is rounded, how much that is, and that nothing of it is left in what a run saves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from latentthought.config import merge
from latentthought.errors import ConfigError, MissingExtraError, UnsupportedError
from latentthought.model import backbone
from latentthought.model.adapters import LoraSettings, with_adapters
from latentthought.model.capture import blocks_of
from latentthought.model.configuration import ThoughtConfig
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.recipe import Recipe
from latentthought.training import float8
from latentthought.training.checkpointing import inside
from latentthought.training.engine import EngineConfig
from latentthought.training.float8 import Choice, Float8Config, choose, convert, make_plain, plain
from latentthought.training.preparation import prepare
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.families import tiny_base
from tests.training.combinations import Combination, trained
from tests.training.ranks import Job, run_on
from tests.training.test_resume import assert_same_run, run_with_kills

pytest.importorskip("torchao")

FP8 = {"engine": {"precision": "fp8"}}
SHORT = {
    "model": {"scratch": {"layers": 1}},
    "curriculum": {"each": {"steps": 2}},
    "training": {"warmup_steps": 0, "save_every": 3},
}
EMULATED = {recipe: Choice("torchao", recipe, "cpu", "a test") for recipe in ("tensorwise", "rowwise")}
# the largest number of each type, and half the distance of two neighbours, as a share of a number: 3 and 2 bits of mantissa
E4M3, E5M2 = (torch.float8_e4m3fn, 448.0), (torch.float8_e5m2, 57344.0)
ROUNDING = 2.0**-4


@pytest.fixture
def tiny(make_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """A Llama whose widths divide by 16 and whose logits are not all alike, through text, transition and thoughts."""

    def made(*changes: dict[str, Any]) -> Recipe:
        values: dict[str, Any] = {
            "model": {
                "scratch": {
                    "architecture": "llama",
                    "layers": 2,
                    "width": 32,
                    "mlp_width": 64,
                    "initializer_range": 0.1,
                },
            },
            "training": {"log_every": 1},
        }
        for change in changes:
            values = merge(values, change)
        return make_recipe(**values)

    return made


def latent(family: str = "llama", tied: bool = False, scale: str = "rms", **sizes: int) -> Any:
    return LatentThoughtForCausalLM.from_base(tiny_base(family, tied, **sizes), ThoughtConfig(scale=scale))


def rounded(tensor: Tensor, kind: tuple[torch.dtype, float], dim: int | None = None) -> Tensor:
    """What float8 keeps of a tensor: scaled so that its largest number is the type's largest, rounded, scaled back."""
    dtype, largest = kind
    size = tensor.abs().amax() if dim is None else tensor.abs().amax(dim, keepdim=True)
    scale = largest / size
    if dim is not None:  # `rowwise` rounds its scales down to a power of two
        scale = 2.0 ** scale.log2().floor()
    return (tensor * scale).to(dtype).float() / scale


def float8_names(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if type(module).__name__ == "Float8Linear"}


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def ids_and_thoughts() -> tuple[Tensor, Tensor]:
    ids = torch.randint(5, 60, (3, 10), generator=torch.Generator().manual_seed(0))
    thoughts = torch.zeros_like(ids, dtype=torch.bool)
    thoughts[:, 4:7] = True
    return ids, thoughts


# --- what is rounded, and how ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [1, 5, 16])
def test_a_product_is_that_of_operands_rounded_by_hand(positions: int) -> None:
    """Forward and both gradients, for passes of any number of positions: e4m3 for input and weight, e5m2 for the gradient."""
    model = latent()
    name = "base.model.layers.1.mlp.up_proj"
    weight = model.get_submodule(name).weight.detach().clone()
    convert(model, EMULATED["tensorwise"])
    layer = model.get_submodule(name)
    x = torch.randn(2, positions, 32, requires_grad=True)
    gradient = torch.randn(2, positions, 48)
    output = layer(x)
    output.backward(gradient)
    q_x, q_w = rounded(x.detach(), E4M3), rounded(weight, E4M3)
    q_g = rounded(gradient, E5M2)
    torch.testing.assert_close(output.detach(), q_x @ q_w.T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x.grad, q_g @ q_w, atol=1e-4, rtol=1e-5)
    expected = q_g.reshape(-1, 48).T @ q_x.reshape(-1, 32)
    torch.testing.assert_close(layer.weight.grad, expected, atol=1e-4, rtol=1e-5)
    assert layer.weight.grad.dtype == torch.float32 and torch.equal(layer.weight, weight)
    exact = x.detach() @ weight.T
    # each of two operands is off by up to 2^-4 of itself where it is not tiny beside the largest one
    assert 0.005 < float((output.detach() - exact).norm() / exact.norm()) < 2 * ROUNDING


def test_rowwise_gives_each_row_a_scale_of_its_own() -> None:
    model = latent()
    layer_name = "base.model.layers.0.self_attn.q_proj"
    weight = model.get_submodule(layer_name).weight.detach().clone()
    convert(model, EMULATED["rowwise"])
    x = torch.randn(2, 5, 32)
    x[0, 0] *= 1000  # an outlier that would take the range from all others of its tensor
    output = model.get_submodule(layer_name)(x).detach()
    expected = rounded(x, E4M3, dim=-1) @ rounded(weight, E4M3, dim=-1).T
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-5)
    alone = model.get_submodule(layer_name)(x[1:]).detach()
    torch.testing.assert_close(output[1:], alone, atol=1e-6, rtol=0)


def test_positions_that_do_not_divide_are_padded_for_the_kernels() -> None:
    """Which the emulation does not need, and a GPU refuses to go without: a pass of thoughts has a column."""
    model = latent()
    convert(model, Choice("torchao", "rowwise", "cuda:0", "a test"))
    settings = model.base.model.layers[0].mlp.up_proj.config
    assert settings.pad_inner_dim and not settings.emulate and not settings.enable_fsdp_float8_all_gather


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "mistral", "phi3", "olmo2"])
def test_only_linear_layers_of_the_blocks_are_converted(family: str, adapters: bool) -> None:
    class Copy(nn.Module):
        description = {"kind": "copy"}

        def __init__(self) -> None:
            super().__init__()
            self.q_proj = nn.Linear(32, 32)

    model: Any = latent(family, scale="mlp")
    before = {name: type(module) for name, module in model.named_modules()}
    wrapped = with_adapters(model, LoraSettings(r=16, targets=("all-linear",))) if adapters else model
    model.attach("projector", Copy())
    trains = {name: parameter.requires_grad for name, parameter in wrapped.named_parameters()}
    done = convert(wrapped, EMULATED["tensorwise"])
    inner = inside(wrapped)
    linear = {name for name, kind in before.items() if kind is nn.Linear and ".layers." in name}
    assert {name.removesuffix(".base_layer") for name in float8_names(inner)} == linear
    assert done.layers == len(linear) and done.odd == 0
    for name in ("projector.q_proj", "head"):
        module = inner.base.lm_head if name == "head" else inner.companions.get_submodule(name)
        assert type(module) is nn.Linear
    assert all(type(part) is not nn.Linear or ".lora_" in name for name, part in blocks_with_names(inner))
    assert {type(module) for module in inner.scale.projector.modules()} >= {nn.Linear}
    assert {name: p.requires_grad for name, p in wrapped.named_parameters()} == trains


def blocks_with_names(model: Any) -> list[tuple[str, nn.Module]]:
    return [(f".{name}", module) for name, module in blocks_of(model.base).named_modules()]


def test_a_router_stays_exact() -> None:
    model = latent()
    model.base.model.layers[0].mlp.gate = nn.Linear(32, 16, bias=False)
    convert(model, EMULATED["tensorwise"])
    assert type(model.base.model.layers[0].mlp.gate) is nn.Linear


def test_layers_of_odd_widths_are_left_alone_and_counted() -> None:
    model = latent(intermediate_size=40)
    done = convert(model, EMULATED["tensorwise"])
    assert (done.layers, done.odd) == (8, 6)  # four of attention in each block; three of the MLP
    assert "8 linear layers, 6 left alone (widths no multiple of 16)" in str(done)
    model = latent(hidden_size=24, intermediate_size=40, num_key_value_heads=4)
    with pytest.raises(UnsupportedError, match=r"nothing of LlamaForCausalLM .*14 linear layers .*take bf16"):
        convert(model, EMULATED["tensorwise"])
    with pytest.raises(UnsupportedError, match=r"GPT2LMHeadModel.*GPT-2 has Conv1D"):
        convert(latent("gpt2"), EMULATED["tensorwise"])


def test_plain_layers_share_the_weights_and_come_back() -> None:
    model = latent()
    ids, thoughts = ids_and_thoughts()
    exact = model(input_ids=ids, thought_mask=thoughts).logits.detach()
    convert(model, EMULATED["tensorwise"])
    names, weights = float8_names(model), dict(model.named_parameters())
    coarse = model(input_ids=ids, thought_mask=thoughts).logits.detach()
    with plain(model):
        assert not float8_names(model)
        assert torch.equal(model(input_ids=ids, thought_mask=thoughts).logits, exact)
        assert all(p is weights[name] for name, p in model.named_parameters())
    assert float8_names(model) == names
    assert torch.equal(model(input_ids=ids, thought_mask=thoughts).logits, coarse)
    off = float((coarse - exact).norm() / exact.norm())
    assert 0.005 < off < 4 * ROUNDING  # through two blocks, and three thoughts fed back


def test_thoughts_of_both_kinds_agree_up_to_float8() -> None:
    """Jacobi with as many updates as thoughts is sequential feedback; its passes have other shapes, and so other scales."""
    model = latent()
    ids, thoughts = ids_and_thoughts()

    def logits(feedback: str) -> Tensor:
        return model(input_ids=ids, thought_mask=thoughts, feedback=feedback, jacobi_iterations=3).logits

    exact = logits("sequential").detach()
    convert(model, EMULATED["tensorwise"])
    for feedback in ("sequential", "jacobi"):
        coarse = logits(feedback)
        assert 0.005 < float((coarse.detach() - exact).norm() / exact.norm()) < 4 * ROUNDING
        coarse.square().mean().backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
        model.zero_grad()


# --- whole runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_learns_and_leaves_a_plain_model(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    seen: list[set[str]] = []

    def scorer(model: Any, tokenizer: Any, **unused: Any) -> dict[str, float]:
        seen.append(float8_names(model))
        return {"accuracy": 0.0}

    quiet = {"evaluation": {"every": 6, "limit": 2}}
    for precision in ("fp32", "bf16", "fp8"):
        recipe = tiny({"engine": {"precision": precision}}, quiet)
        train(recipe, tmp_path / precision, progress=Silent(), scorer=scorer)
    exact, bf16, coarse = (losses(tmp_path / name) for name in ("fp32", "bf16", "fp8"))
    # a logit is off by about 2^-4 of its size, and the loss of a position by twice that at most
    with torch.no_grad():
        largest = float(prepare(tiny()).model(torch.arange(20)[None]).logits.abs().max())
    assert 1e-5 < abs(coarse[0] - exact[0]) < 2 * ROUNDING * largest
    assert abs(coarse[0] - bf16[0]) > 1e-5
    assert len(coarse) == len(exact) == 18
    assert coarse[5] < coarse[0] - 1 and sum(coarse[-3:]) / 3 < coarse[0] - 1.5
    assert coarse == pytest.approx(exact, abs=0.25)
    assert seen and not any(seen), "a scorer gets plain layers"

    run = tmp_path / "fp8"
    saved = load_file(run / "model" / "model.safetensors")
    assert saved.keys() == load_file(tmp_path / "fp32" / "model" / "model.safetensors").keys()
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    masters = load_file(run / "checkpoint-18" / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in masters.items() if name in saved)
    reloaded: Any = AutoModelForCausalLM.from_pretrained(run / "model")
    assert not float8_names(reloaded)
    config = json.loads((run / "model" / "config.json").read_text())
    assert "quantization_config" not in config and "float8" not in json.dumps(config)


def test_what_was_trained_thinks_as_its_reload_does(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    prepared = prepare(tiny(FP8))
    model = prepared.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    ids, thoughts = ids_and_thoughts()
    ids = ids % len(prepared.tokenizer)
    for _ in range(3):
        model(input_ids=ids, labels=ids, thought_mask=thoughts).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    make_plain(model)
    model.eval().save_pretrained(tmp_path / "model")
    reloaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for how in ({"thoughts": 3}, {"mix_ratio": 0.5}):
        mine, theirs = (m.generate(ids, **how, max_new_tokens=8, do_sample=False) for m in (model, reloaded))
        assert torch.equal(mine, theirs)
    mine, theirs = (m.think(ids, thoughts=3).states for m in (model, reloaded))
    assert torch.equal(mine, theirs)


@pytest.mark.parametrize("adapters", [False, True])
def test_a_resumed_run_is_the_uninterrupted_one(
    tiny: Callable[..., Recipe], tmp_path: Path, adapters: bool
) -> None:
    lora = {"model": {"lora": {"r": 4, "alpha": 8, "dropout": 0.1}}} if adapters else {}
    recipe = tiny(FP8, SHORT, lora, {"engine": {"gradient_checkpointing": True}})
    train(recipe, tmp_path / "whole", progress=Silent())
    run_with_kills(recipe, tmp_path / "killed", [(4, "optimizer")])
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_recomputed_passes_round_the_same(
    tiny: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "PIECE_COLUMNS", 1000)  # pieces of a pass have scales of their own
    for kept in (False, True):
        recipe = tiny(FP8, SHORT, {"engine": {"gradient_checkpointing": kept}})
        train(recipe, tmp_path / str(kept), progress=Silent())
    assert_same_run(tmp_path / "True", tmp_path / "False")


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_train_over_a_frozen_base_in_float8(
    tiny: Callable[..., Recipe],
    tmp_path: Path,
    dora: bool,
    record_property: Callable[[str, object], None],
) -> None:
    lora = {"model": {"lora": {"r": 4, "alpha": 8, "dora": dora, "targets": ["all-linear"]}}}
    prepared = prepare(tiny(FP8, SHORT, lora))
    assert prepared.float8 is not None and prepared.float8.layers == 7
    frozen = {
        name.replace(".base_layer", ""): p.clone()
        for name, p in prepared.model.get_base_model().named_parameters()
    }
    for precision in ("fp32", "fp8"):
        train(
            tiny(SHORT, lora, {"engine": {"precision": precision}}), tmp_path / precision, progress=Silent()
        )
    coarse = losses(tmp_path / "fp8")
    assert coarse != losses(tmp_path / "fp32")
    assert coarse == pytest.approx(losses(tmp_path / "fp32"), abs=0.25)
    assert coarse[5] < coarse[0] - 0.1
    saved = load_file(tmp_path / "fp8" / "model" / "model.safetensors")
    assert saved.keys() == load_file(tmp_path / "fp32" / "model" / "model.safetensors").keys()
    name = "base.model.layers.0.self_attn.q_proj.weight"
    update = saved[name] - frozen[name]
    assert 0 < torch.linalg.matrix_rank(update, atol=1e-4) <= (32 if dora else 4)
    if not dora:
        assert torch.equal(saved["base.model.norm.weight"], frozen["base.model.norm.weight"])
        trained(record_property, [Combination("ddp", "fp8", "lora", "alone", 1)])


def test_a_teacher_stays_exact(tiny: Callable[..., Recipe]) -> None:
    teacher = {"scratch": {"architecture": "llama", "layers": 2, "width": 32, "heads": 2}}
    hidden = {
        "term": "hidden",
        "target": "teacher",
        "alignment": "step_ends",
        "projector": {"kind": "linear"},
    }
    prepared = prepare(tiny(FP8, {"teacher": teacher, "objective": [{"term": "ce"}, hidden]}))
    assert float8_names(prepared.model)
    assert not any("companions" in name for name in float8_names(prepared.model))
    assert not float8_names(prepared.guidance.teacher.model)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategies",
    [("zero2",), pytest.param(("ddp", "zero1"), marks=pytest.mark.full)],
    ids=["zero2", "ddp and zero1"],
)
def test_two_processes_learn_what_one_does(
    tiny: Callable[..., Recipe],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    strategies: tuple[str, ...],
) -> None:
    """Micro-batches are the same and share the same scales; a sum in another order may tip a number over to its neighbour."""
    pytest.importorskip("deepspeed")
    small = merge(SHORT, {"engine": {"micro_batch_size": 2, "precision": "fp8"}})
    train(tiny(small), tmp_path / "one", progress=Silent())
    jobs: list[Job] = [
        (tiny(small, {"engine": {"strategy": strategy}}), tmp_path / strategy, {}) for strategy in strategies
    ]
    run_on(2, jobs, tmp_path / "jobs")
    for strategy in strategies:
        assert losses(tmp_path / strategy)[0] == pytest.approx(losses(tmp_path / "one")[0], abs=1e-4)
        assert losses(tmp_path / strategy) == pytest.approx(losses(tmp_path / "one"), abs=0.02)
        saved = load_file(tmp_path / strategy / "model" / "model.safetensors")
        assert saved.keys() == load_file(tmp_path / "one" / "model" / "model.safetensors").keys()
        trained(record_property, [Combination(strategy, "fp8", "full", "alone", 2)])


# --- what is chosen, and what is refused ----------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[int, int]], None]:
    """Lets torch report a GPU of a compute capability."""

    def pretend(capability: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Test")

    return pretend


def test_hardware_without_float8_is_named(gpu: Callable[..., None]) -> None:
    gpu((8, 0))
    with pytest.raises(
        ConfigError,
        match=r"NVIDIA Test has compute capability 8.0, and FP8 begins with 8.9.*fp32, bf16, fp16",
    ):
        choose(Float8Config(), "cuda:0")
    assert float8.describe("cuda").startswith("no: NVIDIA Test has compute capability 8.0")
    gpu((8, 9))
    choice = choose(Float8Config(backend="torchao"), "cuda:0")
    assert choice.native and str(choice) == "torchao (tensorwise); as asked for"


def test_a_cpu_emulates_by_torchao() -> None:
    choice = choose(Float8Config(), "cpu")
    assert (choice.backend, choice.native) == ("torchao", False)
    assert str(choice) == (
        "torchao (tensorwise, emulated on the CPU: slow, for tests); not transformer-engine: it needs a GPU"
    )
    with pytest.raises(
        ConfigError, match=r"engine.fp8.backend transformer-engine: it needs a GPU; take torchao"
    ):
        choose(Float8Config(backend="transformer-engine"), "cpu")


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch, gpu: Callable[..., None]) -> None:
    gpu((9, 0))
    with pytest.raises(MissingExtraError, match=r"transformer_engine.*latentthought\[te\]"):
        choose(Float8Config(backend="transformer-engine"), "cuda")
    monkeypatch.setitem(__import__("sys").modules, "torchao.float8", None)
    with pytest.raises(MissingExtraError, match=r"engine.precision fp8 needs torchao.*latentthought\[fp8\]"):
        choose(Float8Config(), "cuda")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"engine": {"precision": "fp9"}},
            r"engine.precision: .*'fp16' or 'fp8' \(got 'fp9'\); did you mean fp8",
        ),
        (
            {"engine": {"fp8": {"backend": "torch-ao"}}},
            r"engine.fp8.backend: .*\(got 'torch-ao'\); did you mean torchao",
        ),
        ({"engine": {"fp8": {"recpie": "rowwise"}}}, r"recpie.*recipe"),
        (
            {"engine": {"precision": "fp8", "strategy": "zero3"}},
            r"allowed for zero3: fp32, bf16; or take zero2",
        ),
    ],
)
def test_engines_that_do_not_hold(tiny: Callable[..., Recipe], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(changes)


def test_a_quantised_base_is_refused_before_anything_is_made(
    tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"a base in 8bit .*allowed for it: fp32, bf16"):
        train(tiny(FP8, {"model": {"lora": {"quantize": "8bit"}}}), tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run").exists()


def test_a_resume_keeps_how_it_is_rounded(tiny: Callable[..., Recipe]) -> None:
    changed = tiny(FP8, {"engine": {"fp8": {"recipe": "rowwise"}}}).differences(tiny(FP8))
    assert changed == ["engine.fp8.recipe ('tensorwise' -> 'rowwise')"]
    assert EngineConfig(precision="fp8").autocast == "bf16"
