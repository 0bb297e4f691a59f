"""Small made-up caches for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latentthought.distillation.cache.manifest import Manifest, finish
from latentthought.distillation.cache.records import LogitsRecord, Record, SampledRecord, TopKRecord
from latentthought.distillation.cache.shards import write_shard
from latentthought.distillation.cache.spec import CacheSpec, SampledLogits, TeacherIdentity, TopKLogits

TOP_K = TopKLogits(k=4, temperature=2.0)
SAMPLED = SampledLogits(n=3)


def spec_of(**changes: Any) -> CacheSpec:
    spec = CacheSpec(
        teacher=TeacherIdentity(name="runs/teacher", weights="ab" * 32),
        tokenizer="cd" * 32,
        data="ef" * 32,
        format={"reads": "text", "template": {"question": "{question}\n", "step": "{step}\n"}},
        layers=(2, 5, -1),
        blocks=16,
        width=8,
        rules=("reasoning", "answer"),
        codec="fp32",
        rows_per_shard=3,
    )
    return spec.model_copy(update=changes)


def record_of(name: str, spec: CacheSpec, positions: int, seed: int) -> Record:
    """States, keys and logits that nothing else has, reproducibly."""
    made = torch.Generator().manual_seed(seed)
    states_PLD = torch.randn(positions, len(spec.layers), spec.width, generator=made)
    keys_P3 = torch.randint(0, 50, (positions, 3), generator=made, dtype=torch.int32)
    return Record(name, keys_P3, states_PLD, logits_of(spec, positions + 1, made), f"{seed:016x}")


def logits_of(spec: CacheSpec, positions: int, made: torch.Generator) -> LogitsRecord | None:
    if spec.logits is None:
        return None
    keys_Q2 = torch.randint(0, 50, (positions, 2), generator=made, dtype=torch.int32)
    shape = (positions, spec.logits.columns)
    ids = torch.randint(0, 1000, shape, generator=made, dtype=torch.int32)
    if isinstance(spec.logits, SampledLogits):
        return SampledRecord(keys_Q2, ids, torch.rand(positions, generator=made))
    return TopKRecord(
        keys_Q2, ids, -torch.rand(shape, generator=made), -torch.rand(positions, generator=made)
    )


def records_of(spec: CacheSpec, count: int = 7) -> list[Record]:
    """Rows of 1, 2, 3, 0, 1, ... positions: one in four is empty."""
    return [record_of(f"row-{n}", spec, (n + 1) % 4, seed=n) for n in range(count)]


def write_cache(
    folder: Path, spec: CacheSpec, records: list[Record], beside: tuple[str, ...] = ()
) -> Manifest:
    folder.mkdir(exist_ok=True)
    size = spec.rows_per_shard
    chunks = [records[start : start + size] for start in range(0, len(records), size)]
    entries = [write_shard(folder, number, chunk, spec) for number, chunk in enumerate(chunks)]
    return finish(folder, spec, entries, beside)


def assert_equal(found: Record, wanted: Record) -> None:
    """Every tensor bit for bit, with its dtype."""
    assert (found.id, found.digest) == (wanted.id, wanted.digest)
    pairs = [(found.keys, wanted.keys), (found.states, wanted.states)]
    assert type(found.logits) is type(wanted.logits)
    if found.logits is not None and wanted.logits is not None:
        pairs += [(value, vars(wanted.logits)[name]) for name, value in vars(found.logits).items()]
    for left, right in pairs:
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
