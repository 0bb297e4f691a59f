"""What a user sees who types something wrong: one message, the nearest match, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

from latentthought import errors
from latentthought.cli import commands, main
from latentthought.resources import find_recipe

WRONG = [
    (["trian"], "unknown command 'trian'; did you mean train?"),
    (["--halp"], "unknown option '--halp'"),
    (["train", "quickstrt"], "Did you mean quickstart"),
    (["train", "quickstart", "--reusme"], "unknown option --reusme; did you mean --resume?"),
    (["train", "quickstart", "--smok"], "did you mean --smoke?"),
    (["train", "quickstart", "foo"], "unexpected argument 'foo'"),
    (["train", "quickstart", "--resume"], "--resume needs --output"),
    (["train", "quickstart", "traning.batch_size=3"], "traning: unknown key; did you mean training?"),
    (["train", "quickstart", "model.scratch.widht=3", "seed=abc"], "2 problems"),
    (["train", "quickstart", "training.learning_rate=fast"], "training.learning_rate"),
    (["train", "missing/recipe.yaml"], "no such recipe file"),
    (["train", "cot-gpt2-gsm8k", "--smoke", "data.path=nowhere.jsonl"], "no such file: nowhere.jsonl"),
    (["train", "cot-gpt2-gsm8k"], "HF_HUB_OFFLINE"),
    (["evaluate", "somewhere", "--task", "hop"], "Did you mean hops?"),
    (["evaluate", "some/where/else", "--task", "hops"], "no such folder: some/where/else"),
    (
        ["evaluate", "owner/name", "--task", "hops"],
        "neither a folder here nor in the local hub cache, and the hub is out of reach (HF_HUB_OFFLINE is set)",
    ),
    (["evaluate", "somewhere", "--task", "hops", "--control", "shufled"], "did you mean shuffled?"),
    (
        ["evaluate", "somewhere", "--task", "hops", "--data", "nowhere.jsonl"],
        "--data nowhere.jsonl: no such file",
    ),
    (["evaluate", "somewhere"], "--task"),
    (["generate", "somewhere"], "give a PROMPT or --input FILE"),
    (["generate", "somewhere", "hello", "--thoughts", "many"], "expected a whole number or auto, got 'many'"),
    (["generate", "somewhere", "hello", "--thoughts", "-1"], "expected at least 0"),
    (["generate", "somewhere", "hello", "--mix", "2"], "between 0 and 1"),
    (["generate", "somewhere", "hello", "--mix", "0.5", "--thoughts", "3"], "--mix"),
    (["generate", "somewhere", "hello", "--samples", "2", "--temperature", "0"], "--temperature 0 is greedy"),
    (["evaluate", "somewhere", "--task", "hops", "--samples", "2", "--temperature", "0"], "is greedy"),
    (["generate", "somewhere", "--input", "nowhere.txt"], "no such file"),
    (["export", "some/where/else", "--output", "x"], "no such folder"),
    (["compare", "nowhere", "nowhere"], "no such run: nowhere"),
    (["plot", "nowhere"], "no such folder: nowhere (so no metrics.jsonl"),
    (["grade", "nowhere.jsonl"], "no such file"),
    (["recipes", "quickstrt"], "Did you mean quickstart"),
    (["tasks", "gsm"], "gsm8k"),
    (["quickstart", "--arms", "thougts"], "Did you mean thoughts"),
    (["sweep", "quickstrt", "training.batch_size=8,16"], "Did you mean quickstart"),
    (["sweep", "quickstart", "traning.batch_size=8,16"], "traning: unknown key; did you mean training?"),
    (["sweep", "quickstart", "training.batch_size=8,many"], "training.batch_size=many"),
    (["sweep", "quickstart", "training.batch_size=8,16,8"], "the value 8 is given twice"),
    (["sweep", "quickstart", "training.learning_rate=1,1.0"], "are one and the same run"),
    (["sweep", "quickstart", "training.batch_size=,"], "a value between the commas is empty"),
    (["sweep", "quickstart", "training.batch_size=8,16", "--seeds", "0"], "expected at least 1, got 0"),
    (["sweep", "quickstart", "engine=ddp,zero9"], "engine.strategy"),
    (["sweep", "quickstart", "evaluation.task=hops,hop"], "Did you mean hops?"),
    (["sweep", "quickstart", "batch"], "unexpected argument 'batch'"),
    (["sweep", "quickstart", "--resume"], "--resume needs --output DIR"),
    (["sweep", "quickstart", "--resume", "--output", "nowhere"], "--resume: there is no folder nowhere"),
    (["sweep", "quickstart", "--task", "hop"], "Did you mean hops?"),
    (["sweep", "quickstart", "--task", "hops", "--no-evaluate"], "give one of them"),
    (["sweep", "quickstart", "--launcher", "submitti"], "did you mean submitit?"),
    (["sweep", "quickstart", "--launcher-option", "timeout_min=3"], "goes with --launcher submitit"),
    (
        ["sweep", "quickstart", "training.batch_size=8,16", "--baseline", "training.batch_size=9"],
        "takes 8, 16",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "message"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_users_error(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATENTTHOUGHT_DATA", raising=False)
    begun = time.perf_counter()
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("latentthought: error: ")
    assert "Traceback" not in said
    assert time.perf_counter() - begun < 20, "a mistake is answered within seconds"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [], "nothing half-written stays"


@pytest.mark.parametrize(
    ("error", "code", "traceback", "said"),
    [
        (errors.ConfigError("bad key"), 2, False, "error: bad key"),
        (errors.DamagedFileError("bad file"), 1, False, "bad file"),
        (errors.Preempted("resume me"), 75, False, "resume me"),
        (KeyboardInterrupt(), 130, False, "interrupted"),
        (
            OSError(errno.ENOSPC, "No space left on device", "model.safetensors"),
            1,
            False,
            "no space left on the disk: model.safetensors",
        ),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            1,
            False,
            "no space left on the disk",
        ),
        (OSError(errno.EFBIG, "File too large", "model.safetensors"), 1, False, "no space left on the disk"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 2, False, "Permission denied: runs"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/proc/x"), 2, False, "No such file: /proc/x"),
        (RuntimeError("oops"), 1, True, "please report it"),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    traceback: bool,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(commands, "run", fail)
    assert main(["doctor"]) == code
    captured = capsys.readouterr().err
    assert said in captured
    assert ("Traceback" in captured) is traceback
    assert main(["doctor", "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err, "--debug shows it always"


def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(recipe: object, output: Path, **_: object) -> None:
        output.mkdir()
        (output / "metrics.jsonl").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr("latentthought.training.run.train", interrupted)
    output = tmp_path / "run"
    assert main(["train", "quickstart", "--smoke", "--output", str(output)]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("interrupted: go on")
    assert "--resume" in line
    assert str(output) in line


def test_help_lists_every_command_quickly() -> None:
    """0.5 s is the promise; the best of three, because other processes share the machine."""
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        shown = subprocess.run(
            [sys.executable, "-m", "latentthought", "--help"], capture_output=True, text=True, check=True
        ).stdout
        seconds.append(time.perf_counter() - begun)
    assert all(f"  {name} " in shown for name in commands.COMMANDS)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_each_command_has_help_without_torch(name: str) -> None:
    code = "import sys\nfrom latentthought.cli import main\n"
    code += f"try: main([{name!r}, '--help'])\nexcept SystemExit as e: assert e.code == 0\n"
    code += "assert not {'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules), 'help imports nothing heavy'"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"usage: latentthought {name}" in shown


def test_no_command_shows_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: latentthought COMMAND" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("latentthought ")


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_closed_pipe_is_quiet() -> None:
    shell = f"{sys.executable} -m latentthought recipes prosqa-scratch | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("rows", "word"),
    [(None, "data.path: no such file"), ('{"question": "q"}\n', "line 1: field 'answer' is missing")],
    ids=["missing-file", "bad-row"],
)
def test_ones_own_file_is_blamed_and_nothing_is_left(
    rows: str | None,
    word: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, output = tmp_path / "rows.jsonl", tmp_path / "run"
    if rows is not None:
        data.write_text(rows, encoding="utf-8")
    code = main(["train", "quickstart", "data.source=file", f"data.path={data}", "--output", str(output)])
    assert code == 2
    assert word in capsys.readouterr().err
    assert not output.exists()


def test_a_refused_run_takes_away_nothing_that_it_did_not_make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user's own recipe in the folder that was named for the output, and the files of another run."""
    folder = tmp_path / "exp"
    folder.mkdir()
    mine = folder / "recipe.yaml"
    mine.write_bytes(find_recipe("quickstart").read_bytes())
    assert main(["train", str(mine), "--smoke", "--output", str(folder)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert mine.read_bytes() == find_recipe("quickstart").read_bytes()


def test_a_refused_run_leaves_nothing_that_it_made(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    wrong = "objective=[{term: hidden, target: teacher, layers: [[1, 9]]}]"
    teacher = "teacher={scratch: {layers: 2}}"
    assert main(["train", "quickstart", "--smoke", wrong, teacher, "--output", str(folder)]) == 2
    assert not folder.exists()
