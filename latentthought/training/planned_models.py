"""Student and teacher of a recipe as shapes: everything about their sizes, and none of their weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from latentthought.distillation.pruning.provenance import blocks_in
from latentthought.errors import UserError
from latentthought.model.blueprint import config_of, hollow
from latentthought.objective.terms import HiddenTerm, asks_teacher

if TYPE_CHECKING:
    from latentthought.recipe import Recipe

_ITEMSIZE = {"fp32": 4, "bf16": 2, "fp16": 2}
# words of a vocabulary that is trained on the spot and says nothing of its size
_VOCABULARY = 32_000


@dataclass(frozen=True)
class Planned:
    """The models of a run. student_config, teacher_config: of their language models; the latter None where no term looks at a
    teacher of its own."""

    recipe: Recipe
    student_config: Any
    teacher_config: Any = None

    def student(self) -> Any:
        """The student with adapters and companions, on the meta device."""
        from latentthought.model.adapters import with_adapters
        from latentthought.model.modeling import LatentThoughtForCausalLM

        settings = self.recipe.model
        model = LatentThoughtForCausalLM.from_base(hollow(self.student_config), settings.thought)
        wrapped = model if settings.lora is None else with_adapters(model, settings.lora)
        if settings.lora is not None and settings.lora.quantize != "none":
            _without_casts(model)
        with torch.device("meta"):
            self._attach(model)
        return wrapped

    def _attach(self, model: Any) -> None:
        from latentthought.model.scratch import ScratchConfig
        from latentthought.objective.projectors import Projectors
        from latentthought.objective.spelling import Speller, SpellingTerm

        for term in self.recipe.objective:
            if isinstance(term, SpellingTerm):
                own = isinstance(term.decoder, ScratchConfig)
                config = config_of(term.decoder, self.vocabulary) if own else self.student_config
                model.attach(term.name, Speller(hollow(config), self.width))
            elif isinstance(term, HiddenTerm) and term.target == "teacher" and self.taught_width:
                projectors = Projectors(term.projector, self.width, self.taught_width, self.pairs(term))
                if projectors.maps:
                    model.attach(term.name, projectors)

    def pairs(self, term: HiddenTerm) -> tuple[tuple[int, int], ...]:
        """The layers that a term compares."""
        blocks = self.student_config.num_hidden_layers
        teacher = self.teacher_config or self.student_config
        kept = blocks_in(self.student_config, teacher.num_hidden_layers)
        if kept is None and self.recipe.model.pruning is not None:
            kept = tuple(range(1, blocks + 1))  # of a smoke run, looked at before its student is pruned
        return term.layers.resolve(
            blocks, teacher.num_hidden_layers, kept, where=f"objective.{term.name}.layers"
        )

    @property
    def width(self) -> int:
        return self.student_config.hidden_size

    @property
    def taught_width(self) -> int:
        """Width of the states that the student is compared with; 0 where there are none."""
        if self.teacher_config is not None:
            return self.teacher_config.hidden_size
        return self.width if self.recipe.teacher is not None else 0

    @property
    def vocabulary(self) -> int:
        return self.student_config.vocab_size

    @property
    def positions(self) -> int | None:
        return getattr(self.student_config, "max_position_embeddings", None)

    @cached_property
    def _counts(self) -> tuple[int, int]:
        parameters = list(self.student().parameters())
        return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)

    @property
    def parameters(self) -> int:
        """Of the student, companions included."""
        return self._counts[0]

    @property
    def trained(self) -> int:
        return self._counts[1]

    @property
    def outside(self) -> int:
        """Parameters of the student's embedding and head."""
        return _outside(self.student_config)

    @property
    def in_a_block(self) -> int:
        """Parameters of one of its blocks."""
        return self.in_blocks // self.student_config.num_hidden_layers

    @cached_property
    def teacher_parameters(self) -> int:
        from latentthought.model.blueprint import count_parameters

        return 0 if self.teacher_config is None else count_parameters(self.teacher_config)

    @property
    def teacher_itemsize(self) -> int:
        """Bytes of one of its weights."""
        assert self.recipe.teacher is not None
        saved = getattr(self.teacher_config, "dtype", None)
        automatic = saved.itemsize if isinstance(saved, torch.dtype) else 2
        return _ITEMSIZE.get(self.recipe.teacher.dtype, automatic)

    @property
    def teacher_bytes(self) -> int:
        """Of its weights, where it reads along; 0 where its states come from a cache."""
        teacher = self.recipe.teacher
        if self.teacher_config is None or teacher is None or teacher.cache is not None:
            return 0
        return self.teacher_parameters * self.teacher_itemsize

    @property
    def teacher_on_device(self) -> bool:
        """Whether a teacher reads along on the device of the student, and not on another one or the host."""
        teacher = self.recipe.teacher
        return bool(self.teacher_bytes) and teacher is not None and teacher.device == "auto"

    def flops(self, processed: int, context: int, labels: int) -> float:
        """Of the student's forward: `processed` positions through the blocks, `labels` of them through the head."""
        return _forward_flops(self.student_config, self.in_blocks, processed, context, labels)

    def teacher_flops(self, positions: int) -> float:
        """Of the teacher's forward over a row, without its head."""
        return _forward_flops(self.teacher_config, self.teacher_in_blocks, positions, positions, 0)

    @property
    def teacher_in_blocks(self) -> int:
        """Parameters of the teacher but for embedding and head."""
        return self.teacher_parameters - _outside(self.teacher_config)

    @cached_property
    def in_blocks(self) -> int:
        """Parameters of the student's base but for embedding and head."""
        return sum(p.numel() for p in hollow(self.student_config).parameters()) - _outside(
            self.student_config
        )


def planned_models(recipe: Recipe, teachers: Recipe | None = None, words: int | None = None) -> Planned:
    """The models of a recipe. Errors as of `config_of`.

    teachers: the recipe that trains its teacher; where that run is not there yet, the sizes are those of this recipe's student.
    words: of the student's tokenizer, where it is known; a model of given sizes has as many rows.
    """
    student = _student_config(recipe, words)
    teacher = recipe.teacher
    if teacher is None or teacher.is_self or not any(map(asks_teacher, recipe.objective)):
        return Planned(recipe, student)
    try:
        return Planned(recipe, student, config_of(teacher.scratch or teacher.model or "", student.vocab_size))
    except UserError:
        if teachers is None:
            raise
        return Planned(recipe, student, _student_config(teachers))


def _student_config(recipe: Recipe, words: int | None = None) -> Any:
    from latentthought.data.tokenizer import TokenizerConfig

    own = recipe.model.tokenizer
    if words is None:
        words = own.vocab_size if isinstance(own, TokenizerConfig) else _VOCABULARY
    origin = recipe.model.scratch or recipe.model.base
    assert origin is not None, "a recipe has one of them"
    return config_of(origin, words)


def _without_casts(model: Any) -> None:
    """A quantised layer comes to the type that it multiplies in by itself; nothing of that stays, as autocast's copies do."""
    from latentthought.model.capture import blocks_of

    for parameter in blocks_of(model.base).parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)


def _outside(config: Any) -> int:
    """Parameters of embedding and head."""
    table = config.vocab_size * config.hidden_size
    return table if config.tie_word_embeddings else 2 * table


def _forward_flops(config: Any, in_blocks: int, processed: int, context: int, labels: int) -> float:
    heads = config.num_attention_heads
    inner = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    # scores and their product with the values, of which causality needs half
    attention = 2 * config.num_hidden_layers * inner * processed * context
    return 2.0 * in_blocks * processed + attention + 2.0 * labels * config.vocab_size * config.hidden_size
