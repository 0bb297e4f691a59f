"""A cache in place of a live teacher: the same rows, the same vocabulary, the same losses, whoever the teacher is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from latentthought.cli.states import extract
from latentthought.data.sources.loading import load_examples
from latentthought.data.tokenizer import TokenizerConfig, train_tokenizer
from latentthought.distillation.cache.store import TeacherStateCache
from latentthought.distillation.responses import Kept, save_responses
from latentthought.errors import ConfigError
from latentthought.model.scratch import ScratchConfig
from latentthought.processes import ALONE
from latentthought.recipe import Recipe
from latentthought.training.preparation import prepare
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.training.test_teaching import ALL, HIDDEN, KL, PLAIN, SGD, TEACHER, metrics_of

CACHE: dict[str, Any] = {
    "codec": "fp32",
    "rows_per_shard": 5,
    "logits": {"kind": "top_k", "temperature": 2.0},
}
Make = Callable[..., Recipe]


@pytest.fixture
def pair(make_recipe: Make, tmp_path: Path) -> Callable[..., tuple[Recipe, Recipe]]:
    """`pair(teacher=..., data=...)`: the recipe with a live teacher, and with its cache, which is filled."""

    def both(
        teacher: dict[str, Any] = TEACHER, k: int | None = None, **changes: Any
    ) -> tuple[Recipe, Recipe]:
        values = {"model": PLAIN["model"], "objective": ALL, **changes}
        live = make_recipe(**values, teacher=teacher)
        # every word is kept, so that nothing is in the tail
        k = k or prepare(live).guidance.objective.depths.vocabulary
        cache = {**CACHE, "path": str(tmp_path / "states"), "logits": {**CACHE["logits"], "k": k}}
        cached = make_recipe(**values, teacher={**teacher, "cache": cache})
        extract(cached, tmp_path / "states", ALONE, shown=False)
        return live, cached

    return both


def assert_same_losses(live: Recipe, cached: Recipe, folder: Path) -> list[dict[str, Any]]:
    for name, recipe in (("live", live), ("cached", cached)):
        train(recipe, folder / name, progress=Silent())
    mine, theirs = metrics_of(folder / "live"), metrics_of(folder / "cached")
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        assert one.keys() == other.keys()
        for key in (key for key in one if key.startswith("loss")):
            assert one[key] == pytest.approx(other[key], rel=1e-5, abs=1e-7), key
    return mine


def plain_models(rows: Path, folder: Path) -> dict[str, Any]:
    """A student and a teacher as plain Hugging Face models of one tokenizer, which knows no thought tokens."""
    texts = [
        f"{row['question']} {' '.join(row['steps'])} yes no ### \n"
        for row in map(json.loads, rows.read_text().splitlines())
    ]
    words = train_tokenizer(TokenizerConfig(kind="words", vocab_size=200), texts)
    torch.manual_seed(0)
    for name, layers in (("student", 2), ("teacher", 3)):
        sizes = ScratchConfig(architecture="llama", layers=layers, width=16, heads=2, max_positions=64)
        sizes.replace(initializer_range=0.1).build(words).save_pretrained(folder / name)
        words.save_pretrained(folder / name)
    return {"words": len(words), "model": {"scratch": None, "base": str(folder / "student")}}


def test_a_plain_teacher_knows_nothing_of_the_students_thought_tokens(
    make_recipe: Make, pair: Any, tmp_path: Path
) -> None:
    """Its distributions are over its own tokens, live and cached; the student's are compared over no others."""
    made = plain_models(Path(make_recipe().data.path or ""), tmp_path)
    live, cached = pair(
        {"model": str(tmp_path / "teacher")},
        model=made["model"],
        objective=[{"term": "ce"}, KL],
        curriculum={"each": {"steps": 2}},
        training={**SGD, "learning_rate": 0.02},
    )
    for recipe in (live, cached):
        prepared = prepare(recipe)
        assert prepared.model.backbone.vocabulary > made["words"]
        assert prepared.guidance.objective.depths.vocabulary == made["words"]
    rows = assert_same_losses(live, cached, tmp_path)
    assert min(row["loss_kl"] for row in rows) > 1e-3


@pytest.mark.parametrize(("mine", "theirs"), [("bytes", "words"), ("words", "bytes")])
def test_a_cache_of_another_vocabulary_is_refused_as_the_teacher_itself_is(
    make_recipe: Make, pair: Any, mine: str, theirs: str
) -> None:
    model = {**PLAIN["model"], "tokenizer": {"kind": mine, "vocab_size": 300}}
    teacher = {**TEACHER, "tokenizer": {"kind": theirs, "vocab_size": 300}}
    messages = []
    for recipe in pair(teacher, k=8, model=model):
        with pytest.raises(ConfigError) as error:
            prepare(recipe)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("a kl term needs one vocabulary, and id ")


