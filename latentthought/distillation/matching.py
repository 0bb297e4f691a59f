"""What a recipe wants of a cache, and whether a cache is that.

A cache is made by one command and read by another, days later and maybe on another machine. Everything that decides a stored
number is therefore written down when it is made (`CacheSpec`) and compared when it is read: the teacher's weights, type and
tokenizer, how rows were written and laid out, the layers and positions. Lengths of stages, labels and all that only the
student sees are left out: changing them leaves the cache good. Rows are compared one by one, by their text: a run on some of
a cache's rows is served, and a row that has changed since is named.
A teacher that is not on this machine (which is half of what a cache is for) is compared by name. One that is, is not loaded
either: its files are read once, by the first process of each machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import FormatConfig
from latentthought.data.example import Example
from latentthought.distillation.cache.spec import (
    ABSENT,
    CacheConfig,
    CacheSpec,
    TeacherIdentity,
    VocabularyIdentity,
    differences,
)
from latentthought.distillation.fingerprints import example_digest, files_fingerprint, tokenizer_fingerprint
from latentthought.distillation.saved import SavedModel
from latentthought.distillation.teacher import DTYPES, Teacher, TeacherConfig
from latentthought.distillation.vocabulary import check_vocabulary, identity
from latentthought.errors import ConfigError, HubUnreachableError, MissingFileError, NotFoundError
from latentthought.objective.alignment import Rule
from latentthought.objective.terms import DivergenceTerm, HiddenTerm
from latentthought.objective.total import Objective
from latentthought.processes import first_on_machine

if TYPE_CHECKING:
    from latentthought.distillation.cache.store import TeacherStateCache
    from latentthought.distillation.pupil import Pupil

_SHOWN = 3


class TeacherFacts(NamedTuple):
    """What a spec says of a teacher. weights, tokenizer: fingerprints. blocks, width: of its states. dtype: that it runs in.
    vocabulary: None where no logits are kept."""

    name: str
    weights: str
    tokenizer: str
    blocks: int
    width: int
    dtype: str = "fp32"
    vocabulary: VocabularyIdentity | None = None

    @classmethod
    def of(cls, teacher: Teacher, weights: str | None = None) -> TeacherFacts:
        """Of a loaded teacher. weights: their fingerprint; None reads them all."""
        return cls(
            teacher.name,
            weights or teacher.fingerprint,
            tokenizer_fingerprint(teacher.tokenizer),
            teacher.blocks,
            teacher.width,
            _name(teacher.dtype),
            identity(teacher.tokenizer, teacher.vocabulary),
        )


def wanted_states(objective: Objective, cache: CacheConfig) -> tuple[tuple[int, ...], tuple[Rule, ...]]:
    """Layers and positions that a cache holds: those that its settings name, else those that the terms look at.

    Raises `ConfigError` where neither names any, and for a kl term without logits to serve it.
    """
    comparing = [term.name for term in objective.terms if isinstance(term, DivergenceTerm)]
    if comparing and cache.logits is None:
        raise ConfigError(
            f"teacher.cache.logits: objective.{comparing[0]} compares distributions, and none would be kept; say which, for "
            "example {kind: top_k, k: 64}"
        )
    needed, looked_at = _looked_at(objective)
    layers = tuple(needed) if cache.layers is None else cache.layers
    rules = tuple(looked_at) if cache.positions is None else cache.positions
    if cache.logits is None:
        for name, found in (("layers", layers), ("positions", rules)):
            if not found:
                raise ConfigError(
                    f"teacher.cache.{name}: nothing would be kept; name some, or give the objective a hidden term with "
                    "target: teacher"
                )
    return layers, rules


def spec_for(
    facts: TeacherFacts,
    config: TeacherConfig,
    format: FormatConfig,
    curriculum: Curriculum,
    data: str,
    layers: Sequence[int],
    rules: Sequence[Rule],
    versions: dict[str, str] | None = None,
    cut_to: int | None = None,
) -> CacheSpec:
    """What the cache of this teacher holds. format, curriculum: the student's. data: fingerprint of the rows. cut_to: tokens that
    longer rows were shortened to, None where none is (`data.overlong`)."""
    assert config.cache is not None
    return CacheSpec(
        teacher=TeacherIdentity(name=facts.name, weights=facts.weights),
        tokenizer=facts.tokenizer,
        vocabulary=None if config.cache.logits is None else facts.vocabulary,
        data=data,
        format={
            "reads": config.reads,
            "layout": _layout(config.curriculum or curriculum, config.reads),
            "cut_to": cut_to,
            **(config.format or format).dump(),
        },
        dtype=facts.dtype,
        batch_size=config.batch_size,
        layers=tuple(layers),
        blocks=facts.blocks,
        width=facts.width,
        rules=tuple(rules),
        codec=config.cache.codec,
        rows_per_shard=config.cache.rows_per_shard,
        logits=config.cache.logits,
        versions=versions or {},
    )


def _layout(curriculum: Curriculum, reads: str) -> dict[str, Any]:
    """What of a curriculum decides how the teacher's rows are laid out, and what it is fed."""
    enclosed = curriculum.delimiters and curriculum.enclose == "reasoning"
    if reads == "text":  # a row without thoughts has delimiters only where they enclose all reasoning
        return {"method": "text", "enclosed": enclosed}
    last = curriculum.expand()[-1]
    return {
        "method": curriculum.method,
        "thoughts_per_step": curriculum.thoughts_per_step,
        "thoughts": curriculum.thoughts(-1),
        "latent_steps": last.latent_steps,
        "pad_to_max": curriculum.pad_to_max,
        "delimiters": curriculum.delimiters,
        "enclosed": enclosed,
        "mix": last.mix.at(1.0),
        "feedback": last.feedback,
        "jacobi_iterations": last.jacobi_iterations,
    }


