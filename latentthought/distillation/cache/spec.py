"""What is in a cache, and what a recipe wants of one.

A `CacheSpec` says everything that decides the bytes of a shard, so that a shard of another teacher, tokenizer, data set or
plan is never taken for a finished one, and a recipe that needs something else is told what differs. Names and library versions
are kept for the reader and decide nothing: a teacher may lie in another folder on the next machine.
A recipe is served row by row: which others the set had, and in what batches they were run, decides the last bits of a stored
number (so a resume needs the same) and is no reason to refuse it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from latentthought.config import Config
from latentthought.objective.alignment import Rule

SCHEMA_VERSION = 1
# stands for the weights of a teacher that is not to be found
ABSENT = "absent"

Codec = Literal["fp32", "bf16", "fp8", "int8"]
# a capture key: 0 = input of block 1, b = output of block b before the final norm, -1 = after the final norm
Layer = Annotated[int, Field(ge=-1)]


class TopKLogits(Config):
    """Keep the k likeliest tokens of every prediction, and the mass of all others (most of it, at a high temperature)."""

    kind: Literal["top_k"] = "top_k"
    k: int = Field(64, ge=1)
    temperature: float = Field(1.0, gt=0)

    @property
    def columns(self) -> int:
        """Tokens kept at each position."""
        return self.k


class SampledLogits(Config):
    """Keep n tokens drawn from the teacher's distribution: an unbiased estimate of the whole cross-entropy."""

    kind: Literal["sampled"] = "sampled"
    n: int = Field(50, ge=1)
    temperature: float = Field(1.0, gt=0)

    @property
    def columns(self) -> int:
        """Tokens kept at each position."""
        return self.n


LogitsConfig = Annotated[TopKLogits | SampledLogits, Field(discriminator="kind")]


class CacheConfig(Config):
    """`teacher.cache` of a recipe.

    path: folder of the cache. layers, positions: None = what the objective's terms look at. rows_per_shard: examples a file; a
    shard is what is redone after a kill, and what channel scales (int8, fp8) are taken over.
    """

    path: str = Field(min_length=1)
    codec: Codec = "bf16"
    rows_per_shard: int = Field(128, ge=1)
    logits: LogitsConfig | None = None
    layers: tuple[Layer, ...] | None = None
    positions: tuple[Rule, ...] | None = None

    def smoke_changes(self) -> dict[str, Any]:
        """What `--smoke` changes: layers that a tiny teacher has in place of the real one's, small shards, few logits."""
        changes: dict[str, Any] = {"rows_per_shard": 16}
        if self.layers is not None:
            changes["layers"] = [0, 1, 2, -1]
        if isinstance(self.logits, TopKLogits):
            changes["logits"] = {"k": min(self.logits.k, 16)}
        return changes


class TeacherIdentity(Config):
    """name: what the recipe calls the teacher; weights: fingerprint of its parameters and config, `ABSENT` for none."""

    name: str
    weights: str


class VocabularyIdentity(Config):
    """The tokens that kept logits are about. size: leading ids that they are normalised over. tokens: SHA-256 of those ids and
    their tokens. unused: ids among them that are no token, where a student may have one of its own."""

    size: int = Field(ge=1)
    tokens: str
    unused: tuple[int, ...] = ()


class CacheSpec(Config):
    """What a cache holds. tokenizer, data: fingerprints; vocabulary: of the teacher, where logits are kept; format: how a row
    was laid out as text (plain JSON values); dtype: that the teacher ran in; batch_size: rows run at once; layers: capture keys;
    blocks, width: of the teacher; rules: positions, numbered by their place here in `Record.keys`."""

    schema_version: int = SCHEMA_VERSION
    teacher: TeacherIdentity
    tokenizer: str
    vocabulary: VocabularyIdentity | None = None
    data: str
    format: dict[str, Any] = {}
    dtype: str = "fp32"
    batch_size: int = Field(16, ge=1)
    layers: tuple[Layer, ...]
    blocks: int = Field(ge=1)
    width: int = Field(ge=1)
    rules: tuple[Rule, ...]
    codec: Codec = "bf16"
    rows_per_shard: int = Field(128, ge=1)
    logits: LogitsConfig | None = None
    versions: dict[str, str] = {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the bytes of the shards."""
        decisive = self.dump() | {"teacher": self.teacher.weights}
        del decisive["versions"]
        return hashlib.sha256(canonical(decisive)).hexdigest()


def canonical(value: Any) -> bytes:
    """The one JSON text of a plain value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def differences(have: CacheSpec, wanted: CacheSpec) -> list[str]:
    """In what a cache does not serve a recipe, one line each; [] when it does.

    A cache may hold more than is wanted (layers, rules, logits, rows), and how its rows are dealt out to batches and files is its
    own affair. Rows are compared one by one (`matching.changed_rows`).
    """
    found = []
    ours, theirs = have.teacher, wanted.teacher
    if theirs.weights == ABSENT:
        found.append(
            f"teacher: the cache was made by {ours.name}, and there is no {theirs.name} (teacher.model)"
        )
    elif ours.weights != theirs.weights:
        found.append(
            f"teacher: the cache was made by {ours.name} (weights and config {ours.weights[:12]}), "
            f"the recipe has {theirs.name} (weights and config {theirs.weights[:12]})"
        )
    for name, held, needed in (
        ("tokenizer", have.tokenizer[:12], wanted.tokenizer[:12]),
        ("dtype", have.dtype, wanted.dtype),
        ("width", have.width, wanted.width),
        ("codec", have.codec, wanted.codec),
    ):
        if getattr(have, name) != getattr(wanted, name):
            found.append(f"{name}: the cache has {held}, the recipe {needed}")
    found += _differing("format", have.format, wanted.format)
    for name in ("layers", "rules"):
        kept, asked = getattr(have, name), getattr(wanted, name)
        if lacking := [str(item) for item in asked if item not in kept]:
            held = ", ".join(map(str, kept)) or "none"
            found.append(f"{name}: the recipe needs {', '.join(lacking)}, the cache has {held}")
    if wanted.logits is not None and have.logits != wanted.logits:
        found.append(f"logits: the cache has {_shown(have.logits)}, the recipe {_shown(wanted.logits)}")
    return found


def _differing(path: str, have: Any, wanted: Any) -> list[str]:
    if isinstance(have, Mapping) and isinstance(wanted, Mapping):
        return [
            line
            for key in sorted({*have, *wanted})
            for line in _differing(f"{path}.{key}", have.get(key), wanted.get(key))
        ]
    return [] if have == wanted else [f"{path}: the cache has {have!r}, the recipe {wanted!r}"]


def _shown(logits: TopKLogits | SampledLogits | None) -> str:
    if logits is None:
        return "none"
    return " ".join(f"{name}={value}" for name, value in logits.dump().items())
