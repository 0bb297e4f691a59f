"""The teacher-state cache: random reads by example id, every byte checked, beside the same rows read without any check.

The floor of a read is one copy of the encoded bytes out of the page cache. `safetensors get_slice` is what one would use
instead: it maps the same file and gives the same rows, and no flipped bit would be noticed. MB/s are of encoded bytes, so a
codec of half the size at the same MB/s gives twice the positions. Files lie in the page cache (warm): a disk is slower.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import xxhash
from safetensors import safe_open

from benchmarks.findings import Findings, Table
from benchmarks.report import Target
from benchmarks.settings import Settings
from latentthought.distillation.cache.codecs import channel_scales, decode, encode
from latentthought.distillation.cache.manifest import finish
from latentthought.distillation.cache.records import Record
from latentthought.distillation.cache.shards import ShardEntry, write_shard
from latentthought.distillation.cache.spec import CacheSpec, Codec, TeacherIdentity
from latentthought.distillation.cache.store import TeacherStateCache

CODECS: tuple[Codec, ...] = get_args(Codec)
LAYERS, WIDTH, ROWS, ROWS_PER_SHARD = (8, 16, 24, -1), 2048, 96, 32
# how many times larger than the others these channels are
OUTLIERS = {3: 300.0, 700: 3000.0, 1500: 10_000.0}


def run(settings: Settings) -> Findings:
    rounds = settings.rounds_or(7)
    width, rows = (64, 12) if settings.quick else (WIDTH, ROWS)
    records = made_up(rows, width, settings.seed)
    positions = sum(len(record.states) for record in records)
    hashes = checksums(rounds, 1 << (14 if settings.quick else 20))
    settings.progress(", ".join(f"{name} {rate:,.0f} MB/s" for name, rate in hashes.items()))
    speeds: dict[Codec, dict[str, list[float]]] = {}
    for codec in CODECS:
        speeds[codec] = speed_of(codec, records, width, rounds, settings.seed)
        settings.progress(f"{codec}: random reads {statistics.median(speeds[codec]['read']):,.0f} MB/s")
    errors = {codec: errors_of(codec, records, width) for codec in CODECS}
    what = {
        "read": "random reads",
        "slice": "safetensors get_slice, unchecked",
        "copy": "copy",
        "write": "writing",
        "verify": "verify",
    }
    tables = [
        Table(
            "MB/s of encoded bytes",
            ("codec", *what.values(), "positions/s read"),
            [speed_row(codec, speeds[codec], what, len(LAYERS) * width) for codec in CODECS],
        ),
        Table(
            "Error of what is read, |difference| / |states|",
            ("codec", "ordinary channels", "outlier channels"),
            [[codec, *(f"{error:.3%}" for error in errors[codec])] for codec in CODECS],
        ),
        Table("Checksums", ("of 1 MiB", "MB/s"), [[name, f"{rate:,.0f}"] for name, rate in hashes.items()]),
    ]
    targets = [
        Target.at_least("bf16", "MB/s of random reads", statistics.median(speeds["bf16"]["read"]), 500),
        Target.at_most("fp8", "error on ordinary channels", errors["fp8"][0], 0.03),
    ]
    title = f"teacher states of {len(LAYERS)} layers x {width}, {rows} rows of {positions // rows} positions on average"
    data = {"speeds": speeds, "errors": errors, "checksums": hashes}
    return Findings("cache", title, tables, targets, data)


def made_up(rows: int, width: int, seed: int) -> list[Record]:
    """Unit normal states with a few large channels; rows of 32 to 96 positions."""
    made = torch.Generator().manual_seed(seed)
    lengths = random.Random(seed)
    records = []
    for number in range(rows):
        positions = lengths.randint(32, 96)
        states_PLD = torch.randn(positions, len(LAYERS), width, generator=made)
        for channel, size in outliers(width).items():
            states_PLD[..., channel] *= size
        keys_P3 = torch.zeros(positions, 3, dtype=torch.int32)
        keys_P3[:, 2] = torch.arange(positions)
        records.append(Record(f"row-{number}", keys_P3, states_PLD))
    return records


def outliers(width: int) -> dict[int, float]:
    return {channel % width: size for channel, size in OUTLIERS.items()}


def spec_of(codec: Codec, width: int) -> CacheSpec:
    return CacheSpec(
        teacher=TeacherIdentity(name="made up", weights="none"),
        tokenizer="none",
        data="none",
        layers=LAYERS,
        blocks=32,
        width=width,
        rules=("reasoning",),
        codec=codec,
        rows_per_shard=ROWS_PER_SHARD,
    )


# ------------------------------------------------------------------------------------------------------------- speed
def speed_of(
    codec: Codec, records: Sequence[Record], width: int, rounds: int, seed: int
) -> dict[str, list[float]]:
    """MB/s of encoded bytes for each way, once a round in an order drawn anew."""
    folder = Path(tempfile.mkdtemp(prefix="states-"))
    try:
        spec = spec_of(codec, width)
        cache = write_all(folder, records, spec)
        size = sum(shard.bytes for shard in cache.manifest.shards)
        sides: dict[str, Callable[[list[str]], Any]] = {
            "read": lambda ids: each(ids, cache.record),
            "slice": Slices(cache),
            "copy": Copies(cache),
            "verify": lambda ids: cache.verify(),
            "write": lambda ids: write_all(folder, records, spec),
        }
        order = random.Random(seed)
        found: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(rounds + 1):
            ids = list(cache.ids)
            order.shuffle(ids)
            for name in order.sample(list(sides), len(sides)):
                begun = time.perf_counter()
                sides[name](ids)
                if number:  # the first round brings the files into the page cache
                    found[name].append(size / (time.perf_counter() - begun) / 1e6)
        return found
    finally:
        shutil.rmtree(folder)


def write_all(folder: Path, records: Sequence[Record], spec: CacheSpec) -> TeacherStateCache:
    entries = [
        write_shard(folder, number, records[start : start + spec.rows_per_shard], spec)
        for number, start in enumerate(range(0, len(records), spec.rows_per_shard))
    ]
    finish(folder, spec, entries)
    return TeacherStateCache.open(folder)


def each(ids: Sequence[str], read: Callable[[str], Any]) -> None:
    """Read row after row, as training does; a list of all rows would measure how fast the system hands out memory."""
    for example_id in ids:
        read(example_id)


class Slices:
    """The rows by safetensors' own reader, widened to float32 without scales and without a check."""

    def __init__(self, cache: TeacherStateCache) -> None:
        self.rows: dict[str, tuple[Any, int, int]] = {}
        for shard in cache.manifest.shards:
            path = cache.folder / shard.file
            with safe_open(path, "pt") as file:
                offsets = file.get_tensor("offsets").tolist()
            states = self.states(path, shard)
            for row, example_id in enumerate(shard.ids):
                self.rows[example_id] = (states, offsets[row], offsets[row + 1])

    def states(self, path: Path, shard: ShardEntry) -> Any:
        return safe_open(path, "pt").get_slice("states")

    def __call__(self, ids: Sequence[str]) -> None:
        each(ids, lambda example_id: self.read(*self.rows[example_id]))

    def read(self, states: Any, begin: int, end: int) -> Any:
        return states[begin:end].to(torch.float32, copy=True)


