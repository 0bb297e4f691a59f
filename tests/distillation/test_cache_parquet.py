"""A cache as Parquet and back."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet as arrow

from latentthought.data.example import Example
from latentthought.distillation.cache import parquet
from latentthought.distillation.cache.parquet import from_parquet, read_parquet, to_parquet
from latentthought.distillation.cache.store import TeacherStateCache
from latentthought.errors import (
    DataError,
    FolderInUseError,
    LatentThoughtError,
    MissingFileError,
    NotFoundError,
)
from tests.distillation.cached import (
    SAMPLED,
    TOP_K,
    assert_equal,
    record_of,
    records_of,
    spec_of,
    write_cache,
)

EXAMPLES = [
    Example(f"row-{n}", f"How much is {n}+1?", tuple(f"step {k}" for k in range(n % 3)), str(n + 1))
    for n in range(7)
]


@pytest.mark.parametrize("logits", [None, TOP_K, SAMPLED], ids=["states", "top_k", "sampled"])
@pytest.mark.parametrize("codec", ["fp32", "bf16"])
def test_there_and_back(tmp_path: Path, monkeypatch, logits, codec):
    monkeypatch.setattr(parquet, "_GROUP_FLOATS", 100)  # several row groups
    spec = spec_of(logits=logits, codec=codec)
    manifest = write_cache(tmp_path / "cache", spec, records_of(spec))
    cache = TeacherStateCache.open(tmp_path / "cache")
    path = tmp_path / "states.parquet"
    assert to_parquet(cache, EXAMPLES, path) == 7
    assert arrow.ParquetFile(path).num_row_groups > 1
    rows = list(read_parquet(path))
    assert [example for example, _ in rows] == EXAMPLES
    for example, record in rows:
        assert_equal(record, cache.record(example.id))
    # equal numbers in an equal plan are equal files
    assert from_parquet(path, tmp_path / "again") == manifest
    for shard in manifest.shards:
        assert (tmp_path / "again" / shard.file).read_bytes() == (
            tmp_path / "cache" / shard.file
        ).read_bytes()


@pytest.mark.parametrize("codec", ["fp8", "int8"])
def test_coarse_codecs_come_back_up_to_rounding(tmp_path: Path, codec):
    spec = spec_of(codec=codec)
    write_cache(tmp_path / "cache", spec, [record_of(f"row-{n}", spec, 5, n) for n in range(7)])
    cache = TeacherStateCache.open(tmp_path / "cache")
    to_parquet(cache, EXAMPLES, tmp_path / "states.parquet")
    from_parquet(tmp_path / "states.parquet", tmp_path / "again")
    again = TeacherStateCache.open(tmp_path / "again")
    for name in cache:
        torch.testing.assert_close(again.record(name).states, cache.record(name).states, rtol=1e-6, atol=1e-7)


def test_other_tools_read_plain_columns(tmp_path: Path):
    spec = spec_of()
    records = records_of(spec)
    write_cache(tmp_path / "cache", spec, records)
    to_parquet(TeacherStateCache.open(tmp_path / "cache"), EXAMPLES[1:3], tmp_path / "x.parquet")
    table = arrow.read_table(tmp_path / "x.parquet")
    texts = ["id", "question", "steps", "answer"]
    assert table.column_names == [*texts, "layers", "keys", "digest", "hidden_states"]
    row = table.to_pylist()[1]
    assert (row["id"], row["steps"], row["layers"]) == ("row-2", ["step 0", "step 1"], [2, 5, -1])
    assert row["keys"] == records[2].keys.tolist()
    assert row["hidden_states"] == records[2].states.transpose(0, 1).tolist()  # [layer][position][channel]


def test_what_does_not_fit(tmp_path: Path):
    spec = spec_of()
    write_cache(tmp_path / "cache", spec, records_of(spec, 3))
    cache = TeacherStateCache.open(tmp_path / "cache")
    with pytest.raises(NotFoundError, match="no states of example 'row-3'"):
        to_parquet(cache, EXAMPLES, tmp_path / "x.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    to_parquet(cache, EXAMPLES[:3], tmp_path / "x.parquet")
    with pytest.raises(FolderInUseError, match="holds something already"):
        from_parquet(tmp_path / "x.parquet", tmp_path / "cache")
    with pytest.raises(MissingFileError, match="no such file"):
        from_parquet(tmp_path / "y.parquet", tmp_path / "new")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="not a Parquet file"):
        from_parquet(tmp_path / "text.parquet", tmp_path / "new")
    arrow.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="no teacher states of this package"):
        from_parquet(tmp_path / "other.parquet", tmp_path / "new")
    with pytest.raises(LatentThoughtError, match="cannot write"):
        to_parquet(cache, EXAMPLES[:3], tmp_path / "nowhere" / "x.parquet")


def test_a_damaged_file_is_one_message(tmp_path: Path):
    spec = spec_of()
    write_cache(tmp_path / "cache", spec, records_of(spec))
    path = tmp_path / "x.parquet"
    to_parquet(TeacherStateCache.open(tmp_path / "cache"), EXAMPLES, path)
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.parquet: row group 0 of 1 is damaged"):
        list(read_parquet(path))
