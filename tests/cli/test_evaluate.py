"""`evaluate` beyond one shipped task: one's own file, changes of a task, suites, reports, contamination, and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentthought.cli import main

QUICK = ("--limit", "4", "--max-new-tokens", "3")


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path) -> Callable[..., str]:
    """What `evaluate` says of the tiny run: on standard output if it ends well, else its one message."""

    def run(*arguments: str, code: int = 0, output: Path | None = tmp_path / "out") -> str:
        capsys.readouterr()
        where = [] if output is None else ["--output", str(output)]
        found = main(["evaluate", str(trained_run), *arguments, *where])
        captured = capsys.readouterr()
        assert found == code, captured.err
        if code:
            assert captured.err.startswith("latentthought: error: ")
            assert captured.err.count("\n") == 1, "one line"
        return captured.err if code else captured.out

    return run


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def results(folder: Path, task: str, control: str = "none") -> dict[str, Any]:
    return json.loads((folder / "results" / task / control / "results.json").read_text())


def samples(folder: Path, task: str, control: str = "none") -> list[dict[str, Any]]:
    lines = (folder / "results" / task / control / "samples.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# ------------------------------------------------------------------------------------------------------------- own rows
def test_own_file(says: Callable[..., str], tmp_path: Path) -> None:
    rows = [{"text": {"q": f"a b c ? {n}"}, "gold": n, "kind": "ab"[n % 2]} for n in range(4)]
    file = write(tmp_path / "rows.jsonl", *rows)
    fields = ("--field", "question=text.q", "--field", "answer=gold")
    said = says(
        "--task", "file", "--data", file, *fields, *QUICK, "data.options.meta=[kind]", "groups=[kind]"
    )
    assert "file by kind" in said
    found = results(tmp_path / "out", "file")
    assert found["data"]["origin"] == file
    assert found["groups"].keys() == {"kind"}
    assert {row["gold"] for row in samples(tmp_path / "out", "file")} == {"0", "1", "2", "3"}
    assert "report.md and report.html" in said
    assert (tmp_path / "out/results/file/report.html").is_file()


def test_changes_of_a_task(says: Callable[..., str], tmp_path: Path) -> None:
    said = says("--task", "gsm8k", "--smoke", *QUICK, "few_shot.count=2", "policy.precision=3", "stop=[]")
    assert "gsm8k" in said
    settings = results(tmp_path / "out", "gsm8k")["settings"]
    assert len(settings["few_shot"]) == 2
    assert settings["grading"]["policy"]["precision"] == 3
    assert settings["stop"] == []


def test_a_changed_task_does_not_resume_another(says: Callable[..., str]) -> None:
    says("--task", "gsm8k", "--smoke", *QUICK)
    said = says("--task", "gsm8k", "--smoke", *QUICK, "policy.precision=3", "--resume", code=2)
    assert "cannot resume, the settings differ: grading was" in said


def test_several_tasks_and_a_suite(says: Callable[..., str], tmp_path: Path) -> None:
    said = says("--task", "hops,knights", "--smoke", *QUICK)
    assert "macro average" in said
    assert results(tmp_path / "out", "knights")["metrics"].keys() == {"cell_accuracy", "consistency"}
    assert (tmp_path / "out/results/report.md").is_file()
    says("--suite", "logic", "--smoke", *QUICK, output=tmp_path / "suite")
    table = json.loads((tmp_path / "suite/results/logic.suite.json").read_text())
    assert list(table["tasks"]) == ["prosqa", "prontoqa", "knights", "zebra", "hops"]
    assert table["macro"]["n"] == 20


def test_contamination(says: Callable[..., str], tmp_path: Path) -> None:
    questions = [" ".join(f"word{n}{i}" for i in range(20)) for n in range(4)]
    file = write(tmp_path / "rows.jsonl", *({"question": q, "answer": "1"} for q in questions))
    train = write(tmp_path / "train.jsonl", {"chat": [{"role": "user", "content": f"So: {questions[2]}!"}]})
    said = says("--task", "file", "--data", file, *QUICK, "--train-data", train)
    assert "contamination: runs of 13 words in" in said
    found = results(tmp_path / "out", "file")["contamination"]
    assert (found["rows"], found["overlapping"], list(found["ids"])) == (4, 1, ["file/test/2"])
    assert found["clean"]["n"] == 3
    says("--task", "hops", *QUICK, "--train-data", "quickstart", output=tmp_path / "recipe")
    assert results(tmp_path / "recipe", "hops")["contamination"]["training"] == "quickstart"


def test_several_samples(says: Callable[..., str], tmp_path: Path) -> None:
    said = says("--task", "hops", *QUICK, "--samples", "4", "metrics=[accuracy,pass@3]")
    assert "several samples a question" in said
    assert {"pass@3", "maj@4", "avg@4"} <= results(tmp_path / "out", "hops")["metrics"].keys()


def test_findings_of_all_controls(says: Callable[..., str]) -> None:
    said = says("--task", "hops", "--smoke", *QUICK, "--control", "all")
    assert "Too few questions to tell" in said


def test_without_a_run_folder_nothing_is_kept(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(trained_run / "model"), "--task", "hops", *QUICK]) == 0
    assert "results in" not in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--task NAME or --suite NAME"),
        (["--task", "hops", "--suite", "logic"], "--task hops and --suite logic: give one of them, not both"),
        (["--task", "hops,"], "--task 'hops,': a name between the commas is empty"),
        (["--task", "quick"], "--task quick: this is a suite; give it as --suite quick"),
        (["--suite", "gsm8k"], "--suite gsm8k: this is a task; give it as --task gsm8k"),
        (["--task", "hops", "--thoughts", "many"], "expected a whole number or auto, got 'many'"),
        (["--task", "hops", "groups=[nosuch]"], "groups: no row has 'nosuch' (the rows have "),
        (
            ["--task", "file", "--data", "{good}", "groups=[kind]"],
            "groups: no row has 'kind' (the rows have none to group by); a column of the file: data.options.meta=[kind]",
        ),
        (["--task", "file", "--data", "{null}"], "null.jsonl, line 1: field 'question' is null"),
        (
            ["--task", "file", "--data", "{no_answer}"],
            "(the row has question); to read another column, --field answer=COLUMN",
        ),
        (
            ["--task", "gsm8k", "--data", "{no_answer}", "data.start=1", "--field", "answr=question"],
            "'answr' is not read of it, did you mean answer=question?",
        ),
        (["--task", "{empty}"], "empty.yaml: the file is empty"),
        (["--task", "{recipe}"], "recipe.yaml: not a task (it has model, training)"),
        (["--task", "{bundle}"], "bundle.yaml: this is a suite, not a task"),
        (["--suite", "{empty}"], "empty.yaml: the file is empty"),
        (["--suite", "{bad_key}"], "bad_key.yaml: this is a task, not a suite"),
        (["--task", "hops,hops"], "task 'hops' is given twice"),
        (["--task", "hops,gsm"], "gsm8k"),
        (["--suite", "logik"], "Did you mean logic?"),
        (
            ["--task", "hops", "metrics=[acuracy]"],
            "metrics: unknown metric 'acuracy'. Did you mean accuracy",
        ),
        (["--task", "hops", "metrics=[cell_accuracy]"], "judge 'chain' does not measure cell_accuracy"),
        (
            ["--task", "hops", "metrics=[pass@3]"],
            "metric pass@3: needs 3 samples a question, and there is to be 1",
        ),
        (["--task", "hops", "max_new_tokenz=3"], "max_new_tokenz: unknown key; did you mean max_new_tokens?"),
        (["--task", "hops", "few_shot.cuont=3"], "few_shot.cuont: unknown key; did you mean count?"),
        (["--task", "hops", "policy.precison=3"], "did you mean precision?"),
        (["--task", "hops", "judge=answr"], "did you mean answer?"),
        (["--task", "hops", "nonsense"], "unexpected argument 'nonsense'"),
        (["--task", "file"], "task 'file' has no rows of its own: give --data FILE"),
        (
            ["--task", "file", "--data", "{good}", "--field", "question"],
            "--field 'question': expected NAME=COLUMN",
        ),
        (["--task", "hops,gsm8k", "--data", "{good}"], "--data and --field are about the rows of one task"),
        (["--task", "file", "--data", "{no_answer}"], "no_answer.jsonl, line 2: field 'answer' is missing"),
        (
            ["--task", "file", "--data", "{empty_answer}"],
            "empty_answer.jsonl, line 1: field 'answer' is empty",
        ),
        (
            ["--task", "file", "--data", "{good}", "--field", "question=qestion"],
            "good.jsonl, line 1: no field 'qestion'; did",
        ),
        (
            ["--task", "file", "--data", "{good}", "--field", "questoin=question"],
            "fields: unknown name 'questoin'. Did you mean question?",
        ),
        (["--task", "file", "--data", "{bad_json}"], "bad_json.jsonl, line 2: not valid JSON"),
        (["--task", "{bad_key}"], "bad_key.yaml: metrix: unknown key; did you mean metrics?"),
        (["--task", "{no_version}"], "no_version.yaml: version: required, and missing"),
        (
            ["--task", "hops", "--train-data", "quickstrt"],
            "--train-data: unknown recipe or source 'quickstrt'. Did you mean",
        ),
        (["--task", "hops", "--train-data", "gone.jsonl"], "--train-data gone.jsonl: no such file"),
    ],
)
def test_one_line_of_what_is_wrong(
    arguments: list[str],
    message: str,
    says: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = {"question": "a ?", "answer": "1"}
    write(tmp_path / "good.jsonl", good)
    write(tmp_path / "no_answer.jsonl", good, {"question": "b ?"})
    write(tmp_path / "empty_answer.jsonl", {"question": "b ?", "answer": ""})
    (tmp_path / "bad_json.jsonl").write_text(json.dumps(good) + "\n{\n")
    head = "name: mine\ndata: {source: hops, split: test}\n"
    (tmp_path / "bad_key.yaml").write_text(head + "version: 1\nmetrix: [accuracy]\n")
    (tmp_path / "no_version.yaml").write_text(head)
    write(tmp_path / "null.jsonl", {"question": None, "answer": "1"})
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "recipe.yaml").write_text("model: {}\ntraining: {}\n")
    (tmp_path / "bundle.yaml").write_text("name: several\ntasks: [hops]\n")
    # all of it is found before a model is loaded
    monkeypatch.setattr("latentthought.cli.evaluate.load", lambda *_: pytest.fail("a model was loaded"))
    places = {file.stem: str(file) for file in tmp_path.iterdir() if file.is_file()}
    said = says(
        *(argument.format(**places) if "{" in argument else argument for argument in arguments), code=2
    )
    assert message in said
    assert not (tmp_path / "out").exists(), "nothing is left behind"


def test_resuming_another_task_version_or_model(says: Callable[..., str], tmp_path: Path) -> None:
    says("--task", "hops", *QUICK)
    folder = tmp_path / "out/results/hops/none"
    assert "version was 1, is 2" in says("--task", "hops", *QUICK, "version=2", "--resume", code=2)
    (folder / "settings.json").unlink()
    assert "samples.jsonl, line 1: made under version 1, this run has 2" in says(
        "--task", "hops", *QUICK, "version=2", "--resume", code=2
    )
    lines = (folder / "samples.jsonl").read_text().replace('"hops"', '"prosqa"')
    (folder / "samples.jsonl").write_text(lines)
    assert "made under task 'prosqa', this run has 'hops'" in says(
        "--task", "hops", *QUICK, "--resume", code=2
    )
    (folder / "samples.jsonl").write_text(lines.replace('"prosqa"', '"hops"'))
    assert "holds a sample of" in says(
        "--task", "hops", "--limit", "2", "--max-new-tokens", "3", "--resume", code=2
    )
    assert len(samples(tmp_path / "out", "hops")) == 4, "nothing is lost"


def test_a_folder_that_cannot_be_written_is_found_before_the_model(
    says: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentthought.cli.evaluate.load", lambda *_: pytest.fail("a model was loaded"))
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, file / "below"):
        said = says("--task", "hops", *QUICK, output=place, code=2)
        assert f"--output {place}: {file} is not a folder" in said
    said = says("--task", "hops", *QUICK, output=Path("/proc/nowhere"), code=2)
    assert "--output /proc/nowhere: nothing can be written there" in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_what_is_needed_is_called_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--task", "hops"]) == 2
    assert "required: MODEL (see" in capsys.readouterr().err


def test_an_unknown_task_or_suite_to_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "nope"]) == 2
    said = capsys.readouterr().err
    assert "unknown task or suite 'nope'" in said
    assert "gsm8k" in said
    assert "quick" in said


def test_the_average_over_samples_is_shown(says: Callable[..., str]) -> None:
    said = says("--task", "hops", *QUICK, "--samples", "4", "metrics=[avg@4]")
    assert "avg@k (95 %)" in said


def test_prompts_too_long_are_called_so(says: Callable[..., str]) -> None:
    said = " ".join(says("--task", "hops", *QUICK, "few_shot.count=90").split())
    assert "4 of 4 prompts do not fit into the context with their thoughts (the longest has" in said
    assert "No thought was thought" not in said


def test_a_folder_in_use_is_found_before_the_first_task(
    says: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says("--task", "knights", "--smoke", *QUICK)
    monkeypatch.setattr("latentthought.cli.evaluate.load", lambda *_: pytest.fail("a model was loaded"))
    assert "holds results already" in says("--task", "hops,knights", "--smoke", *QUICK, code=2)
    assert not (tmp_path / "out/results/hops").exists()


def test_a_model_that_emits_nothing(
    says: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line in the end; what was measured is kept."""
    from latentthought.evaluation.generation import Generator

    monkeypatch.setattr(Generator, "_cut", lambda self, ids: ids[:0])
    said = says("--task", "hops", *QUICK, code=2)
    assert "hops: the model emits nothing, every completion is empty" in said
    assert results(tmp_path / "out", "hops")["counts"]["no_answer"] == 4
    assert {row["verdict"]["reason"] for row in samples(tmp_path / "out", "hops")} == {"empty prediction"}