def check_cache(cache: TeacherStateCache, config: TeacherConfig, objective: Objective, pupil: Pupil) -> None:
    """Raise `ConfigError` that names everything in which a cache is not what a run with this objective needs."""
    assert config.cache is not None
    have = cache.manifest.spec
    layers, rules = _looked_at(objective)
    facts, tokenizer = _facts(config, have, pupil)
    cut_to = pupil.max_length if pupil.overlong == "truncate_steps" else None
    wanted = spec_for(facts, config, pupil.format, pupil.curriculum, have.data, layers, rules, cut_to=cut_to)
    found = differences(have, wanted) + _divergences(objective, have)
    if changed := changed_rows(cache, pupil.examples):
        found.append(f"rows: {_some(changed)} had another text when the cache was made")
    if found:
        raise ConfigError(
            f"teacher.cache.path {config.cache.path} is not the cache that this recipe needs: "
            f"{'; '.join(found)}. Extract one into another folder, or change the recipe back"
        )
    if have.vocabulary is not None and any(isinstance(term, DivergenceTerm) for term in objective.terms):
        check_vocabulary(pupil.tokenizer, pupil.model.backbone.vocabulary, have.vocabulary, tokenizer)


def changed_rows(cache: TeacherStateCache, examples: Iterable[Example]) -> list[str]:
    """Ids of the examples that a cache has under another text. Those that it does not have are passed over."""
    return [
        example.id
        for example in examples
        if example.id in cache and cache.digest(example.id) not in ("", example_digest(example))
    ]


def _some(ids: Sequence[str]) -> str:
    return f"{len(ids):,} ({', '.join(map(repr, ids[:_SHOWN]))}{', ...' if len(ids) > _SHOWN else ''})"


def _looked_at(objective: Objective) -> tuple[list[int], list[Rule]]:
    layers = sorted({layer for pairs in objective.layer_pairs.values() for _, layer in pairs})
    rules = [t.alignment for t in objective.terms if isinstance(t, HiddenTerm) and t.target == "teacher"]
    return layers, list(dict.fromkeys(rules))


def _divergences(objective: Objective, have: CacheSpec) -> list[str]:
    """What a kl term asks and kept logits cannot give."""
    found = []
    for term in objective.terms:
        if not isinstance(term, DivergenceTerm):
            continue
        if have.logits is None:
            found.append(f"objective.{term.name}: the cache has no logits (teacher.cache.logits)")
        elif term.temperature != have.logits.temperature:
            found.append(
                f"objective.{term.name}.temperature: the cache's logits are of {have.logits.temperature:g}, the term's "
                f"{term.temperature:g}"
            )
        if term.direction != "forward":
            found.append(
                f"objective.{term.name}.direction: kept logits serve forward only, not {term.direction}"
            )
    return found


def _facts(config: TeacherConfig, have: CacheSpec, pupil: Pupil) -> tuple[TeacherFacts, Any]:
    """The teacher that the recipe names, and its tokenizer: by its files where they are here, else taken at its name (None)."""
    from latentthought.data.tokenizer import load_tokenizer
    from latentthought.model.locating import locate

    if config.scratch is not None:
        teacher = Teacher.load(
            config,
            tokenizer=pupil.tokenizer,
            thought=pupil.model.thought,
            texts=pupil.texts,
            chat=pupil.format.chat,
            seed=pupil.seed,
            device="cpu",
        )
        return TeacherFacts.of(teacher), teacher.tokenizer
    assert config.model is not None
    own = config.tokenizer if isinstance(config.tokenizer, str) else None
    try:
        where, _ = locate(config.model)
        saved = SavedModel.at(where)
        tokenizer = load_tokenizer(own or where)
        # gigabytes are hashed: the other processes of a machine leave that to the first, whose error ends them too
        weights = files_fingerprint(where) if first_on_machine() else have.teacher.weights
    except (MissingFileError, NotFoundError, HubUnreachableError):
        elsewhere = config.model == have.teacher.name or Path(config.model) == Path(have.teacher.name)
        weights = have.teacher.weights if elsewhere else ABSENT
        dtype = have.dtype if config.dtype == "auto" else config.dtype
        return TeacherFacts(config.model, weights, have.tokenizer, have.blocks, have.width, dtype), None
    blocks, width = int(saved.config.num_hidden_layers), int(saved.config.hidden_size)
    dtype = _name(saved.dtype) if config.dtype == "auto" else config.dtype
    prints = tokenizer_fingerprint(tokenizer)
    return TeacherFacts(config.model, weights, prints, blocks, width, dtype), tokenizer


def _name(dtype: torch.dtype) -> str:
    """What a recipe calls a type."""
    return next((name for name, one in DTYPES.items() if one == dtype), str(dtype).removeprefix("torch."))
