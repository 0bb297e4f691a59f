"""A teacher's answers as a training set: what becomes of a completion, and the command from asking to training."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from latentthought.cli import main
from latentthought.config import write_yaml
from latentthought.data.example import Example
from latentthought.data.sources import SourceConfig, load_examples
from latentthought.data.tokenizer import TokenizerConfig, train_tokenizer
from latentthought.distillation.responses import (
    Response,
    ResponsesConfig,
    save_responses,
    steps_of,
    to_rows,
    training_source,
)
from latentthought.errors import ConfigError, DamagedFileError, DataError, MissingFileError
from latentthought.grading import Verdict, grade
from latentthought.recipe import load_recipe
from latentthought.training.preparation import prepare
from tests.evaluation.conftest import ScriptedThinker
from tests.warm import run_ranks

ROOT = Path(__file__).parents[2]
SUM = Example("sum/1", "What is 2 + 3 + 4?", ("given",), "9", meta={"level": "1"})
SAID = [
    "2 + 3 = 5\n5 + 4 = 9\n### 9",
    "2 + 3 = 6\n6 + 4 = 10\n### 10",
    "2 + 3 = 5\n5 + 4 = 9\n### 9 ",
    "I do not know.",
]


def answers(*completions: str) -> list[Response]:
    return [
        Response(SUM.id, number, text, grade(text, SUM.answer), 7) for number, text in enumerate(completions)
    ]


def test_only_right_answers_are_kept_and_each_once() -> None:
    kept = to_rows([SUM], answers(*SAID), ResponsesConfig(samples=4), {"teacher": "big"})
    assert [row["id"] for row in kept.rows] == ["sum/1/0"]
    row = kept.rows[0]
    assert row["steps"] == ["2 + 3 = 5", "5 + 4 = 9"], "the student's own format writes the answer"
    assert (row["answer"], row["solution"], row["meta"]) == ("9", SAID[0], {"level": "1"})
    assert row["provenance"]["teacher"] == "big"
    assert row["provenance"]["row"] == "sum/1"
    assert row["provenance"]["verdict"]["status"] == "correct"
    assert kept.counts == {"kept": 1, "wrong": 1, "ungradable": 1, "without an answer": 0, "repeated": 1}
    assert kept.questions == 1


def test_wrong_answers_are_the_teachers_own() -> None:
    kept = to_rows([SUM], answers(*SAID), ResponsesConfig(samples=4, keep="all"), {})
    assert [(row["id"], row["answer"]) for row in kept.rows] == [("sum/1/0", "9"), ("sum/1/1", "10")]
    assert kept.counts == {"kept": 2, "wrong": 0, "ungradable": 0, "without an answer": 1, "repeated": 1}


def test_a_right_answer_is_written_as_the_gold_one() -> None:
    half = Example("h", "A half?", (), "1/2")
    said = r"It is \boxed{\frac{1}{2}}."
    verdict = grade(said, "1/2")
    kept = to_rows([half], [Response("h", 0, said, verdict, 3)], ResponsesConfig(), {})
    assert verdict.correct
    assert kept.rows[0]["answer"] == "1/2"


@pytest.mark.parametrize(
    ("completion", "cut", "expected"),
    [
        ("<think>\na\n\nb\n</think>\nThe answer is 4.", "paragraphs", ("a", "b")),
        ("a. Then b.</think>So \\boxed{4}", "sentences", ("a.", "Then b.")),
        ("x<s>\na\nb<e>\n### 4", "lines", ("a", "b")),
        ("a\nb\nThe answer is 4.", "lines", ("a", "b")),
        ("a\nso b = 4", "lines", ("a", "so b = 4")),
        ("\\boxed{4}", "lines", ()),
        ("", "lines", ()),
    ],
)
def test_steps_are_the_reasoning(completion: str, cut: str, expected: tuple[str, ...]) -> None:
    assert steps_of(completion, cut, [("<think>", "</think>"), ("<s>", "<e>"), (None, "==")]) == expected


def test_a_mark_without_an_opening_ends_the_reasoning_too() -> None:
    """A latent-thought model's own marks: what stands before the end mark is reasoning, whatever opened it."""
    assert steps_of("a\nb==4", "lines", [("<think>", "</think>"), (None, "==")]) == ("a", "b")
    assert steps_of("4", "lines", [("<think>", "</think>"), (None, "=")]) == ("4",)
    assert steps_of("4", "lines", [("<think>", "</think>"), (None, "=")], answer="4") == ()


