"""From the `teacher` section of a recipe to what a run needs: who teaches, what is compared, and which rows it is compared on.

Four ways, one result. A live teacher reads along; a cache was filled beforehand, and the teacher is not even loaded; with
`model: self` the student reads the whole chain of thought beside its own row; and where no term looks at a teacher there is
nothing to do. Everything that cannot be compared is said here, before the first step.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from latentthought.distillation.on_policy import OnPolicy
from latentthought.distillation.pruning.provenance import channels_in
from latentthought.distillation.pupil import Pupil
from latentthought.distillation.teaching import CachedTeaching, LiveTeaching, Teaching
from latentthought.distillation.vocabulary import difference, shared_vocabulary
from latentthought.errors import ConfigError, DataError
from latentthought.objective.projectors import Projectors
from latentthought.objective.spelling import Speller, SpellingTerm
from latentthought.objective.terms import (
    CrossEntropyTerm,
    DivergenceTerm,
    HiddenTerm,
    Term,
    asks_teacher,
    rule_of,
)
from latentthought.objective.total import Objective

if TYPE_CHECKING:
    from latentthought.distillation.reader import Reader
    from latentthought.distillation.teacher import Teacher, TeacherConfig


@dataclass(frozen=True)
class Guidance:
    """objective: with depths. teacher: a live one, or None. teaching: joins its readings with the student's; None where nobody
    teaches. width: of the teacher's states. kept: which of the pupil's rows can be taught. lines: for the log. on_policy: writes
    and reads the student's own text, where the recipe asks for it."""

    objective: Objective
    teacher: Teacher | None = None
    teaching: Teaching | None = None
    width: int | None = None
    kept: Sequence[int] | None = None
    lines: list[str] = field(default_factory=list)
    on_policy: OnPolicy | None = None


def guide(terms: Sequence[Term], config: TeacherConfig | None, pupil: Pupil) -> Guidance:
    """What a run with these terms needs of its teacher.

    Raises `ConfigError` for models that cannot be compared (widths, layers, vocabularies), for a cache that is not there or is
    of something else, and where no row has anything to compare.
    """
    if config is not None and config.on_policy is not None and not any(map(rule_of, terms)):
        raise ConfigError(
            "teacher.on_policy: nothing would be compared on the student's own text; give objective a kl term, or a hidden "
            "one with target: teacher"
        )
    chains = [term.name for term in terms if isinstance(term, CrossEntropyTerm) and term.of == "chain"]
    if chains and (config is None or not config.is_self):
        raise ConfigError(
            f"objective.{chains[0]}.of: chain is what the student reads when it teaches itself: say teacher.model: self, or "
            "leave `of` out"
        )
    if not any(map(asks_teacher, terms)):
        unused = config is not None and config.responses is None
        lines = ["teacher    not looked at by any term of the objective, and not loaded"] if unused else []
        return Guidance(Objective(terms), lines=lines)
    assert config is not None, "the recipe has checked that there is one"
    if config.is_self:
        return _self_taught(terms, config, pupil)
    return _cached(terms, config, pupil) if config.cache is not None else _live(terms, config, pupil)


def attach_companions(model: Any, guidance: Guidance, tokenizer: Any) -> None:
    """Give the student its projectors and auxiliary decoders; after peft has wrapped it, so that they stay out of its reach."""
    for term in guidance.objective.terms:
        if isinstance(term, SpellingTerm):
            model.attach(term.name, Speller.build(term, model, tokenizer))
        elif isinstance(term, HiddenTerm) and term.target == "teacher":
            pairs = guidance.objective.layer_pairs[term.name]
            assert guidance.width is not None
            where = f"objective.{term.name}.projector"
            channels = None
            if term.layers.strategy == "provenance":
                channels = channels_in(model.base.config.get_text_config(), guidance.width)
            projectors = Projectors(
                term.projector, model.backbone.width, guidance.width, pairs, where, channels
            )
            if projectors.maps:
                model.attach(term.name, projectors)


def _live(terms: Sequence[Term], config: TeacherConfig, pupil: Pupil) -> Guidance:
    from latentthought.distillation.teacher import Teacher

    teacher = Teacher.load(
        config,
        tokenizer=pupil.tokenizer,
        thought=pupil.model.thought,
        texts=pupil.texts,
        chat=pupil.format.chat,
        seed=pupil.seed,
        device=pupil.device,
        spread=pupil.spread,
    )
    vocabulary = None
    if any(isinstance(term, DivergenceTerm) for term in terms):
        student_rows = pupil.model.backbone.vocabulary
        vocabulary = shared_vocabulary(pupil.tokenizer, teacher.tokenizer, student_rows, teacher.vocabulary)
    depths = pupil.depths(teacher.blocks, vocabulary)
    objective = Objective(terms, depths)
    reader = teacher.reader(config, pupil.format, pupil.curriculum, pupil.max_length, pupil.overlong)
    read = reader.read(pupil.examples)
    rows = [pupil.rows[place] for place in read.kept]
    teaching = LiveTeaching(objective, rows, read.readings, reader.collate)
    lines = [
        f"teacher    {teacher.name}: {teacher.blocks} blocks of width {teacher.width}, reads along{teacher.where_it_stands}"
    ]
    lines += [f"           {line}" for line in _dropped(read.dropped)]
    on_policy = _on_policy(config, pupil, teaching, reader, teacher.tokenizer)
    return _checked(Guidance(objective, teacher, teaching, teacher.width, read.kept, lines, on_policy), pupil)


