"""FP8 by transformer-engine, on a stand-in that records: what is asked of the library, not what the library makes of it.

The stand-in has what accelerate and we call, and the rules of the original that a test can break: FP8 takes a number of
positions that divides by 8, a layer without bias holds an empty tensor for one, and only `fp8_autocast` turns FP8 on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from latentthought.config import merge
from latentthought.errors import ConfigError, MissingExtraError
from latentthought.model.adapters import LoraSettings, with_adapters
from latentthought.model.configuration import ThoughtConfig
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.recipe import Recipe
from latentthought.training import float8
from latentthought.training.checkpointing import inside
from latentthought.training.float8 import Choice, Float8Config, choose, convert, make_plain
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.families import tiny_base

CHOICE = Choice("transformer-engine", "delayed scaling", "cuda:1", "a test")


@dataclass
class Recorded:
    """What the library was asked for. calls: (layer's inputs, positions, whether in FP8)."""

    layers: list[tuple[int, int, bool]] = field(default_factory=list)
    devices: set[str] = field(default_factory=set)
    recipes: list[dict[str, Any]] = field(default_factory=list)
    contexts: list[bool] = field(default_factory=list)
    calls: list[tuple[int, int, bool]] = field(default_factory=list)
    enabled: bool = False


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorded:
    """Puts the stand-in where `import transformer_engine` finds it, version included."""
    recorded = Recorded()

    class Linear(nn.Module):
        def __init__(
            self, inputs: int, outputs: int, bias: bool = True, params_dtype: Any = None, device: str = "cuda"
        ) -> None:
            super().__init__()
            recorded.layers.append((inputs, outputs, bias))
            recorded.devices.add(device)
            self.in_features, self.out_features = inputs, outputs
            self.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=params_dtype))
            if bias:
                self.bias: Any = nn.Parameter(torch.empty(outputs, dtype=params_dtype))
            else:
                self.bias = torch.Tensor()

        def forward(self, input: Tensor) -> Tensor:
            positions = input.numel() // input.shape[-1]
            recorded.calls.append((self.in_features, positions, recorded.enabled))
            assert not recorded.enabled or positions % 8 == 0, f"FP8 does not take {positions} positions"
            return nn.functional.linear(input, self.weight, self.bias if len(self.bias) else None)

    @contextmanager
    def fp8_autocast(enabled: bool = True, fp8_recipe: Any = None) -> Iterator[None]:
        before, recorded.enabled = recorded.enabled, enabled
        recorded.contexts.append(enabled)
        try:
            yield
        finally:
            recorded.enabled = before

    def delayed_scaling(**settings: Any) -> Any:
        recorded.recipes.append(settings)
        return SimpleNamespace(**settings)

    layer_norm = type("LayerNorm", (nn.LayerNorm,), {})
    contents: dict[str, dict[str, Any]] = {
        "transformer_engine": {},
        "transformer_engine.pytorch": {
            "Linear": Linear,
            "LayerNorm": layer_norm,
            "fp8_autocast": fp8_autocast,
        },
        "transformer_engine.pytorch.fp8": {"check_mxfp8_support": lambda: (False, "a stand-in")},
        "transformer_engine.common": {},
        "transformer_engine.common.recipe": {
            "DelayedScaling": delayed_scaling,
        },
    }
    for name, members in contents.items():
        module = ModuleType(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None, is_package=True), []
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
    info = tmp_path / "site" / "transformer_engine-2.0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: transformer-engine\nVersion: 2.0.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    return recorded


def latent(family: str = "llama", **sizes: Any) -> Any:
    return LatentThoughtForCausalLM.from_base(tiny_base(family, False, **sizes), ThoughtConfig(scale="mlp"))


def passes(model: nn.Module) -> Tensor:
    """The logits of three rows of ten positions, three of them thoughts: passes of 12, 3 and 15 positions."""
    ids = torch.randint(5, 60, (3, 10), generator=torch.Generator().manual_seed(0))
    thoughts = torch.zeros_like(ids, dtype=torch.bool)
    thoughts[:, 4:7] = True
    return model(input_ids=ids, thought_mask=thoughts).logits


def test_it_is_chosen_where_it_imports_and_can_do_what_is_asked(engine: Recorded) -> None:
    assert str(choose(Float8Config(), "cuda")) == "transformer-engine (delayed scaling); it imports"
    assert choose(Float8Config(backend="torchao"), "cuda").backend == "torchao"
    rowwise = choose(Float8Config(recipe="rowwise"), "cuda")
    assert str(rowwise) == "torchao (rowwise); not transformer-engine: engine.fp8.recipe rowwise is torchao's"
    assert choose(Float8Config(), "cuda", recomputing=True).backend == "torchao"
    with pytest.raises(
        ConfigError, match=r"backend transformer-engine: engine.gradient_checkpointing recomputes"
    ):
        choose(Float8Config(backend="transformer-engine"), "cuda", recomputing=True)


