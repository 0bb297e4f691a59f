"""What a run will take of every device, of the host, of the disk and in arithmetic, said before anything is loaded.

    weights, gradients, optimizer   counted on the model's own parameters (adapters, projectors, auxiliary decoders too), by what
                                    the strategy spreads over the processes
    activations                     counted on a step of fake tensors (`training.hollow_step`), at the stage of most thoughts; fp8
                                    counts as bf16
    teacher                         its weights in its type, and what its forward holds
    the engine's own                buckets, and what ZeRO-3 has gathered at the moment

A device also loses what its driver and the allocator's gaps take; about a tenth should stay free. Nothing is read but configs,
and rows where they are at hand; otherwise the longest that the recipe lets through are assumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from typing import TYPE_CHECKING, Any, get_args

from latentthought.errors import ConfigError
from latentthought.training.checkpointing import inside
from latentthought.training.engine import Strategy
from latentthought.training.hollow_step import Gradients, StepShape, step_memory
from latentthought.training.planned_models import Planned
from latentthought.training.preparation import can_be_spread
from latentthought.training.strategy import check_settings

if TYPE_CHECKING:
    from latentthought.data.encoding import Encoded
    from latentthought.recipe import Recipe

# columns of a row where neither data, recipe nor model say how long rows are
ASSUMED_LENGTH = 1024
# float32 numbers of AdamW and of the others that the optimizer keeps of each trained parameter
_MOMENTS = {"adamw": 2, "sgd": 0, "adafactor": 0}
# rows among whose longest texts the longest layout is looked for
_TRIED = 64
_QUANTIZED_BYTES = {"none": 4.0, "8bit": 1.0, "4bit": 0.52}


@dataclass(frozen=True)
class Part:
    """One use of a device's memory. note: how it comes about."""

    name: str
    bytes: int
    note: str = ""


@dataclass(frozen=True)
class Forecast:
    """For one number of processes.

    parts: of a device's memory. shape: the step that they are of. others: the total of a device by strategy, without
    offload; None where a strategy refuses the recipe.
    host: bytes of a process's own memory, while models are read or for good. checkpoint: bytes on disk of one. flops: of an
    optimizer step, on all devices together.
    """

    processes: int
    parts: tuple[Part, ...]
    shape: StepShape
    others: dict[Strategy, int | None]
    host: int
    checkpoint: int
    flops: float

    @property
    def total(self) -> int:
        """Bytes of a device."""
        return _total(self.parts)


def forecast(models: Planned, processes: int, rows: Sequence[Encoded] = (), tokens: Any = None) -> Forecast:
    """What a run with these models takes on so many processes.

    rows, tokens: the encoded rows and the thought tokens, where they are at hand. Raises `ConfigError` for a batch that does not
    divide among the processes.
    """
    recipe = models.recipe
    micro, accumulation = recipe.engine.accumulation(recipe.training.batch_size, processes)
    shape = replace(step_shape(recipe, models.positions, rows, tokens), rows=micro)
    steady = _steady(recipe, models, processes)
    gradients: Gradients = "there" if accumulation > 1 else "fresh"
    if recipe.engine.strategy != "ddp":
        gradients = "elsewhere"
    model = models.student()
    if recipe.engine.gradient_checkpointing:
        inside(model).gradient_checkpointing_enable()
    moving = step_memory(
        model,
        shape,
        bf16=recipe.engine.autocast != "fp32",
        gradients=gradients,
        spread=recipe.engine.strategy in ("zero3", "fsdp2") and processes > 1,
    )
    if gradients == "there":
        moving -= 4 * models.trained  # which stand in a line of their own
    held = "gradients and activations" if gradients == "fresh" else "activations"
    note = f"rows of {shape.positions} positions, {shape.thoughts} of them thoughts; at their highest"
    beside = [Part(held, moving, note), *_of_terms(recipe, models, shape)]
    others = {strategy: _by_strategy(models, processes, strategy, beside) for strategy in get_args(Strategy)}
    return Forecast(
        processes=processes,
        parts=tuple(part for part in [*steady, *beside] if part.bytes),
        shape=shape,
        others=others,
        host=_on_host(recipe, models, processes),
        checkpoint=4 * models.trained * (1 + _MOMENTS[recipe.training.optimizer]),
        flops=_flops(recipe, models, shape) * recipe.training.batch_size,
    )


