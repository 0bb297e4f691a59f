"""A cache as rows of Parquet, for other tools: question, steps, answer, hidden_states (the form of LRD-PEFT's phase 2).

hidden_states is [layer][position][channel] in float32; `layers` names its first axis, `keys` its second. The cache's spec goes
into the file's metadata and the digest of each row's text beside the row, so that the file becomes an equal cache again (with fp8
and int8, equal up to rounding of the scales). Written and read in row groups of some 64 MB, never as a whole. Parquet is for
exchange: rows are not found by id, and nothing is checked byte by byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentthought.data.example import Example
from latentthought.distillation.cache.files import PARTIAL
from latentthought.distillation.cache.manifest import Manifest, finish
from latentthought.distillation.cache.records import LogitsRecord, Record, SampledRecord, TopKRecord
from latentthought.distillation.cache.shards import ShardEntry, write_shard
from latentthought.distillation.cache.spec import CacheSpec, canonical
from latentthought.distillation.cache.store import TeacherStateCache
from latentthought.errors import DataError, FolderInUseError, LatentThoughtError, MissingFileError

_SPEC = b"latentthought.spec"
_GROUP_FLOATS = 1 << 24


def to_parquet(cache: TeacherStateCache, examples: Iterable[Example], path: str | Path) -> int:
    """Write one row for each of `examples`, in their order; returns how many. The file is there whole or not at all.

    Raises `NotFoundError` naming an example that the cache does not have.
    """
    import pyarrow as pa
    from pyarrow import parquet

    path = Path(path)
    partial = path.with_name(path.name + PARTIAL)
    spec, count = cache.manifest.spec, 0
    schema = _schema(spec)
    try:
        with parquet.ParquetWriter(partial, schema) as writer:
            for group in _groups(cache, examples):
                writer.write_table(pa.table(_columns(group, spec), schema=schema))
                count += len(group)
        partial.replace(path)
    except OSError as error:
        if isinstance(error, LatentThoughtError):
            raise
        raise LatentThoughtError(f"cannot write {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def read_parquet(path: str | Path) -> Iterator[tuple[Example, Record]]:
    """The rows of a file that `to_parquet` wrote, one at a time; `DataError` for any other file."""
    import pyarrow as pa

    file, spec = _open(path)
    for number in range(file.num_row_groups):
        try:
            table = file.read_row_group(number)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{path}: row group {number} of {file.num_row_groups} is damaged: {error}"
            ) from None
        yield from _rows(table, spec)


def from_parquet(path: str | Path, folder: str | Path) -> Manifest:
    """Make a cache again, in a folder that is new or empty, from a file that `to_parquet` wrote."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderInUseError(f"{folder}: holds something already; give a new folder")
    _, spec = _open(path)
    folder.mkdir(parents=True, exist_ok=True)
    records = (record for _, record in read_parquet(path))
    entries: list[ShardEntry] = []
    while chunk := list(islice(records, spec.rows_per_shard)):
        entries.append(write_shard(folder, len(entries), chunk, spec))
    return finish(folder, spec, entries)


def _open(path: str | Path) -> tuple[Any, CacheSpec]:
    import pyarrow as pa
    from pyarrow import parquet

    if not Path(path).is_file():
        raise MissingFileError(f"no such file: {path}")
    try:
        file = parquet.ParquetFile(path)
        metadata = file.schema_arrow.metadata or {}
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from None
    if _SPEC not in metadata:
        raise DataError(
            f"{path}: no teacher states of this package (no {_SPEC.decode()!r} in its metadata); "
            "files are written by `latentthought teacher export`"
        )
    return file, CacheSpec.parse(json.loads(metadata[_SPEC]), f"{path}: spec")


def _groups(cache: TeacherStateCache, examples: Iterable[Example]) -> Iterator[list[tuple[Example, Record]]]:
    group: list[tuple[Example, Record]] = []
    floats = 0
    for example in examples:
        record = cache.record(example.id)
        group.append((example, record))
        floats += record.states.numel()
        if floats >= _GROUP_FLOATS:
            yield group
            group, floats = [], 0
    if group:
        yield group