def test_a_library_that_breaks_on_import_is_passed_over(
    engine: Recorded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The plain package without its PyTorch part raises RuntimeError, not ImportError."""
    for name in [name for name in sys.modules if name.startswith("transformer_engine")]:
        monkeypatch.delitem(sys.modules, name)
    shell = tmp_path / "site" / "transformer_engine"
    (shell / "pytorch").mkdir(parents=True)
    (shell / "__init__.py").write_text("")
    (shell / "pytorch" / "__init__.py").write_text("raise RuntimeError('no CUDA library')\n")
    choice = choose(Float8Config(), "cuda")
    assert str(choice).endswith("not transformer-engine: it does not import (no CUDA library)")
    with pytest.raises(MissingExtraError, match=r"no CUDA library.*latentthought\[te\]"):
        choose(Float8Config(backend="transformer-engine"), "cuda")


@pytest.mark.parametrize("adapters", [False, True])
def test_what_is_asked_of_it(engine: Recorded, adapters: bool) -> None:
    model: Any = latent()
    wrapped = with_adapters(model, LoraSettings(r=16, targets=("all-linear",))) if adapters else model
    exact = passes(wrapped).detach()
    names = set(dict(wrapped.named_parameters()))
    weights = {name: p.detach().clone() for name, p in wrapped.named_parameters()}
    trains = {name: p.requires_grad for name, p in wrapped.named_parameters()}
    done = convert(wrapped, CHOICE)
    assert str(done) == "fp8 in 14 linear layers by transformer-engine (delayed scaling); a test"
    # llama of tests.families: width 32, two key-value heads of four, mlp 48, no biases, two blocks
    attention = [(32, 32, False), (32, 16, False), (32, 16, False), (32, 32, False)]
    assert sorted(engine.layers) == sorted(
        2 * [*attention, (32, 48, False), (32, 48, False), (48, 32, False)]
    )
    assert {name: p.requires_grad for name, p in wrapped.named_parameters()} == trains
    assert set(dict(wrapped.named_parameters())) == names
    assert all(torch.equal(p, weights[name]) for name, p in wrapped.named_parameters())
    assert {type(m) for m in (inside(wrapped).base.lm_head, inside(wrapped).scale.projector[0])} == {
        nn.Linear
    }
    assert engine.devices == {"cuda:1"}  # this process's own
    assert engine.recipes == [{}]  # the library's own settings: e4m3, and e5m2 for gradients

    wrapped.train()
    torch.testing.assert_close(passes(wrapped), exact, atol=1e-6, rtol=0)
    assert engine.contexts == [True] and all(fp8 for _, _, fp8 in engine.calls)
    # passes of 3 x 4, 3 x 1, 3 x 1 and 3 x 4 positions, filled up
    assert {positions for _, positions, _ in engine.calls} == {16}
    passes(wrapped).square().mean().backward()
    learnt = {name for name, p in wrapped.named_parameters() if p.grad is not None}
    assert learnt == {name for name, trained in trains.items() if trained}

    engine.calls.clear()
    wrapped.eval()
    torch.testing.assert_close(passes(wrapped), exact, atol=1e-6, rtol=0)
    assert not any(fp8 for _, _, fp8 in engine.calls)

    engine.calls.clear()
    make_plain(inside(wrapped))
    torch.testing.assert_close(passes(wrapped), exact, atol=1e-6, rtol=0)
    assert not engine.calls and set(dict(wrapped.named_parameters())) == names


def test_a_run_saves_what_any_run_does(
    engine: Recorded,
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stand-in computes in float32 under bf16, so the run is the one of bf16, to the bit."""
    monkeypatch.setattr(float8, "_unfit_for_transformer_engine", lambda *unused: None)
    values: dict[str, Any] = {
        "model": {"scratch": {"architecture": "llama", "layers": 1, "width": 32}},
        "curriculum": {"each": {"steps": 2}},
        "training": {"warmup_steps": 0},
    }
    for precision in ("bf16", "fp8"):
        recipe = make_recipe(**merge(values, {"engine": {"precision": precision}}))
        train(recipe, tmp_path / precision, progress=Silent())
    assert len(engine.layers) == 7 and any(fp8 for _, _, fp8 in engine.calls)
    for file in ("model/model.safetensors", "checkpoint-6/model.safetensors"):
        mine, theirs = (load_file(tmp_path / precision / file) for precision in ("fp8", "bf16"))
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            torch.testing.assert_close(tensor, theirs[name], atol=1e-6, rtol=0)