def _total(parts: Iterable[Part]) -> int:
    return sum(part.bytes for part in parts)


def _on_host(recipe: Recipe, models: Planned, processes: int) -> int:
    """What a process holds while it reads the models; under ZeRO-3 a base, and a teacher in shares, are dealt out at once."""
    student, teacher = 4 * models.parameters, models.teacher_bytes
    if recipe.engine.stage == 3 and can_be_spread(recipe):
        student //= processes
    if recipe.teacher is not None and recipe.teacher.sharded:
        teacher //= processes
    reading, stays = student + teacher, 0 if models.teacher_on_device else teacher
    if recipe.engine.offload != "none":
        stays += sum(part.bytes for part in _own_states(recipe, models, processes, on_host=True))
    return max(reading, stays)


def _by_strategy(models: Planned, processes: int, strategy: Strategy, beside: Sequence[Part]) -> int | None:
    try:
        engine = models.recipe.engine.replace(strategy=strategy, offload="none")
        recipe = models.recipe.replace(engine=engine.dump())
        check_settings(recipe)
    except ConfigError:
        return None
    return _total([*_steady(recipe, models, processes), *beside])


def step_shape(
    recipe: Recipe, positions: int | None, rows: Sequence[Encoded] = (), tokens: Any = None
) -> StepShape:
    """One row of the stage with the most thoughts: the longest of `rows`, or the longest that the recipe lets through."""
    curriculum, stages = recipe.curriculum, recipe.curriculum.expand()
    number = max(range(len(stages)), key=lambda place: (curriculum.columns(place) or 0, place))
    stage, soft = stages[number], curriculum.method == "soft_mix"
    if rows:
        # laying out every row at every stage takes longer than all the rest; the longest is among the longest texts
        longest = max(nlargest(_TRIED, rows, key=len), key=lambda row: curriculum.longest(row, tokens))
        row = curriculum.layout(longest, number, None, tokens)
        thoughts, length, pivot = sum(row.thought), len(row), row.pivot
        labels = sum(label >= 0 for label in row.labels[1:])
    else:
        limits = [limit for limit in (recipe.data.max_length, positions) if limit is not None]
        length = min([*limits, ASSUMED_LENGTH] if not recipe.data.max_length else limits)
        # a quarter for the question where all the rest is words, a half where thoughts stand for some of them
        thoughts = length * 5 // 8 if soft else curriculum.columns(number) or 0
        pivot = length // 4 + thoughts if soft or not thoughts else length // 2 + thoughts
        labels = length - pivot + (thoughts if soft else 0)
    own = any(term.term == "ce" and term.of == "chain" for term in recipe.objective)
    chain = length if own or (recipe.teacher is not None and recipe.teacher.is_self) else 0
    return StepShape(
        rows=1,
        before=pivot - thoughts,
        thoughts=thoughts,
        after=max(0, length - pivot),
        labels=labels,
        feedback=stage.feedback,
        iterations=stage.jacobi_iterations,
        chain=chain,
        chain_labels=chain * 3 // 4 if own else 0,
    )


def _steady(recipe: Recipe, models: Planned, processes: int) -> list[Part]:
    """What stands in the memory of a device during the whole run."""
    engine = recipe.engine
    parts = _own_states(recipe, models, processes)
    if engine.strategy == "ddp" and processes > 1:
        parts.append(Part("buckets", 4 * models.trained, "gradients a second time, as they are exchanged"))
    if engine.stage:
        bucket = 4 * min(engine.bucket_size, models.trained)
        parts.append(Part("buckets", bucket if engine.stage == 3 else 2 * bucket, "what is reduced at once"))
    if engine.stage == 3:
        live = 4 * min(models.parameters, 10 * engine.bucket_size)
        parts.append(Part("gathered", live, "weights that are whole for a moment, at most"))
    elif engine.strategy == "fsdp2" and processes > 1:
        held = 4 * (models.outside + models.in_a_block)
        parts.append(Part("gathered", held, "embeddings and head during a step, and the block at hand"))
    if models.teacher_on_device:
        note = f"{models.teacher_parameters / 1e9:.3g} B parameters, frozen"
        sharded = recipe.teacher is not None and recipe.teacher.sharded
        size = models.teacher_bytes // processes if sharded else models.teacher_bytes
        parts.append(Part("teacher", size, f"{note} / N" if sharded else note))
        if sharded:
            live = min(models.teacher_bytes, models.teacher_itemsize * 10 * engine.bucket_size)
            parts.append(Part("teacher gathered", live, "its weights that are whole for a moment, at most"))
    return parts


