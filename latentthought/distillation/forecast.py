"""What an extraction will need, said before it starts: memory for the teacher, room on the disk, time.

Sizes follow from the teacher's config (its parameters are counted on the meta device, which holds none) and from the sites of a
sample of rows; the time from the longest batch, which is run first, so that a batch that does not fit the memory fails at the
start and not in the middle of the night.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from latentthought.amounts import in_bytes, in_time
from latentthought.distillation.cache.spec import CacheSpec, TopKLogits
from latentthought.distillation.saved import SavedModel
from latentthought.errors import ConfigError
from latentthought.memory import free_memory
from latentthought.model.blueprint import count_parameters
from latentthought.objective.alignment import Reading, sites

_SAMPLE = 2000
# the buffers of a forward, and what the allocator cannot use
_MEMORY_MARGIN = 1.1
_DISK_MARGIN = 1.02
_KEY_BYTES, _OFFSET_BYTES = 12, 8


@dataclass(frozen=True)
class Forecast:
    """What is still to be extracted. positions, predictions: of all missing rows, from a sample. tokens: of their padded
    batches. bytes: on disk; free: there. seconds: on all processes together, None where nothing was timed."""

    rows: int
    shards: int
    positions: int
    predictions: int
    bytes: int
    free: int
    tokens: int
    seconds: float | None = None

    def lines(self) -> list[str]:
        """For a person."""
        states = f"{self.positions:,} positions" + (
            f", {self.predictions:,} predictions" if self.predictions else ""
        )
        lines = [
            f"to extract  {self.rows:,} rows in {self.shards:,} shards, about {states}",
            f"disk        about {in_bytes(self.bytes)} ({in_bytes(self.free)} free)",
        ]
        if self.seconds is not None:
            lines.append(f"time        about {in_time(self.seconds)} ({self.tokens:,} tokens)")
        return lines

    def check_disk(self, folder: Path) -> None:
        """Raise `ConfigError` where the disk has too little room."""
        if self.bytes * _DISK_MARGIN > self.free:
            raise ConfigError(
                f"teacher.cache.path {folder}: about {in_bytes(self.bytes)} of states, and the disk has "
                f"{in_bytes(self.free)} free; name a folder on another disk, or keep less: codec (bf16 2, fp8 and int8 1 "
                "byte a number), layers, positions, logits"
            )


def forecast(
    folder: Path,
    spec: CacheSpec,
    readings: Sequence[Reading],
    shards: int,
    tokens: int,
    seconds: float | None = None,
) -> Forecast:
    """What extracting `readings` into `folder` takes; see `Forecast`."""
    sample = readings[:: max(1, len(readings) // _SAMPLE)]
    per_row = len(readings) / len(sample) if sample else 0.0
    positions = round(per_row * sum(len(sites(reading, rule)) for reading in sample for rule in spec.rules))
    predictions = 0
    if spec.logits is not None:
        predictions = round(per_row * sum(len(sites(reading, "predictions")) for reading in sample))
    size = positions * _position_bytes(spec) + predictions * _prediction_bytes(spec)
    size += len(readings) * 2 * _OFFSET_BYTES
    if spec.codec in ("fp8", "int8"):
        size += shards * 4 * len(spec.layers) * spec.width
    free = shutil.disk_usage(next(part for part in (folder, *folder.absolute().parents) if part.exists()))
    return Forecast(len(readings), shards, positions, predictions, size, free.free, tokens, seconds)


def _position_bytes(spec: CacheSpec) -> int:
    numbers = len(spec.layers) * spec.width
    each = {"fp32": 4 * numbers, "bf16": 2 * numbers, "fp8": numbers + 4 * len(spec.layers), "int8": numbers}
    return each[spec.codec] + _KEY_BYTES


def _prediction_bytes(spec: CacheSpec) -> int:
    if spec.logits is None:
        return 0
    kept = 8 * spec.logits.k if isinstance(spec.logits, TopKLogits) else 4 * spec.logits.n
    return kept + 3 * 4  # its key, and the tail or the entropy


def check_memory(where: Path | str, dtype: torch.dtype | str, device: str, shares: int = 1) -> None:
    """Raise `ConfigError` where a model's weights do not fit the device, or the memory that they pass through on their way.

    where: its folder or hub name; of an adapter the base counts. dtype: "auto" is as the weights were saved. shares: over how
    many processes they are spread; they then go straight to the devices. Nothing is read but the config.
    """
    config, saved = SavedModel.at(where)
    wanted = dtype if isinstance(dtype, torch.dtype) else saved
    size = count_parameters(config) * wanted.itemsize / shares
    for place in dict.fromkeys(("cpu",) * (shares == 1) + (torch.device(device).type,)):
        free = free_memory(device if place != "cpu" else place)
        if free is not None and size * _MEMORY_MARGIN > free:
            smaller = " teacher.dtype: bf16 halves it;" if wanted.itemsize > 2 else ""
            share = f" in each of {shares} processes" if shares > 1 else ""
            spread = (
                "" if shares > 1 else ", or deal it out to the processes of engine zero3 (teacher.sharded)"
            )
            raise ConfigError(
                f"teacher.model {where}: {in_bytes(size)} of weights in {str(wanted).removeprefix('torch.')}{share}, and {place} "
                f"has {in_bytes(free)} free;{smaller} extract its states on a larger machine (latentthought teacher extract) and "
                f"train here from teacher.cache{spread}"
            )
