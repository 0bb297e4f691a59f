"""From the `teacher` section of a recipe to what a run needs: who teaches, what is compared, and which rows it is compared on.

Four ways, one result. A live teacher reads along; a cache was filled beforehand, and the teacher is not even loaded; with
`model: self` the student reads the whole chain of thought beside its own row; and where no term looks at a teacher there is
nothing to do. Everything that cannot be compared is said here, before the first step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latentthought.distillation.on_policy import OnPolicy
from latentthought.distillation.teaching import CachedTeaching, LiveTeaching, Teaching
from latentthought.distillation.vocabulary import difference, shared_vocabulary
from latentthought.errors import ConfigError, DataError
from latentthought.objective.comparison import Depths
from latentthought.objective.projectors import Projectors
from latentthought.objective.spelling import Speller, SpellingTerm
from latentthought.objective.terms import DivergenceTerm, HiddenTerm, Term, asks_teacher, rule_of
from latentthought.objective.total import Objective
from latentthought.thoughts.layout import ThoughtTokens

if TYPE_CHECKING:
    from latentthought.data.curriculum import Curriculum
    from latentthought.data.encoding import Encoded, FormatConfig
    from latentthought.data.example import Example
    from latentthought.distillation.reader import Reader
    from latentthought.distillation.teacher import Teacher, TeacherConfig


@dataclass(frozen=True)
class Pupil:
    """The student and its rows. model: without adapters. examples, rows: in the same order; rows encoded with spans where a
    term looks at a teacher. data: fingerprint of the rows that the recipe names. texts, seed: for a teacher from scratch, see
    `Teacher.load`."""

    model: Any
    tokenizer: Any
    examples: Sequence[Example]
    rows: Sequence[Encoded]
    format: FormatConfig
    curriculum: Curriculum
    data: str = ""
    texts: Iterable[str] = ()
    seed: int = 0


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
    if not any(map(asks_teacher, terms)):
        return Guidance(Objective(terms))
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
            projectors = Projectors(term.projector, model.backbone.width, guidance.width, pairs, where)
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
    )
    vocabulary = None
    if any(isinstance(term, DivergenceTerm) for term in terms):
        student_rows = pupil.model.backbone.vocabulary
        vocabulary = shared_vocabulary(pupil.tokenizer, teacher.tokenizer, student_rows, teacher.vocabulary)
    depths = Depths(_blocks(pupil.model), teacher.blocks, vocabulary)
    objective = Objective(terms, depths)
    reader = teacher.reader(config, pupil.format, pupil.curriculum)
    read = reader.read(pupil.examples)
    rows = [pupil.rows[place] for place in read.kept]
    teaching = LiveTeaching(objective, rows, read.readings, reader.collate)
    lines = [f"teacher    {teacher.name}: {teacher.blocks} blocks of width {teacher.width}, reads along"]
    lines += [f"           {line}" for line in _dropped(read.dropped)]
    on_policy = _on_policy(config, pupil, teaching, reader, teacher.tokenizer)
    return _checked(Guidance(objective, teacher, teaching, teacher.width, read.kept, lines, on_policy), pupil)


def _self_taught(terms: Sequence[Term], config: TeacherConfig, pupil: Pupil) -> Guidance:
    from latentthought.distillation.reader import Reader, whole_text

    blocks = _blocks(pupil.model)
    objective = Objective(terms, Depths(blocks, blocks, pupil.model.backbone.vocabulary))
    curriculum = whole_text(config.curriculum or pupil.curriculum)
    reader = Reader(pupil.tokenizer, pupil.format, curriculum, _tokens(pupil.model), _positions(pupil.model))
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
    vocabulary = pupil.model.backbone.vocabulary
    objective = Objective(terms, Depths(_blocks(pupil.model), spec.blocks, vocabulary))
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
        _tokens(model),
        ends,
        {*tokenizer.get_vocab().values()} - {model.thought.thought_token_id},
        _positions(model),
        pupil.seed,
    )


def _tokens(model: Any) -> ThoughtTokens:
    thought = model.thought
    return ThoughtTokens(thought.start_token_id, thought.end_token_id, thought.thought_token_id or 0)


def _positions(model: Any) -> int | None:
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _blocks(model: Any) -> int:
    return int(model.config.get_text_config().num_hidden_layers)


def _dropped(lines: Sequence[str]) -> list[str]:
    return [f"{len(lines)} rows are too long for the teacher: {', '.join(lines[:3])}"] if lines else []


def _checked(guidance: Guidance, pupil: Pupil) -> Guidance:
    """The guidance, when the first rows have something to compare at the last stage."""
    teaching = guidance.teaching
    assert teaching is not None
    if not teaching.rows:
        raise DataError("teacher: no row is left that it can read")
    tokens = _tokens(pupil.model)
    found = dict.fromkeys(teaching.rules.values(), 0)
    for index, row in enumerate(teaching.rows[:_TRIED]):
        for stage in range(len(pupil.curriculum.expand())):
            lesson = teaching.lesson(index, pupil.curriculum.layout(row, stage, None, tokens))
            for rule, pairs in lesson.pairs.items():
                found[rule] += len(pairs)
    teaching.empty.clear()
    for name, rule in teaching.rules.items():
        if not found[rule]:
            raise ConfigError(
                f"objective.{name}: student and teacher have no position in common under the rule {rule!r}, in any of the first "
                f"{min(len(teaching.rows), _TRIED)} rows; thoughts are compared with words by step_ends, pooled or answer"
            )
    return guidance


_TRIED = 64