# --------------------------------------------------------------------------------------------------------------- rows
def test_a_limit_takes_some_rows_of_a_larger_cache(make_recipe: Make, pair: Any, tmp_path: Path) -> None:
    # of files: a tokenizer trained on the spot would be another for other rows
    made = plain_models(Path(make_recipe().data.path or ""), tmp_path)
    _, cached = pair(
        {"model": str(tmp_path / "teacher")},
        model=made["model"],
        training={**SGD, "learning_rate": 0.02},
        curriculum={"each": {"steps": 2}},
    )
    values = cached.dump()
    few = Recipe.parse({**values, "data": {**values["data"], "limit": 16}})
    live = Recipe.parse({**few.dump(), "teacher": {**few.dump()["teacher"], "cache": None}})
    assert len(prepare(few).dataset.rows) == 16
    assert_same_losses(live, few, tmp_path)


def test_a_row_that_has_changed_since_is_named(make_recipe: Make, pair: Any) -> None:
    _, cached = pair()
    file = Path(cached.data.path or "")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[7]["steps"] = ["b first"]
    rows.append({"id": "another", "question": "a e h", "steps": ["a first"], "answer": "yes"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ConfigError, match=r"rows: 1 \('file/train/7'\) had another text when the cache"):
        prepare(cached)


@pytest.mark.parametrize("overlong", ["drop", "truncate_steps"])
def test_rows_that_are_too_long_are_left_out_or_cut_on_both_sides(
    make_recipe: Make, pair: Any, tmp_path: Path, overlong: str
) -> None:
    lengths = [len(row) for row in prepare(make_recipe(**PLAIN)).dataset.rows]
    limit = max(lengths) - 1
    assert min(lengths) <= limit
    live, cached = pair(
        data={"max_length": limit, "overlong": overlong},
        curriculum={"each": {"steps": 2}},
        training={**SGD, "learning_rate": 0.02},
    )
    states = TeacherStateCache.open(tmp_path / "states")
    wanted = sum(length <= limit for length in lengths) if overlong == "drop" else len(lengths)
    assert len(states) == wanted
    assert_same_losses(live, cached, tmp_path)
    if overlong == "truncate_steps":
        with pytest.raises(ConfigError, match=r"format\.cut_to: the cache has"):
            prepare(cached.replace(data={**cached.data.dump(), "max_length": limit - 1}))


def test_the_teachers_answers_are_what_its_states_are_of(
    make_recipe: Make, pair: Any, tmp_path: Path
) -> None:
    """Sequence-level and feature distillation at once: rows of teacher.responses, and states of those very rows."""
    asked = load_examples(make_recipe().data)
    rows = [
        {**example.to_row(), "id": f"{example.id}/0", "steps": [f"{example.question.split()[0]} second"]}
        for example in asked
    ]
    about = {"data": {"fingerprint": asked.fingerprint}}
    (tmp_path / "answers").mkdir()
    save_responses(tmp_path / "answers", Kept(rows, {"kept": len(rows)}, len(rows)), about)
    teacher = {**TEACHER, "responses": {"path": str(tmp_path / "answers")}}
    live, cached = pair(teacher, curriculum={"each": {"steps": 2}}, training={**SGD, "learning_rate": 0.02})
    states = TeacherStateCache.open(tmp_path / "states")
    assert set(states.ids) == {row["id"] for row in rows}
    assert_same_losses(live, cached, tmp_path)


# ------------------------------------------------------------------------------------------------------------ settings
def test_the_type_is_compared_as_it_is_and_not_as_it_is_called(make_recipe: Make, pair: Any) -> None:
    _, cached = pair(k=8, objective=[{"term": "ce"}, HIDDEN])
    for dtype in ("auto", "fp32"):
        prepare(cached.replace(teacher={**cached.teacher.dump(), "dtype": dtype}))
    with pytest.raises(ConfigError, match="dtype: the cache has fp32, the recipe bf16"):
        prepare(cached.replace(teacher={**cached.teacher.dump(), "dtype": "bf16"}))


def test_a_resume_in_other_batches_is_refused(make_recipe: Make, pair: Any, tmp_path: Path) -> None:
    """Padding decides how sums are rounded: shards of two batch sizes would not be those of any one extraction."""
    _, cached = pair()
    (tmp_path / "states" / "manifest.json").unlink()
    (tmp_path / "states" / "shard-00002.safetensors").unlink()
    other = cached.replace(teacher={**cached.teacher.dump(), "batch_size": 3})
    with pytest.raises(ConfigError, match=r"made for something else: teacher.batch_size \(16 -> 3\)"):
        extract(other, tmp_path / "states", ALONE, resume=True, shown=False)
    extract(cached, tmp_path / "states", ALONE, resume=True, shown=False)
    # how they were run is nothing to the run that reads them
    prepare(other)
