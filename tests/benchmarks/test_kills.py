"""The kill benchmark strikes real processes, lets good jobs pass, and finds what a resume got wrong."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import kills
from benchmarks.killed_jobs import Job, extraction, file_differences, run_differences, training
from latentthought.recipe import load_recipe

# counts to 60 with a line each; a resumed one begins after the last whole line, and in `forgetful` one line further
COUNTER = """
import sys, time
from pathlib import Path
forgetful, folder = sys.argv[1] == "forgetful", Path("counted")
folder.mkdir(exist_ok=True)
file = folder / "lines"
text = file.read_text() if file.exists() else ""
done = text.count("\\n")
with file.open("w") as out:
    out.write("".join(text.splitlines(keepends=True)[:done]))
with file.open("a") as out:
    for number in range(done + (forgetful and "--resume" in sys.argv), 60):
        time.sleep(0.005)
        out.write(f"{number}\\n")
        out.flush()
"""


def lines(folder: Path) -> int:
    path = folder / "lines"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.parametrize("kind", ["faithful", "forgetful"])
def test_a_job_under_kills(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kills, "STARTING_SHARE", 0.0)  # the counter has hardly a start
    command = (sys.executable, "-c", COUNTER, kind)
    job = Job("count", command, "counted", "lines", lines, lambda folder: False, file_differences)
    found = kills.kill_job(job, 4, random.Random(0), tmp_path)
    assert found == ([] if kind == "faithful" else ["lines"])
    if kind == "faithful":
        assert capsys.readouterr().out.count("kill ") == 4
        assert lines(tmp_path / "whole" / "counted") == 60


def test_a_job_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no disk')")
    job = Job("fail", command, "out", "lines", lines, lambda folder: False, file_differences)
    with pytest.raises(SystemExit, match="no disk"):
        kills.kill_job(job, 1, random.Random(0), tmp_path)


def test_differences_of_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "shard").write_bytes(b"states")
    assert file_differences(tmp_path / "one", tmp_path / "two") == []
    (tmp_path / "two" / "inner" / "shard").write_bytes(b"stated")
    (tmp_path / "two" / "left.partial").touch()
    assert file_differences(tmp_path / "one", tmp_path / "two") == ["inner/shard", "left.partial"]


@pytest.mark.parametrize("part", ["model/model", "adapter/adapter_model", "companions"])
def test_differences_of_runs(part: str, tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("one", "two")]
    for speed, run in enumerate(runs):
        for file in ("model/model", "adapter/adapter_model", "companions"):
            path = run / f"{file}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"w": torch.ones(3)}, path)
        (run / "metrics.jsonl").write_text(f'{{"step": 1, "loss": 2.0, "tokens_per_second": {speed}}}\n')
    assert run_differences(*runs) == []
    nearly = torch.ones(3)
    nearly[1] = 1.0000001
    save_file({"w": nearly}, runs[1] / f"{part}.safetensors")
    assert run_differences(*runs) == [f"{part}.safetensors: w"]
    (runs[1] / f"{part}.safetensors").unlink()
    (runs[1] / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n')
    assert run_differences(*runs) == [f"{part}.safetensors: w", "metrics.jsonl (1 and 1 lines)"]


@pytest.mark.parametrize("recipe", ["quickstart", "lrd/3-student"])
def test_a_killed_run_is_long_enough(recipe: str) -> None:
    """Both ways to write a curriculum: the short form, and stages one by one."""
    job = training(recipe, [])
    changes = [text for text in job.command if "=" in text]
    stages = load_recipe(recipe, changes, smoke=True).curriculum.expand()
    assert sum(stage.steps for stage in stages) == 240
    assert training(recipe, ["training.save_every=3"]).command[5:6] == ("training.save_every=3",)


def test_an_extraction_makes_many_shards() -> None:
    command = extraction("lrd/2-states", []).command
    recipe = load_recipe("lrd/2-states", [text for text in command if "=" in text], smoke=True)
    assert recipe.teacher is not None
    assert recipe.teacher.cache is not None
    assert recipe.teacher.cache.rows_per_shard == 2
