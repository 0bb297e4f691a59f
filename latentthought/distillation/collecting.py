"""From a batch of readings to the records of a cache: run the teacher, keep the states of the sites and nothing else.

What is kept is gathered on the device (a pooled step is one state there already), so that only the records' own bytes travel
to the host, in the teacher's type. On a GPU they travel while the next batch runs, into pinned memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentthought.distillation.cache.records import LogitsRecord, Record, SampledRecord, TopKRecord
from latentthought.distillation.cache.spec import CacheSpec, TopKLogits
from latentthought.distillation.teacher import Teacher, on_device
from latentthought.errors import ConfigError
from latentthought.objective.alignment import Reading, Sites, joined, repeated, sites
from latentthought.objective.divergence import sampled_of, top_k_of
from latentthought.objective.layers import AFTER_NORM
from latentthought.objective.places import Places

# logits at once: a quarter of a gigabyte in float32
_LOGITS = 1 << 26


@dataclass(frozen=True)
class Collected:
    """A batch that was run. rows: its rows by number. states: (N, L, D) in host memory, there once `ready` has happened."""

    rows: list[int]
    ids: list[str]
    keys: list[Tensor]
    states: Tensor
    logits: list[LogitsRecord | None]
    ready: Any

    def records(self) -> list[Record]:
        """One for each row; waits for the device."""
        if self.ready is not None:
            self.ready.synchronize()
        parts = self.states.split([len(keys) for keys in self.keys])
        return [Record(*each) for each in zip(self.ids, self.keys, parts, self.logits, strict=True)]


class StateCollector:
    """Runs batches and gathers what a spec asks for.

    collate: rows to a batch with `before`, see `Reader.collate`. Raises `ConfigError` where `spec` asks for more logits than
    the teacher has tokens.
    """

    def __init__(
        self, teacher: Teacher, collate: Callable[[list[Any]], dict[str, Any]], spec: CacheSpec
    ) -> None:
        self.teacher, self.spec, self._collate = teacher, spec, collate
        # up to the last id that is a token to the teacher; a student has its thought tokens after it
        self._vocabulary = teacher.vocabulary if spec.vocabulary is None else spec.vocabulary.size
        if isinstance(spec.logits, TopKLogits) and spec.logits.k > self._vocabulary:
            raise ConfigError(
                f"teacher.cache.logits.k: {spec.logits.k} is more than the {self._vocabulary} tokens of {teacher.name}"
            )

    @torch.no_grad()
    def collect(self, rows: list[int], readings: Sequence[Reading], pinned: bool = False) -> Collected:
        """Run one batch. pinned: let its states travel while the host goes on."""
        batch = self._collate([reading.row for reading in readings])
        before, ids = batch.pop("before"), [reading.encoded.id for reading in readings]
        device = self.teacher.device
        layers = self.spec.layers if self.spec.logits is None else (*self.spec.layers, AFTER_NORM)
        captured = self.teacher.states(on_device(batch, device), tuple(dict.fromkeys(layers)))
        keys, found = zip(*(self._sites(reading) for reading in readings), strict=True)
        places = Places.in_batch(found, before).to(device)
        states = [places.gather(captured[layer]) for layer in self.spec.layers]
        states_NLD = torch.stack(states, 1) if states else torch.empty(len(places), 0, self.spec.width)
        logits: list[LogitsRecord | None] = [None] * len(rows)
        if self.spec.logits is not None:
            logits = list(self._logits(captured[AFTER_NORM], readings, before))
        host, ready = _to_host(states_NLD, pinned)
        return Collected(rows, ids, list(keys), host, logits, ready)

    def _sites(self, reading: Reading) -> tuple[Tensor, Sites]:
        """The sites of a reading under all rules, one rule after the other, and the keys (P, 3) of their record."""
        by_rule = [sites(reading, rule) for rule in self.spec.rules]
        found, rules_P = joined(by_rule), repeated(range(len(by_rule)), list(map(len, by_rule)))
        return _keys(rules_P, found.pieces_N, found.ends_N), found

    def _logits(
        self, final_BTD: Tensor, readings: Sequence[Reading], before: Sequence[int]
    ) -> list[LogitsRecord]:
        """What is kept of the distributions of each row, over the leading ids that mean a token."""
        settings = self.spec.logits
        kept: list[LogitsRecord] = []
        for place, reading in enumerate(readings):
            found = sites(reading, "predictions")
            places = Places.in_batch([found], before[place : place + 1], place).to(final_BTD.device)
            final_ND = places.gather(final_BTD)
            keys = _keys(found.pieces_N, found.ends_N)
            # a row draws by its own id, whoever shares its batch
            generator = torch.Generator(final_BTD.device).manual_seed(zlib.crc32(reading.encoded.id.encode()))
            parts: list[Any] = []
            for some_nD in final_ND.split(max(1, _LOGITS // self._vocabulary)):
                logits_nV = self.teacher.head(some_nD)[:, : self._vocabulary]
                if isinstance(settings, TopKLogits):
                    parts.append(top_k_of(logits_nV, settings.k, settings.temperature))
                else:
                    assert settings is not None
                    parts.append(sampled_of(logits_nV, settings.n, settings.temperature, generator))
            columns = [
                torch.cat(column).cpu() for column in zip(*(part.tensors for part in parts), strict=True)
            ]
            record = TopKRecord if isinstance(settings, TopKLogits) else SampledRecord
            kept.append(record(keys, *columns))
        return kept


def _keys(*columns: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(columns, 1).astype(np.int32))


def _to_host(states: Tensor, pinned: bool) -> tuple[Tensor, Any]:
    """The states in host memory, and the event after which they are there (None: they are)."""
    if not pinned or states.device.type != "cuda":
        return states.cpu(), None
    host = torch.empty(states.shape, dtype=states.dtype, pin_memory=True)
    host.copy_(states, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record(torch.cuda.current_stream(states.device))
    return host, ready
