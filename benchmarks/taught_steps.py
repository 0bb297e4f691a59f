"""One student and every way to teach it: the rows, the models, the cache, and for each way a trainer that takes its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from benchmarks import workload
from benchmarks.settings import Settings
from benchmarks.workload import Sizes
from latentthought.data.collation import Collator
from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import Encoded, FormatConfig
from latentthought.data.stage import StageSettings
from latentthought.data.tokenizer import TokenizerConfig, train_tokenizer
from latentthought.distillation.cache.store import TeacherStateCache
from latentthought.distillation.extraction import Extractor
from latentthought.distillation.guidance import Guidance, attach_companions
from latentthought.distillation.matching import TeacherFacts, spec_for
from latentthought.distillation.reader import Readings, whole_text
from latentthought.distillation.teacher import Teacher, TeacherConfig
from latentthought.distillation.teaching import CachedTeaching, LiveTeaching, Teaching
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.objective.alignment import Reading
from latentthought.objective.comparison import Depths, TeacherOutput
from latentthought.objective.total import Objective
from latentthought.thoughts.layout import ThoughtTokens
from latentthought.training.arguments import arguments
from latentthought.training.dataset import staged
from latentthought.training.engine import EngineConfig
from latentthought.training.optimization import TrainingConfig
from latentthought.training.trainer import LatentThoughtTrainer

ROUNDS = 4
# steps that are taken and not timed: the comparison and the warm-up share the first, the last is run for its memory
UNTIMED = 2
# tokens of a step in words, as in GSM8K-Aug ("<<48/2=24>>")
STEP = 8

CE: dict[str, Any] = {"term": "ce"}
HIDDEN: dict[str, Any] = {
    "term": "hidden",
    "target": "teacher",
    "alignment": "step_ends",
    "layers": "middle_final",
    "projector": {"kind": "linear"},
}
KL: dict[str, Any] = {"term": "kl", "temperature": 2.0}
WORDS: dict[str, Any] = {"term": "ce", "of": "chain", "name": "words"}
# a name of its own, or the projector of the other term would be taken for it
OWN_STATES: dict[str, Any] = {
    "term": "hidden",
    "name": "own_states",
    "target": "teacher",
    "alignment": "answer",
    "layers": "all",
    "mse": 0.0,
    "cosine": 0.0,
    "smooth_l1": 1.0,
    "scale_match": "std",
}

ALONE, CACHED, LIVE = "student alone (ce)", "+ cached states, bf16", "+ live teacher, the same states"
FORWARD, DIVERGENCE = "student alone, then the teacher's forward", "kl, live teacher"
ONE_PASS, TWO_PASSES = "self distillation, one pass", "self distillation, two passes as published"
BATCH, CACHED_BATCH = "batch put together", "batch put together with cached states"


class TwoPasses(LatentThoughtTrainer):
    """Self distillation as published: the chain of thought is read once more, without gradient, for its states."""

    def _teacher_output(self, inputs: dict[str, Any]) -> TeacherOutput:
        with torch.no_grad():
            output = read(self.model, inputs["chain"], capture=self.objective.student_layers)
        return TeacherOutput(output.captured, self.latent_model.backbone.head)


def read(model: Any, batch: dict[str, Any], **options: Any) -> Any:
    """A batch of words through a model, without logits."""
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
    return model(**given, return_logits=False, **options)


class Steps:
    """The training steps of one side, each on the next rows of its data set."""

    def __init__(self, trainer: LatentThoughtTrainer, optimizer: torch.optim.Optimizer) -> None:
        self.trainer, self.optimizer, self.done = trainer, optimizer, 0

    def batch(self, step: int) -> dict[str, Any]:
        """The rows of a step, laid out, joined with the teacher's, and padded."""
        data = self.trainer.train_dataset
        return self.trainer.data_collator(
            [data[step * data.batch_size + place] for place in range(data.batch_size)]
        )

    def next_batch(self) -> tuple[dict[str, Any], Tensor]:
        """The batch of the next step, and the positions of each term in it."""
        (batch,), counts = self.trainer.get_batch_samples(
            iter([self.batch(self.done)]), 1, self.trainer.args.device
        )
        assert counts is not None, "there is a batch"
        self.done += 1
        return batch, counts

    def run(self) -> None:
        """One whole step."""
        batch, counts = self.next_batch()
        self.trainer.training_step(self.trainer.model, batch, counts)
        self.optimizer.step()
        # at the end, so that no side finds gradients of the one before it: peak memory counts its own
        self.optimizer.zero_grad(set_to_none=True)

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its raw parts for a batch, in the student's own precision."""
        placed = send_to_device(batch, self.trainer.args.device)
        loss, output = self.trainer.compute_loss(self.trainer.model, placed, return_outputs=True)
        return loss, output.value.parts


@dataclass(frozen=True)
class Work:
    """The models, and what is done with them.

    steps: by side. batches: the same, for their batches alone. reading: the teacher's side of a batch, on the device. pairs,
    layer_pairs: sites and layers that the states of a batch are compared at.
    """

    settings: Settings
    student: LatentThoughtForCausalLM
    teacher: Teacher
    steps: dict[str, Steps]
    batches: dict[str, Steps]
    reading: dict[str, Any]
    pairs: int
    layer_pairs: int


def teacher_sizes(settings: Settings) -> Sizes:
    """The student's, unless another one was asked for; in a quick run wider and deeper."""
    if settings.quick:
        return replace(settings.sizes, layers=settings.sizes.layers + 1, width=96)
    return settings.sizes.of(settings.teacher) if settings.teacher else settings.sizes


