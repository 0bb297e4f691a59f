"""How long a run takes on the CPU at hand, before it is begun: the work of its own batches (`training.cost`) at measured rates.

Of every leg a few steps are taken, spread evenly over it, with the very rows, layouts and padding that they will have. Stages
that end when they are learnt are counted as long as they may last. Left out: comparison with a teacher, the student's own text,
validation and checkpoints. For a GPU nothing is measured yet, so nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from latentthought.training.calibration import probe
from latentthought.training.cost import ModelSizes, Rates, Work, reading_work, step_work
from latentthought.training.dataset import StagedDataset
from latentthought.training.hollow_step import StepShape
from latentthought.training.measured import Measured
from latentthought.training.planned_models import Planned
from latentthought.training.stages import StagePlan

if TYPE_CHECKING:
    from latentthought.data.encoding import Encoded
    from latentthought.recipe import Recipe
    from latentthought.thoughts.layout import Row

# steps of a leg that are looked at
_LOOKED_AT = 4


@dataclass(frozen=True)
class Duration:
    """step: seconds of a step, on average over the run; longest: of its costliest leg. steps: of the run, at most; None where
    no rows are at hand, and `step` is then of the longest rows. beyond: what is larger than anything that was measured."""

    step: float
    longest: float
    steps: int | None
    beyond: tuple[str, ...]

    @property
    def run(self) -> float | None:
        """Seconds of all steps."""
        return None if self.steps is None else self.step * self.steps


def rates_here(known: Measured, threads: int | None = None) -> Rates:
    """The measured rates, carried over to this machine by a second of small measurements."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return known.here(probe())
    finally:
        torch.set_num_threads(before)


def duration(
    models: Planned,
    longest: StepShape,
    known: Measured,
    rates: Rates,
    rows: Sequence[Encoded] = (),
    tokens: Any = None,
) -> Duration:
    """Of a run in one process. longest: the step that memory was counted for; rows, tokens: where they are at hand."""
    recipe = models.recipe
    if not rows:
        _, accumulation = recipe.engine.accumulation(recipe.training.batch_size, 1)
        seconds = rates.seconds(_work(models, [longest] * accumulation, longest.rows))
        return Duration(seconds, seconds, None, tuple(known.beyond(longest, models.parameters)))
    plan = StagePlan(
        recipe.curriculum, len(rows), recipe.training.batch_size, recipe.seed, recipe.training.max_steps
    )
    dataset = StagedDataset(
        rows,
        recipe.curriculum,
        tokens,
        plan,
        recipe.training.batch_size,
        recipe.seed,
        recipe.training.group_by_length,
    )
    total, most, beyond = 0.0, 0.0, dict[str, None]()
    for leg in plan.legs:
        stop = min(leg.stop, plan.end)
        if stop <= leg.start:
            continue
        count = min(_LOOKED_AT, stop - leg.start)
        looked_at = [leg.start + (stop - leg.start) * (2 * n + 1) // (2 * count) for n in range(count)]
        shapes = [shape for step in looked_at for shape in step_shapes(recipe, dataset, step, longest.rows)]
        seconds = rates.seconds(_work(models, shapes, longest.rows)) / count
        total, most = total + seconds * (stop - leg.start), max(most, seconds)
        beyond |= {words: None for shape in shapes for words in known.beyond(shape, models.parameters)}
    return Duration(total / plan.end, most, plan.end, tuple(beyond))


def sizes_of(models: Planned) -> ModelSizes:
    """The student of a recipe."""
    return _sizes(models.student_config, models.in_blocks, models.trained, models.trained / models.parameters)


def _sizes(config: Any, in_blocks: int, trained: int, share: float) -> ModelSizes:
    heads = config.num_attention_heads
    wide = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelSizes(
        blocks=config.num_hidden_layers,
        in_blocks=in_blocks,
        inner=heads * wide,
        keys=(getattr(config, "num_key_value_heads", None) or heads) * wide,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        trained=trained,
        share=share,
    )


def _work(models: Planned, shapes: Sequence[StepShape], rows: int) -> Work:
    """Of as many steps as these micro-batches fill."""
    recipe = models.recipe
    accumulation = -(-recipe.training.batch_size // rows)
    sizes, total = sizes_of(models), Work()
    for shape in shapes:
        one = step_work(
            sizes,
            shape,
            recomputing=recipe.engine.gradient_checkpointing,
            optimizer=recipe.training.optimizer,
            clipping=recipe.training.max_grad_norm > 0,
        )
        # the update is once a step
        total = total.plus(replace(one, optimizer=one.optimizer / accumulation))
        if models.teacher_bytes:
            config = models.teacher_config
            teacher = _sizes(config, models.teacher_in_blocks, 0, 0.0)
            total = total.plus(reading_work(teacher, shape.rows, shape.positions))
    return total


def step_shapes(recipe: Recipe, dataset: StagedDataset, step: int, micro: int) -> list[StepShape]:
    """The micro-batches of a step of the run."""
    size, moment = dataset.batch_size, dataset.plan.at(step)
    slots = [dataset[step * size + place] for place in range(size)]
    shapes = []
    for start in range(0, size, micro):
        readings = [slot.reading for slot in slots[start : start + micro]]
        shape = _shape(recipe, [one.row for one in readings], moment.laid_out, moment.mix)
        if _reads_chain(recipe):
            words = max(len(one.encoded) for one in readings)
            scored = any(term.term == "ce" and term.of == "chain" for term in recipe.objective)
            shape = replace(shape, chain=words, chain_labels=words * 3 // 4 if scored else 0)
        shapes.append(shape)
    return shapes


def _reads_chain(recipe: Recipe) -> bool:
    own = any(term.term == "ce" and term.of == "chain" for term in recipe.objective)
    return own or (recipe.teacher is not None and recipe.teacher.is_self)


def _shape(recipe: Recipe, rows: Sequence[Row], number: int, mix: float) -> StepShape:
    """Rows as collation puts them side by side."""
    stage, columns = recipe.curriculum.expand()[number], recipe.curriculum.columns(number)
    longest = max(len(row) for row in rows)
    before, thoughts, after = longest, 0, 0
    if columns:
        stop = max(columns + 1, *(row.pivot for row in rows))
        before, thoughts, after = stop - columns, columns, max(len(row) - row.pivot for row in rows)
    elif columns is None and any(row.thoughts for row in rows):
        before = min(row.pivot - row.thoughts for row in rows)
        stop = max(row.pivot for row in rows)
        thoughts, after = stop - before, longest - stop
    if not mix:
        before, thoughts, after = before + thoughts + after, 0, 0
    labels = sum(label >= 0 for row in rows for label in row.labels[1:])
    return StepShape(
        rows=len(rows),
        before=before,
        thoughts=thoughts,
        after=after,
        labels=round(labels / len(rows)),
        feedback=stage.feedback,
        iterations=stage.jacobi_iterations,
    )
