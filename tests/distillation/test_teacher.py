"""The teacher: frozen, apart from the student, and saying what transformers says; what it reads; what tells it from others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from latentthought.config import merge
from latentthought.distillation import forecast
from latentthought.distillation.fingerprints import (
    files_fingerprint,
    tensors_fingerprint,
    tokenizer_fingerprint,
)
from latentthought.distillation.teacher import Teacher, TeacherConfig
from latentthought.errors import (
    ConfigError,
    DamagedFileError,
    MissingFileError,
    NotFoundError,
    UnsupportedError,
)
from latentthought.model.adapters import AdapterOrigin, LoraSettings, save_adapter, with_adapters
from latentthought.model.blueprint import count_parameters
from latentthought.model.configuration import ThoughtConfig
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.model.saving import load_base
from latentthought.thoughts.layout import Region
from tests.distillation.taught import (
    FORMAT,
    LATENT,
    config,
    examples,
    reference_states,
    teacher,
    tokenizer,
)
from tests.families import tiny_base

LAYERS = (0, 1, 2, 3, -1)


@pytest.fixture(scope="module")
def made() -> Teacher:
    return teacher()


# ---------------------------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "neither"),
        ({"model": "a/b", "scratch": {}}, "both"),
        ({"model": "self", "cache": {"path": "x"}}, "cache: not with model: self"),
        ({"model": "self", "reads": "thoughts"}, "reads: not with model: self"),
        ({"model": "a/b", "tokenizer": {"kind": "words"}}, "goes with scratch"),
    ],
)
def test_settings_that_do_not_hold(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TeacherConfig.parse(values, "teacher")


def test_a_smoke_run_has_a_tiny_teacher_and_layers_that_it_has() -> None:
    real = TeacherConfig.parse(
        {
            "model": "owner/large",
            "dtype": "bf16",
            "cache": {"path": "states", "layers": [8, 12], "logits": {"kind": "top_k", "k": 128}},
        }
    )
    values = real.dump()
    changes = real.smoke_changes()
    small = TeacherConfig.parse(merge(values, changes))
    assert small.scratch is not None and small.model is None and small.dtype == "auto"
    assert small.cache is not None and small.cache.layers == (0, 1, 2, -1) and small.cache.path == "states"
    assert small.cache.logits is not None and small.cache.logits.dump()["k"] == 16
    assert TeacherConfig(model="self").smoke_changes() == {}


# ------------------------------------------------------------------------------------------------------------- model
def test_states_are_those_of_transformers_whoever_shares_the_batch(made: Teacher) -> None:
    reader = made.reader(config(), FORMAT, LATENT)
    rows = [reading.row for reading in reader.read(examples()).readings[:4]]
    batch = reader.collate(rows)
    before = batch["before"]
    states = made.states(batch, LAYERS)
    for place, row in enumerate(rows):
        alone = reference_states(made, row.ids)
        for layer in LAYERS:
            found = states[layer][place, before[place] : before[place] + len(row)]
            torch.testing.assert_close(found, alone[layer], atol=1e-5, rtol=1e-5)
    logits = made.head(states[-1])
    whole = made.model.base(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(logits[real], whole[real], atol=1e-5, rtol=1e-5)


def test_it_is_frozen_and_stays_in_its_own_precision(made: Teacher) -> None:
    assert not made.model.training and not any(p.requires_grad for p in made.model.parameters())
    reader = made.reader(config(), FORMAT, LATENT)
    batch = reader.collate([reader.read(examples(3)).readings[1].row])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = made.states(batch, (1,))[1]
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, made.states(batch, (1,))[1], atol=0, rtol=0)
    student = torch.ones(48, requires_grad=True)
    (states * student).sum().backward()  # usable as a constant
    assert student.grad is not None and not states.requires_grad
    held = nn.Linear(1, 1)
    held.teacher = made  # type: ignore[assignment]
    assert len(list(held.parameters())) == 2, "no part of what holds it"


def test_a_teacher_from_scratch_follows_the_seed_and_disturbs_nothing() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = Teacher.load(config(), tokenizer=tokenizer(), seed=1, device="cpu")
    assert torch.equal(torch.rand(3), expected)
    again = Teacher.load(config(), tokenizer=tokenizer(), seed=1, device="cpu")
    other = Teacher.load(config(), tokenizer=tokenizer(), seed=2, device="cpu")
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert (first.width, first.blocks, first.vocabulary) == (48, 3, len(first.tokenizer))
    torch.manual_seed(1)
    student = config().scratch.build(tokenizer())  # type: ignore[union-attr]
    assert not torch.equal(student.get_input_embeddings().weight, first.model.get_input_embeddings().weight)


def test_a_missing_teacher_names_the_recipe_that_makes_it(tmp_path: Path) -> None:
    settings = TeacherConfig(model=str(tmp_path / "run"), recipe="lrd/1-teacher")
    with pytest.raises(MissingFileError, match=r"teacher.model: .*train lrd/1-teacher --output"):
        Teacher.load(settings)
    unfinished = tmp_path / "begun"
    unfinished.mkdir()
    with pytest.raises(NotFoundError, match=r"teacher.model: .*neither a model folder"):
        Teacher.load(TeacherConfig(model=str(unfinished)))
    with pytest.raises(ConfigError, match="the student itself"):
        Teacher.load(TeacherConfig(model="self"))


# -------------------------------------------------------------------------------------------------------------- files
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("teacher")
    words = tokenizer()
    base = tiny_base("llama", vocab_size=len(words))
    LatentThoughtForCausalLM.from_base(base, ThoughtConfig(), words).save_pretrained(place)
    words.save_pretrained(place)
    return place


def test_a_saved_teacher_loads_in_the_type_asked_for(folder: Path) -> None:
    loaded = Teacher.load(TeacherConfig(model=str(folder), dtype="bf16", device="cpu"))
    assert loaded.dtype == torch.bfloat16 and loaded.name == str(folder)
    assert loaded.fingerprint == files_fingerprint(folder)
    assert loaded.reader(TeacherConfig(model=str(folder), reads="thoughts"), FORMAT, LATENT).tokens.start_id


def test_one_flipped_byte_makes_another_teacher(folder: Path) -> None:
    before = files_fingerprint(folder)
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    assert files_fingerprint(folder) != before
    data[-5] ^= 1
    file.write_bytes(data)
    assert files_fingerprint(folder) == before
    with pytest.raises(NotFoundError, match="no safetensors"):
        files_fingerprint(folder.parent)


def test_files_may_be_cut_and_called_otherwise(folder: Path, tmp_path: Path) -> None:
    """One file, three with an index, other names, a second copy in another form: the same weights."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    cut = {f"model-0000{n + 1}-of-00003.safetensors": names[n::3] for n in range(3)}
    for place in ("cut", "renamed"):
        (tmp_path / place).mkdir()
        shutil.copy(folder / "config.json", tmp_path / place)
        for file, some in cut.items():
            name = file if place == "cut" else file.replace("model", "weights")
            save_file({key: tensors[key] for key in some}, tmp_path / place / name, {"format": "pt"})
    index = {"weight_map": {key: file for file, some in cut.items() for key in some}}
    (tmp_path / "cut" / "model.safetensors.index.json").write_text(json.dumps(index))
    before = files_fingerprint(folder)
    assert files_fingerprint(tmp_path / "cut") == files_fingerprint(tmp_path / "renamed") == before
    for place in ("cut", "renamed"):
        (tmp_path / place / "consolidated.safetensors").write_bytes(
            b"the same weights, as their makers keep them"
        )
        assert files_fingerprint(tmp_path / place) == before
    # a name, a shape or a type is part of what a weight is
    for change in (
        {"another": tensors[names[0]]},
        {names[0]: tensors[names[0]].T},
        {names[0]: tensors[names[0]].view(torch.int32)},
    ):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        shutil.copy(folder / "config.json", other)
        kept = {name: tensor for name, tensor in tensors.items() if name != names[0]}
        save_file(
            {name: value.contiguous() for name, value in {**kept, **change}.items()}, other / "a.safetensors"
        )
        assert files_fingerprint(other) != before
    (tmp_path / "cut" / next(iter(cut))).unlink()
    with pytest.raises(
        NotFoundError, match=r"index.json names model-00001-of-00003.safetensors, which is not there"
    ):
        files_fingerprint(tmp_path / "cut")
    (other / "a.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(DamagedFileError, match="not a safetensors file"):
        files_fingerprint(other)


def test_the_same_weights_under_other_settings_are_another_teacher(folder: Path, tmp_path: Path) -> None:
    """What a config says of how the model computes is part of the teacher, what it says beside that is not."""
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    settings = json.loads((other / "config.json").read_text())

    def with_base(**changes: Any) -> str:
        changed = {**settings, "text_config": {**settings["text_config"], **changes}}
        (other / "config.json").write_text(json.dumps(changed))
        return files_fingerprint(other)

    before = files_fingerprint(folder)
    assert with_base() == before
    assert with_base(transformers_version="4.0.0", use_cache=False, _name_or_path="elsewhere") == before
    assert with_base(rms_norm_eps=0.1) != before
    assert with_base(rope_parameters={"rope_type": "default", "rope_theta": 500.0}) != before
    model = Teacher.load(TeacherConfig(model=str(folder), device="cpu")).model
    whole = tensors_fingerprint(model)
    model.set_thought(thoughts=5, fill="pause", mix_ratio=0.5)  # what it does when it generates
    assert tensors_fingerprint(model) == whole
    model.config.text_config.rms_norm_eps = 0.1
    assert tensors_fingerprint(model) != whole


def test_an_adapter_folder_teaches(folder: Path, tmp_path: Path) -> None:
    words = tokenizer()
    thinking = LatentThoughtForCausalLM.from_base(load_base(folder), ThoughtConfig(), words)
    wrapped = with_adapters(thinking, LoraSettings(r=2))
    save_adapter(wrapped, words, tmp_path, AdapterOrigin(base=str(folder)))
    loaded = Teacher.load(TeacherConfig(model=str(tmp_path), device="cpu"))
    assert loaded.blocks == Teacher.load(TeacherConfig(model=str(folder), device="cpu")).blocks
    assert loaded.fingerprint == files_fingerprint(tmp_path)
    # the same numbers at twice the strength
    own = tmp_path / "adapter_config.json"
    settings = json.loads(own.read_text())
    own.write_text(json.dumps({**settings, "lora_alpha": 2 * settings["lora_alpha"]}))
    assert files_fingerprint(tmp_path) != loaded.fingerprint
    save_adapter(wrapped, words, tmp_path, AdapterOrigin())
    with pytest.raises(UnsupportedError, match="the base of this adapter was made from nothing"):
        Teacher.load(TeacherConfig(model=str(tmp_path), device="cpu"))


def test_tensors_are_told_apart_by_any_value(made: Teacher) -> None:
    before = tensors_fingerprint(made.model)
    weight = made.model.base.model.layers[1].mlp.up_proj.weight
    kept = weight[20, 20].item()
    with torch.no_grad():
        weight[20, 20] += 1
        assert tensors_fingerprint(made.model) != before
        weight[20, 20] = kept
    assert tensors_fingerprint(made.model) == before


def test_a_tokenizer_is_what_it_does_to_text() -> None:
    words = tokenizer()
    before = tokenizer_fingerprint(words)
    words(["a", "b c d"], padding=True, truncation=True, max_length=2)
    assert tokenizer_fingerprint(words) == before == tokenizer_fingerprint(tokenizer())
    assert tokenizer_fingerprint(tokenizer("bytes")) != before
    words.add_tokens(["new"])
    assert tokenizer_fingerprint(words) != before


# ------------------------------------------------------------------------------------------------------------ memory
def test_a_teacher_larger_than_memory_is_refused_before_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Teacher.load(TeacherConfig(model=str(folder), device="cpu"))
    parameters = sum(p.numel() for p in loaded.model.parameters())
    assert count_parameters(loaded.model.config.get_text_config()) == parameters
    monkeypatch.setattr(forecast, "free_memory", lambda place: int(parameters * 4 * 1.09))
    with pytest.raises(
        ConfigError, match=r"weights in float32, and cpu has .* free; teacher.dtype: bf16 halves it"
    ):
        Teacher.load(TeacherConfig(model=str(folder), device="cpu", dtype="fp32"))
    monkeypatch.setattr(forecast, "free_memory", lambda place: int(parameters * 2 * 1.09))
    with pytest.raises(ConfigError, match=r"bfloat16, and cpu has .* free; extract its states"):
        Teacher.load(TeacherConfig(model=str(folder), device="cpu", dtype="bf16"))
    monkeypatch.setattr(forecast, "free_memory", lambda place: int(parameters * 2 * 1.11))
    Teacher.load(TeacherConfig(model=str(folder), device="cpu", dtype="bf16"))


def test_free_memory_of_this_machine_is_a_number() -> None:
    free = forecast.free_memory("cpu")
    assert free is None or 0 < free < 1 << 50


# ------------------------------------------------------------------------------------------------------------ reading
def test_text_keeps_every_step_and_thoughts_are_the_last_stage(made: Teacher) -> None:
    rows = examples()
    text = made.reader(config(), FORMAT, LATENT).read(rows)
    for example, reading in zip(rows, text.readings, strict=True):
        words = made.tokenizer.decode(reading.row.ids, skip_special_tokens=True)
        assert all(step in words for step in example.steps) and reading.row.thoughts == 0
        assert reading.encoded.id == example.id
    latent = made.reader(config(reads="thoughts"), FORMAT, LATENT).read(rows)
    assert {reading.row.thoughts for reading in latent.readings} == {4}, "two steps of two thoughts each"
    spoken = [reading.row.regions.count(Region.STEP) > 0 for reading in latent.readings]
    assert spoken == [len(example.steps) > 2 for example in rows]


def test_its_own_format_and_curriculum_come_first(made: Teacher) -> None:
    own = config(
        format={"prompt": "and {question}\n"},
        reads="thoughts",
        curriculum={"method": "latent", "max_latent_steps": 1, "each": {"steps": 1}},
    )
    reading = made.reader(own, FORMAT, LATENT).read(examples(2)).readings[1]
    assert reading.row.thoughts == 1
    assert made.tokenizer.decode(reading.encoded.prompt).startswith("and what")


def test_a_plain_model_has_no_thoughts_to_read() -> None:
    plain = teacher(thought=False)
    plain.model.set_thought(thought_token_id=None, start_token_id=None, end_token_id=None)
    with pytest.raises(ConfigError, match="needs a latent-thought model"):
        plain.reader(config(reads="thoughts"), FORMAT, LATENT)
    assert len(plain.reader(config(), FORMAT, LATENT).read(examples())) == 11


def test_rows_too_long_for_the_teacher_are_dropped_and_said(made: Teacher) -> None:
    lengths = [len(r.row) for r in made.reader(config(), FORMAT, LATENT).read(examples()).readings]
    limit = sorted(lengths)[5]
    read = made.reader(config(), FORMAT, LATENT, max_length=limit).read(examples())
    assert read.kept == [place for place, length in enumerate(lengths) if length <= limit]
    assert len(read.dropped) == sum(length > limit for length in lengths)
    assert all("tokens" in line for line in read.dropped)
