"""`grade`: any file of rows by its gold and prediction, and a samples file again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentthought.cli import main

ROWS = [
    {"ref": {"a": "1/2"}, "out": "so the answer is 0.5"},
    {"ref": {"a": 7}, "out": "It is \\boxed{8}."},
    {"ref": {"a": "x"}, "out": ""},
    {"ref": {"a": "50%"}, "out": "0.5"},
    {"ref": {"a": "12"}, "out": None},
]
FIELDS = ("--gold", "ref.a", "--prediction", "out")


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        found = main(["grade", *arguments])
        captured = capsys.readouterr()
        assert found == code, captured.err
        if code:
            assert captured.err.startswith("latentthought: error: ")
            assert captured.err.count("\n") == 1, "one line"
        return captured.err if code else captured.out

    return run


def test_rows_with_gold_and_prediction(says: Callable[..., str], tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", ROWS)
    output = tmp_path / "graded"
    said = says(file, *FIELDS, "--output", str(output))
    assert "5 rows, 40.0 %" in said
    graded = [json.loads(line) for line in (output / "graded.jsonl").read_text().splitlines()]
    assert [row["grade"]["status"] for row in graded] == [
        "correct",
        "wrong",
        "ungradable",
        "correct",
        "ungradable",
    ]
    assert [row["grade"]["rule"] for row in graded] == ["phrase", "boxed", "none", "bare", "none"]
    assert [{key: row[key] for key in ("ref", "out")} for row in graded] == ROWS
    summary = json.loads((output / "summary.json").read_text())
    assert summary["status"] == {"correct": 2, "ungradable": 2, "wrong": 1}
    assert summary["rules"]["none"] == 2
    assert summary["accuracy"]["value"] == 0.4
    assert "not empty" in says(file, *FIELDS, "--output", str(output), code=2)


def test_the_policy_is_given(says: Callable[..., str], tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", ROWS)
    assert "5 rows, 20.0 %" in says(file, *FIELDS, "--policy", "percent=sign", "--policy", "precision=null")
    assert "5 rows, 0.0 %" in says(file, *FIELDS, "--policy", "strict=true")


def test_options_of_multiple_choice(says: Callable[..., str], tmp_path: Path) -> None:
    rows = [
        {"g": "B", "p": "The answer is dog.", "o": ["cat", "dog"]},
        {"g": "A", "p": "dog", "o": {"A": "cat", "B": "dog"}},
    ]
    file = write(tmp_path / "rows.jsonl", rows)
    assert "2 rows, 50.0 %" in says(file, "--gold", "g", "--prediction", "p", "--choices", "o")


def test_other_kinds_of_file(says: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('gold,prediction\n3,"the answer is 3"\n4,5\n')
    assert "2 rows, 50.0 %" in says(
        str(tmp_path / "rows.csv"), "--gold", "gold", "--prediction", "prediction"
    )


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (ROWS, ("--gold", "ref.a"), "needs both --gold FIELD and --prediction FIELD"),
        (ROWS, ("--gold", "ref.b", "--prediction", "out"), "rows.jsonl, line 1: no field 'ref.b'"),
        ([*ROWS, {"ref": {"a": "1"}}], FIELDS, "rows.jsonl, line 6: no field 'out'"),
        (
            [*ROWS, {"ref": {"a": " "}, "out": "1"}],
            FIELDS,
            "line 6: field 'ref.a' is empty: there is no gold answer",
        ),
        (
            [*ROWS, {"ref": {"a": None}, "out": "1"}],
            FIELDS,
            "line 6: field 'ref.a' is empty: there is no gold answer",
        ),
        (
            [*ROWS, {"ref": {"a": ["1"]}, "out": "1"}],
            FIELDS,
            "line 6: field 'ref.a' must be text or a number, got list",
        ),
        (
            [*ROWS, {"ref": {"a": float("nan")}, "out": "1"}],
            FIELDS,
            "rows.jsonl, line 6: field 'ref.a' is empty: there is no gold answer",
        ),
        ([*ROWS, 3], FIELDS, "line 6: expected an object"),
        (
            ROWS,
            (*FIELDS, "--policy", "precision"),
            "'precision': expected key=value, for example precision=3",
        ),
        (
            ROWS,
            (*FIELDS, "--policy", "precison=3"),
            "--policy: grading policy: unknown key 'precison'; did you mean precision?",
        ),
        (ROWS, (*FIELDS, "--policy", "percent=maybe"), "percent: one of either, sign, value"),
        (ROWS, (*FIELDS, "--policy", "percent"), "expected key=value"),
        (ROWS, (*FIELDS, "--task", "gsm8k"), "--task and --data are for a samples.jsonl"),
        (ROWS, (*FIELDS, "--choices", "out"), "line 1: field 'out' must be a list of option texts"),
        (
            ROWS,
            (),
            "no row of a samples.jsonl that evaluate wrote (it has ref, out); for any other file of rows give --gold",
        ),
    ],
)
def test_one_line_of_what_is_wrong(
    rows: list[Any], arguments: tuple[str, ...], message: str, says: Callable[..., str], tmp_path: Path
) -> None:
    file = write(tmp_path / "rows.jsonl", rows)
    output = tmp_path / "graded"
    assert message in says(file, *arguments, "--output", str(output), code=2)
    assert not output.exists()


def test_a_missing_prediction_is_an_empty_one(says: Callable[..., str], tmp_path: Path) -> None:
    """pandas writes what is missing as NaN."""
    file = write(
        tmp_path / "rows.jsonl", [{"g": 1, "p": 1.0}, {"g": 2, "p": float("nan")}, {"g": 3, "p": None}]
    )
    said = says(file, "--gold", "g", "--prediction", "p")
    assert "ungradable     2" in said and "wrong" not in said


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "g,p\n1,1\n", "a.jsonl: this looks like CSV, not JSON; name it .csv"),
        ("a.json", '"g"\t"p"\n1\t1\n', "a.json: this looks like TSV, not JSON; name it .tsv"),
        (
            "a.json",
            '{"data": [{"g": 1, "p": 1}]}',
            "a.json: one object with rows in its field 'data'; give a file",
        ),
        ("a.json", '{"n": 1, "data": [\n{"g": 1, "p": 1}\n]}', "one object with rows in its field 'data'"),
        # what only resembles one of these is said as it is
        ("a.jsonl", '{"g": 1, "p": 1},\n', "a.jsonl, line 1: not valid JSON"),
        ("a.json", '{"G": 1, "chat": [{"role": "user"}]}', "a.json, line 1: no field 'g'; did you mean G?"),
        ("a", None, "a is a folder; give one file of rows"),
    ],
)
def test_what_is_no_file_of_rows_is_called_by_its_name(
    name: str, text: str | None, message: str, says: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.mkdir() if text is None else path.write_text(text)
    assert message in says(str(path), "--gold", "g", "--prediction", "p", code=2)


@pytest.mark.parametrize("output", ["afile/x", "afile/x/y", "/proc/x"])
def test_an_output_that_cannot_be_written_is_said_before_judging(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("afile").touch()
    file = write(tmp_path / "rows.jsonl", ROWS)
    for arguments in (["grade", file, *FIELDS], ["grade", file]):
        assert main([*arguments, "--output", output]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"latentthought: error: --output {output}: ") and said.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["afile", "rows.jsonl"]


def test_again_by_killable_workers(
    says: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdicts come from a pool: here from one whose workers never answer in time."""
    from latentthought.grading import Verdict
    from latentthought.grading.workers import pool
    from tests.judged import answered, saved

    samples = answered([0, 1, 2, 3], 4, task="gsm8k")
    folder = saved(tmp_path / "run", samples)
    assert "0 of 4 verdicts changed" in says(str(folder))
    late = Verdict("ungradable", "no verdict within 5 s")
    monkeypatch.setattr(pool.GradingPool, "grade_many", lambda self, pairs, *_, **__: [late for _ in pairs])
    said = says(str(folder), "--output", str(tmp_path / "again"))
    assert "4 of 4 verdicts changed" in said
    rows = [json.loads(line) for line in (tmp_path / "again/samples.jsonl").read_text().splitlines()]
    assert {row["verdict"]["status"] for row in rows} == {"ungradable"}
    assert all("no verdict within" in row["verdict"]["reason"] for row in rows)


def test_again_without_the_rows_of_the_clues(
    says: Callable[..., str], trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ProsQA's rows are not here any more: the answers are judged again, what the clues said stays."""
    from latentthought.evaluation import read_samples

    assert (
        main(
            [
                "evaluate",
                str(trained_run),
                "--task",
                "prosqa",
                "--smoke",
                "--limit",
                "3",
                "--output",
                str(tmp_path / "a"),
            ]
        )
        == 0
    )
    monkeypatch.delenv("LATENTTHOUGHT_DATA", raising=False)
    folder = tmp_path / "a/results/prosqa/none"
    assert "0 of 3 verdicts changed" in says(str(folder), "--output", str(tmp_path / "b"))
    before, after = (read_samples(place / "samples.jsonl") for place in (folder, tmp_path / "b"))
    assert [sample.scores for sample in before] == [sample.scores for sample in after]
    assert all(sample.extractions.keys() == {"strict", "flexible"} for sample in after)
