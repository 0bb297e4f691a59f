"""Output folders: two runs in one, a lock that a kill has left, a folder that is taken away, and damage to what lies in it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from latentthought.cli import main
from latentthought.config import write_yaml
from latentthought.errors import ConfigError, FolderInUseError, LatentThoughtError
from latentthought.recipe import Recipe
from latentthought.training import checkpoints
from latentthought.training.folder import claimed
from latentthought.training.monitor import MetricsFile
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.training.test_resume import KillAt, Killed, assert_same_run, metrics_of

HOLDER = """
import sys, time
from pathlib import Path
from latentthought.training.folder import claimed
with claimed(Path(sys.argv[1]), resume=False):
    print("held", flush=True)
    time.sleep(600)
"""


class Says(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class At(TrainerCallback):
    """Does something at the beginning of a step."""

    def __init__(self, step: int, work: Callable[[], object]) -> None:
        self._step, self._work = step, work

    def on_step_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        if state.global_step == self._step:
            self._work()


def test_two_runs_in_one_folder_and_what_a_kill_leaves(
    make_recipe: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one is told who is the first; when that is killed, its lock is none, whatever the file says and of whatever
    date it is."""
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run)], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()
        write_yaml(tmp_path / "r.yaml", make_recipe(curriculum={"each": {"steps": 1}}).dump())
        command = ["train", str(tmp_path / "r.yaml"), "--output", str(run)]
        for more in ([], ["--resume"]):
            assert main([*command, *more]) == 2
            assert capsys.readouterr().err == (
                f"latentthought: error: {run}: another run is writing to this folder "
                f"(pid {first.pid} on {socket.gethostname()})\n"
            )
        assert sorted(path.name for path in run.iterdir()) == [".lock"]
        first.kill()
        first.wait()
    assert f"pid {first.pid} " in (run / ".lock").read_text()
    os.utime(run / ".lock", (4e9, 4e9))  # in 2096
    assert main([*command, "--resume"]) == 0
    assert str(os.getpid()) in (run / ".lock").read_text()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe not ours", b"pid 1 on mars\npid 2"])
