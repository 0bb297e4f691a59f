"""Extraction: the numbers are the model's own, the bytes are the plan's, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed

from latentthought.amounts import in_bytes, in_time
from latentthought.distillation import extraction, forecast
from latentthought.distillation.cache.manifest import finished_shards
from latentthought.distillation.cache.records import SampledRecord, TopKRecord
from latentthought.distillation.cache.store import TeacherStateCache, problems_in
from latentthought.distillation.extraction import Extraction, Extractor, reasons
from latentthought.distillation.teacher import Teacher
from latentthought.errors import ConfigError, LatentThoughtError
from latentthought.objective.alignment import ANSWER, sites
from latentthought.processes import Group
from tests.distillation.taught import config, examples, extractor, reference_states, teacher

LAYERS = (0, 1, 3, -1)


@pytest.fixture(scope="module")
def made() -> Teacher:
    return teacher()


def run(one: Extractor, folder: Path, **options: Any) -> Extraction:
    folder.mkdir(exist_ok=True)
    return one.run(folder, *one.missing(folder), **options)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# ----------------------------------------------------------------------------------------------------------- numbers
@pytest.mark.parametrize("reads", ["text", "thoughts"])
def test_a_cache_holds_the_states_of_each_row_run_alone(made: Teacher, tmp_path: Path, reads: str) -> None:
    settings = config(reads=reads)
    one = extractor(settings, made)
    run(one, tmp_path / "states")
    cache = TeacherStateCache.open(tmp_path / "states")
    assert cache.ids == tuple(example.id for example in examples())
    for reading in one.readings:
        if reads == "text":
            alone = reference_states(made, reading.row.ids)
        else:
            batch = {**one.collector._collate([reading.row])}
            shift = batch["before"][0]
            alone = {layer: state[0, shift:] for layer, state in made.states(batch, LAYERS).items()}
        record = cache.record(reading.encoded.id)
        wanted = [
            (
                number,
                site.piece,
                site.end,
                torch.stack([alone[layer][site.start : site.stop].mean(0) for layer in LAYERS]),
            )
            for number, rule in enumerate(one.spec.rules)
            for site in sites(reading, rule)
        ]
        assert record.keys.tolist() == [list(key) for *key, _ in wanted]
        for found, (*_, expected) in zip(record.states, wanted, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_pooled_is_the_mean_over_the_step_and_step_ends_its_last_token(made: Teacher, tmp_path: Path) -> None:
    settings = config()
    one = extractor(settings, made, rules=("pooled", "step_ends", "answer"))
    run(one, tmp_path)
    reading = one.readings[2]
    encoded, alone = reading.encoded, reference_states(made, one.readings[2].row.ids)
    first = len(encoded.prompt)
    stop = first + len(encoded.steps[0])
    record = TeacherStateCache.open(tmp_path).record(encoded.id)
    by_key = {tuple(key.tolist()): states for key, states in zip(record.keys, record.states, strict=True)}
    torch.testing.assert_close(by_key[0, 1, 0][1], alone[1][first:stop].mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(by_key[1, 1, 0][2], alone[3][stop - 1], atol=1e-5, rtol=1e-5)
    # "### 53": the state that predicts the 5
    answer = len(reading.row) - len(encoded.answer) + len(made.tokenizer.encode("### "))
    torch.testing.assert_close(by_key[2, ANSWER, 0][3], alone[-1][answer - 1], atol=1e-5, rtol=1e-5)


def test_kept_logits_are_those_of_the_head(made: Teacher, tmp_path: Path) -> None:
    settings = config(cache={"logits": {"kind": "top_k", "k": 5, "temperature": 2.0}})
    one = extractor(settings, made, layers=(), rules=())
    run(one, tmp_path)
    cache = TeacherStateCache.open(tmp_path)
    words = max(made.tokenizer.get_vocab().values()) + 1
    for reading in one.readings:
        found = cache.record(reading.encoded.id).logits
        assert isinstance(found, TopKRecord)
        with torch.no_grad():
            logits = made.model.base(torch.tensor([reading.row.ids])).logits[0, :, :words]
        log_probs = torch.log_softmax(logits / 2.0, -1)
        first = len(reading.encoded.prompt)
        expected = log_probs[first - 1 : -1]
        best = expected.topk(5)
        torch.testing.assert_close(found.log_probs, best.values, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            expected.gather(-1, found.ids.long()), found.log_probs, atol=1e-5, rtol=1e-5
        )
        tail = expected.exp().sum(-1) - best.values.exp().sum(-1)
        torch.testing.assert_close(found.tail.exp(), tail, atol=1e-5, rtol=1e-4)


def test_sampled_words_depend_on_the_row_alone(made: Teacher, tmp_path: Path) -> None:
    logits = {"logits": {"kind": "sampled", "n": 40}}
    run(extractor(config(cache=logits), made, layers=(), rules=()), tmp_path / "three")
    run(extractor(config(cache=logits, batch_size=1), made, layers=(), rules=()), tmp_path / "one")
    three, one = (TeacherStateCache.open(tmp_path / name) for name in ("three", "one"))
    same = total = 0
    for example_id in three.ids:
        a, b = three.record(example_id).logits, one.record(example_id).logits
        assert isinstance(a, SampledRecord) and isinstance(b, SampledRecord)
        torch.testing.assert_close(a.entropy, b.entropy, atol=1e-5, rtol=1e-5)
        same, total = same + int((a.ids == b.ids).sum()), total + a.ids.numel()
    # a rounding may move one draw to the neighbouring word
    assert same > 0.999 * total


# --------------------------------------------------------------------------------------------------- bytes and the plan
def test_any_number_of_processes_writes_the_same_bytes(made: Teacher, tmp_path: Path) -> None:
    settings = config(cache={"codec": "bf16"})
    rows = examples(23)
    run(extractor(settings, made, rows=rows), tmp_path / "alone")
    store, found = torch.distributed.HashStore(), {}
    # a model each, as processes have: states are captured by hooks on its modules
    teachers = [made, teacher(), teacher()]
    (tmp_path / "three").mkdir()

    def work(rank: int) -> None:
        torch.set_num_threads(1)
        group = Group(rank, 3, None, store)
        with group.guard():
            found[rank] = run(extractor(settings, teachers[rank], rows=rows, group=group), tmp_path / "three")

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [found[rank].made for rank in range(3)] == [6, 6, 6], "six shards by all together"
    assert bytes_of(tmp_path / "three") == bytes_of(tmp_path / "alone")


def test_five_kills_and_the_same_bytes(made: Teacher, tmp_path: Path) -> None:
    settings = config(cache={"codec": "fp8"})
    rows = examples(31)
    run(extractor(settings, made, rows=rows), tmp_path / "whole")
    folder, kills = tmp_path / "killed", 0
    folder.mkdir()
    while kills < 5:
        one = extractor(settings, made, rows=rows)
        before = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*.safetensors")}
        child = os.fork()
        if not child:
            done = 0

            def dies(rows_done: int) -> None:
                nonlocal done
                done += rows_done
                # in the middle of a shard, while the one before is on its way to the disk
                if done > 6:
                    os.kill(os.getpid(), signal.SIGKILL)

            try:
                run(one, folder, progress=dies)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        kills += 1
        after = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*.safetensors")}
        assert {name: after[name] for name in before} == before, "a finished shard was made again"
        assert not (folder / "manifest.json").exists()
    assert 0 < len(finished_shards(folder, one.spec)) < one.shards
    run(extractor(settings, made, rows=rows), folder)
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


def test_only_damaged_shards_are_made_again(made: Teacher, tmp_path: Path) -> None:
    run(extractor(config(), made), tmp_path)
    whole = bytes_of(tmp_path)
    file = tmp_path / "shard-00001.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    assert [problem.file for problem in problems_in(tmp_path)] == [file.name]
    assert run(extractor(config(), made), tmp_path).made == 1
    assert bytes_of(tmp_path) == whole
    assert run(extractor(config(), made), tmp_path).made == 0


def test_batches_are_of_like_length_and_belong_to_one_shard(made: Teacher) -> None:
    one = extractor(config(), made)
    assert one.shards == 3
    for shard in range(3):
        batches = one.batches_of(shard)
        assert sorted(row for batch in batches for row in batch) == list(one.rows_of(shard))
        lengths = [len(one.readings[row].row) for batch in batches for row in batch]
        assert lengths == sorted(lengths, reverse=True)
        assert max(map(len, batches)) <= 3


# ---------------------------------------------------------------------------------------------------- what goes wrong
def test_rows_without_positions_are_kept_and_named(made: Teacher, tmp_path: Path) -> None:
    done = run(extractor(config(), made, rules=("step_ends",)), tmp_path)
    assert [line.partition(":")[0] for line in done.empty] == ["sum-0", "sum-5", "sum-10"]
    assert reasons(done.empty) == {"it has no steps": 3}
    assert len(TeacherStateCache.open(tmp_path).record("sum-5").keys) == 0


def test_the_forecast_is_what_the_disk_then_holds(made: Teacher, tmp_path: Path) -> None:
    for codec in ("fp32", "bf16", "fp8", "int8"):
        settings = config(cache={"codec": codec, "logits": {"kind": "top_k", "k": 7}, "rows_per_shard": 64})
        one = extractor(settings, made, rows=examples(64))
        coming = one.forecast(tmp_path / codec, range(one.shards))
        manifest = run(one, tmp_path / codec).manifest
        assert coming.positions == manifest.positions and coming.rows == 64
        assert coming.predictions == sum(shard.predictions for shard in manifest.shards)
        # beside the numbers, a shard has a head of some two thousand bytes and sixty a row
        assert 0 < manifest.bytes - coming.bytes < 8_000
        assert coming.seconds is not None and coming.seconds > 0


def test_too_little_room_is_said_before_the_start(
    made: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = extractor(config(), made)
    usage = namedtuple("usage", "total used free")
    coming = one.forecast(tmp_path / "not" / "there", range(one.shards), timed=False)
    coming.check_disk(tmp_path)
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda place: usage(1, 1, coming.bytes))
    with pytest.raises(ConfigError, match=r"about .* of states, and the disk has .* free; name a folder"):
        one.forecast(tmp_path, range(one.shards), timed=False).check_disk(tmp_path)


def test_a_batch_beyond_memory_names_the_setting(made: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    one = extractor(config(), made)

    def full(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(one.collector, "collect", full)
    with pytest.raises(LatentThoughtError, match=r"out of memory with 3 rows .* lower teacher.batch_size"):
        one.forecast(Path(), range(one.shards))


def test_a_full_disk_ends_the_work_and_keeps_what_is_done(
    made: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = extraction.write_shard

    def full_at_two(folder: Path, number: int, *rest: Any) -> Any:
        if number == 2:
            raise LatentThoughtError("cannot write: no space left")
        return writing(folder, number, *rest)

    monkeypatch.setattr(extraction, "write_shard", full_at_two)
    one = extractor(config(), made)
    with pytest.raises(LatentThoughtError, match="no space"):
        run(one, tmp_path)
    assert set(finished_shards(tmp_path, one.spec)) == {0, 1}


def test_more_logits_than_words_and_layers_out_of_range(made: Teacher, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"logits.k: 5000 is more than the"):
        extractor(config(cache={"logits": {"kind": "top_k", "k": 5000}}), made)
    with pytest.raises(ConfigError, match="9"):
        run(extractor(config(), made, layers=(9,)), tmp_path)


def test_sizes_and_times_for_people() -> None:
    assert [in_bytes(n) for n in (1234, 5.6e6, 2.34e9, 1.5e12)] == [
        "0.00123 MB",
        "5.6 MB",
        "2.3 GB",
        "1,500.0 GB",
    ]
    assert [in_time(n) for n in (3.4, 119, 600, 7199, 7500)] == [
        "3 s",
        "119 s",
        "10 min",
        "2 h 00 min",
        "2 h 05 min",
    ]
