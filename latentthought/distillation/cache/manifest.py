"""The list of what a cache holds, written last: a folder with a manifest is a whole cache.

The manifest is JSON in exactly one form (sorted keys, fixed indentation) with the SHA-256 of the rest of it inside: whatever
byte of it changes, be it white space, it is not read. It is made from the shards' own entries and can be made again from them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from latentthought.config import Config
from latentthought.distillation.cache.files import PARTIAL, write_whole
from latentthought.distillation.cache.shards import Shard, ShardEntry, mend_hint
from latentthought.distillation.cache.spec import SCHEMA_VERSION, CacheSpec, canonical
from latentthought.errors import (
    DamagedFileError,
    DataError,
    LatentThoughtError,
    MissingFileError,
    UnsupportedError,
)
from latentthought.files import sha256_of

MANIFEST = "manifest.json"


class Manifest(Config):
    """spec: what the cache holds; shards: its files in order; beside: SHA-256 of other files that belong to it, by name."""

    spec: CacheSpec
    shards: tuple[ShardEntry, ...]
    beside: dict[str, str] = {}

    @property
    def positions(self) -> int:
        return sum(shard.positions for shard in self.shards)

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)


def finished_shards(folder: Path, spec: CacheSpec) -> dict[int, ShardEntry]:
    """The shards in a folder that are whole and were made for this very spec, by number. Reads every byte of them."""
    found = {}
    for path in sorted(folder.glob("shard-*.safetensors")):
        try:
            shard = Shard(path)
            if shard.spec == spec.fingerprint and not shard.damaged_rows():
                found[shard.number] = shard.entry()
        except DamagedFileError:
            continue
    return found


def finish(
    folder: Path, spec: CacheSpec, entries: Iterable[ShardEntry], beside: Sequence[str] = ()
) -> Manifest:
    """Write the manifest of shards 0 to n-1, and clear away what a kill left half-written.

    beside: names of other files in the folder that belong to the cache (the recipe); their hashes go into the manifest.
    Raises `LatentThoughtError` when a shard is lacking, `DataError` when two rows have one id.
    """
    shards = sorted(entries, key=lambda entry: entry.number)
    if lacking := sorted(
        {*range(max((s.number for s in shards), default=0) + 1)} - {s.number for s in shards}
    ):
        raise LatentThoughtError(f"{folder}: shards {lacking} are not there: resume the extraction")
    counts = Counter(example_id for shard in shards for example_id in shard.ids)
    if repeated := [example_id for example_id, count in counts.items() if count > 1]:
        raise DataError(
            f"{len(repeated)} example ids occur more than once, {repeated[0]!r} for one: a cache is joined by id"
        )
    manifest = Manifest(
        spec=spec, shards=tuple(shards), beside={name: sha256_of(folder / name) for name in beside}
    )
    write_whole(folder / MANIFEST, [_render(manifest.dump())])
    for partial in folder.glob(f"*{PARTIAL}"):
        partial.unlink(missing_ok=True)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished cache; errors: `MissingFileError`, `DamagedFileError`, `UnsupportedError` (a later version)."""
    path = folder / MANIFEST
    if not path.is_file():
        what = "no manifest.json: its extraction has not finished" if folder.is_dir() else "no such folder"
        raise MissingFileError(f"{folder}: {what}; make it with: latentthought teacher extract RECIPE")
    raw = path.read_bytes()
    try:
        values = json.loads(raw)
        del values["checksum"]
        intact = _render(values) == raw
        version = values["spec"]["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise DamagedFileError(f"{path}: does not match its checksum; {mend_hint(folder)}")
    if version != SCHEMA_VERSION:
        raise UnsupportedError(
            f"{path}: schema version {version}; this release reads version {SCHEMA_VERSION}: extract the cache anew"
        )
    return Manifest.parse(values, str(path))


def _render(values: dict[str, Any]) -> bytes:
    checksum = hashlib.sha256(canonical(values)).hexdigest()
    text = json.dumps({**values, "checksum": checksum}, indent=1, sort_keys=True, ensure_ascii=False)
    return text.encode() + b"\n"