def made_up(sizes: Sizes, count: int, seed: int) -> list[Encoded]:
    """Rows of random ids, as many steps as there are thoughts. With `sizes.padded` their prompts differ in length."""
    generator = torch.Generator().manual_seed(seed)

    def draw(length: int) -> list[int]:
        return torch.randint(sizes.vocabulary - workload.RESERVED, (length,), generator=generator).tolist()

    return [
        Encoded(
            id=f"row-{number}",
            prompt=draw(max(1, sizes.first_thought - (number % sizes.batch if sizes.padded else 0))),
            steps=[draw(STEP) for _ in range(sizes.thoughts)],
            answer=draw(sizes.labelled + 1),
        )
        for number in range(count)
    ]


def prepare(settings: Settings, folder: Path) -> Work:
    """Both models, the cache, and a trainer for each side; all trainers share the student, its projector and its optimizer."""
    sizes, count = settings.sizes, settings.rounds_or(ROUNDS) + UNTIMED
    rows = made_up(sizes, count * sizes.batch, settings.seed)
    latent = StageSettings(latent_steps=sizes.thoughts, steps=count)
    curriculum = Curriculum(
        method="latent", max_latent_steps=sizes.thoughts, delimiters=False, stages=(latent,)
    )
    student = workload.make_model(workload.make_base(sizes, settings.device, settings.seed))
    taller = workload.make_base(teacher_sizes(settings), settings.device, settings.seed + 1)
    # the rows are ids already, so any tokenizer will do
    words = train_tokenizer(TokenizerConfig(kind="words"), ["none"])
    teacher = Teacher(workload.make_model(taller.to(settings.dtype)), words, "made up")

    text, pad = whole_text(curriculum), sizes.vocabulary - 1
    tokens = ThoughtTokens(thought_id=workload.placeholder(sizes))
    readings = [Reading(text.layout(row, 0, None, tokens), row) for row in rows]
    collate = partial(Collator(pad, text), stage=0, mix_ratio=0.0)

    depths = Depths(sizes.layers, teacher.blocks, sizes.vocabulary)
    plain, hidden, kl = (Objective(terms, depths) for terms in ([CE], [CE, HIDDEN], [CE, KL]))
    own = Objective([CE, WORDS, OWN_STATES], replace(depths, teacher=sizes.layers))
    cache = extracted(teacher, readings, collate, hidden, folder / "states", sizes.batch)
    attach_companions(student, Guidance(hidden, width=teacher.width), None)
    student.to(settings.device)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5, fused=True)

    training = TrainingConfig(batch_size=sizes.batch, learning_rate=1e-5, group_by_length=False)
    precision = {torch.float32: "fp32", torch.bfloat16: "bf16"}[settings.dtype]
    engine = EngineConfig.parse({"device": settings.device.type, "precision": precision})
    engine_arguments = engine.arguments(sizes.batch, 1)

    def side(
        objective: Objective,
        teaching: Teaching | None = None,
        live: Teacher | None = None,
        kind: type[LatentThoughtTrainer] = LatentThoughtTrainer,
    ) -> Steps:
        data = staged(rows, curriculum, student.thought, training, settings.seed, teaching)
        trainer = kind(
            student,
            arguments(training, engine_arguments, folder / "run", settings.seed, count),
            train_dataset=data,
            objective=objective,
            teacher=live,
            teaching=teaching,
            settings=training,
            pad_id=pad,
        )
        return Steps(trainer, optimizer)

    chain = LiveTeaching(own, rows, readings, collate, key="chain")
    steps = {
        ALONE: side(plain),
        CACHED: side(hidden, CachedTeaching(hidden, rows, cache)),
        FORWARD: side(plain),
        LIVE: side(hidden, LiveTeaching(hidden, rows, readings, collate), teacher),
        DIVERGENCE: side(kl, LiveTeaching(kl, rows, readings, collate), teacher),
        ONE_PASS: side(own, chain),
        TWO_PASSES: side(own, chain, kind=TwoPasses),
    }
    # what has read a row once keeps it at hand, so that reading alone is timed with a reader of its own
    batches = {BATCH: side(plain), CACHED_BATCH: side(hidden, CachedTeaching(hidden, rows, cache))}
    first = steps[LIVE].batch(0)
    return Work(
        settings,
        student,
        teacher,
        steps,
        batches,
        send_to_device(first["teacher"], settings.device),
        len(first["comparisons"]["hidden"].student),
        len(hidden.layer_pairs["hidden"]),
    )


def extracted(
    teacher: Teacher,
    readings: list[Reading],
    collate: Callable[..., dict[str, Any]],
    objective: Objective,
    folder: Path,
    batch: int,
) -> TeacherStateCache:
    """The teacher's states of all rows, in bf16, as `latentthought teacher extract` writes them."""
    asked = {"path": str(folder), "codec": "bf16", "rows_per_shard": 64}
    config = TeacherConfig.parse({"model": teacher.name, "batch_size": batch, "cache": asked})
    facts = TeacherFacts(teacher.name, "none", "none", teacher.blocks, teacher.width)
    text = Curriculum(method="text", each=StageSettings(steps=1))
    layers = objective.teacher_layers
    spec = spec_for(facts, config, FormatConfig(), text, "none", layers, (HIDDEN["alignment"],))
    folder.mkdir()
    extractor = Extractor(teacher, collate, Readings(readings, list(range(len(readings)))), spec)
    extractor.run(folder, range(extractor.shards), {})
    return TeacherStateCache.open(folder)