def _schema(spec: CacheSpec) -> Any:
    import pyarrow as pa

    integers, floats = pa.list_(pa.int32()), pa.list_(pa.float32())
    fields = [
        ("id", pa.string()),
        ("question", pa.string()),
        ("steps", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("layers", integers),
        ("keys", pa.list_(integers)),
        ("digest", pa.string()),
        ("hidden_states", pa.list_(pa.list_(floats))),
    ]
    if spec.logits is not None:
        fields += [("logit_keys", pa.list_(integers)), ("logit_ids", pa.list_(integers))]
        if spec.logits.kind == "top_k":
            fields += [("logit_log_probs", pa.list_(floats)), ("logit_tail", floats)]
        else:
            fields += [("logit_entropy", floats)]
    return pa.schema(fields, metadata={_SPEC: canonical(spec.dump())})


def _columns(group: Sequence[tuple[Example, Record]], spec: CacheSpec) -> dict[str, Any]:
    examples, records = zip(*group, strict=True)
    columns = {
        "id": [example.id for example in examples],
        "question": [example.question for example in examples],
        "steps": [list(example.steps) for example in examples],
        "answer": [example.answer for example in examples],
        "layers": [list(spec.layers)] * len(group),
        "keys": _lists([record.keys for record in records]),
        "digest": [record.digest for record in records],
        # by layer first
        "hidden_states": _lists([record.states.transpose(0, 1) for record in records]),
    }
    logits: list[Any] = [record.logits for record in records]
    if spec.logits is not None:
        columns["logit_keys"] = _lists([one.keys for one in logits])
        columns["logit_ids"] = _lists([one.ids for one in logits])
        if spec.logits.kind == "top_k":
            columns["logit_log_probs"] = _lists([one.log_probs for one in logits])
            columns["logit_tail"] = _lists([one.tail for one in logits])
        else:
            columns["logit_entropy"] = _lists([one.entropy for one in logits])
    return columns


def _lists(parts: Sequence[Tensor]) -> Any:
    """An Arrow array with one nested list for each tensor, without a Python object for each number.

    Lists of lists are offsets into flat numbers: from the innermost axis out, the lengths of all lists of that depth.
    """
    import pyarrow as pa

    array = pa.array(torch.cat([part.reshape(-1) for part in parts]).numpy())
    for axis in range(parts[0].dim() - 1, -1, -1):
        lengths = np.concatenate(
            [np.full(int(np.prod(part.shape[:axis])), part.shape[axis]) for part in parts]
        )
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        array = pa.ListArray.from_arrays(pa.array(offsets), array)
    return array


def _rows(table: Any, spec: CacheSpec) -> Iterator[tuple[Example, Record]]:
    texts = table.select(["id", "question", "steps", "answer", "digest"]).to_pylist()
    flat = {name: _flat(table[name]) for name in table.column_names if name not in {*texts[0], "layers"}}
    for row, text in enumerate(texts):
        values = {name: column[row] for name, column in flat.items()}
        example = Example(text["id"], text["question"], tuple(text["steps"]), text["answer"])
        keys_P3 = values["keys"].view(-1, 3)
        states_LPD = values["hidden_states"].view(len(spec.layers), len(keys_P3), spec.width)
        states_PLD = states_LPD.transpose(0, 1).contiguous()
        yield example, Record(example.id, keys_P3, states_PLD, _logits(values, spec), text["digest"])


def _logits(values: dict[str, Tensor], spec: CacheSpec) -> LogitsRecord | None:
    if spec.logits is None:
        return None
    keys_Q2 = values["logit_keys"].view(-1, 2)
    ids = values["logit_ids"].view(len(keys_Q2), spec.logits.columns)
    if spec.logits.kind == "sampled":
        return SampledRecord(keys_Q2, ids, values["logit_entropy"])
    return TopKRecord(keys_Q2, ids, values["logit_log_probs"].view(ids.shape), values["logit_tail"])


def _flat(column: Any) -> list[Tensor]:
    """All numbers of each row of a column of nested lists, in order."""
    array = column.combine_chunks()
    offsets = np.arange(len(array) + 1)
    while hasattr(array, "offsets"):
        offsets = array.offsets.to_numpy()[offsets]
        array = array.values
    numbers = array.to_numpy()
    return [torch.tensor(numbers[begin:end]) for begin, end in pairwise(offsets)]
