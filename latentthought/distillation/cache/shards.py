"""One file of a cache: some rows, written at once and read one at a time.

A shard carries its number, its rows' ids, digests of their texts and the fingerprint of the spec under its own seal, so that it
answers for itself: finished shards are found after a kill without a list beside them, and a lost manifest is made again from
the shards.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentthought.config import Config
from latentthought.distillation.cache.codecs import STORED, channel_scales, decode, encode
from latentthought.distillation.cache.files import write_whole
from latentthought.distillation.cache.layout import compose_head, read_head, row_checksum
from latentthought.distillation.cache.records import LogitsRecord, Record, SampledRecord, TopKRecord
from latentthought.distillation.cache.spec import CacheSpec, Codec, SampledLogits, TopKLogits
from latentthought.errors import DamagedFileError, LatentThoughtError
from latentthought.files import sha256_of

_STORED_NAMES: dict[Codec, str] = {"fp32": "F32", "bf16": "BF16", "fp8": "F8_E4M3", "int8": "I8"}
_CODECS = {name: codec for codec, name in _STORED_NAMES.items()}
# places along an axis, or all of them
_Some = list[int] | slice
_DTYPES = {name: STORED[codec] for codec, name in _STORED_NAMES.items()} | {"I32": torch.int32}


class ShardEntry(Config):
    """A finished shard in the manifest. digests: of the rows' texts; positions: its states; predictions: its positions with
    logits; seal: of its head."""

    number: int
    file: str
    ids: tuple[str, ...]
    digests: tuple[str, ...]
    positions: int
    predictions: int
    bytes: int
    sha256: str
    seal: str


def shard_name(number: int) -> str:
    """`shard-00007.safetensors`."""
    return f"shard-{number:05d}.safetensors"


def mend_hint(folder: Path) -> str:
    """What the message on a damaged file says to do."""
    return f"make only what is damaged anew with: latentthought teacher mend {folder}"


def write_shard(folder: Path, number: int, records: Sequence[Record], spec: CacheSpec) -> ShardEntry:
    """Write `records`, in their order, as shard `number`; all of it or nothing is there afterwards.

    The bytes depend on the arguments alone. Raises `LatentThoughtError` naming the row whose states do not fit the spec or are
    not finite, and when the disk refuses.
    """
    for record in records:
        _check(record, spec)
    rows = [record.states.detach().to("cpu", torch.float32).contiguous() for record in records]
    channel_LD = channel_scales(spec.codec, rows, len(spec.layers), spec.width)
    encoded = [encode(spec.codec, states_PLD, channel_LD) for states_PLD in rows]
    small = {
        "offsets": _offsets([len(states_PLD) for states_PLD in rows]),
        "keys": _joined([record.keys for record in records], torch.int32, (3,)),
    }
    if channel_LD is not None:
        small["channel_scales"] = channel_LD.numpy()
    if spec.codec == "fp8":
        tokens = [token_PL for _, token_PL in encoded if token_PL is not None]
        small["token_scales"] = _joined(tokens, torch.float32, (len(spec.layers),))
    bodies: dict[str, list[np.ndarray]] = {}
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    if spec.logits is not None:
        logits = [record.logits for record in records if record.logits is not None]
        more, bodies, shapes = _logits_arrays(logits, spec.logits)
        small |= more
    positions = sum(map(len, rows))
    bodies["states"] = [values_PLD.view(torch.uint8).numpy() for values_PLD, _ in encoded]
    shapes["states"] = (_STORED_NAMES[spec.codec], (positions, len(spec.layers), spec.width))
    checksums = [row_checksum(parts) for parts in zip(*bodies.values(), strict=True)]
    small["checksums"] = np.array(checksums, dtype=np.int64)
    ids, digests = [record.id for record in records], [record.digest for record in records]
    metadata = {"number": number, "spec": spec.fingerprint, "ids": ids, "digests": digests}
    head = compose_head(metadata, small, shapes)
    name = shard_name(number)
    size, digest = write_whole(folder / name, [head, *(part for body in bodies.values() for part in body)])
    return ShardEntry(
        number=number,
        file=name,
        ids=tuple(ids),
        digests=tuple(digests),
        positions=positions,
        predictions=len(small.get("logit_keys", ())),
        bytes=size,
        sha256=digest,
        seal=head[-32:].hex(),
    )


class Shard:
    """A shard opened for reading: its head is checked now and kept, its rows are mapped and checked when they are read.

    Raises `DamagedFileError` naming the file and the command that mends it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise self._damaged("is missing") from None
        except ValueError:  # an empty file cannot be mapped
            raise self._damaged("is empty") from None
        head = read_head(self._data, path, mend_hint(path.parent))
        self.ids: list[str] = head.metadata["ids"]
        self.digests: list[str] = head.metadata["digests"]
        self.number: int = head.metadata["number"]
        self.spec: str = head.metadata["spec"]
        self.seal = head.seal
        self._small, self._bodies = head.tensors, head.bodies
        self._codec = _CODECS[head.bodies["states"].dtype]

    def __len__(self) -> int:
        return len(self.ids)

    def record(self, row: int) -> Record:
        """The row's states and logits, as new tensors, after its bytes were checked."""
        parts = self._checked(row)
        states_PLD, logits = self._states(row, parts, slice(None), slice(None)), self._logits(row, parts)
        return Record(self.ids[row], self.keys(row), states_PLD, logits, self.digests[row])

    def keys(self, row: int) -> Tensor:
        """(P, 3) int32; of the head, so that no row is read."""
        begin, end = self._small["offsets"][row : row + 2]
        return _tensor(self._small["keys"][begin:end])

    def logit_keys(self, row: int) -> Tensor:
        """(Q, 2) int32, Q = 0 without logits; of the head too."""
        if "logit_offsets" not in self._small:
            return torch.empty(0, 2, dtype=torch.int32)
        begin, end = self._small["logit_offsets"][row : row + 2]
        return _tensor(self._small["logit_keys"][begin:end])

    def states(self, row: int, positions: Sequence[int], columns: Sequence[int]) -> Tensor:
        """(len(positions), len(columns), D) float32 of the row, after all its bytes were checked; no others are decoded."""
        return self._states(row, self._checked(row), list(positions), list(columns))

    def logits(self, row: int) -> LogitsRecord | None:
        """What is kept of the row's distributions, after its bytes were checked; its states are not decoded."""
        return self._logits(row, self._checked(row))

    def damaged_rows(self) -> list[str]:
        """Ids of the rows whose bytes are not those that were written."""
        found = []
        for row, example_id in enumerate(self.ids):
            try:
                self._checked(row)
            except DamagedFileError:
                found.append(example_id)
        return found

    def entry(self) -> ShardEntry:
        """The manifest's entry for this shard, from the file as it is."""
        return ShardEntry(
            number=self.number,
            file=self.path.name,
            ids=tuple(self.ids),
            digests=tuple(self.digests),
            positions=len(self._small["keys"]),
            predictions=len(self._small.get("logit_keys", ())),
            bytes=len(self._data),
            sha256=sha256_of(self.path),
            seal=self.seal,
        )

    def _states(self, row: int, parts: dict[str, Tensor], positions: _Some, columns: _Some) -> Tensor:
        begin, end = self._small["offsets"][row : row + 2]
        channel = self._small.get("channel_scales")
        token = self._small.get("token_scales")
        return decode(
            self._codec,
            parts["states"][positions][:, columns],
            None if channel is None else _tensor(channel[columns]),
            None if token is None else _tensor(token[begin:end][positions][:, columns]),
        )

    def _checked(self, row: int) -> dict[str, Tensor]:
        """The row's part of each tensor, copied first, so that what was checked is what is used."""
        parts, copies = {}, []
        for name, place in self._bodies.items():
            begin, end = self._small["offsets" if name == "states" else "logit_offsets"][row : row + 2]
            where = place.rows(int(begin), int(end))
            parts[name] = torch.empty(int(end - begin), *place.shape[1:], dtype=_DTYPES[place.dtype])
            copies.append(parts[name].view(torch.uint8).numpy().reshape(-1))
            copies[-1][:] = np.frombuffer(self._data, np.uint8, where.stop - where.start, where.start)
        if row_checksum(copies) != self._small["checksums"][row]:
            raise self._damaged(f"the states of {self.ids[row]!r} do not match their checksum")
        return parts

    def _logits(self, row: int, parts: dict[str, Tensor]) -> LogitsRecord | None:
        if "logit_offsets" not in self._small:
            return None
        begin, end = self._small["logit_offsets"][row : row + 2]
        keys_Q2 = self.logit_keys(row)
        if "entropy" in self._small:
            return SampledRecord(keys_Q2, parts["logit_ids"], _tensor(self._small["entropy"][begin:end]))
        tail_Q = _tensor(self._small["tail"][begin:end])
        return TopKRecord(keys_Q2, parts["logit_ids"], parts["logit_log_probs"], tail_Q)

    def _damaged(self, what: str) -> DamagedFileError:
        return DamagedFileError(f"{self.path}: {what}; {mend_hint(self.path.parent)}")


