"""A teacher's states for a whole data set, computed once and put on disk.

The plan is fixed before the first forward and by nothing but the rows and the settings: which rows make a shard, and which of
them make a batch (of like lengths, so that little is padding). Whatever a kill, a resume or the number of processes does to the
order of the work, a shard is made of the same batches and has the same bytes; a finished one is never made again. Shards are
dealt out to the processes in turn.
The device is kept busy: the states of a batch are on their way to memory while the next batch runs, and a shard is encoded and
written by another thread while the next one is computed.
Rejected: one list of batches over the whole set, sorted by length (a little less padding, and a kill loses everything), and
smaller batches where memory runs out (other sums, other bytes): the longest batch is tried first, and fails at the start.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from latentthought.distillation.cache.manifest import Manifest, finish, finished_shards
from latentthought.distillation.cache.records import Record
from latentthought.distillation.cache.shards import ShardEntry, write_shard
from latentthought.distillation.cache.spec import CacheSpec
from latentthought.distillation.collecting import Collected, StateCollector
from latentthought.distillation.forecast import Forecast, forecast
from latentthought.distillation.reader import Readings
from latentthought.distillation.teacher import Teacher
from latentthought.errors import LatentThoughtError
from latentthought.memory import is_out_of_memory
from latentthought.processes import ALONE, Group

# batches under way on a GPU before the host waits for the first of them
_AHEAD = 2


@dataclass(frozen=True)
class Extraction:
    """What an extraction did. made: shards of this call, all processes together. empty: rows without any position, and why, as
    far as they were read in this call."""

    manifest: Manifest
    made: int
    seconds: float
    empty: list[str] = field(default_factory=list)


class Extractor:
    """Extracts the states of rows that were read by a teacher.

    Args:
        teacher, spec: see `matching.spec_for`; the reader is `Teacher.reader`'s.
        readings: the rows. digests: of their texts, kept beside the states (None: a row that changes is not noticed).
        group: the processes that share the work.

    As many rows are run at once as the spec says.
    """

    def __init__(
        self,
        teacher: Teacher,
        collate: Callable[[list[Any]], dict[str, Any]],
        readings: Readings,
        spec: CacheSpec,
        digests: Sequence[str] | None = None,
        group: Group = ALONE,
    ) -> None:
        self.spec, self.group = spec, group
        self.readings = readings.readings
        self.collector = StateCollector(teacher, collate, spec)
        self._digests = digests
        self._ahead = _AHEAD if teacher.device.type == "cuda" else 0

    @property
    def shards(self) -> int:
        """How many shards the rows make."""
        return -(-len(self.readings) // self.spec.rows_per_shard)

    def rows_of(self, shard: int) -> range:
        """The rows of a shard, in the order of the data."""
        start = shard * self.spec.rows_per_shard
        return range(start, min(start + self.spec.rows_per_shard, len(self.readings)))

    def batches_of(self, shard: int) -> list[list[int]]:
        """The rows of a shard as batches of like length, the longest first."""
        by_length = sorted(self.rows_of(shard), key=lambda row: -len(self.readings[row].row))
        size = self.spec.batch_size
        return [by_length[i : i + size] for i in range(0, len(by_length), size)]

    def missing(self, folder: Path) -> tuple[list[int], dict[int, ShardEntry]]:
        """Numbers of the shards that are still to be made, and the entries of those that are whole; the same on all processes."""
        found: dict[str, Any] = {}
        if self.group.first:
            whole = finished_shards(folder, self.spec)
            found = {str(number): entry.dump() for number, entry in whole.items() if number < self.shards}
        shared = self.group.exchange(found)[0]
        entries = {int(number): ShardEntry.parse(values) for number, values in shared.items()}
        return [number for number in range(self.shards) if number not in entries], entries

    def forecast(self, folder: Path, missing: Sequence[int], timed: bool = True) -> Forecast:
        """What making the missing shards takes. timed: run the longest batch, twice, which also shows that it fits the memory."""
        batches = [batch for shard in missing for batch in self.batches_of(shard)]
        tokens = sum(map(self._tokens, batches))
        seconds = None
        if timed and batches:
            longest = max(batches, key=self._tokens)
            self._run(longest).records()
            begun = time.perf_counter()
            self._run(longest).records()
            each = max(time.perf_counter() - begun, 0.0) / self._tokens(longest)
            seconds = each * tokens / min(self.group.count, len(missing))
        rows = [self.readings[row] for shard in missing for row in self.rows_of(shard)]
        return forecast(folder, self.spec, rows, len(missing), tokens, seconds)

    def run(
        self,
        folder: Path,
        missing: Sequence[int],
        entries: dict[int, ShardEntry],
        beside: Sequence[str] = (),
        progress: Callable[[int], None] = lambda rows: None,
    ) -> Extraction:
        """Make the missing shards, and the manifest when all processes are done.

        entries: of the shards that are there. beside: other files of the folder that belong to the cache. progress: called with
        rows done by this process.
        """
        begun = time.perf_counter()
        made, empty = self._make(folder, missing[self.group.rank :: self.group.count], progress)
        results = self.group.exchange({"made": [entry.dump() for entry in made], "empty": empty})
        fresh = [ShardEntry.parse(values) for result in results for values in result["made"]]
        whole = {**entries, **{entry.number: entry for entry in fresh}}
        manifest: dict[str, Any] = {}
        if self.group.first:
            manifest = finish(folder, self.spec, whole.values(), beside).dump()
        manifest = self.group.exchange(manifest)[0]
        lines = [line for result in results for line in result["empty"]]
        return Extraction(Manifest.parse(manifest), len(fresh), max(time.perf_counter() - begun, 0.0), lines)

    def _make(
        self, folder: Path, shards: Iterable[int], progress: Callable[[int], None]
    ) -> tuple[list[ShardEntry], list[str]]:
        """Make some shards; their entries, and a line for every row without positions."""
        under_way: deque[tuple[int, Collected]] = deque()
        empty: list[str] = []
        with _ShardWriter(folder, self.spec) as writer:

            def take() -> None:
                shard, batch = under_way.popleft()
                records = [
                    self._marked(row, one) for row, one in zip(batch.rows, batch.records(), strict=True)
                ]
                without = [row for row, one in zip(batch.rows, records, strict=True) if not len(one.keys)]
                # with logits alone there are no states to have positions for
                empty.extend(self._why_empty(row) for row in without if self.spec.rules)
                writer.add(shard, dict(zip(batch.rows, records, strict=True)), self.rows_of(shard))
                progress(len(records))

            for shard in shards:
                for batch in self.batches_of(shard):
                    self.group.check()
                    under_way.append((shard, self._run(batch)))
                    if len(under_way) > self._ahead:
                        take()
            while under_way:
                take()
        return writer.entries, empty

    def _marked(self, row: int, record: Record) -> Record:
        return record if self._digests is None else replace(record, digest=self._digests[row])

    def _run(self, rows: list[int]) -> Collected:
        try:
            return self.collector.collect(rows, [self.readings[row] for row in rows], self._ahead > 0)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise LatentThoughtError(
                f"out of memory with {len(rows)} rows of up to {max(len(self.readings[row].row) for row in rows)} tokens: "
                "lower teacher.batch_size, or data.max_length"
            ) from None

    def _tokens(self, batch: Sequence[int]) -> int:
        return len(batch) * max(len(self.readings[row].row) for row in batch)

    def _why_empty(self, row: int) -> str:
        encoded = self.readings[row].encoded
        steps = len(encoded.steps)
        why = (
            "it has no steps"
            if not steps
            else f"none of its {steps} steps has one under {', '.join(self.spec.rules)}"
        )
        return f"{encoded.id}: {why}"


class _ShardWriter:
    """Writes shards in a thread of its own, as their rows come in. entries: of those that are on the disk."""

    def __init__(self, folder: Path, spec: CacheSpec) -> None:
        self.entries: list[ShardEntry] = []
        self._folder, self._spec = folder, spec
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._written: Future[ShardEntry] | None = None
        self._waiting: dict[int, dict[int, Record]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._thread.shutdown()
        if kind is None:
            self._finish_last()

    def add(self, shard: int, records: dict[int, Record], rows: range) -> None:
        """Records of some rows of a shard, which is written once all of its `rows` are there."""
        held = self._waiting.setdefault(shard, {})
        held.update(records)
        if len(held) == len(rows):
            del self._waiting[shard]
            # at most one shard waits for the disk, so that memory stays bounded and an error is met soon
            self._finish_last()
            ordered = [held[row] for row in rows]
            self._written = self._thread.submit(write_shard, self._folder, shard, ordered, self._spec)

    def _finish_last(self) -> None:
        if self._written is not None:
            self.entries.append(self._written.result())
            self._written = None


def reasons(lines: Sequence[str]) -> dict[str, int]:
    """How often each reason occurs among `Extraction.empty`."""
    return dict(Counter(line.partition(": ")[2] for line in lines).most_common())
