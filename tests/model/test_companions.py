"""Companions: trained with the model, saved beside it, strange to everything else."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from latentthought import LatentThoughtForCausalLM
from latentthought.errors import ConfigError, DamagedFileError, MissingFileError
from latentthought.model.companions import COMPANIONS, load_companions, save_companions
from latentthought.objective.projectors import ProjectorConfig, Projectors
from latentthought.objective.spelling import Speller
from tests.families import VOCABULARY, tiny_base

PAIRS = ((1, 2), (2, 4))


def projectors(seed=0, width=48, kind="linear", pairs=PAIRS, **settings):
    torch.manual_seed(seed)
    return Projectors(ProjectorConfig(kind=kind, **settings), 32, width, pairs)


def model_with(**modules):
    model = LatentThoughtForCausalLM.from_base(tiny_base("llama"))
    for name, module in modules.items():
        model.attach(name, module)
    return model


@pytest.fixture
def ids():
    return torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))


def use(model, output):
    """A loss that goes through the projectors, as an objective's does."""
    states = torch.stack([output.captured[layer].flatten(0, 1) for layer, _ in PAIRS], 1)
    return model.companions["hidden"](states).square().mean()


def test_saved_and_loaded_they_are_the_same(tmp_path):
    speller = Speller(tiny_base("gpt2", seed=3), 32)  # tied weights, and buffers of its own
    model = model_with(hidden=projectors(), spell=speller)
    path = save_companions(model, tmp_path)
    assert path == tmp_path / COMPANIONS
    fresh = model_with(hidden=projectors(1), spell=Speller(tiny_base("gpt2", seed=4), 32))
    load_companions(fresh, tmp_path)
    wanted = model.companions.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in fresh.companions.state_dict().items())
    assert (
        fresh.companions["spell"].decoder.lm_head.weight
        is fresh.companions["spell"].decoder.transformer.wte.weight
    )
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert (header["format"], header["version"]) == ("latentthought-companions", "1")
    assert json.loads(header["companions"])["hidden"] == {
        "kind": "linear",
        "student_width": 32,
        "teacher_width": 48,
        "inner_width": None,
        "bias": True,
        "shared": False,
        "pairs": [[1, 2], [2, 4]],
    }


def test_a_model_without_companions_writes_no_file(tmp_path):
    assert save_companions(model_with(), tmp_path) is None
    assert not list(tmp_path.iterdir())
    assert save_companions(model_with(hidden=projectors()), tmp_path, write=False) == tmp_path / COMPANIONS
    assert not list(tmp_path.iterdir())


def test_a_model_is_saved_and_exported_without_them(tmp_path, ids):
    model = model_with(hidden=projectors(), spell=Speller(tiny_base("gpt2"), 32))
    model.save_pretrained(tmp_path / "model")
    assert not [key for key in load_file(tmp_path / "model" / "model.safetensors") if "companions" in key]
    loaded = LatentThoughtForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert len(loaded.companions) == 0
    model.to_base().save_pretrained(tmp_path / "plain")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert torch.equal(plain(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"width": 40}, r"hidden\.teacher_width is 48 in the file and 40 in the model"),
        ({"kind": "linear_relu"}, r"hidden\.kind is 'linear' in the file and 'linear_relu' in the model"),
        ({"pairs": ((1, 1), (2, 4))}, r"hidden\.pairs is \[\[1, 2\], \[2, 4\]\] in the file and \[\[1, 1\]"),
        ({"shared": True}, r"hidden\.shared is False in the file and True in the model"),
    ],
    ids=["width", "kind", "pairs", "shared"],
)
def test_companions_of_another_kind_are_refused_with_both_values(tmp_path, other, word):
    save_companions(model_with(hidden=projectors()), tmp_path)
    with pytest.raises(ConfigError, match=word):
        load_companions(model_with(hidden=projectors(**other)), tmp_path)


def test_companions_of_other_names_are_refused(tmp_path):
    save_companions(model_with(hidden=projectors()), tmp_path)
    with pytest.raises(ConfigError, match="feature is not in the file; hidden is not in the model"):
        load_companions(model_with(feature=projectors()), tmp_path)
    with pytest.raises(ConfigError, match="two are called 'hidden'"):
        model_with(hidden=projectors()).attach("hidden", projectors())


def rewritten(path, change=lambda tensors: None, **header):
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), **header}
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata=metadata)


def test_another_version_names_both(tmp_path):
    model = model_with(hidden=projectors())
    rewritten(save_companions(model, tmp_path), version="2")
    with pytest.raises(ConfigError, match="written in version 2, this release reads version 1"):
        load_companions(model, tmp_path)


