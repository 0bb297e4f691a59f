"""Whether a cache is what a recipe needs: everything that decides a stored number is compared, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from latentthought.data.encoding import FormatConfig
from latentthought.distillation import forecast, matching
from latentthought.distillation.cache.manifest import finish
from latentthought.distillation.cache.shards import write_shard
from latentthought.distillation.cache.spec import CacheConfig
from latentthought.distillation.cache.store import TeacherStateCache
from latentthought.distillation.fingerprints import files_fingerprint
from latentthought.distillation.matching import changed_rows, check_cache, wanted_states
from latentthought.distillation.saved import SavedModel
from latentthought.distillation.teacher import Teacher, TeacherConfig
from latentthought.distillation.vocabulary import check_vocabulary, identity, shared_vocabulary
from latentthought.errors import ConfigError
from latentthought.model.adapters import AdapterOrigin, LoraSettings, save_adapter, with_adapters
from latentthought.model.blueprint import count_parameters
from latentthought.model.configuration import ThoughtConfig
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.objective.comparison import Depths
from latentthought.objective.total import Objective
from tests.distillation.taught import (
    FORMAT,
    LATENT,
    config,
    examples,
    extractor,
    spec_of,
    teacher,
    texts,
    tokenizer,
)
from tests.families import tiny_base

HIDDEN = {"term": "hidden", "target": "teacher", "alignment": "step_ends", "layers": [[1, 2], [2, 3]]}
CE = {"term": "ce"}
KL = {"term": "kl", "temperature": 2.0}
DEPTHS = Depths(2, 3)


@pytest.fixture(scope="module")
def made() -> Teacher:
    return teacher()


def cache_of(folder: Path, settings: TeacherConfig, made: Teacher) -> TeacherStateCache:
    """An empty cache: what is compared stands in its manifest."""
    spec = spec_of(settings, made, (1, 2, -1), ("step_ends", "answer"), examples())
    finish(folder, spec, [write_shard(folder, 0, [], spec)])
    return TeacherStateCache.open(folder)


def pupil(made: Teacher, **changes: Any) -> Any:
    """What `guidance.Pupil` has, as far as a cache is compared with it."""
    known = {
        "model": made.model,
        "tokenizer": tokenizer(),
        "format": FORMAT,
        "curriculum": LATENT,
        "examples": examples(),
        "max_length": None,
        "overlong": "drop",
        "texts": (),
        "seed": 0,
    }
    return SimpleNamespace(**{**known, **changes})


def check(
    folder: Path, made: Teacher, wants: TeacherConfig, terms: Any = (CE, HIDDEN), **student: Any
) -> None:
    check_cache(TeacherStateCache.open(folder), wants, Objective(terms, DEPTHS), pupil(made, **student))


def test_the_same_recipe_is_served_and_so_is_one_that_changes_only_the_student(
    made: Teacher, tmp_path: Path
) -> None:
    cache_of(tmp_path, config(), made)
    check(tmp_path, made, config())
    longer = LATENT.replace(each={"steps": 500}, label_end=True, uniform_prob=0.1, thoughts_per_step=5)
    check(tmp_path, made, config(), curriculum=longer)
    check(tmp_path, made, config(batch_size=1, cache={"rows_per_shard": 99}))
    # what `auto` has come to, by name; and a limit under which rows are dropped, not cut
    check(tmp_path, made, config(dtype="fp32"), max_length=40)


@pytest.mark.parametrize(
    ("wants", "student", "words"),
    [
        ({}, {"seed": 7}, "teacher: the cache was made by scratch"),
        (
            {},
            {"format": FormatConfig(step="{step};")},
            "format.step: the cache has '{step}\\n', the recipe '{step};'",
        ),
        ({"cache": {"codec": "bf16"}}, {}, "codec: the cache has fp32, the recipe bf16"),
        ({"reads": "thoughts"}, {}, "format.reads: the cache has 'text', the recipe 'thoughts'"),
        ({"dtype": "bf16"}, {}, "dtype: the cache has fp32, the recipe bf16"),
        (
            {},
            {"max_length": 40, "overlong": "truncate_steps"},
            "format.cut_to: the cache has None, the recipe 40",
        ),
        (
            {},
            {"curriculum": LATENT.replace(enclose="reasoning")},
            "format.layout.enclosed: the cache has False",
        ),
    ],
)
def test_what_differs_is_named(
    made: Teacher, tmp_path: Path, wants: dict[str, Any], student: dict[str, Any], words: str
) -> None:
    cache_of(tmp_path, config(), made)
    with pytest.raises(ConfigError) as error:
        check(tmp_path, made, config(**wants), **student)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_layers_positions_and_logits_that_are_not_there(made: Teacher, tmp_path: Path) -> None:
    cache_of(tmp_path, config(), made)
    with pytest.raises(ConfigError, match="layers: the recipe needs 0, the cache has 1, 2, -1"):
        check(tmp_path, made, config(), terms=(CE, {**HIDDEN, "layers": [[1, 0]]}))
    with pytest.raises(ConfigError, match="rules: the recipe needs pooled"):
        check(tmp_path, made, config(), terms=(CE, {**HIDDEN, "alignment": "pooled"}))
    with pytest.raises(ConfigError, match=r"objective.kl: the cache has no logits \(teacher.cache.logits\)"):
        check(tmp_path, made, config(), terms=(CE, KL))


def test_kept_logits_serve_one_temperature_and_one_direction(made: Teacher, tmp_path: Path) -> None:
    kept = config(cache={"logits": {"kind": "top_k", "k": 4, "temperature": 2.0}})
    cache_of(tmp_path, kept, made)
    check(tmp_path, made, kept, terms=(CE, KL))
    with pytest.raises(
        ConfigError, match=r"objective.kl.temperature: the cache's logits are of 2, the term's 1"
    ):
        check(tmp_path, made, kept, terms=(CE, {**KL, "temperature": 1.0}))
    with pytest.raises(ConfigError, match="direction: kept logits serve forward only, not reverse"):
        check(tmp_path, made, kept, terms=(CE, {**KL, "direction": "reverse"}))


def test_a_teacher_that_is_elsewhere_is_known_by_its_name(made: Teacher, tmp_path: Path) -> None:
    made_by = Teacher(made.model, made.tokenizer, "runs/big")
    spec = spec_of(config(), made_by, (1, 2, 3, -1), ("step_ends",), examples())
    finish(tmp_path, spec, [write_shard(tmp_path, 0, [], spec)])
    values = {**config().dump(), "scratch": None}
    check(tmp_path, made, TeacherConfig.parse({**values, "model": "runs/big"}))
    with pytest.raises(
        ConfigError,
        match=r"teacher: the cache was made by runs/big, and there is no runs/other \(teacher.model\)",
    ):
        check(tmp_path, made, TeacherConfig.parse({**values, "model": "runs/other"}))


# ------------------------------------------------------------------------------------------------------- what is kept
def test_terms_decide_what_is_kept_unless_the_cache_says() -> None:
    terms = (CE, HIDDEN, {**HIDDEN, "name": "ends", "alignment": "answer", "layers": [[0, 0], [2, 2]]})
    objective = Objective(terms, DEPTHS)
    # block 3 is the last, which is compared after the final norm unless a term says otherwise
    assert wanted_states(objective, CacheConfig(path="x")) == ((-1, 0, 2), ("step_ends", "answer"))
    given = CacheConfig(path="x", layers=(1,), positions=("shared",))
    assert wanted_states(objective, given) == ((1,), ("shared",))


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"teacher.cache.layers: nothing would be kept"):
        wanted_states(Objective((CE,)), CacheConfig(path="x"))
    with pytest.raises(ConfigError, match=r"teacher.cache.positions: nothing would be kept"):
        wanted_states(Objective((CE,)), CacheConfig(path="x", layers=(1,)))
    with pytest.raises(ConfigError, match=r"teacher.cache.logits: objective.kl compares distributions"):
        wanted_states(Objective((CE, HIDDEN, KL), DEPTHS), CacheConfig(path="x"))


# ----------------------------------------------------------------------------------------------------------- each row
def test_some_of_a_caches_rows_are_served_and_a_row_that_has_changed_is_named(
    made: Teacher, tmp_path: Path
) -> None:
    one = extractor(config(), made, (1, 2, -1))
    one.run(tmp_path, *one.missing(tmp_path))
    rows = list(examples())
    check(tmp_path, made, config(), examples=rows[2:5])
    known = replace(rows[3], meta={"subject": "sums"})
    foreign = replace(rows[3], id="sum-999", question="what is nothing")
    check(tmp_path, made, config(), examples=[rows[4], known, foreign])
    for change in ({"steps": ("1+1=2",)}, {"question": "what"}, {"answer": "7"}, {"solution": "seven"}):
        with pytest.raises(
            ConfigError, match=r"rows: 1 \('sum-3'\) had another text when the cache was made"
        ):
            check(tmp_path, made, config(), examples=[rows[2], replace(rows[3], **change), foreign])
    cache = TeacherStateCache.open(tmp_path)
    others = [replace(row, answer=f"{row.answer}0") for row in rows]
    assert changed_rows(cache, others) == [row.id for row in rows]
    assert changed_rows(cache, rows) == []
    with pytest.raises(ConfigError, match=r"rows: 11 \('sum-0', 'sum-1', 'sum-2', \.\.\.\) had another text"):
        check(tmp_path, made, config(), examples=others)


# --------------------------------------------------------------------------------------------------------- vocabulary
TOP = config(cache={"logits": {"kind": "top_k", "k": 4, "temperature": 2.0}})


@pytest.mark.parametrize(("mine", "theirs"), [("bytes", "words"), ("words", "bytes")])
def test_kept_logits_need_the_students_tokens_to_be_the_teachers(
    tmp_path: Path, mine: str, theirs: str
) -> None:
    """As beside a live teacher: the very message that `shared_vocabulary` has."""
    settings = TOP.replace(tokenizer={"kind": theirs, "vocab_size": 400})
    taught = Teacher.load(settings, texts=texts(), device="cpu")
    student = teacher(kind=mine)
    cache_of(tmp_path, settings, taught)
    known = {"model": student.model, "tokenizer": student.tokenizer, "texts": texts()}
    with pytest.raises(ConfigError) as live:
        shared_vocabulary(student.tokenizer, taught.tokenizer, 10_000, 10_000)
    with pytest.raises(ConfigError) as cached:
        check(tmp_path, taught, settings, (CE, KL), **known)
    assert str(cached.value) == str(live.value)
    assert "a kl term needs one vocabulary" in str(cached.value)
    # hidden states have no vocabulary
    check(tmp_path, taught, settings, (CE, HIDDEN), **known)


def test_a_student_may_have_tokens_after_the_teachers_last_and_in_its_gaps() -> None:
    """A vocabulary is the tokens by id; what a tokenizer does to text is another matter."""

    class Known:
        def __init__(self, **ids: int) -> None:
            self.ids = ids

        def get_vocab(self) -> dict[str, int]:
            return self.ids

        def __len__(self) -> int:
            return len(self.ids)

    its = Known(a=0, b=1, d=3)
    kept = identity(its, 8)
    assert (kept.size, kept.unused) == (4, (2,)) and identity(its, 3).size == 3
    for student in (its, Known(a=0, b=1, d=3, e=4), Known(a=0, b=1, c=2, d=3)):
        check_vocabulary(student, 5, kept)
        assert shared_vocabulary(student, its, 5, 8) == kept.size
    for student in (Known(a=0, b=1), Known(a=0, b=3, d=1), Known(a=0, b=1, x=3)):
        with pytest.raises(ConfigError, match="a kl term needs one vocabulary, and id"):
            shared_vocabulary(student, its, 5, 8)
        with pytest.raises(ConfigError, match="a kl term needs one vocabulary, and id"):
            check_vocabulary(student, 5, kept, its)
        with pytest.raises(ConfigError, match="about the 3 tokens with the ids 0 to 3 of its teacher"):
            check_vocabulary(student, 5, kept)
    with pytest.raises(ConfigError, match="output layer has 3 rows for the cache's 4 tokens"):
        check_vocabulary(its, 3, kept)


# -------------------------------------------------------------------------------------------------- a teacher of files
@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A plain model, the same and a latent-thought model in bf16, and an adapter onto the plain one in bf16."""
    words, place = tokenizer(), tmp_path_factory.mktemp("teachers")
    made = {name: place / name for name in ("plain", "half", "latent", "adapter")}
    base = tiny_base("llama", vocab_size=len(words))
    base.save_pretrained(made["plain"])
    tiny_base("llama", vocab_size=len(words)).to(torch.bfloat16).save_pretrained(made["half"])
    for name in ("plain", "half"):
        words.save_pretrained(made[name])
    thinking = LatentThoughtForCausalLM.from_base(base, ThoughtConfig(), words)
    wrapped = with_adapters(thinking, LoraSettings(r=2))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    save_adapter(wrapped, words, made["adapter"], AdapterOrigin(base=str(made["half"])))
    latent = LatentThoughtForCausalLM.from_base(
        tiny_base("llama", vocab_size=len(words)).to(torch.bfloat16), ThoughtConfig(), words
    )
    latent.save_pretrained(made["latent"])
    words.save_pretrained(made["latent"])
    return made


