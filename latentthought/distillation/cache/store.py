"""Reading a cache: a teacher's states by example id.

A lookup opens a shard when it is first needed (its head is read and checked), copies one row out of the memory map, checks it
and widens it to float32. Only a bounded number of shards is open at a time, so a cache may have more files than a process may
open. In a worker process the cache opens its files itself.
"""

from __future__ import annotations

from bisect import bisect
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from latentthought.distillation.cache.manifest import MANIFEST, Manifest, read_manifest
from latentthought.distillation.cache.records import LogitsRecord, Record
from latentthought.distillation.cache.shards import Shard, ShardEntry, mend_hint
from latentthought.errors import DamagedFileError, LatentThoughtError, NotFoundError, nearest
from latentthought.files import sha256_of

OPEN_SHARDS = 64
# how many ids, next to the wanted one in alphabetical order, are searched for near misses
_NEIGHBOURS = 200


class Problem(NamedTuple):
    """A file of a cache (its name in the folder), and what is wrong with it."""

    file: str
    what: str


class TeacherStateCache:
    """A finished cache. `cache[id]` is {capture key: (P, D) float32}; `record(id)` has keys and logits too."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._places = {
            example_id: (shard, row) for shard in manifest.shards for row, example_id in enumerate(shard.ids)
        }
        self._open: OrderedDict[int, Shard] = OrderedDict()

    @classmethod
    def open(cls, folder: str | Path) -> TeacherStateCache:
        """Open the cache in `folder`: `MissingFileError` when it is not one, `DamagedFileError` when its manifest is damaged."""
        folder = Path(folder)
        return cls(folder, read_manifest(folder))

    def __reduce__(self) -> tuple[Callable[[Path, Manifest], TeacherStateCache], tuple[Path, Manifest]]:
        return TeacherStateCache, (self.folder, self.manifest)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, example_id: object) -> bool:
        return example_id in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    @property
    def ids(self) -> tuple[str, ...]:
        """All example ids, in the order of the files."""
        return tuple(self._places)

    def __getitem__(self, example_id: str) -> dict[int, Tensor]:
        states_PLD = self.record(example_id).states
        return {layer: states_PLD[:, index] for index, layer in enumerate(self.manifest.spec.layers)}

    def record(self, example_id: str) -> Record:
        """What is kept of an example. Raises `NotFoundError` with near misses, `DamagedFileError` naming the shard."""
        shard, row = self._at(example_id)
        return shard.record(row)

    def keys(self, example_id: str) -> Tensor:
        """(P, 3) int32 keys of an example's states, which are not read; errors as `record`."""
        shard, row = self._at(example_id)
        return shard.keys(row)

    def logit_keys(self, example_id: str) -> Tensor:
        """(Q, 2) int32 keys of an example's kept distributions, which are not read; Q = 0 in a cache without."""
        shard, row = self._at(example_id)
        return shard.logit_keys(row)

    def states(self, example_id: str, positions: Sequence[int], columns: Sequence[int]) -> Tensor:
        """(len(positions), len(columns), D) float32: some states of an example, in the order asked for.

        positions: places in `keys`. columns: places in the spec's layers. All bytes of the example are checked, these alone are
        decoded.
        """
        shard, row = self._at(example_id)
        return shard.states(row, positions, columns)

    def logits(self, example_id: str) -> LogitsRecord | None:
        """What is kept of an example's distributions; its states are not decoded."""
        shard, row = self._at(example_id)
        return shard.logits(row)

    def digest(self, example_id: str) -> str:
        """Of the text that an example had when its states were made; "" where nobody has said."""
        entry, row = self._place(example_id)
        return entry.digests[row]

    def require(self, ids: Iterable[str]) -> None:
        """Raise a `NotFoundError` that counts and names the examples without states, if there are any."""
        wanted = list(ids)
        if absent := [example_id for example_id in wanted if example_id not in self._places]:
            named = ", ".join(map(repr, absent[:3])) + (", ..." if len(absent) > 3 else "")
            raise NotFoundError(
                f"{self.folder}: no states of {len(absent):,} of {len(wanted):,} examples: "
                f"{named}{self._hint(absent[0])}; extract the cache anew for this data"
            )

    def verify(self, progress: Callable[[int], None] = lambda done: None) -> list[Problem]:
        """Read every byte of the cache and list what is damaged, missing or foreign; see `problems_in`."""
        return problems_in(self.folder, progress)

    def _place(self, example_id: str) -> tuple[ShardEntry, int]:
        if example_id not in self._places:
            raise NotFoundError(f"{self.folder}: no states of example {example_id!r}{self._hint(example_id)}")
        return self._places[example_id]

    def _at(self, example_id: str) -> tuple[Shard, int]:
        entry, row = self._place(example_id)
        return self._shard(entry), row

    def _shard(self, entry: ShardEntry) -> Shard:
        if entry.number in self._open:
            self._open.move_to_end(entry.number)
            return self._open[entry.number]
        shard = Shard(self.folder / entry.file)
        if shard.seal != entry.seal:
            raise DamagedFileError(
                f"{shard.path}: is not the shard that the manifest lists; {mend_hint(self.folder)}"
            )
        self._open[entry.number] = shard
        if len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)
        return shard

    def _hint(self, example_id: str) -> str:
        known = sorted(self._places)
        place = bisect(known, example_id)
        close = nearest(example_id, known[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS], 1)
        return f" (it has {len(known):,} examples{f'; did you mean {close[0]!r}?' if close else ''})"


def problems_in(folder: str | Path, progress: Callable[[int], None] = lambda done: None) -> list[Problem]:
    """Everything that is wrong with the cache in a folder; [] for a good one. Reads every byte of it.

    progress: called with the number of shards done so far. A damaged manifest is a problem like others (the shards then answer
    for themselves); raises `MissingFileError` when there is none.
    """
    folder = Path(folder)
    shards = sorted(folder.glob("shard-*.safetensors"))
    try:
        manifest = read_manifest(folder)
    except DamagedFileError:
        problems = [Problem(MANIFEST, "does not match its checksum")]
        for done, path in enumerate(shards, 1):
            problems += _inside(path)
            progress(done)
        return problems
    problems = []
    for done, entry in enumerate(manifest.shards, 1):
        problems += _against(folder / entry.file, entry.sha256)
        progress(done)
    for name, digest in manifest.beside.items():
        problems += _against(folder / name, digest)
    listed = {entry.file for entry in manifest.shards}
    return problems + [
        Problem(path.name, "is not in the manifest") for path in shards if path.name not in listed
    ]


def _against(path: Path, digest: str) -> list[Problem]:
    if not path.is_file():
        return [Problem(path.name, "is missing")]
    if sha256_of(path) == digest:
        return []
    inside = _inside(path) if path.suffix == ".safetensors" else []
    return inside or [Problem(path.name, "is not the file that the manifest lists")]


def _inside(path: Path) -> list[Problem]:
    """What a shard itself says is damaged."""
    try:
        rows = Shard(path).damaged_rows()
    except LatentThoughtError as error:
        what = str(error).removeprefix(f"{path}: ").partition("; ")[0]
        return [Problem(path.name, what)]
    return [
        Problem(path.name, f"the states of {example_id!r} do not match their checksum") for example_id in rows
    ]
