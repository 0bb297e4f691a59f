"""Teacher states on disk: what is written is read, by id; what does not fit is named."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentthought.distillation.cache import files, store
from latentthought.distillation.cache.manifest import finish, finished_shards, read_manifest
from latentthought.distillation.cache.records import Record
from latentthought.distillation.cache.shards import write_shard
from latentthought.distillation.cache.spec import (
    CacheConfig,
    CacheSpec,
    TeacherIdentity,
    VocabularyIdentity,
    differences,
)
from latentthought.distillation.cache.store import TeacherStateCache
from latentthought.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    LatentThoughtError,
    MissingFileError,
    NotFoundError,
    UnsupportedError,
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


@pytest.mark.parametrize("logits", [None, TOP_K, SAMPLED], ids=["states", "top_k", "sampled"])
def test_what_is_written_is_read(tmp_path: Path, logits):
    spec = spec_of(logits=logits)
    records = records_of(spec)
    manifest = write_cache(tmp_path, spec, records)
    cache = TeacherStateCache.open(tmp_path)
    assert len(cache) == 7 and cache.ids == tuple(f"row-{n}" for n in range(7)) == tuple(cache)
    assert "row-3" in cache and "row-9" not in cache
    assert cache.manifest == manifest
    assert [len(shard.ids) for shard in manifest.shards] == [3, 3, 1]
    assert manifest.positions == sum(len(record.states) for record in records)
    for record in reversed(records):
        assert_equal(cache.record(record.id), record)
        by_layer = cache[record.id]
        assert list(by_layer) == [2, 5, -1]
        assert torch.equal(by_layer[5], record.states[:, 1])
    assert cache.verify() == []


@pytest.mark.parametrize("codec", ["fp32", "bf16", "fp8", "int8"])
@pytest.mark.parametrize("logits", [None, TOP_K, SAMPLED], ids=["states", "top_k", "sampled"])
def test_parts_of_a_row_are_those_of_the_whole(tmp_path: Path, codec, logits):
    spec = spec_of(codec=codec, logits=logits)
    write_cache(tmp_path, spec, [record_of(f"row-{n}", spec, (0, 9, 4)[n % 3], n) for n in range(7)])
    cache = TeacherStateCache.open(tmp_path)
    for name in cache:
        whole, count = cache.record(name), len(cache.record(name).keys)
        assert torch.equal(cache.keys(name), whole.keys) and cache.digest(name) == whole.digest != ""
        for positions, columns in (([], [0]), ([3, 0, 3], [2, 0]), (range(count), [1]), ([1], range(3))):
            if all(place < count for place in positions):
                some = cache.states(name, positions, columns)
                assert some.shape == (len(positions), len(columns), 8) and some.dtype == torch.float32
                assert torch.equal(some, whole.states[list(positions)][:, list(columns)])
        kept = cache.logits(name)
        assert type(kept) is type(whole.logits)
        if kept is None or whole.logits is None:
            assert cache.logit_keys(name).shape == (0, 2)
            continue
        assert torch.equal(cache.logit_keys(name), whole.logits.keys)
        for part, value in vars(kept).items():
            assert torch.equal(value, vars(whole.logits)[part])


def test_parts_of_a_damaged_row_are_not_read_and_its_keys_are(tmp_path: Path):
    spec = spec_of(logits=TOP_K)
    records = records_of(spec, 3)
    entry = write_cache(tmp_path, spec, records).shards[0]
    flip(tmp_path / entry.file, entry.bytes - 1)  # the last number of the last row's states
    cache = TeacherStateCache.open(tmp_path)
    for read in (lambda: cache.states("row-2", [0], [0]), lambda: cache.logits("row-2")):
        with pytest.raises(DamagedFileError, match="'row-2' do not match their checksum"):
            read()
    assert torch.equal(cache.keys("row-2"), records[2].keys)
    assert torch.equal(cache.states("row-1", [1], [2]), records[1].states[1:, 2:])


def test_a_shard_is_an_ordinary_safetensors_file(tmp_path: Path):
    spec = spec_of(logits=TOP_K)
    records = records_of(spec, 3)
    entry = write_shard(tmp_path, 0, records, spec)
    tensors = load_file(tmp_path / entry.file)
    assert torch.equal(tensors["states"], torch.cat([record.states for record in records]))
    assert torch.equal(tensors["keys"], torch.cat([record.keys for record in records]))
    assert torch.equal(tensors["logit_ids"], torch.cat([record.logits.ids for record in records]))
    assert tensors["offsets"].tolist() == [0, 1, 3, 6]
    assert entry.bytes == (tmp_path / entry.file).stat().st_size
    assert entry.sha256 == hashlib.sha256((tmp_path / entry.file).read_bytes()).hexdigest()


@pytest.mark.parametrize("codec", ["fp32", "bf16", "fp8", "int8"])
def test_bytes_depend_on_rows_alone(tmp_path: Path, codec):
    """Not on threads, on the dtype or the memory layout that rows come in, nor on what the process did before."""
    spec = spec_of(codec=codec)
    records = [record_of(f"row-{n}", spec, 40, n) for n in range(3)]
    records = [Record(r.id, r.keys, r.states.bfloat16().float()) for r in records]
    (tmp_path / "again").mkdir()
    first = write_shard(tmp_path, 1, records, spec)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    other = [
        Record(r.id, r.keys.long(), r.states.bfloat16().permute(2, 1, 0).contiguous().permute(2, 1, 0))
        for r in records
    ]
    second = write_shard(tmp_path / "again", 1, other, spec)
    torch.set_num_threads(threads)
    assert first == second
    assert (tmp_path / first.file).read_bytes() == (tmp_path / "again" / first.file).read_bytes()


def test_only_a_bounded_number_of_shards_is_open(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(store, "OPEN_SHARDS", 2)
    spec = spec_of(rows_per_shard=1)
    records = records_of(spec)
    write_cache(tmp_path, spec, records)
    cache = TeacherStateCache.open(tmp_path)
    for record in [*records, *records]:
        assert_equal(cache.record(record.id), record)
        assert len(cache._open) <= 2


def test_a_worker_process_gets_a_cache_of_its_own(tmp_path: Path):
    spec = spec_of()
    records = records_of(spec)
    write_cache(tmp_path, spec, records)
    cache = TeacherStateCache.open(tmp_path)
    cache.record("row-0")
    copy = pickle.loads(pickle.dumps(cache))  # noqa: S301 - what a DataLoader does with its own data set
    assert_equal(copy.record("row-5"), records[5])


def test_foreign_ids(tmp_path: Path):
    spec = spec_of()
    write_cache(tmp_path, spec, records_of(spec))
    cache = TeacherStateCache.open(tmp_path)
    with pytest.raises(
        NotFoundError, match=r"no states of example 'row_4' \(it has 7 examples; did you mean 'row-4'\?\)"
    ):
        cache["row_4"]
    with pytest.raises(NotFoundError, match=r"no states of 2 of 3 examples: 'row-8', 'x' \(it has 7"):
        cache.require(["row-0", "row-8", "x"])
    cache.require(cache.ids)


def test_what_is_no_cache(tmp_path: Path):
    with pytest.raises(MissingFileError, match="no such folder; make it with: latentthought teacher extract"):
        TeacherStateCache.open(tmp_path / "nowhere")
    write_shard(tmp_path, 0, records_of(spec_of(), 3), spec_of())
    with pytest.raises(MissingFileError, match=r"no manifest\.json: its extraction has not finished"):
        TeacherStateCache.open(tmp_path)


def test_a_later_schema_is_refused(tmp_path: Path):
    spec = spec_of(schema_version=2)
    write_cache(tmp_path, spec, records_of(spec))
    with pytest.raises(UnsupportedError, match="schema version 2; this release reads version 1"):
        read_manifest(tmp_path)


# ------------------------------------------------------------------------------------------------ resuming
def test_finished_shards_are_those_of_this_spec_that_are_whole(tmp_path: Path):
    spec = spec_of(codec="bf16")
    records = records_of(spec, 12)
    entries = [write_shard(tmp_path, n, records[3 * n : 3 * n + 3], spec) for n in range(3)]
    write_shard(tmp_path, 3, records[9:], spec_of(codec="bf16", data="00" * 32))
    flip(tmp_path / entries[1].file, -1)
    assert finished_shards(tmp_path, spec) == {0: entries[0], 2: entries[2]}
    # names and versions decide nothing
    elsewhere = TeacherIdentity(name="/other/place", weights=spec.teacher.weights)
    same = spec_of(codec="bf16", teacher=elsewhere, versions={"torch": "9"})
    assert set(finished_shards(tmp_path, same)) == {0, 2}


def test_a_kill_while_writing_leaves_no_shard(tmp_path: Path, monkeypatch):
    spec = spec_of()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path, 0, records_of(spec, 3), spec)
    assert list(tmp_path.iterdir()) == []


def test_finish_clears_what_kill_9_left(tmp_path: Path):
    spec = spec_of()
    (tmp_path / "shard-00001.safetensors.partial").write_bytes(b"half")
    write_cache(tmp_path, spec, records_of(spec))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest.json",
        *(f"shard-0000{n}.safetensors" for n in range(3)),
    ]


def test_a_full_disk_is_one_message(tmp_path: Path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(
        LatentThoughtError, match=r"cannot write .*shard-00000.safetensors: No space left on device"
    ):
        write_shard(tmp_path, 0, records_of(spec_of(), 3), spec_of())
    assert list(tmp_path.iterdir()) == []


def test_finish_wants_every_shard_and_every_id_once(tmp_path: Path):
    spec = spec_of()
    records = records_of(spec, 6)
    first, second = (write_shard(tmp_path, n, records[3 * n : 3 * n + 3], spec) for n in range(2))
    with pytest.raises(LatentThoughtError, match=r"shards \[0\] are not there"):
        finish(tmp_path, spec, [second])
    again = write_shard(tmp_path, 2, records[:1], spec)
    with pytest.raises(DataError, match="1 example ids occur more than once, 'row-0'"):
        finish(tmp_path, spec, [first, second, again])


# ------------------------------------------------------------------------------------------------ what does not fit
def test_rows_that_do_not_fit_are_named(tmp_path: Path):
    spec = spec_of()
    good = record_of("bad-row", spec, 2, 0)
    broken = good.states.clone()
    broken[1, 2, 3] = float("nan")
    for states, message in (
        (
            good.states[:, :2],
            r"'bad-row': states \(2, 2, 8\) with keys \(2, 3\) do not fit the spec's \(2, 3, 8\)",
        ),
        (good.states[:1], r"'bad-row': states \(1, 3, 8\)"),
        (broken, r"'bad-row': states that are not finite \(NaN or infinite\) in layer -1"),
    ):
        with pytest.raises(LatentThoughtError, match=message):
            write_shard(tmp_path, 0, [Record(good.id, good.keys, states)], spec)
    with pytest.raises(LatentThoughtError, match=r"'bad-row': its logits \(NoneType\) do not fit"):
        write_shard(tmp_path, 0, [good], spec_of(logits=TOP_K))
    narrow = record_of("bad-row", spec_of(logits=TOP_K), 2, 0)
    with pytest.raises(LatentThoughtError, match=r"'bad-row': its logits \(TopKRecord\) do not fit"):
        write_shard(tmp_path, 0, [narrow], spec_of(logits=TOP_K.replace(k=5)))
    assert list(tmp_path.iterdir()) == []


def test_differences_name_what_a_recipe_lacks():
    have = spec_of(logits=TOP_K)
    elsewhere = TeacherIdentity(name="moved", weights=have.teacher.weights)
    subset = spec_of(
        teacher=elsewhere, layers=(5,), rules=("answer",), rows_per_shard=99, versions={"torch": "9"}
    )
    # which other rows there are, and in what batches they ran, is nothing that a row is refused for
    others = subset.model_copy(update={"data": "00" * 32, "batch_size": 1})
    assert differences(have, subset) == differences(have, others) == []
    wanted = spec_of(
        teacher=TeacherIdentity(name="gpt2", weights="12" * 32),
        tokenizer="34" * 32,
        layers=(2, 7, 9),
        dtype="bf16",
        rules=("pooled",),
        codec="int8",
        width=16,
        logits=TOP_K.replace(temperature=1.0),
        format={"reads": "text", "template": {"question": "{question}\n", "step": "<<{step}>>"}},
    )
    assert differences(have, wanted) == [
        "teacher: the cache was made by runs/teacher (weights and config abababababab), "
        "the recipe has gpt2 (weights and config 121212121212)",
        "tokenizer: the cache has cdcdcdcdcdcd, the recipe 343434343434",
        "dtype: the cache has fp32, the recipe bf16",
        "width: the cache has 8, the recipe 16",
        "codec: the cache has fp32, the recipe int8",
        "format.template.step: the cache has '{step}\\n', the recipe '<<{step}>>'",
        "layers: the recipe needs 7, 9, the cache has 2, 5, -1",
        "rules: the recipe needs pooled, the cache has reasoning, answer",
        "logits: the cache has kind=top_k k=4 temperature=2.0, the recipe kind=top_k k=4 temperature=1.0",
    ]
    assert differences(spec_of(), have) == [
        "logits: the cache has none, the recipe kind=top_k k=4 temperature=2.0"
    ]


def test_every_field_of_the_spec_but_names_and_versions_decides():
    plain = spec_of()
    changed = {
        "schema_version": 2,
        "teacher": TeacherIdentity(name="runs/teacher", weights="00"),
        "tokenizer": "0",
        "vocabulary": VocabularyIdentity(size=9, tokens="0"),
        "data": "0",
        "format": {},
        "dtype": "bf16",
        "batch_size": 3,
        "layers": (2, 5),
        "blocks": 7,
        "width": 9,
        "rules": ("answer", "reasoning"),
        "codec": "bf16",
        "rows_per_shard": 4,
        "logits": SAMPLED,
    }
    assert set(changed) == set(CacheSpec.model_fields) - {"versions"}
    prints = {spec_of(**{name: value}).fingerprint for name, value in changed.items()}
    assert len(prints | {plain.fingerprint}) == len(changed) + 1


def test_settings_of_a_recipe():
    config = CacheConfig.parse(
        {"path": "states", "codec": "fp8", "logits": {"kind": "top_k", "k": 8}, "layers": [4, -1]}
    )
    assert config.layers == (4, -1) and config.logits is not None and config.logits.columns == 8
    for values, message in (
        ({"path": "x", "codec": "fp16"}, r"codec: .*'fp32', 'bf16', 'fp8' or 'int8' \(got 'fp16'\)"),
        ({"path": "x", "positions": ["reasonings"]}, "did you mean reasoning"),
        ({"path": "x", "layers": [-2]}, r"layers\.0: .*greater than or equal to -1"),
        ({"path": "x", "logits": {"kind": "topk"}}, r"logits\.kind: unknown kind 'topk'. Did you mean top_k"),
    ):
        with pytest.raises(ConfigError, match=message):
            CacheConfig.parse(values, "teacher.cache")


# ------------------------------------------------------------------------------------------------ damage
def flip(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("codec", ["bf16", "fp8"])
def test_one_flipped_byte_anywhere_is_found(tmp_path: Path, codec, step):
    """Every byte of every file (every 17th, and the ends): verify names the file, and reading all rows meets it."""
    spec = spec_of(codec=codec, logits=TOP_K, width=2, layers=(1, -1), rows_per_shard=2)
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    records = records_of(spec, 4)
    write_cache(tmp_path, spec, records, ("recipe.yaml",))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["manifest.json", "recipe.yaml", "shard-00000.safetensors", "shard-00001.safetensors"]
    for name in names:
        path = tmp_path / name
        whole = path.read_bytes()
        for place in sorted({*range(0, len(whole), step), *range(8), len(whole) - 1}):
            flip(path, place, place % 8)
            problems = store.problems_in(tmp_path)
            assert [problem.file for problem in problems] == [name], (name, place)
            if name != "recipe.yaml":  # not read by the cache
                with pytest.raises(
                    DamagedFileError, match=f"{name}: .*; .* latentthought teacher mend {tmp_path}"
                ):
                    read_all(tmp_path)
            path.write_bytes(whole)
    assert store.problems_in(tmp_path) == []
    read_all(tmp_path)


def read_all(folder: Path) -> None:
    cache = TeacherStateCache.open(folder)
    for name in cache:
        cache.record(name)


def test_damage_in_one_row_leaves_the_others_readable(tmp_path: Path):
    spec = spec_of(codec="bf16")
    records = [record_of(f"row-{n}", spec, 4, n) for n in range(3)]
    write_cache(tmp_path, spec, records)
    flip(tmp_path / "shard-00000.safetensors", -1)
    cache = TeacherStateCache.open(tmp_path)
    cache.record("row-0")
    with pytest.raises(DamagedFileError, match="the states of 'row-2' do not match their checksum"):
        cache.record("row-2")
    assert cache.verify() == [
        ("shard-00000.safetensors", "the states of 'row-2' do not match their checksum")
    ]


def test_a_byte_that_flips_after_the_shard_was_opened_is_found(tmp_path: Path):
    spec = spec_of()
    write_cache(tmp_path, spec, [record_of(f"row-{n}", spec, 4, n) for n in range(3)])
    cache = TeacherStateCache.open(tmp_path)
    cache.record("row-2")
    with (tmp_path / "shard-00000.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 4]))
    with pytest.raises(DamagedFileError):
        cache.record("row-2")


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:5]), "its head does not match its checksum"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "its head does not match its checksum"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"has [\d,]+ bytes instead of [\d,]+"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), r"has [\d,]+ bytes instead of [\d,]+"),
        (lambda path: path.write_bytes(b"[" * 9000), "its head does not match its checksum"),
    ],
    ids=["missing", "empty", "5 bytes", "300 bytes", "shorter", "longer", "other"],
)
def test_a_broken_shard(tmp_path: Path, harm, what):
    spec = spec_of()
    write_cache(tmp_path, spec, records_of(spec))
    harm(tmp_path / "shard-00001.safetensors")
    cache = TeacherStateCache.open(tmp_path)
    cache.record("row-0")
    with pytest.raises(DamagedFileError, match=f"shard-00001.safetensors: {what}; make only"):
        cache.record("row-4")
    (problem,) = cache.verify()
    assert problem.file == "shard-00001.safetensors"
    # the whole of it, made anew, is the same cache
    again = write_shard(tmp_path, 1, records_of(spec)[3:6], spec)
    assert again == cache.manifest.shards[1] and cache.verify() == []


def test_a_good_shard_of_another_cache_is_refused(tmp_path: Path):
    spec = spec_of()
    write_cache(tmp_path, spec, records_of(spec))
    swapped = [record_of(name, spec, 1, 77) for name in ("row-3", "row-4", "row-5")]
    write_shard(tmp_path, 1, swapped, spec)
    write_shard(tmp_path, 7, swapped, spec)
    cache = TeacherStateCache.open(tmp_path)
    with pytest.raises(DamagedFileError, match="is not the shard that the manifest lists"):
        cache.record("row-4")
    assert cache.verify() == [
        ("shard-00001.safetensors", "is not the file that the manifest lists"),
        ("shard-00007.safetensors", "is not in the manifest"),
    ]


def test_a_damaged_manifest_is_made_again_from_the_shards(tmp_path: Path):
    spec = spec_of()
    manifest = write_cache(tmp_path, spec, records_of(spec))
    flip(tmp_path / "manifest.json", 40)
    assert store.problems_in(tmp_path) == [("manifest.json", "does not match its checksum")]
    assert finish(tmp_path, spec, finished_shards(tmp_path, spec).values()) == manifest
    assert store.problems_in(tmp_path) == []