def _self_taught(terms: Sequence[Term], config: TeacherConfig, pupil: Pupil) -> Guidance:
    from latentthought.distillation.reader import Reader, whole_text

    blocks = pupil.model.backbone.blocks
    objective = Objective(terms, pupil.depths(blocks, pupil.model.backbone.vocabulary))
    curriculum = whole_text(config.curriculum or pupil.curriculum)
    limits = [limit for limit in (pupil.max_length, pupil.model.backbone.positions) if limit is not None]
    limit = min(limits, default=None)
    reader = Reader(
        pupil.tokenizer, pupil.format, curriculum, pupil.model.thought.tokens, limit, pupil.overlong
    )
    read = reader.read(pupil.examples)
    rows = [pupil.rows[place] for place in read.kept]
    teaching = LiveTeaching(objective, rows, read.readings, reader.collate, key="chain")
    lines = ["teacher    the student itself, as it reads the whole chain of thought", *_dropped(read.dropped)]
    width = pupil.model.backbone.width
    on_policy = _on_policy(config, pupil, teaching, reader, pupil.tokenizer)
    return _checked(Guidance(objective, None, teaching, width, read.kept, lines, on_policy), pupil)


def _cached(terms: Sequence[Term], config: TeacherConfig, pupil: Pupil) -> Guidance:
    from latentthought.distillation.cache.store import TeacherStateCache
    from latentthought.distillation.matching import check_cache

    assert config.cache is not None
    cache = TeacherStateCache.open(config.cache.path)
    spec = cache.manifest.spec
    # as live: the student's own rows after the teacher's last token do not count
    vocabulary = None if spec.vocabulary is None else spec.vocabulary.size
    objective = Objective(terms, pupil.depths(spec.blocks, vocabulary))
    check_cache(cache, config, objective, pupil)
    kept = [place for place, row in enumerate(pupil.rows) if row.id in cache]
    if not kept:
        cache.require(row.id for row in pupil.rows)
    teaching = CachedTeaching(objective, [pupil.rows[place] for place in kept], cache)
    lines = [f"teacher    {spec.teacher.name}, its states in {config.cache.path} ({spec.codec})"]
    if len(kept) < len(pupil.rows):
        lines.append(f"           {len(pupil.rows) - len(kept)} rows are not in the cache, and are left out")
    return _checked(Guidance(objective, None, teaching, spec.width, kept, lines), pupil)


def _on_policy(
    config: TeacherConfig, pupil: Pupil, teaching: LiveTeaching, reader: Reader, tokenizer: Any
) -> OnPolicy | None:
    """tokenizer: the teacher's, which has to know what the student writes."""
    if config.on_policy is None:
        return None
    if (found := difference(pupil.tokenizer, tokenizer)) is not None:
        raise ConfigError(
            f"teacher.on_policy: the teacher reads the very tokens that the student writes, and {found}: take a teacher of the "
            "same family, or its own answers as the training set (teacher.responses)"
        )
    model, given = pupil.model, pupil.model.generation_config.eos_token_id
    ends = {pupil.tokenizer.eos_token_id, *(given if isinstance(given, list) else [given])} - {None}
    return OnPolicy(
        config.on_policy,
        teaching,
        reader,
        pupil.curriculum,
        model.thought.tokens,
        ends,
        {*tokenizer.get_vocab().values()} - {model.thought.thought_token_id},
        model.backbone.positions,
        pupil.seed,
    )


def _dropped(lines: Sequence[str]) -> list[str]:
    return [f"{len(lines)} rows are too long for the teacher: {', '.join(lines[:3])}"] if lines else []


def _checked(guidance: Guidance, pupil: Pupil) -> Guidance:
    """The guidance, with a line for each term that finds nothing to compare at some stages.

    Raises `ConfigError` for a term that finds nothing at any; all judged by the first rows.
    """
    teaching, stages = guidance.teaching, pupil.curriculum.expand()
    assert teaching is not None
    if not teaching.rows:
        raise DataError("teacher: no row is left that it can read")
    tried, tokens, draws = teaching.rows[:_TRIED], pupil.model.thought.tokens, random.Random(pupil.seed)
    found: dict[str, set[int]] = {rule: set() for rule in teaching.rules.values()}
    for index, row in enumerate(tried):
        for number in range(len(stages)):
            lesson = teaching.lesson(index, pupil.curriculum.layout(row, number, draws, tokens))
            for rule, (sites, _) in lesson.pairs.items():
                if len(sites):
                    found[rule].add(number)
    teaching.forget()
    lines, first = [], f"in any of the first {len(tried)} rows"
    for name, rule in teaching.rules.items():
        if not found[rule]:
            raise ConfigError(
                f"objective.{name}: student and teacher have no position in common under the rule {rule!r}, {first}; thoughts "
                "are compared with words by step_ends, pooled or answer"
            )
        if without := [stage.name for number, stage in enumerate(stages) if number not in found[rule]]:
            named = ", ".join(without)
            lines.append(
                f"           {name}: nothing to compare in stage {named} by the rule {rule!r}, {first}"
            )
    return replace(guidance, lines=[*guidance.lines, *lines])


_TRIED = 64
