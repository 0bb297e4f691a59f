"""The runner: batches, what is written, resuming, controls, memory running out, and models of both kinds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from latentthought.data.example import Example, ExampleSet
from latentthought.errors import ConfigError, FolderInUseError, UnsupportedError
from latentthought.evaluation import (
    TaskConfig,
    evaluate,
    find_results,
    generation,
    read_samples,
    render,
    render_groups,
)
from latentthought.evaluation.decoding import Decoding, controls_for, overhead
from latentthought.evaluation.generation import Generator, Request, batches
from latentthought.evaluation.results import Results
from latentthought.evaluation.samples import SampleFile
from latentthought.model.policy import ThoughtPolicy


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


class Killed(BaseException):
    """Stands for SIGKILL."""


def cramped(model: Any, limits: list[int]) -> Any:
    """A real model whose memory runs out at more rows than `limits[0]`; `limits` may change meanwhile."""
    plain = model.generate

    def generate(input_ids: torch.Tensor, **arguments: Any) -> Any:
        if len(input_ids) > limits[0]:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(input_ids, **arguments)

    model.generate = generate
    return model


def untimed(folder: Path) -> list[dict[str, Any]]:
    return sorted(
        ({**row, "milliseconds": 0} for row in lines(folder)), key=lambda row: (row["id"], row["sample"])
    )


@pytest.fixture
def options(task: TaskConfig, tokenizer: Any, rows: ExampleSet) -> dict[str, Any]:
    return {"task": task, "tokenizer": tokenizer, "data": rows, "progress": False}


def test_counts_and_files(scripted: Any, options: dict[str, Any], tmp_path: Path) -> None:
    found = evaluate(scripted, **options, output=tmp_path, batch_size=4)
    assert (found.accuracy.value, found.accuracy.n) == (0.7, 10)
    assert found.counts.dump() == {"correct": 7, "wrong": 1, "ungradable": 2, "no_answer": 2, "unfit": 0}
    assert {name: value.value for name, value in found.groups["subject"].items()} == {"even": 0.8, "odd": 0.6}
    assert found.costs.thoughts == 0
    folder = tmp_path / "results" / "sums" / "none"
    assert Results.load(folder / "results.json") == found
    written = lines(folder)
    assert len(written) == 10
    contract = "task version id sample seed control prompt_hash completion gold extraction verdict thoughts tokens milliseconds"
    assert set(written[0]) == {*contract.split(), "groups", "extractions"}
    by_id = {row["id"]: row for row in written}
    assert by_id["sum/6"]["extraction"] == {"answer": "6", "rule": "hash"}
    assert (
        by_id["sum/6"]["tokens"] == len(options["tokenizer"]("### 6")["input_ids"]) + 1
    )  # and the end token
    assert by_id["sum/5"]["completion"] == ""
    assert by_id["sum/5"]["verdict"] == {"status": "ungradable", "reason": "empty prediction"}
    assert [sample.to_row() for sample in read_samples(folder / "samples.jsonl")] == written
    assert not list(tmp_path.rglob("*.tmp"))


def test_prompts_are_left_padded_and_longest_first(scripted: Any, options: dict[str, Any]) -> None:
    evaluate(scripted, **options, batch_size=4)
    assert [call["rows"] for call in scripted.calls] == [4, 4, 2]
    widths = [call["mask"].shape[1] for call in scripted.calls]
    assert widths == sorted(widths, reverse=True)
    for call in scripted.calls:
        assert bool((call["mask"].diff(dim=1) >= 0).all())
        assert call["do_sample"] is False
        assert "thoughts" not in call


def test_memory_running_out_halves_the_batch(scripted: Any, options: dict[str, Any]) -> None:
    scripted.most_rows = 3
    found = evaluate(scripted, **options, batch_size=8)
    assert found.accuracy.n == 10
    assert [call["rows"] for call in scripted.calls] == [8, 4, 2, 2, 2, 2, 2]


def test_other_words_for_it(scripted: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, words = (
        scripted.generate,
        ["CUBLAS_STATUS_ALLOC_FAILED when calling", "can't allocate memory: 9 bytes"],
    )

    def generate(input_ids: torch.Tensor, **arguments: Any) -> Any:
        if words:
            raise RuntimeError(words.pop())
        return plain(input_ids, **arguments)

    monkeypatch.setattr(scripted, "generate", generate)
    assert evaluate(scripted, **options, batch_size=10).accuracy.n == 10
    assert [call["rows"] for call in scripted.calls] == [2, 2, 2, 2, 2]
    words.append("CUDA error: device-side assert triggered")
    with pytest.raises(RuntimeError, match="device-side"):
        evaluate(scripted, **options)


def test_memory_that_is_never_enough(scripted: Any, options: dict[str, Any]) -> None:
    scripted.most_rows = 0
    with pytest.raises(Exception, match="out of memory with a batch of one row"):
        evaluate(scripted, **options, batch_size=4)


@pytest.mark.parametrize("size", [1, 2, 4, 6, 7, 32])
@pytest.mark.parametrize("samples", [1, 3, 5, 16])
def test_batches_hold_questions_whole_and_two_at_least(size: int, samples: int) -> None:
    requests = [Request(index, sample, [1] * (9 - index)) for sample in range(samples) for index in range(5)]
    made = batches(requests, size)
    assert sorted((r.index, r.sample) for batch in made for r in batch) == sorted(
        (r.index, r.sample) for r in requests
    )
    for batch in made:
        assert len(batch) <= size
        questions = [r.index for r in batch]
        assert questions == sorted(questions), "longest first, samples of a question side by side"
        counts = {questions.count(index) for index in questions}
        assert len(counts) == 1
        assert counts == {1} or len(batch) < size or len({*questions}) > 1
    if samples == 1:
        assert [[r.index for r in batch] for batch in made] == [
            list(range(5))[start : start + size] for start in range(0, 5, size)
        ]


def test_samples_of_a_question_are_asked_for_together(thinker: Any, options: dict[str, Any]) -> None:
    found = evaluate(thinker, **options, samples=4, batch_size=8)
    assert found.accuracy.n == 10
    assert [(call["rows"], call["num_return_sequences"]) for call in thinker.calls] == [(8, 4)] * 5
    assert found.accuracy.value == 0.7, "each completion is that of its own question"
    thinker.calls.clear()
    evaluate(thinker, **{**options, "limit": 3}, samples=4, batch_size=8, control="shuffled")
    # the last question alone gets a companion, whose answers are not counted
    assert [(call["rows"], call["num_return_sequences"]) for call in thinker.calls] == [(8, 4)] * 2


def test_memory_that_cuts_samples_apart(scripted: Any, options: dict[str, Any]) -> None:
    scripted.most_rows = 4
    found = evaluate(scripted, **{**options, "limit": 4}, samples=3, batch_size=12)
    assert found.accuracy.n == 4
    asked = [(call["rows"], call.get("num_return_sequences", 1)) for call in scripted.calls]
    # 12 and 6 do not fit; then rows in threes
    assert asked == [(12, 3), (6, 3), (3, 3), (3, 3), (3, 3), (3, 3)]
    scripted.calls.clear()
    scripted.most_rows = 5
    evaluate(scripted, **{**options, "limit": 4}, samples=4, batch_size=10)
    asked = [(call["rows"], call.get("num_return_sequences", 1)) for call in scripted.calls]
    assert asked == [(8, 4), (4, 4), (4, 4), (4, 4), (4, 4)]
    scripted.calls.clear()
    scripted.most_rows = 8
    evaluate(scripted, **{**options, "limit": 4}, samples=3, batch_size=9)
    asked = [(call["rows"], call.get("num_return_sequences", 1)) for call in scripted.calls]
    # 9 does not fit; of the four rows that do, three are samples of one question and one of the next
    assert asked == [(9, 3), (3, 3), (1, 1), (4, 2), (1, 1), (3, 3)]


def test_sequences_that_are_no_samples_are_asked_for_one_by_one(
    scripted: Any, options: dict[str, Any]
) -> None:
    for extra in ({"num_beams": 2}, {"do_sample": False}):
        scripted.calls.clear()
        evaluate(scripted, **options, samples=2, batch_size=20, **extra)
        assert [call["rows"] for call in scripted.calls] == [10, 10]
        assert not any("num_return_sequences" in call for call in scripted.calls)


def test_in_use_and_resume(scripted: Any, options: dict[str, Any], tmp_path: Path) -> None:
    evaluate(scripted, **options, output=tmp_path, batch_size=3)
    folder = tmp_path / "results" / "sums" / "none"
    whole = (folder / "samples.jsonl").read_bytes()
    with pytest.raises(FolderInUseError, match="--resume"):
        evaluate(scripted, **options, output=tmp_path, batch_size=3)
    # killed in the middle of a row
    (folder / "results.json").unlink()
    cut = whole[: whole.index(b"\n", len(whole) // 2) + 20]
    (folder / "samples.jsonl").write_bytes(cut)
    scripted.calls.clear()
    found = evaluate(scripted, **options, output=tmp_path, batch_size=3, resume=True)
    assert 0 < len(scripted.calls) < 4
    assert (found.accuracy.value, found.accuracy.n) == (0.7, 10)
    assert {row["id"] for row in lines(folder)} == {f"sum/{n}" for n in range(10)}
    assert len(lines(folder)) == 10
    scripted.calls.clear()
    assert (
        evaluate(scripted, **options, output=tmp_path, batch_size=3, resume=True).accuracy == found.accuracy
    )
    assert scripted.calls == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"max_new_tokens": 3}, "max_new_tokens was 6, is 3"),
        ({"limit": 4}, "questions was 10, is 4"),
    ],
)
def test_resume_refuses_other_settings(
    scripted: Any, options: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    evaluate(scripted, **options, output=tmp_path)
    with pytest.raises(ConfigError, match=message):
        evaluate(scripted, **options, output=tmp_path, resume=True, **change)


def test_a_refused_resume_names_the_clearest_difference(
    latent_model: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    evaluate(latent_model, **options, output=tmp_path)
    with pytest.raises(ConfigError) as refused:
        evaluate(latent_model, **options, output=tmp_path, resume=True, thoughts=1, limit=4)
    said = str(refused.value)
    assert "differ: thoughts was as trained, is 1; questions was 10, is 4; choose" in said, (
        "and no hash of the rows"
    )
    rows = [replace(row, answer="0") for row in options["data"]]
    with pytest.raises(ConfigError, match=r"differ: data was '[0-9a-f]{12}', is '[0-9a-f]{12}'; choose"):
        evaluate(latent_model, **{**options, "data": rows}, output=tmp_path, resume=True)


def test_a_finished_run_keeps_its_memory(scripted: Any, options: dict[str, Any], tmp_path: Path) -> None:
    before = evaluate(scripted, **options, output=tmp_path).costs
    assert before.peak_memory
    assert evaluate(scripted, **options, output=tmp_path, resume=True).costs == before


def test_resume_refuses_another_version(
    scripted: Any, options: dict[str, Any], tmp_path: Path, task: TaskConfig
) -> None:
    evaluate(scripted, **options, output=tmp_path)
    (tmp_path / "results" / "sums" / "none" / "settings.json").unlink()
    with pytest.raises(ConfigError, match="version 3, this run has 4"):
        evaluate(scripted, **{**options, "task": task.replace(version=4)}, output=tmp_path, resume=True)


def test_controls_of_each_kind_of_model(scripted: Any, thinker: Any) -> None:
    assert controls_for(scripted) == ("none",)
    assert controls_for(thinker) == ("none", "no-thought", "pause", "shuffled", "noised")
    assert controls_for(thinker, thoughts=0) == ("none",)
    assert controls_for(thinker, mix_ratio=0.5) == ("none", "noised")


def test_all_controls(thinker: Any, options: dict[str, Any], tmp_path: Path) -> None:
    found = evaluate(thinker, **options, output=tmp_path, control="all", batch_size=9)
    assert list(found.controls) == ["none", "no-thought", "pause", "shuffled", "noised"]
    assert found.control == "none"
    assert found.costs.thoughts == 2
    assert found.controls["no-thought"].costs.thoughts == 0
    assert found.controls["pause"].against_none.difference == 0
    assert len(find_results(tmp_path)) == 5
    # the last batch of one row gets a companion whose answer is not counted
    assert [call["rows"] for call in thinker.calls if call["control"] == "shuffled"] == [9, 2]
    assert found.controls["shuffled"].accuracy.n == 10
    seeds = {call["thought_sampling"].seed for call in thinker.calls if call["control"] == "noised"}
    assert len(seeds) == 2
    table = render(found.controls.values())
    assert table.row_count == 5
    assert [tables.title for tables in render_groups(found)] == ["sums by subject", "sums by level"]


def test_shuffled_needs_two_questions(thinker: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="at least two"):
        evaluate(thinker, **options, control="shuffled", limit=1)


def test_plain_models_have_no_controls(scripted: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="plain language model"):
        evaluate(scripted, **options, control="pause")
    with pytest.raises(UnsupportedError, match="plain language model"):
        evaluate(scripted, **options, thoughts=3)
    with pytest.raises(ConfigError, match="Did you mean pause"):
        evaluate(scripted, **options, control="pauses")


def test_bad_arguments(scripted: Any, options: dict[str, Any]) -> None:
    for bad in ({"samples": 0}, {"batch_size": 0}, {"limit": 0}, {"temperature": 0.0}, {"resume": True}):
        with pytest.raises(ConfigError):
            evaluate(scripted, **options, **bad)


def test_prompts_beyond_the_context(
    scripted: Any, options: dict[str, Any], rows: ExampleSet, tokenizer: Any
) -> None:
    longest = sorted(len(tokenizer(row.question)["input_ids"]) for row in rows)
    scripted.config.max_position_embeddings = longest[-2]
    found = evaluate(scripted, **options, output=None)
    assert found.accuracy.n == 10
    assert found.counts.no_answer >= 3
    assert found.counts.unfit == sum(length >= longest[-2] for length in longest), "said, never silent"


def test_puzzles_that_were_never_asked_score_nothing(scripted: Any, tokenizer: Any) -> None:
    solution = {"header": ["House", "Name"], "rows": [["1", "Ann"]]}
    example = Example("z", "Who?", (), "Ann", meta={"solution": solution})
    data = {"source": "zebra", "split": "test"}
    task = TaskConfig.parse(
        {"name": "z", "version": 1, "data": data, "judge": "zebra", "metrics": ["cell_accuracy"]}
    )
    scripted.config.max_position_embeddings = 1
    found = evaluate(scripted, task, tokenizer=tokenizer, data=[example], progress=False)
    assert found.counts.unfit == 1
    assert found.metrics["cell_accuracy"].value == 0
    assert found.metrics["cell_accuracy"].n == 1


def test_a_refused_control_leaves_the_folder_free(
    latent_model: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="needs thoughts"):
        evaluate(latent_model, **options, output=tmp_path, control="shuffled", thoughts=0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    evaluate(latent_model, **options, output=tmp_path, control="shuffled", thoughts=1)


def test_progress_is_for_terminals(
    scripted: Any, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(scripted, **{**options, "progress": True})
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", ""), "a log file gets no empty lines"


# ------------------------------------------------------------------------------------------------- with a real model
def test_latent_model(latent_model: Any, options: dict[str, Any], tmp_path: Path) -> None:
    before = torch.get_rng_state()
    latent_model.train()
    found = evaluate(latent_model, **options, output=tmp_path, control="all", batch_size=4)
    assert latent_model.training
    assert torch.equal(before, torch.get_rng_state())
    assert list(found.controls) == ["none", "no-thought", "pause", "shuffled", "noised"]
    assert found.costs.thoughts == 2
    texts = {
        name: [row["completion"] for row in untimed(tmp_path / "results" / "sums" / name)]
        for name in found.controls
    }
    assert len({tuple(text) for text in texts.values()}) > 2


def test_batching_does_not_change_answers(latent_model: Any, options: dict[str, Any], tmp_path: Path) -> None:
    latent_model.double()
    for size in (1, 3, 10):
        evaluate(latent_model, **options, output=tmp_path / str(size), batch_size=size)
    one, three, ten = (untimed(tmp_path / str(size) / "results" / "sums" / "none") for size in (1, 3, 10))
    assert one == three == ten


def test_killed_and_resumed_sampling(latent_model: Any, options: dict[str, Any], tmp_path: Path) -> None:
    """Several samples a question, killed after any batch: the same rows as without a kill."""
    settings = {**options, "samples": 3, "batch_size": 4, "control": "noised", "temperature": 1.0, "seed": 5}
    evaluate(latent_model, **settings, output=tmp_path / "whole")
    whole = tmp_path / "whole" / "results" / "sums" / "noised"
    assert len({row["completion"] for row in lines(whole)}) > 3
    evaluate(latent_model, **settings, output=tmp_path / "killed")
    killed = tmp_path / "killed" / "results" / "sums" / "noised"
    written = (killed / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (killed / "results.json").unlink()
    (killed / "samples.jsonl").write_bytes(b"".join(written[:14]) + written[14][:30])
    torch.manual_seed(123)
    evaluate(latent_model, **settings, output=tmp_path / "killed", resume=True)
    assert untimed(killed) == untimed(whole)


@pytest.mark.parametrize("kept", [1, 9, 16])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_resumed_after_memory_ran_out(
    latent_model: Any, options: dict[str, Any], tmp_path: Path, kept: int, batch_size: int | None
) -> None:
    """The sizes of the batches are remembered: what is drawn in a batch depends on who is in it, and the resumed run has
    more memory."""
    settings = {**options, "samples": 2, "batch_size": batch_size, "temperature": 1.0}
    limits = [4]
    cramped(latent_model, limits)
    for name in ("whole", "killed"):
        evaluate(latent_model, **settings, output=tmp_path / name)
    whole, killed = (tmp_path / name / "results" / "sums" / "none" for name in ("whole", "killed"))
    names = ["results.json", "samples.jsonl", "settings.json"]
    assert sorted(path.name for path in whole.iterdir()) == names, "nothing is left behind"

    # the same again up to a kill, with what stands in the folder then
    for path in killed.iterdir():
        path.unlink()
    append = SampleFile.append
    with pytest.MonkeyPatch.context() as patch:

        def limited(file: SampleFile, samples: Any) -> None:
            append(file, samples)
            if len(file.known) >= kept:
                raise Killed

        patch.setattr(SampleFile, "append", limited)
        with pytest.raises(Killed):
            evaluate(latent_model, **settings, output=tmp_path / "killed", resume=True)
    assert (killed / "batches.json").is_file()
    written = (killed / "samples.jsonl").read_bytes()
    (killed / "samples.jsonl").write_bytes(written[:-30])  # and a line was torn
    limits[0] = 100
    evaluate(latent_model, **settings, output=tmp_path / "killed", resume=True)
    assert untimed(killed) == untimed(whole)
    assert sorted(path.name for path in killed.iterdir()) == names


def test_another_batch_size_may_be_asked_for(scripted: Any, options: dict[str, Any], tmp_path: Path) -> None:
    evaluate(scripted, **options, output=tmp_path, batch_size=4)
    folder = tmp_path / "results" / "sums" / "none"
    (folder / "samples.jsonl").write_bytes(
        b"".join((folder / "samples.jsonl").read_bytes().splitlines(keepends=True)[:4])
    )
    (folder / "batches.json").write_text('{"size": 4, "halved": [[0, 0, 2]]}')
    scripted.calls.clear()
    evaluate(scripted, **options, output=tmp_path, batch_size=3, resume=True)
    assert [call["rows"] for call in scripted.calls] == [3, 3, 1], "the first three were whole"


def test_rows_that_fit_into_a_gpu(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from latentthought.evaluation import models

    free = [0]
    monkeypatch.setattr(models, "free_memory", lambda device: free[0] if device == "cuda:0" else None)
    shape = {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 2}
    model = SimpleNamespace(config=SimpleNamespace(**shape), dtype=torch.bfloat16)
    each = 2 * 3 * 2 * 8 * 2  # keys and values, layers, heads, their width, bytes
    for rows, found in ((0, 1), (1, 1), (2, 2), (63, 32), (64, 64), (10**6, 512)):
        free[0] = 2 * rows * each * 100
        assert models.automatic_batch_size(model, "cuda:0", 100) == found
    assert models.automatic_batch_size(scripted, "cuda:0", 100) == 128, (
        "a model that does not say how large it is"
    )
    assert models.automatic_batch_size(model, "cpu", 100) == 32


def test_the_batch_size_counts_prompt_thoughts_and_answer(
    thinker: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        generation, "automatic_batch_size", lambda model, device, positions: asked.append(positions) or 2
    )
    requests = [Request(index, 0, [1] * (3 + index)) for index in range(3)]
    generator = Generator(thinker, tokenizer, Decoding(max_new_tokens=7))
    assert generator.size_for(requests) == 2
    assert Generator(thinker, tokenizer, Decoding(7), batch_size=5).size_for(requests) == 5
    assert asked == [5 + 2 + 7]


@pytest.mark.parametrize(
    ("thoughts", "options", "taken"),
    [
        (None, {}, 2 + 2),
        (5, {}, 5 + 2),
        (0, {}, 0),
        ("auto", {}, 2 * 2 + 2),
        (ThoughtPolicy(kind="settled", maximum=9), {}, 9 + 2),
        (3, {"hybrid": True}, 0),
    ],
)
def test_the_room_that_thoughts_leave(
    latent_model: Any, tokenizer: Any, thoughts: Any, options: dict[str, Any], taken: int
) -> None:
    """Positions: as `generate` lays them out, so the answer is as long as the context allows and not a token longer."""
    decoding = Decoding(max_new_tokens=1000, thoughts=thoughts, options=options)
    assert overhead(latent_model, decoding) == taken
    assert Generator(latent_model, tokenizer, decoding)._room(Request(0, 0, [5] * 20)) == 128 - 20 - taken


def test_no_room_for_delimiters_that_are_not_there(latent_model: Any) -> None:
    latent_model.thought = latent_model.thought.replace(start_token_id=None)
    assert overhead(latent_model, Decoding(4)) == 2 + 1
    latent_model.thought = latent_model.thought.replace(end_token_id=None)
    assert overhead(latent_model, Decoding(4)) == 2
    assert overhead(latent_model, Decoding(4, mix_ratio=0.5)) == 0


def test_stops_count_behind_written_reasoning(latent_model: Any, tokenizer: Any) -> None:
    """Mixed decoding writes its reasoning, which may hold any text."""
    text = "1 + 1 <|end-thought|> 7 + 1"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    mixed = Generator(latent_model, tokenizer, Decoding(9, mix_ratio=0.5), stops=["+"])
    assert mixed.text(ids).replace(" ", "") == "1+1<|end-thought|>7"
    plain = Generator(latent_model, tokenizer, Decoding(9), stops=["+"])
    assert plain.text(ids).strip() == "1"


def test_thoughts_that_are_no_number(latent_model: Any, options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="thoughts: a number"):
        evaluate(latent_model, **options, thoughts="many", output=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_plain_huggingface_model(latent_model: Any, options: dict[str, Any]) -> None:
    found = evaluate(latent_model.base, **options)
    assert found.accuracy.n == 10
    assert found.costs.thoughts == 0
    as_text = evaluate(latent_model, **options, thoughts=0)
    assert as_text.accuracy == found.accuracy