def test_a_lock_file_of_whatever_content(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(content)
    with claimed(tmp_path, resume=False):
        (tmp_path / ".lock").write_bytes(content)
        with (
            pytest.raises(FolderInUseError, match="another run is writing") as caught,
            claimed(tmp_path, True),
        ):
            pass
    assert ("(pid 1 on mars)" in str(caught.value)) is content.startswith(b"pid")


@pytest.mark.parametrize("step", [3, 5], ids=["a line of metrics is due", "a checkpoint is due"])
def test_a_folder_that_is_deleted_under_a_run(
    make_recipe: Callable[..., Recipe], tmp_path: Path, step: int
) -> None:
    """The run says so and ends, and does not make half a folder anew."""
    run, recipe = tmp_path / "run", make_recipe(training={"log_every": 4, "save_every": 3})
    with pytest.raises(LatentThoughtError, match=rf"{run} is gone: it was deleted or moved while") as caught:
        train(recipe, run, progress=Silent(), callbacks=(At(step, lambda: shutil.rmtree(run)),))
    assert caught.value.exit_code == 1
    assert not run.exists()


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """It is said which one was passed over and why; the run ends as ever. Files that nobody knows do no harm."""
    recipe = make_recipe()
    train(recipe, tmp_path / "whole", progress=Silent())
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train(recipe, run, progress=Silent(), callbacks=(KillAt(12, "end"),))
    weights = run / "checkpoint-10" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    (run / "checkpoint-5" / "notes.txt").write_text("mine")
    (run / "checkpoint-99").write_text("a file")
    (run / "checkpoint-best").mkdir()
    says = Says()
    train(recipe, run, resume=True, progress=says)
    assert "checkpoint-10 is passed over: model.safetensors is damaged (its hash differs)" in says.lines
    assert "resumed from checkpoint-5" in says.lines
    assert_same_run(tmp_path / "whole", run)


def test_a_checkpoint_that_may_not_be_read(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train(make_recipe(), run, progress=Silent(), callbacks=(KillAt(12, "end"),))
    read = checkpoints.sha256_of

    def refuses(path: Path) -> str:
        if path == run / "checkpoint-10" / "optimizer.safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(checkpoints, "sha256_of", refuses)
    said: list[str] = []
    assert checkpoints.newest(run, said.append) == run / "checkpoint-5"
    assert said == ["checkpoint-10 is passed over: optimizer.safetensors cannot be read (Permission denied)"]


def test_a_kill_while_an_old_checkpoint_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of it has lost its name, and goes with the next save or resume."""
    for step in (5, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text("w")

    def struck(*unused: Any, **unused_too: Any) -> None:
        raise Killed

    monkeypatch.setattr(shutil, "rmtree", struck)
    with pytest.raises(Killed):
        checkpoints.prune(tmp_path, step=10, keep=1)
    monkeypatch.undo()
    assert [path.name for path in checkpoints.checkpoints_in(tmp_path)] == ["checkpoint-10"]
    checkpoints.clear_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]


@pytest.mark.parametrize("marker", ["", "{", "[]", '{"files": 3}', '{"files": [1]}', '{"step": 10}'])
def test_a_damaged_marker(tmp_path: Path, marker: str) -> None:
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10" / "complete.json").write_text(marker)
    assert checkpoints.problem_with(tmp_path / "checkpoint-10") == "its complete.json is damaged"


TORN = {
    "half a line": b'{"step": 16, "lo',
    "no UTF-8": b"\xff\xfe\x00\n",
    "no row": b'[1]\n"two"\n{"step": "three"}\nnull\n\n',
}


@pytest.mark.parametrize("tail", TORN)
def test_metrics_with_a_torn_end(make_recipe: Callable[..., Recipe], tmp_path: Path, tail: str) -> None:
    recipe, run = make_recipe(), tmp_path / "run"
    train(recipe, tmp_path / "whole", progress=Silent())
    with pytest.raises(Killed):
        train(recipe, run, progress=Silent(), callbacks=(KillAt(12, "end"),))
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(TORN[tail])
    train(recipe, run, resume=True, progress=Silent())
    assert metrics_of(run) == metrics_of(tmp_path / "whole")
    # a finished run is asked for its last row
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(TORN[tail])
    assert MetricsFile(run / "metrics.jsonl").last()["step"] == 18
    assert train(recipe, run, resume=True, progress=Silent()).steps == 18


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "recipe.yaml"),
        (b"model: [", "recipe.yaml"),
        (b"\xff\xfe\x00", "recipe.yaml"),
        (b"- 1\n", "recipe.yaml"),
        (b"modle: {}\n", "modle"),
    ],
)
def test_a_damaged_recipe(
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    says: str,
) -> None:
    """The user's error, since only the user can say which recipe it was; nothing in the folder changes."""
    recipe, run = make_recipe(), tmp_path / "run"
    write_yaml(tmp_path / "r.yaml", recipe.dump())
    run.mkdir()
    (run / "recipe.yaml").write_bytes(content)
    assert main(["train", str(tmp_path / "r.yaml"), "--output", str(run), "--resume"]) == 2
    said = capsys.readouterr().err
    assert "--resume: the recipe in this folder no longer reads: " in said and says in said
    assert "Traceback" not in said
    assert (run / "recipe.yaml").read_bytes() == content
    assert {path.name for path in run.iterdir()} <= {"recipe.yaml", ".lock"}


@pytest.mark.parametrize("cut", [0.4, 0.97])
def test_rows_that_end_in_the_middle_of_one(
    make_recipe: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: float
) -> None:
    """A copy that was cut off; other forms of files: tests/data/test_sources_files.py."""
    write_yaml(tmp_path / "r.yaml", make_recipe().dump())
    rows = tmp_path / "rows.jsonl"
    content = rows.read_bytes()
    content = content[: int(len(content) * cut)]
    rows.write_bytes(content)
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        json.loads(content.splitlines()[-1])
    assert main(["train", str(tmp_path / "r.yaml"), "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert f"{rows}, line {len(content.splitlines())}: not valid JSON" in said
    assert not (tmp_path / "run").exists()


def test_a_resume_without_the_recipe_of_the_run(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Somebody deleted recipe.yaml: the checkpoints still tell other data."""
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train(make_recipe(), run, progress=Silent(), callbacks=(KillAt(6, "end"),))
    (run / "recipe.yaml").unlink()
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text().replace('"yes"', '"maybe"'))
    with pytest.raises(ConfigError, match="training rows are not those"):
        train(make_recipe(), run, resume=True, progress=Silent())