def _check(record: Record, spec: CacheSpec) -> None:
    wanted = (len(record.keys), len(spec.layers), spec.width)
    if tuple(record.states.shape) != wanted or tuple(record.keys.shape[1:]) != (3,):
        raise LatentThoughtError(
            f"example {record.id!r}: states {tuple(record.states.shape)} with keys {tuple(record.keys.shape)} "
            f"do not fit the spec's {wanted}"
        )
    # a NaN or an infinity is always among the extremes; isfinite takes several times as long
    if record.states.numel() and not all(map(torch.isfinite, torch.aminmax(record.states))):
        bad = (~torch.isfinite(record.states)).flatten(2).any(-1).any(0).nonzero().flatten().tolist()
        layers = ", ".join(str(spec.layers[index]) for index in bad)
        raise LatentThoughtError(
            f"example {record.id!r}: states that are not finite (NaN or infinite) in layer {layers}: "
            "run the teacher in a wider dtype (teacher.dtype)"
        )
    kinds = {None: type(None), "top_k": TopKRecord, "sampled": SampledRecord}
    fits = isinstance(record.logits, kinds[spec.logits.kind if spec.logits else None])
    if fits and record.logits is not None and spec.logits is not None:
        fits = tuple(record.logits.ids.shape) == (len(record.logits.keys), spec.logits.columns)
    if not fits:
        raise LatentThoughtError(
            f"example {record.id!r}: its logits ({type(record.logits).__name__}) do not fit the spec's ({spec.logits})"
        )