def _own_states(recipe: Recipe, models: Planned, processes: int, on_host: bool = False) -> list[Part]:
    """The student's weights, gradients and optimizer states, by what the strategy spreads. on_host: those that are offloaded."""
    engine, trained, frozen = recipe.engine, models.trained, models.parameters - models.trained
    quantized = _QUANTIZED_BYTES[recipe.model.lora.quantize if recipe.model.lora else "none"]
    few = models.in_blocks if frozen else 0  # embeddings and head stay in float32
    of = " / N" if processes > 1 else ""

    def part(name: str, size: float, spread: bool, note: str) -> Part:
        return Part(name, round(size / (processes if spread else 1)), note + (of if spread else ""))

    stands = f"{models.parameters / 1e9:.3g} B parameters"
    stands += f", {trained / 1e6:.3g} M of them trained" if frozen else ""
    # ZeRO steps on float32 copies of its own
    moments = 4 * _MOMENTS[recipe.training.optimizer] + (4 if engine.stage else 0)
    kept = f"{recipe.training.optimizer}{' and a float32 copy' if engine.stage else ''}"
    parts = [
        part("weights", 4 * (models.parameters - few) + quantized * few, engine.spreads_weights, stands),
        part("optimizer", moments * trained, engine.strategy != "ddp", kept),
    ]
    _, accumulation = engine.accumulation(recipe.training.batch_size, processes)
    if engine.strategy != "ddp" or accumulation > 1:
        spread = engine.stage >= 2 or engine.spreads_weights
        parts.append(part("gradients", 4 * trained, spread, f"of {trained / 1e6:.4g} M parameters"))
    offloaded = {"none": (), "optimizer": ("optimizer", "gradients")}.get(
        engine.offload, [one.name for one in parts]
    )
    return [one for one in parts if (one.name in offloaded) == on_host]


def _of_terms(recipe: Recipe, models: Planned, shape: StepShape) -> list[Part]:
    """What the comparison with a teacher holds: its states, and logits by the chunk."""
    from latentthought.model.chunks import BLOCK_ELEMENTS, CHUNK_BYTES
    from latentthought.objective.terms import DivergenceTerm, HiddenTerm, asks_teacher

    parts: list[Part] = []
    if not any(asks_teacher(term) for term in recipe.objective):
        return parts
    config = models.teacher_config or models.student_config  # which may teach itself
    positions, states, logits = shape.rows * shape.positions, 0, 0
    for term in recipe.objective:
        if isinstance(term, HiddenTerm) and term.target == "teacher":
            pairs = len(models.pairs(term))
            # student and teacher side, what the projector makes, and the gradients of the first and the last
            states += 4 * positions * pairs * (2 * models.width + 3 * config.hidden_size)
        elif isinstance(term, DivergenceTerm):
            # both sides' logits, a gradient that can't take their place, and a block in all its steps
            logits += 3 * CHUNK_BYTES + 8 * 4 * BLOCK_ELEMENTS["elsewhere"]
    if models.teacher_on_device:
        wide = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        states += positions * models.teacher_itemsize * (3 * wide + 8 * config.hidden_size)
    if states:
        parts.append(Part("comparison", states, "states of student and teacher, at the compared layers"))
    if logits:
        parts.append(Part("logits", logits, "of student and teacher, a chunk at a time"))
    return parts


def _flops(recipe: Recipe, models: Planned, shape: StepShape) -> float:
    """Floating-point operations of one row: products with weights, and attention; nothing else counts beside them."""
    again = shape.thoughts * (1 if shape.feedback == "single_pass" else shape.iterations or 0)
    processed = shape.positions + (again if shape.feedback != "sequential" else 0)
    forward = models.flops(processed, shape.positions, shape.labels)
    if shape.chain:
        forward += models.flops(shape.chain, shape.chain, shape.chain_labels)
    # backward: gradients of the activations, and of the weights that train
    factor = 2 + models.trained / models.parameters + recipe.engine.gradient_checkpointing
    teacher = models.teacher_flops(shape.positions) if models.teacher_bytes else 0.0
    return factor * forward + teacher