class Copies(Slices):
    """The rows' bytes copied out of a memory map, and nothing else."""

    def states(self, path: Path, shard: ShardEntry) -> Any:
        with safe_open(path, "pt") as file:
            slice_ = file.get_slice("states")
            shape, item = slice_.get_shape(), slice_[:1].element_size()
        row = item * shape[1] * shape[2]  # the states end the file
        start = path.stat().st_size - shape[0] * row
        return np.memmap(path, np.uint8, "r", start, (shape[0], row))

    def read(self, states: Any, begin: int, end: int) -> Any:
        return np.array(states[begin:end])


def speed_row(codec: Codec, speeds: dict[str, list[float]], what: dict[str, str], floats: int) -> list[str]:
    size = {"fp32": 4, "bf16": 2, "fp8": 1, "int8": 1}[codec] * floats
    medians = {name: statistics.median(speeds[name]) for name in what}
    return [codec, *(f"{medians[name]:,.0f}" for name in what), f"{medians['read'] * 1e6 / size:,.0f}"]


def checksums(rounds: int, size: int) -> dict[str, float]:
    """MB/s of what could guard a row."""
    data = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).data
    sides: dict[str, Callable[[], Any]] = {
        "XXH3-64 (taken)": lambda: xxhash.xxh3_64_intdigest(data),
        "zlib.crc32": lambda: zlib.crc32(data),
        "SHA-256": lambda: hashlib.sha256(data).digest(),
    }
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(10 * rounds):
        for name, side in sides.items():
            begun = time.perf_counter()
            side()
            found[name].append(size / (time.perf_counter() - begun) / 1e6)
    return {name: statistics.median(rates) for name, rates in found.items()}


# ------------------------------------------------------------------------------------------------------------ errors
def errors_of(codec: Codec, records: Sequence[Record], width: int) -> tuple[float, float]:
    """Relative error over ordinary and over outlier channels, scales taken over one shard."""
    rows = [record.states for record in records[:ROWS_PER_SHARD]]
    channel_LD = channel_scales(codec, rows, len(LAYERS), width)
    states_PLD = torch.cat(rows)
    values_PLD, token_PL = encode(codec, states_PLD, channel_LD)
    difference_PLD = decode(codec, values_PLD, channel_LD, token_PL) - states_PLD
    large = torch.zeros(width, dtype=torch.bool)
    large[list(outliers(width))] = True
    ordinary, outlying = (
        (difference_PLD[..., chosen].norm() / states_PLD[..., chosen].norm()).item()
        for chosen in (~large, large)
    )
    return ordinary, outlying
