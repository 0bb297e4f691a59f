"""Disks that are full, read-only or not there. (In a save on several processes: tests/training/test_strategies.py.)"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.config import write_yaml
from latentthought.errors import LatentThoughtError
from latentthought.recipe import Recipe
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.faults.disks import no_file_larger_than, read_only
from tests.training.test_resume import assert_same_run

TEACHER = {"scratch": {"architecture": "llama", "layers": 2, "width": 16, "heads": 2}}
# each with the rest of a command that writes into --output
WRITERS = {
    "train": ["train"],
    "extract": ["teacher", "extract"],
    "respond": ["teacher", "respond"],
}


@pytest.fixture
def recipe_file(make_recipe: Callable[..., Recipe], tmp_path: Path) -> Path:
    recipe = make_recipe(
        teacher={**TEACHER, "cache": {"path": str(tmp_path / "states")}},
        objective=[
            {"term": "ce"},
            {"term": "hidden", "target": "teacher", "alignment": "step_ends", "projector": {}},
        ],
    )
    write_yaml(tmp_path / "r.yaml", recipe.dump())
    return tmp_path / "r.yaml"


def test_the_system_refuses_a_checkpoint(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Whatever size is too much: the weights, the optimizer's states, or a line of metrics. Nothing half-written stays, and the
    run goes on when there is room."""
    recipe = make_recipe()
    train(recipe, tmp_path / "whole", progress=Silent())
    for size in (40, 5_000, 30_000):
        with (
            no_file_larger_than(size),
            pytest.raises((LatentThoughtError, OSError), match=r"File too large|os error 27") as caught,
        ):
            train(recipe, tmp_path / f"{size}", progress=Silent())
        if isinstance(caught.value, LatentThoughtError):
            assert caught.value.exit_code == 1
            assert "there is no earlier one" in str(caught.value)
        left = {path.name for path in (tmp_path / f"{size}").iterdir()}
        assert left <= {".lock", "recipe.yaml", "metrics.jsonl"}
        train(recipe, tmp_path / f"{size}", resume=True, progress=Silent())
        assert_same_run(tmp_path / "whole", tmp_path / f"{size}")


@pytest.mark.parametrize("command", WRITERS)
def test_a_folder_below_a_file(
    command: str, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    output = tmp_path / "file" / "run"
    before = sorted(tmp_path.iterdir())
    assert main([*WRITERS[command], str(recipe_file), "--output", str(output)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("latentthought: error: ") and str(output) in said and "Traceback" not in said
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", WRITERS)
def test_a_read_only_file_system(
    command: str,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    read_only(monkeypatch, mount)
    assert main([*WRITERS[command], str(recipe_file), "--output", str(mount / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("latentthought: error: ") and str(mount) in said
    assert "ead-only file system" in said and "Traceback" not in said
    assert list(mount.iterdir()) == []


def test_a_file_system_that_turns_read_only(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Linux does after an error of the device: what was saved before stays, and is gone on from."""
    from tests.training.test_resume import KillAt

    recipe = make_recipe()
    train(recipe, tmp_path / "whole", progress=Silent())

    class Remount(KillAt):
        def _maybe(self, moment: str, state: object) -> None:
            if moment == self._moment and state.global_step == self._step:  # type: ignore[attr-defined]
                read_only(monkeypatch, tmp_path / "run")

    with pytest.raises(
        LatentThoughtError, match=r"cannot save .*Read-only file system.*checkpoint-5 is intact"
    ):
        train(recipe, tmp_path / "run", progress=Silent(), callbacks=(Remount(9, "begin"),))
    monkeypatch.undo()
    train(recipe, tmp_path / "run", resume=True, progress=Silent())
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("size", [600, 3_000])
def test_the_system_refuses_samples(
    size: int, make_recipe: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evaluation: within a sample, or where the results are to be written."""
    run = tmp_path / "run"
    train(make_recipe(curriculum={"each": {"steps": 1}}), run, progress=Silent())
    command = [
        "evaluate",
        str(run),
        "--task",
        "file",
        "--data",
        str(tmp_path / "rows.jsonl"),
        "--max-new-tokens",
        "4",
    ]
    command += ["--batch-size", "2", "--limit", "6"]
    assert main([*command, "--output", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    with no_file_larger_than(size):
        assert main([*command, "--output", str(tmp_path / "full")]) == 1
    said = capsys.readouterr().err
    assert "no space left on the disk" in said and "Traceback" not in said
    assert main([*command, "--output", str(tmp_path / "full"), "--resume"]) == 0
    rows = [
        [
            {**json.loads(line), "milliseconds": 0}
            for line in (tmp_path / name / "results" / "file" / "none" / "samples.jsonl")
            .read_text()
            .splitlines()
        ]
        for name in ("whole", "full")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 6