def saved(folder: Path, **about: Any) -> ResponsesConfig:
    folder.mkdir(exist_ok=True)
    kept = to_rows([SUM], answers(*SAID), ResponsesConfig(samples=4), {})
    save_responses(folder, kept, {"data": {"fingerprint": "abc"}, **about})
    return ResponsesConfig(path=str(folder))


def test_the_rows_read_back_as_data(tmp_path: Path) -> None:
    config = saved(tmp_path)
    given = SourceConfig(source="gsm8k", split="test", limit=3, start=1, options={})
    examples = load_examples(training_source(config, given, "abc"))
    assert [example.id for example in examples] == ["sum/1/0"]
    assert examples[0].steps == ("2 + 3 = 5", "5 + 4 = 9")
    assert examples[0].solution == SAID[0]


def test_answers_that_do_not_hold_are_refused(tmp_path: Path) -> None:
    given = SourceConfig(source="gsm8k")
    with pytest.raises(MissingFileError, match=r"no answers of a teacher here yet .*teacher respond RECIPE"):
        training_source(ResponsesConfig(path=str(tmp_path / "none")), given)
    config = saved(tmp_path / "a")
    with pytest.raises(ConfigError, match="answers to other rows than the recipe's data"):
        training_source(config, given, "another")
    rows = tmp_path / "a" / "responses.jsonl"
    whole = bytearray(rows.read_bytes())
    whole[10] ^= 1
    rows.write_bytes(bytes(whole))
    with pytest.raises(DamagedFileError, match=r"responses\.jsonl is not what its provenance"):
        training_source(config, given)
    rows.unlink()
    with pytest.raises(DamagedFileError, match=r"responses\.jsonl is missing"):
        training_source(config, given)
    (tmp_path / "a" / "provenance.json").write_text("{", encoding="utf-8")
    with pytest.raises(DamagedFileError, match="not JSON"):
        training_source(config, given)
    nothing = to_rows([SUM], answers("### 4"), ResponsesConfig(), {})
    save_responses(tmp_path / "a", nothing, {"settings": {"keep": "correct"}})
    with pytest.raises(DataError, match=r"no completion was kept \(keep: correct\)"):
        training_source(config, given)


def test_a_task_brings_its_own_policy() -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        ResponsesConfig.parse({"task": "zebra", "policy": {"precision": 3}})


def test_a_lone_surrogate_does_not_cost_the_rest(tmp_path: Path) -> None:
    verdict = Verdict("correct", "", grade("### 9", "9").extraction)
    kept = to_rows([SUM], [Response(SUM.id, 0, "a\ud800\n### 9", verdict, 3)], ResponsesConfig(), {})
    save_responses(tmp_path, kept, {})
    assert len(training_rows(tmp_path)) == 1


# --- the command -------------------------------------------------------------------------------------------------------


def training_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "responses.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Eight sums, a tiny student, and a random teacher that samples twice a question."""
    rows = [{"question": f"{n} + 1", "steps": [f"{n} + 1 = {n + 1}"], "answer": str(n + 1)} for n in range(8)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values = {
        "name": "sums",
        "seed": 3,
        "model": {"scratch": {"layers": 1, "width": 16, "heads": 2, "max_positions": 64}},
        "teacher": {
            "scratch": {"layers": 1, "width": 16, "heads": 2, "max_positions": 64},
            "responses": {
                "path": str(tmp_path / "answers"),
                "samples": 2,
                "temperature": 1.0,
                "keep": "all",
                "max_new_tokens": 12,
                "batch_size": 2,
            },
        },
        "data": {"source": "file", "path": str(data)},
        "curriculum": {"method": "text", "each": {"steps": 2}},
        "training": {"batch_size": 4},
        "engine": {"device": "cpu"},
    }
    write_yaml(tmp_path / "sums.yaml", values)
    return tmp_path / "sums.yaml"


def completions(folder: Path) -> list[dict[str, Any]]:
    file = folder / "results" / "responses" / "none" / "samples.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_a_killed_run_goes_on_to_the_same_rows(recipe: Path, tmp_path: Path) -> None:
    assert main(["teacher", "respond", str(recipe)]) == 0
    whole = tmp_path / "answers"
    about = json.loads((whole / "provenance.json").read_text())
    assert sum(about["completions"].values()) == len(completions(whole)) == 16
    assert about["rows"] == len(training_rows(whole)) > 0
    assert about["data"]["questions"] == 8
    for row in training_rows(whole):
        gold = str(int(row["question"].split()[0]) + 1)
        verdict = grade(row["solution"], gold, thought_ends=("</think>", "<|end-thought|>"))
        assert row["provenance"]["verdict"]["status"] == verdict.status
        assert row["answer"] == (gold if verdict.correct else verdict.extraction.answer)

    killed = tmp_path / "killed"
    assert main(["teacher", "respond", str(recipe), "--output", str(killed)]) == 0
    file = killed / "results" / "responses" / "none" / "samples.jsonl"
    for name in ("responses.jsonl", "provenance.json"):
        (killed / name).unlink()
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:6]) + lines[6][:20])
    assert main(["teacher", "respond", str(recipe), "--output", str(killed)]) == 2, "not empty"
    assert main(["teacher", "respond", str(recipe), "--output", str(killed), "--resume"]) == 0
    assert (killed / "responses.jsonl").read_bytes() == (whole / "responses.jsonl").read_bytes()
    kept = [line["completion"] for line in completions(killed)]
    assert kept == [line["completion"] for line in completions(whole)]


