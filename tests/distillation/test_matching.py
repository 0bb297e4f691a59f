"""Whether a cache is what a recipe needs: everything that decides a stored number is compared, and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from latentthought.data.encoding import FormatConfig
from latentthought.distillation.cache.manifest import finish
from latentthought.distillation.cache.shards import write_shard
from latentthought.distillation.cache.spec import CacheConfig
from latentthought.distillation.cache.store import TeacherStateCache
from latentthought.distillation.matching import check_cache, wanted_states
from latentthought.distillation.teacher import Teacher, TeacherConfig
from latentthought.errors import ConfigError
from latentthought.objective.comparison import Depths
from latentthought.objective.total import Objective
from tests.distillation.taught import FORMAT, LATENT, config, examples, spec_of, teacher, tokenizer

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
        "data": examples().fingerprint,
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


@pytest.mark.parametrize(
    ("wants", "student", "words"),
    [
        ({}, {"data": "0" * 64}, "data: the cache has"),
        ({}, {"seed": 7}, "teacher: the cache was made by scratch"),
        (
            {},
            {"format": FormatConfig(step="{step};")},
            "format.step: the cache has '{step}\\n', the recipe '{step};'",
        ),
        ({"cache": {"codec": "bf16"}}, {}, "codec: the cache has fp32, the recipe bf16"),
        ({"reads": "thoughts"}, {}, "format.reads: the cache has 'text', the recipe 'thoughts'"),
        ({"dtype": "bf16"}, {}, "format.dtype: the cache has 'auto', the recipe 'bf16'"),
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
        ConfigError, match=r"teacher: the cache was made by runs/big .*the recipe has runs/other"
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
