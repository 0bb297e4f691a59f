"""Wrapping, saving, strict loading, thought tokens, adapters and the way back to a plain model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.errors import (
    ConfigError,
    DamagedFileError,
    HubUnreachableError,
    MissingFileError,
    UnsupportedError,
)
from tests.families import PAIRWISE, VOCABULARY, tiny_base


def word_tokenizer(size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2, "<unk>": 3, ":": 4, **{f"w{i}": i for i in range(5, size)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def thought_logits(model, ids):
    thoughts = torch.zeros_like(ids, dtype=torch.bool)
    thoughts[:, 4:6] = True
    with torch.no_grad():
        return model(ids, thought_mask=thoughts).logits


@pytest.fixture
def ids():
    return torch.randint(5, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_wrapping_keeps_every_weight_and_the_attention_choice(case):
    base = tiny_base(*case)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = LatentThoughtForCausalLM.from_base(base)
    assert model.base is base
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    assert base.config._attn_implementation == case[2]
    assert model.config.tie_word_embeddings == case[1]


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_save_and_load_give_the_same_logits(case, tmp_path, ids):
    tokenizer = word_tokenizer()
    model = LatentThoughtForCausalLM.from_base(tiny_base(*case), ThoughtConfig(scale="mlp"), tokenizer)
    with torch.no_grad():
        for parameter in model.scale.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    for loaded in (
        LatentThoughtForCausalLM.from_pretrained(tmp_path, attn_implementation=case[2]),
        AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=case[2]),
    ):
        assert type(loaded) is LatentThoughtForCausalLM
        assert torch.equal(thought_logits(loaded, ids), thought_logits(model, ids))
        assert loaded.thought == model.thought
        assert loaded.scale.target == model.scale.target
        assert loaded.config.added_token_ids == model.config.added_token_ids


def test_auto_classes_know_the_model_whoever_is_imported_first(tmp_path):
    LatentThoughtForCausalLM.from_base(tiny_base("llama")).save_pretrained(tmp_path)
    for first, second in (("latentthought", "transformers"), ("transformers", "latentthought")):
        code = (
            f"import {first}, {second}, sys, transformers\n"
            f"print(type(transformers.AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})).__name__)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith("LatentThoughtForCausalLM")


def test_importing_the_package_imports_no_heavy_library():
    code = "import latentthought, sys; print([m for m in ('torch', 'transformers', 'datasets', 'peft') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def damage(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.pop("scale.target"), "missing scale.target"),
        (lambda t: t.pop("base.model.norm.weight"), "missing base.model.norm.weight"),
        (lambda t: t.update(extra=torch.ones(1)), "unexpected extra"),
        (lambda t: t.update({"base.model.embed_tokens.weight": torch.ones(VOCABULARY - 3, 32)}), "has shape"),
    ],
    ids=["no-scale", "no-norm", "unexpected", "shape"],
)
def test_loading_is_strict(tmp_path, change, word):
    LatentThoughtForCausalLM.from_base(tiny_base("llama")).save_pretrained(tmp_path)
    damage(tmp_path, change)
    with pytest.raises(DamagedFileError, match=word):
        LatentThoughtForCausalLM.from_pretrained(tmp_path)


def test_a_cut_off_file_is_said_to_be_damaged(tmp_path):
    LatentThoughtForCausalLM.from_base(tiny_base("llama")).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedFileError, match="unreadable weights"):
        LatentThoughtForCausalLM.from_pretrained(tmp_path)


def test_pickled_weights_are_never_read(tmp_path):
    model = LatentThoughtForCausalLM.from_base(tiny_base("llama"))
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="safetensors"):
        LatentThoughtForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(UnsupportedError):
        LatentThoughtForCausalLM.from_pretrained(tmp_path, use_safetensors=False)


def test_unknown_thought_keys_in_a_saved_config_are_named(tmp_path):
    LatentThoughtForCausalLM.from_base(tiny_base("llama")).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["thought"]["scael"] = "rms"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"scael.*scale"):
        LatentThoughtForCausalLM.from_pretrained(tmp_path)


def test_a_missing_folder_and_an_unreachable_hub_say_so_in_one_line():
    with pytest.raises(MissingFileError, match="no such model folder"):
        LatentThoughtForCausalLM.from_base("./nowhere/at-all")
    with pytest.raises(HubUnreachableError, match="local path") as caught:
        LatentThoughtForCausalLM.from_base("openai-community/gpt2")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_start_as_a_copy_of_an_existing_row(tied):
    tokenizer, base = word_tokenizer(), tiny_base("llama", tied)
    colon = base.get_input_embeddings().weight[4].clone()
    colon_head = base.get_output_embeddings().weight[4].clone()
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig(), tokenizer)
    assert model.config.added_token_ids == [VOCABULARY, VOCABULARY + 1, VOCABULARY + 2]
    assert (model.thought.start_token_id, model.thought.end_token_id, model.thought.thought_token_id) == (
        61,
        62,
        63,
    )
    assert model.config.get_text_config().vocab_size == VOCABULARY + 3 == len(tokenizer)
    for new in model.config.added_token_ids:
        assert torch.equal(model.get_input_embeddings().weight[new], colon)
        assert torch.equal(model.get_output_embeddings().weight[new], colon_head)


def test_tokens_that_the_tokenizer_has_are_kept():
    tokenizer, base = word_tokenizer(), tiny_base("llama")
    before = base.get_input_embeddings().weight.clone()
    thought = ThoughtConfig(start_token="w10", end_token="w11", thought_token="w12")
    model = LatentThoughtForCausalLM.from_base(base, thought, tokenizer)
    assert model.config.added_token_ids == []
    assert (model.thought.start_token_id, model.thought.end_token_id, model.thought.thought_token_id) == (
        10,
        11,
        12,
    )
    assert torch.equal(model.get_input_embeddings().weight, before)


def test_without_a_tokenizer_nothing_is_added_or_resized():
    model = LatentThoughtForCausalLM.from_base(tiny_base("llama"))
    assert model.thought.start_token_id is None
    assert len(model.get_input_embeddings().weight) == VOCABULARY


def test_the_scale_target_is_measured_at_the_embedding_output():
    # Gemma multiplies by sqrt(width) inside its embedding module
    base = tiny_base("gemma3_text")
    model = LatentThoughtForCausalLM.from_base(base)
    rows = base.get_input_embeddings()(torch.arange(VOCABULARY))
    assert model.scale.target.item() == pytest.approx(rows.square().mean(-1).sqrt().mean().item(), rel=1e-5)
    weight_rms = base.get_input_embeddings().weight.square().mean(-1).sqrt().mean().item()
    assert model.scale.target.item() == pytest.approx(weight_rms * 32**0.5, rel=0.01)


def test_half_precision_keeps_the_measured_scale_target(tmp_path, ids):
    model = LatentThoughtForCausalLM.from_base(tiny_base("gpt2"), ThoughtConfig(scale="mlp"))
    measured = model.scale.target.clone()
    model.to(torch.bfloat16)
    assert model.scale.projector[0].weight.dtype == torch.bfloat16
    assert model.scale.target.dtype == torch.float32
    assert torch.equal(model.scale.target, measured)
    model.save_pretrained(tmp_path)
    loaded = LatentThoughtForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(thought_logits(loaded, ids), thought_logits(model, ids))


def test_load_arguments_for_a_model_that_is_loaded_are_refused():
    with pytest.raises(ConfigError, match="dtype"):
        LatentThoughtForCausalLM.from_base(tiny_base("llama"), dtype=torch.bfloat16)


def test_a_layer_beyond_the_model_is_refused():
    with pytest.raises(ConfigError, match="blocks 1 to 2"):
        LatentThoughtForCausalLM.from_base(tiny_base("llama"), ThoughtConfig(layer=3))


def test_lora_trains_its_matrices_and_the_new_rows_only(tmp_path, ids):
    from peft import LoraConfig, PeftModel, get_peft_model

    tokenizer = word_tokenizer()
    base = tiny_base("llama", tied=True)
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig(), tokenizer)
    untouched = {name: value.clone() for name, value in model.state_dict().items()}
    new_rows = model.config.added_token_ids
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj"],
        trainable_token_indices={"embed_tokens": new_rows},
    )
    wrapped = get_peft_model(model, config)
    ids = torch.cat([ids[:, :4], torch.tensor([[61, 63, 63], [61, 63, 63]]), ids[:, 4:]], dim=1)
    thoughts = ids == 63
    optimizer = torch.optim.SGD([p for p in wrapped.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        wrapped(input_ids=ids, labels=ids.masked_fill(thoughts, -100), thought_mask=thoughts).loss.backward()
        optimizer.step()
    wrapped.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        expected = wrapped(input_ids=ids, thought_mask=thoughts).logits

    fresh = LatentThoughtForCausalLM.from_base(
        tiny_base("llama", tied=True), ThoughtConfig(), word_tokenizer()
    )
    assert all(torch.equal(value, untouched[name]) for name, value in fresh.state_dict().items())
    with torch.no_grad():
        before = fresh(ids, thought_mask=thoughts).logits
    reloaded = PeftModel.from_pretrained(fresh, tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(reloaded(input_ids=ids, thought_mask=thoughts).logits, expected)
    assert (expected - before).abs().max() > 1e-3

    with pytest.raises(UnsupportedError, match="merge"):
        model.to_base()
    merged = reloaded.merge_and_unload()
    with torch.no_grad():
        torch.testing.assert_close(merged(ids, thought_mask=thoughts).logits, expected, atol=1e-5, rtol=1e-5)
    rows = merged.get_input_embeddings().weight
    assert torch.equal(rows[:VOCABULARY], untouched["base.model.embed_tokens.weight"][:VOCABULARY]), (
        "an old row moved"
    )
    assert not torch.equal(rows[61], untouched["base.model.embed_tokens.weight"][61])

    merged.to_base().save_pretrained(tmp_path / "plain")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert type(plain).__name__ == "LlamaForCausalLM"
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, merged(ids).logits)


def test_encoder_decoders_are_refused():
    from transformers import AutoModelForSeq2SeqLM

    config = AutoConfig.for_model("t5", d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=32)
    with pytest.raises(UnsupportedError, match="causal"):
        LatentThoughtForCausalLM.from_base(AutoModelForSeq2SeqLM.from_config(config))