@pytest.mark.parametrize("name", ["plain", "latent", "adapter"])
def test_a_saved_teacher_is_known_without_being_loaded(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = TeacherConfig.parse({**config().dump(), "scratch": None, "model": str(folders[name])})
    loaded = Teacher.load(settings.replace(device="cpu"))
    spec = spec_of(settings, loaded, (1, 2, -1), ("step_ends", "answer"), examples())
    finish(tmp_path, spec, [write_shard(tmp_path, 0, [], spec)])
    assert (spec.blocks, spec.width) == (loaded.blocks, loaded.width)
    # an adapter is merged into a base in float32
    own = {"plain": "fp32", "latent": "bf16", "adapter": "fp32"}[name]
    assert spec.dtype == own

    def load(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a cache needs no teacher")

    monkeypatch.setattr(Teacher, "load", load)
    monkeypatch.setattr(matching.Teacher, "load", load)
    check(tmp_path, loaded, settings)
    check(tmp_path, loaded, settings.replace(dtype=own))
    other = {"fp32": "bf16", "bf16": "fp32"}[own]
    with pytest.raises(ConfigError, match=f"dtype: the cache has {own}, the recipe {other}"):
        check(tmp_path, loaded, settings.replace(dtype=other))
    # a config that says no type leaves it to the first weight
    config_file = folders["plain"] / "config.json"
    kept = config_file.read_text()
    config_file.write_text(json.dumps({k: v for k, v in json.loads(kept).items() if k != "dtype"}))
    assert SavedModel.at(folders["plain"]).dtype == torch.float32
    config_file.write_text(kept)


def test_weights_are_read_by_the_first_process_of_a_machine(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TeacherConfig.parse({**config().dump(), "scratch": None, "model": str(folders["plain"])})
    loaded = Teacher.load(settings.replace(device="cpu"))
    spec = spec_of(settings, loaded, (1, 2, -1), ("step_ends",), examples())
    other = spec.replace(teacher={"name": "other", "weights": "0" * 64})
    finish(tmp_path, other, [write_shard(tmp_path, 0, [], other)])
    read: list[Any] = []
    monkeypatch.setattr(matching, "files_fingerprint", lambda where: read.append(where) or "1" * 64)
    monkeypatch.setenv("LOCAL_RANK", "1")
    check(tmp_path, loaded, settings)
    assert not read
    for first in ("0", None):
        monkeypatch.setenv("LOCAL_RANK", first) if first else monkeypatch.delenv("LOCAL_RANK")
        with pytest.raises(ConfigError, match="teacher: the cache was made by other"):
            check(tmp_path, loaded, settings)
    assert len(read) == 2


def test_an_adapters_weights_are_its_bases_too(folders: dict[str, Path], tmp_path: Path) -> None:
    before = files_fingerprint(folders["adapter"])
    assert before != files_fingerprint(folders["half"])
    for file in (folders["half"] / "model.safetensors", folders["adapter"] / "adapter_model.safetensors"):
        kept = file.read_bytes()
        file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert files_fingerprint(folders["adapter"]) != before
        file.write_bytes(kept)
    assert files_fingerprint(folders["adapter"]) == before
    text = SavedModel.at(folders["adapter"]).config
    forecast.check_memory(folders["adapter"], "auto", "cpu")
    assert count_parameters(text) == count_parameters(SavedModel.at(folders["plain"]).config)