@pytest.mark.parametrize(
    ("change", "header", "word"),
    [
        (lambda t: t.pop("hidden.maps.0.0.weight"), {}, "missing hidden.maps.0.0.weight"),
        (lambda t: t.update(extra=torch.ones(1)), {}, "unexpected extra"),
        (lambda t: t.update({"hidden.maps.0.0.bias": torch.ones(3)}), {}, r"has shape \(3,\)"),
        (lambda t: None, {"format": "pt"}, "format 'pt', not 'latentthought-companions'"),
        (lambda t: None, {"companions": "{"}, "header does not say"),
        (lambda t: None, {"companions": "[]"}, "header does not say"),
    ],
    ids=["missing", "unexpected", "shape", "format", "json", "list"],
)
def test_a_damaged_file_is_said_to_be_damaged(tmp_path, change, header, word):
    model = model_with(hidden=projectors())
    before = {key: value.clone() for key, value in model.companions.state_dict().items()}
    rewritten(save_companions(model, tmp_path), change, **header)
    with pytest.raises(DamagedFileError, match=word):
        load_companions(model, tmp_path)
    assert all(torch.equal(value, before[key]) for key, value in model.companions.state_dict().items())


def test_a_missing_and_a_cut_off_file(tmp_path):
    model = model_with(hidden=projectors())
    with pytest.raises(MissingFileError, match=COMPANIONS):
        load_companions(model, tmp_path)
    path = save_companions(model, tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedFileError, match="unreadable"):
        load_companions(model, tmp_path)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    from latentthought.model import companions

    def full(_tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(companions, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_companions(model_with(hidden=projectors()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_parts_that_zero3_has_spread_are_brought_together(tmp_path, monkeypatch):
    """DeepSpeed leaves parameters empty and marks them; a stand-in gathers them, as on one rank."""
    import sys
    from types import ModuleType

    class GatheredParameters:
        def __init__(self, spread, modifier_rank):
            self.spread, self.modifier_rank = spread, modifier_rank

        def __enter__(self):
            for parameter in self.spread:
                parameter.data = parameter.ds_whole

        def __exit__(self, *_):
            for parameter in self.spread:
                if self.modifier_rank == 0:
                    parameter.ds_whole = parameter.data
                parameter.data = torch.empty(0)

    name = "deepspeed.runtime.zero.partition_parameters"
    stand_in = ModuleType(name)
    stand_in.GatheredParameters = GatheredParameters
    for parent in ("deepspeed", "deepspeed.runtime", "deepspeed.runtime.zero"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    monkeypatch.setitem(sys.modules, name, stand_in)

    def spread(model):
        for number, parameter in enumerate(model.companions.parameters()):
            parameter.ds_id, parameter.ds_whole = number, parameter.data
            parameter.data = torch.empty(0)
        return model

    model = model_with(hidden=projectors())
    whole = {key: value.clone() for key, value in model.companions.state_dict().items()}
    path = save_companions(spread(model), tmp_path)
    assert all(torch.equal(value, whole[key]) for key, value in load_file(path).items())
    other = spread(model_with(hidden=projectors(1)))
    load_companions(other, tmp_path)
    found = {key: p.ds_whole for key, p in other.companions.named_parameters()}
    assert all(torch.equal(found[key], value) for key, value in whole.items())


def adapted(model, targets):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM"))


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]], ids=str)
def test_attached_after_lora_they_train_and_lora_leaves_them_alone(tmp_path, ids, targets):
    from peft import PeftModel

    model = model_with()
    wrapped = adapted(model, targets)
    model.attach("hidden", projectors())
    model.attach("spell", Speller(tiny_base("llama", seed=5), 32))  # has q_proj and v_proj of its own
    own = dict(model.companions.named_parameters())
    assert all(parameter.requires_grad for parameter in own.values())
    assert not [key for key in own if "lora" in key]
    before = {key: value.detach().clone() for key, value in own.items()}

    trained = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    output = wrapped(input_ids=ids, capture=(1, 2), score=use)
    output.value.backward()
    optimizer.step()
    assert not torch.equal(own["hidden.maps.0.0.weight"], before["hidden.maps.0.0.weight"])

    wrapped.save_pretrained(tmp_path)
    save_companions(model, tmp_path)
    assert not [key for key in load_file(tmp_path / "adapter_model.safetensors") if "companions" in key]
    fresh = LatentThoughtForCausalLM.from_base(tiny_base("llama"))
    again = PeftModel.from_pretrained(fresh, tmp_path)
    fresh.attach("hidden", projectors(1))
    fresh.attach("spell", Speller(tiny_base("llama", seed=6), 32))
    load_companions(fresh, tmp_path)
    model.eval()
    with torch.no_grad():
        value = again(input_ids=ids, capture=(1, 2), score=use).value
        torch.testing.assert_close(value, wrapped(input_ids=ids, capture=(1, 2), score=use).value)
    merged = again.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    assert not [
        k for k in load_file(tmp_path / "merged" / "model.safetensors") if "companions" in k or "lora" in k
    ]


def test_a_checkpoint_of_a_run_keeps_them(tmp_path, ids):
    from latentthought.training.checkpoints import load_weights, save_weights

    wrapped = adapted(model_with(), ["q_proj"])
    wrapped.get_base_model().attach("hidden", projectors())
    save_weights(wrapped, tmp_path)
    other = adapted(model_with(), ["q_proj"])
    other.get_base_model().attach("hidden", projectors(1))
    load_weights(other, tmp_path)
    wanted = wrapped.get_base_model().companions.state_dict()
    found = other.get_base_model().companions.state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_a_module_that_cannot_say_what_it_is_is_not_attached():
    with pytest.raises(AssertionError, match="Linear has no description"):
        model_with(hidden=nn.Linear(2, 2))