def test_what_is_kept_can_change_without_asking_again(recipe: Path, tmp_path: Path) -> None:
    assert main(["teacher", "respond", str(recipe)]) == 0
    before = completions(tmp_path / "answers")
    change = "teacher.responses.steps=sentences"
    assert main(["teacher", "respond", str(recipe), change, "--resume"]) == 0
    assert completions(tmp_path / "answers") == before
    about = json.loads((tmp_path / "answers" / "provenance.json").read_text())
    assert about["settings"]["steps"] == "sentences"


def test_other_settings_are_refused(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teacher", "respond", str(recipe)]) == 0
    change = "teacher.responses.temperature=0.5"
    assert main(["teacher", "respond", str(recipe), change, "--resume"]) == 2
    assert "temperature" in capsys.readouterr().err


def test_mistakes_are_said_in_one_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [
        (["teacher=null"], "the recipe has no teacher"),
        (["teacher.responses.path=null"], "say where the answers go"),
        (["teacher.responses.task=gsm9k"], "did you mean gsm8k"),
        (["teacher.responses.keep=right"], "keep"),
        (["--resume"], "there is no folder"),
        (["teacher.model=self", "teacher.scratch=null"], "responses"),
    ]
    for arguments, expected in said:
        assert main(["teacher", "respond", str(recipe), *arguments]) == 2, arguments
        assert expected in capsys.readouterr().err.lower(), arguments
    assert not (tmp_path / "answers").exists()


class Knowing:
    """Stands in for a trained teacher: right on even sums, wrong on odd ones."""

    name = "knowing"

    def __init__(self) -> None:
        said = {f"{n} + 1": f"{n} + 1 = {n + 1}\n### {n + 1 if n % 2 else n + 2}" for n in range(8)}
        self.tokenizer = train_tokenizer(TokenizerConfig(), [f"{q}\n{a}" for q, a in said.items()])
        self.model = ScriptedThinker(self.tokenizer, said)
        self.model.named_parameters = lambda: ()
        self.model.config = SimpleNamespace(name_or_path="", max_position_embeddings=None, prompt_format=None)


def test_the_student_trains_on_what_the_teacher_got_right(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from latentthought.distillation.teacher import Teacher

    teacher = Knowing()
    monkeypatch.setattr(Teacher, "load", lambda *unused, **named: teacher)
    changes = [
        "teacher.responses.keep=correct",
        "teacher.responses.samples=1",
        "teacher.responses.temperature=null",
    ]
    assert main(["teacher", "respond", str(recipe), *changes]) == 0
    out = capsys.readouterr().out
    assert "kept        4 of 8 completions (4 wrong)" in out
    assert teacher.model.calls[0]["thoughts"] == 0, "reads: text answers in words"
    prepared = prepare(load_recipe(recipe, changes))
    assert [example.question for example in prepared.examples] == ["1 + 1", "3 + 1", "5 + 1", "7 + 1"]
    assert prepared.examples[0].steps == ("1 + 1 = 2",)
    assert prepared.examples[0].answer == "2"


@pytest.mark.slow
def test_two_processes_make_the_rows_of_one(recipe: Path, tmp_path: Path) -> None:
    assert main(["teacher", "respond", str(recipe)]) == 0
    command = ["teacher", "respond", str(recipe), "--output", str(tmp_path / "two")]
    run_ranks(2, "latentthought", command, tmp_path / "said")
    one = (tmp_path / "answers" / "responses.jsonl").read_bytes()
    assert (tmp_path / "two" / "responses.jsonl").read_bytes() == one