def _logits_arrays(
    logits: Sequence[LogitsRecord], kept: TopKLogits | SampledLogits
) -> tuple[dict[str, np.ndarray], dict[str, list[np.ndarray]], dict[str, tuple[str, tuple[int, ...]]]]:
    """Tensors of the head, and rows with their type and shape, that hold logits."""
    small = {
        "logit_offsets": _offsets([len(one.keys) for one in logits]),
        "logit_keys": _joined([one.keys for one in logits], torch.int32, (2,)),
    }
    shape = (len(small["logit_keys"]), kept.columns)
    bodies = {"logit_ids": [_rows(one.ids, torch.int32) for one in logits]}
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {"logit_ids": ("I32", shape)}
    if isinstance(kept, TopKLogits):
        top = [one for one in logits if isinstance(one, TopKRecord)]
        small["tail"] = _joined([one.tail for one in top], torch.float32, ())
        bodies["logit_log_probs"] = [_rows(one.log_probs, torch.float32) for one in top]
        shapes["logit_log_probs"] = ("F32", shape)
    else:
        small["entropy"] = _joined(
            [one.entropy for one in logits if isinstance(one, SampledRecord)], torch.float32, ()
        )
    return small, bodies, shapes


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _joined(parts: Sequence[Tensor], dtype: torch.dtype, shape: tuple[int, ...]) -> np.ndarray:
    empty = torch.empty(0, *shape, dtype=dtype)
    return torch.cat([empty, *(part.detach().to("cpu", dtype) for part in parts)]).numpy()


def _rows(values: Tensor, dtype: torch.dtype) -> np.ndarray:
    return values.detach().to("cpu", dtype).contiguous().numpy()


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())  # the head's arrays are read-only, and shared by all its rows
