"""What a recipe wants of a cache, and whether a cache is that.

A cache is made by one command and read by another, days later and maybe on another machine. Everything that decides a stored
number is therefore written down when it is made (`CacheSpec`) and compared when it is read: the teacher's weights, its
tokenizer, the rows, how they were written and laid out, the layers and positions. Lengths of stages, labels and all that
only the student sees are left out: changing them leaves the cache good.
A teacher that is not on this machine (which is half of what a cache is for) is compared by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import FormatConfig
from latentthought.distillation.cache.spec import CacheConfig, CacheSpec, TeacherIdentity, differences
from latentthought.distillation.fingerprints import files_fingerprint, tokenizer_fingerprint
from latentthought.distillation.teacher import Teacher, TeacherConfig
from latentthought.errors import ConfigError, HubUnreachableError, MissingFileError, NotFoundError
from latentthought.objective.alignment import Rule
from latentthought.objective.terms import DivergenceTerm, HiddenTerm
from latentthought.objective.total import Objective

if TYPE_CHECKING:
    from latentthought.distillation.cache.store import TeacherStateCache
    from latentthought.distillation.guidance import Pupil


class TeacherFacts(NamedTuple):
    """What a spec says of a teacher. weights, tokenizer: fingerprints. blocks, width: of its states."""

    name: str
    weights: str
    tokenizer: str
    blocks: int
    width: int

    @classmethod
    def of(cls, teacher: Teacher) -> TeacherFacts:
        """Of a loaded teacher; reads all its weights once."""
        tokenizer = tokenizer_fingerprint(teacher.tokenizer)
        return cls(teacher.name, teacher.fingerprint, tokenizer, teacher.blocks, teacher.width)


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
) -> CacheSpec:
    """What the cache of this teacher holds. format, curriculum: the student's. data: fingerprint of the rows."""
    assert config.cache is not None
    return CacheSpec(
        teacher=TeacherIdentity(name=facts.name, weights=facts.weights),
        tokenizer=facts.tokenizer,
        data=data,
        format={
            "reads": config.reads,
            "layout": _layout(config.curriculum or curriculum, config.reads),
            "dtype": config.dtype,
            **(config.format or format).dump(),
        },
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
    wanted = spec_for(
        _facts(config, have, pupil), config, pupil.format, pupil.curriculum, pupil.data, layers, rules
    )
    found = differences(have, wanted) + _divergences(objective, have)
    if found:
        raise ConfigError(
            f"teacher.cache.path {config.cache.path} is not the cache that this recipe needs: "
            f"{'; '.join(found)}. Extract one into another folder, or change the recipe back"
        )


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


def _facts(config: TeacherConfig, have: CacheSpec, pupil: Pupil) -> TeacherFacts:
    """The teacher that the recipe names: from its files where they are here, else taken at its name."""
    from latentthought.data.tokenizer import load_tokenizer
    from latentthought.model.loading import locate, read_config

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
        return TeacherFacts.of(teacher)
    assert config.model is not None
    own = config.tokenizer if isinstance(config.tokenizer, str) else None
    try:
        where, _ = locate(config.model)
        text = read_config(where).get_text_config()
        tokenizer = tokenizer_fingerprint(load_tokenizer(own or where))
        weights = files_fingerprint(where)
    except (MissingFileError, NotFoundError, HubUnreachableError):
        elsewhere = config.model == have.teacher.name or Path(config.model) == Path(have.teacher.name)
        weights = have.teacher.weights if elsewhere else f"not found, of {config.model}"
        return TeacherFacts(config.model, weights, have.tokenizer, have.blocks, have.width)
    return TeacherFacts(config.model, weights, tokenizer, int(text.num_hidden_layers), int(text.hidden_size))
