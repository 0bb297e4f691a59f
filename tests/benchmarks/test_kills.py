"""The kill benchmark strikes real processes, lets good jobs pass, and finds what a resume got wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import kills
from benchmarks.kill_checks import file_differences, half_written, nearly, run_differences
from benchmarks.killed_jobs import Job, extraction, training
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


def counting(program: str, kind: str) -> Job:
    return Job(
        "count",
        (kind,),
        "counted",
        "lines",
        lines,
        lambda folder: False,
        file_differences,
        program=("-c", program),
    )


@pytest.mark.parametrize("kind", ["faithful", "forgetful"])
def test_a_job_under_kills(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kills, "STARTING_SHARE", 0.0)  # the counter has hardly a start
    job = counting(COUNTER, kind)
    found = kills.kill_job(job, 4, random.Random(0), tmp_path)
    assert found == ([] if kind == "faithful" else ["lines"])
    if kind == "faithful":
        assert capsys.readouterr().out.count("kill ") == 4
        assert lines(tmp_path / "whole" / "counted") == 60


def test_a_job_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    job = counting("raise SystemExit('no disk')", "fail")
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
    other = torch.ones(3)
    other[1] = 1.0000001
    save_file({"w": other}, runs[1] / f"{part}.safetensors")
    assert run_differences(*runs) == [f"{part}.safetensors: w"]
    assert nearly(*runs) == [], "as another order of sums would have made it"
    (runs[1] / f"{part}.safetensors").unlink()
    (runs[1] / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n')
    assert run_differences(*runs) == [f"{part}.safetensors: w", "metrics.jsonl (1 and 1 lines)"]


def test_what_no_order_of_sums_explains(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("one", "two")]
    for loss, run in zip((2.0, 2.1), runs, strict=True):
        run.mkdir()
        save_file({"w": torch.full((3,), loss)}, run / "companions.safetensors")
        (run / "metrics.jsonl").write_text(f'{{"step": 1, "loss": {loss}}}\n')
    assert nearly(*runs) == ["companions.safetensors: w by 0.1", "loss of step 1 by 0.1"]
    (runs[1] / "metrics.jsonl").write_text("")
    assert nearly(*runs)[1:] == ["steps of metrics.jsonl (1 and 0 lines)"]


def test_half_written_files_are_found(tmp_path: Path) -> None:
    """Each form of file, cut in the middle; the same under a name that says it is not finished is none."""
    run = tmp_path / "run"
    (run / "checkpoint-5").mkdir(parents=True)
    save_file({"w": torch.ones(30)}, run / "companions.safetensors")
    contents = {
        "a.yaml": b"name: x\n",
        "b.json": b'{"a": 1}\n',
        "companions.safetensors": (run / "companions.safetensors").read_bytes(),
        "metrics.jsonl": b'{"step": 1, "loss": 2.0}\n{"st',
        "responses.jsonl": b'{"a": 1}\n{"b": 2}\n',
    }
    for name, content in contents.items():
        (run / name).write_bytes(content)
    (run / "checkpoint-5" / "complete.json").write_text('{"files": {}}')
    assert half_written(tmp_path) == [], "a line that was being appended is no damage"
    (run / "a.yaml").write_bytes(b"name: [x")
    (run / "b.json").write_bytes(b'{"a": ')
    (run / "companions.safetensors").write_bytes(contents["companions.safetensors"][:-8])
    (run / "metrics.jsonl").write_bytes(b'{"step": 1, "lo\n')
    (run / "responses.jsonl").write_bytes(b'{"a": 1\n')
    (run / "checkpoint-5" / "complete.json").unlink()
    found = half_written(tmp_path)
    assert [line.partition(": ")[0] for line in found] == [
        "run/a.yaml",
        "run/b.json",
        "run/checkpoint-5",
        "run/companions.safetensors",
        "run/metrics.jsonl",
        "run/responses.jsonl",
    ]
    for name in (".saving", "x.tmp", "y.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.json").write_text("{")
    assert half_written(tmp_path) == found


def test_every_kind_of_job_is_dealt_its_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = kills.jobs_of(kills.arguments().parse_args(["--all"]), tmp_path)
    assert {job.command[0] for job in jobs} == {"train", "teacher", "evaluate"}
    assert {count for job in jobs for count in job.processes} == {1, 2}
    assert {engine for job in jobs for engine in job.engines} == {"ddp", "zero2", "zero3"}
    dealt: list[int] = []

    def struck(job: Job, share: int, rng: random.Random, folder: Path) -> list[str]:
        dealt.append(share)
        return ["weights"] if job.command[0] == "evaluate" else []

    monkeypatch.setattr(kills, "kill_job", struck)
    assert kills.kill_jobs(jobs, 50, random.Random(0), tmp_path) == 1
    assert sum(dealt) == 50 and max(dealt) - min(dealt) <= 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"50 kills: 1 of {len(jobs)} jobs DIFFERENT: evaluate hops"


@pytest.mark.parametrize("recipe", ["quickstart", "lrd/3-student"])
def test_a_killed_run_is_long_enough(recipe: str) -> None:
    """Both ways to write a curriculum: the short form, and stages one by one."""
    job = training(recipe, [])
    changes = [text for text in job.command if "=" in text]
    stages = load_recipe(recipe, changes, smoke=True).curriculum.expand()
    assert sum(stage.steps for stage in stages) == 240
    assert training(recipe, ["training.save_every=3"]).command[2:3] == ("training.save_every=3",)


def test_an_extraction_makes_many_shards() -> None:
    command = extraction("lrd/2-states", []).command
    recipe = load_recipe("lrd/2-states", [text for text in command if "=" in text], smoke=True)
    assert recipe.teacher is not None
    assert recipe.teacher.cache is not None
    assert recipe.teacher.cache.rows_per_shard == 2
