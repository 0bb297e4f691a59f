"""A tiny teacher and rows for it to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import FormatConfig
from latentthought.data.example import Example, ExampleSet
from latentthought.data.stage import StageSettings
from latentthought.data.tokenizer import TokenizerConfig, train_tokenizer
from latentthought.distillation.cache.spec import CacheSpec
from latentthought.distillation.extraction import Extractor
from latentthought.distillation.fingerprints import example_digest
from latentthought.distillation.matching import TeacherFacts, spec_for
from latentthought.distillation.teacher import Teacher, TeacherConfig
from latentthought.model.configuration import ThoughtConfig
from latentthought.processes import ALONE, Group

FORMAT = FormatConfig()
LATENT = Curriculum(method="latent", thoughts_per_step=2, max_latent_steps=2, each=StageSettings(steps=1))
SCRATCH = {
    "architecture": "llama",
    "layers": 3,
    "width": 48,
    "heads": 4,
    "kv_heads": 2,
    "initializer_range": 0.1,
}


def examples(count: int = 11) -> ExampleSet:
    """Sums of several steps and lengths; every fifth row has no steps."""
    rows = []
    for number in range(count):
        terms = [10 + 7 * number + place for place in range(1 + number % 4)]
        steps = [f"{term}+{number}={term + number}" for term in terms] if number % 5 else []
        rows.append(
            Example(
                f"sum-{number}", f"what is {' and '.join(map(str, terms))}", tuple(steps), str(sum(terms))
            )
        )
    return ExampleSet(rows)


def texts() -> list[str]:
    return [
        text
        for example in examples(40)
        for text in (
            *FORMAT.pieces(example).steps,
            FORMAT.pieces(example).prompt,
            FORMAT.pieces(example).answer,
        )
    ]


def tokenizer(kind: str = "words") -> Any:
    """Digit by digit (`words`), or byte pairs that join digits (`bytes`)."""
    return train_tokenizer(TokenizerConfig(kind=kind, vocab_size=400), texts())


def config(**changes: Any) -> TeacherConfig:
    cache = {"path": "states", "codec": "fp32", "rows_per_shard": 4, **changes.pop("cache", {})}
    return TeacherConfig.parse({"scratch": SCRATCH, "batch_size": 3, "cache": cache, **changes})


def teacher(settings: TeacherConfig | None = None, kind: str = "words", thought: bool = True) -> Teacher:
    return Teacher.load(
        settings or config(),
        tokenizer=tokenizer(kind),
        thought=ThoughtConfig() if thought else None,
        device="cpu",
    )


def extractor(
    settings: TeacherConfig,
    made: Teacher,
    layers: Sequence[int] = (0, 1, 3, -1),
    rules: Sequence[Any] = ("reasoning", "step_ends", "answer", "shared", "pooled"),
    rows: ExampleSet | None = None,
    group: Group = ALONE,
) -> Extractor:
    rows = rows or examples()
    spec = spec_of(settings, made, layers, rules, rows)
    reader = made.reader(settings, FORMAT, LATENT)
    readings = reader.read(rows)
    digests = [example_digest(rows[place]) for place in readings.kept]
    return Extractor(made, reader.collate, readings, spec, digests, group)


def spec_of(
    settings: TeacherConfig, made: Teacher, layers: Sequence[int], rules: Sequence[Any], rows: ExampleSet
) -> CacheSpec:
    return spec_for(TeacherFacts.of(made), settings, FORMAT, LATENT, rows.fingerprint, layers, rules)


def reference_states(made: Teacher, ids: Sequence[int]) -> dict[int, torch.Tensor]:
    """(T, D) of a row alone, by transformers itself: 0, the blocks before the final norm, and -1 after it."""
    base, last = made.model.base, {}
    hook = base.model.layers[-1].register_forward_hook(
        lambda module, given, found: last.update(raw=found[0] if isinstance(found, tuple) else found)
    )
    with torch.no_grad():
        found = base(torch.tensor([list(ids)]), output_hidden_states=True).hidden_states
    hook.remove()
    states = {block: state[0] for block, state in enumerate(found[:-1])}
    return {**states, len(found) - 1: last["raw"].reshape(found[-1].shape)[0], -1: found[-1][0]}
