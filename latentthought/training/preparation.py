"""Everything that a recipe builds before the first step: rows, tokenizer, model, stage plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latentthought.processes import process_count

if TYPE_CHECKING:
    from latentthought.data.example import ExampleSet
    from latentthought.data.fitting import Fitted
    from latentthought.distillation.guidance import Guidance
    from latentthought.recipe import Recipe
    from latentthought.training.dataset import StagedDataset
    from latentthought.training.float8 import Converted
    from latentthought.training.stages import StagePlan


@dataclass(frozen=True)
class Prepared:
    """What `prepare` built. rows: encoded, those that fit. guidance: objective and teacher. dataset: all slots of the run.
    float8: what of the model multiplies in float8."""

    recipe: Recipe
    tokenizer: Any
    model: Any
    examples: ExampleSet
    rows: Fitted
    guidance: Guidance
    dataset: StagedDataset
    float8: Converted | None = None

    @property
    def plan(self) -> StagePlan:
        return self.dataset.plan

    def summary(self) -> list[str]:
        """The run in a few lines, for `--dry-run` and for the log."""
        from latentthought.model.sharding import whole_shape

        sizes = [(whole_shape(p).numel(), p.requires_grad) for p in self.model.parameters()]
        parameters = sum(size for size, _ in sizes)
        trained = sum(size for size, trains in sizes if trains)
        lines = [
            f"model      {parameters:,} parameters, {trained:,} of them trained",
            f"data       {len(self.dataset.rows):,} rows from {self.examples.origin}",
        ]
        lines[1:1] = [f"precision  {self.float8}"] if self.float8 else []
        lines += (
            [f"           {len(self.examples.skipped)} rows skipped: {self._skips()}"]
            if self.examples.skipped
            else []
        )
        lines += [f"           {self.rows.report()}"] if self.rows.report() else []
        lines += self.guidance.lines
        for number, (stage, steps) in enumerate(zip(self.plan.stages, self.plan.lengths, strict=True)):
            early = (
                f" at most, until {stage.advance_at:.0%} of the rows are right" if stage.advance_at else ""
            )
            thoughts = self.recipe.curriculum.thoughts(number)
            lines.append(
                f"stage {number:<4} {stage.name}: {steps:,} steps{early}, {thoughts} thought{'' if thoughts == 1 else 's'}"
            )
        processes = process_count()
        spread = f" on {processes} processes" if processes > 1 else ""
        lines.append(
            f"run        {self.plan.nominal_steps:,} steps of {self.recipe.training.batch_size} rows{spread}"
        )
        return lines

    def _skips(self) -> str:
        return "; ".join(
            f"{count} x {reason}" for reason, count in list(self.examples.skip_counts.items())[:3]
        )


def can_be_spread(recipe: Recipe) -> bool:
    """Whether the student's weights may be dealt out while they are read: not those drawn at random, nor what DoRA measures,
    nor those that an auxiliary decoder begins with."""
    from latentthought.model.scratch import ScratchConfig
    from latentthought.objective.spelling import SpellingTerm

    copied = any(
        isinstance(term, SpellingTerm) and not isinstance(term.decoder, ScratchConfig)
        for term in recipe.objective
    )
    dora = recipe.model.lora is not None and recipe.model.lora.dora
    return recipe.model.base is not None and not copied and not dora


def prepare(recipe: Recipe, smoke: bool = False, spread: Mapping[str, Any] | None = None) -> Prepared:
    """Read the data, and build tokenizer, model, guidance and stage plan.

    smoke: rows made by the source itself. spread: DeepSpeed's settings of stage 3, by which what is read from files is dealt out
    to the processes at once (`model.spreading`); None leaves all of it whole.
    """
    import torch

    from latentthought.distillation.guidance import attach_companions, guide
    from latentthought.distillation.pupil import Pupil
    from latentthought.model.adapters import with_adapters
    from latentthought.model.spreading import spread_loading
    from latentthought.objective.terms import asks_teacher
    from latentthought.training.checkpointing import inside
    from latentthought.training.dataset import staged
    from latentthought.training.float8 import choose, convert
    from latentthought.training.rows import training_rows

    recipe.model.require_pruned()  # before data is fetched
    curriculum = recipe.curriculum
    responses = None if recipe.teacher is None else recipe.teacher.responses
    data, examples = training_rows(recipe.data, responses, recipe.seed, smoke)
    tokenizer = recipe.model.build_tokenizer(data.texts(examples), chat=data.format.chat)
    examples = data.rows_of(examples, tokenizer, curriculum, recipe.model.thought)
    with spread_loading(spread if can_be_spread(recipe) else None):
        model: Any = recipe.model.build(tokenizer, recipe.seed)
    # what the model does at inference unless told otherwise: what its last stage trained
    thought = model.set_thought(
        thoughts=curriculum.thoughts(-1),
        fill="pause" if curriculum.method == "pause" else "latent",
        mix_ratio=curriculum.expand()[-1].mix.at(1.0) if curriculum.method == "soft_mix" else 0.0,
    )
    model.config.prompt_format = data.format.dump()
    taught = any(map(asks_teacher, recipe.objective))
    rows = data.encode(
        examples, tokenizer, curriculum, thought.tokens, model.backbone.positions, spans=taught
    )
    pupil = Pupil(
        model=model,
        tokenizer=tokenizer,
        examples=[examples[place] for place in rows.kept],
        rows=rows.rows,
        format=data.format,
        curriculum=curriculum,
        max_length=data.max_length,
        overlong=data.overlong,
        texts=data.texts(examples),
        seed=recipe.seed,
        device=recipe.engine.place(),
        spread=spread,
    )
    guidance = guide(recipe.objective, recipe.teacher, pupil)
    if recipe.model.lora is not None:
        model = with_adapters(model, recipe.model.lora)
    torch.manual_seed(recipe.seed)
    attach_companions(inside(model), guidance, tokenizer)
    float8, engine = None, recipe.engine
    if engine.precision == "fp8":
        float8 = convert(model, choose(engine.fp8, engine.place(), engine.gradient_checkpointing))
    chosen = rows.rows if guidance.kept is None else [rows.rows[place] for place in guidance.kept]
    dataset = staged(chosen, curriculum, thought, recipe.training, recipe.seed, guidance.teaching)
    return Prepared(recipe, tokenizer, model, examples, rows, guidance, dataset, float8)
