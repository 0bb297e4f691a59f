"""`latentthought teacher`: extracting, checking, mending and handing on a teacher's states, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.config import read_yaml, write_yaml
from tests.warm import run_ranks

ROOT = Path(__file__).parents[2]
# a teacher with a tokenizer of its own, which joins digits and letters
TEACHER = {
    "scratch": {"architecture": "llama", "layers": 3, "width": 48, "heads": 4},
    "tokenizer": {"kind": "bytes", "vocab_size": 300},
    "cache": {"path": "states", "codec": "bf16", "rows_per_shard": 16},
}
HIDDEN = {"term": "hidden", "target": "teacher", "alignment": "step_ends", "layers": "middle_final"}


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    file = tmp_path / "mine.yaml"
    terms = [{"term": "ce"}, {**HIDDEN, "projector": {"kind": "linear"}}]
    write_yaml(file, {"extends": "quickstart", "teacher": TEACHER, "objective": terms})
    return str(file)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    found = main(["teacher", *arguments])
    captured = capsys.readouterr()
    assert found == code, captured.err + captured.out
    return captured.out if code == 0 else captured.err + captured.out


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


def test_the_life_of_a_cache(capsys: pytest.CaptureFixture[str], tmp_path: Path, recipe: str) -> None:
    states = tmp_path / "states"
    forecast = said(capsys, "extract", recipe, "--smoke", "--output", str(states), "--dry-run")
    assert "to extract  64 rows in 4 shards" in forecast and not states.exists()

    out = said(capsys, "extract", recipe, "--smoke", "--output", str(states))
    assert "layers -1, 2; positions step_ends; bf16" in out, (
        "middle and last of three blocks, as the term says"
    )
    assert "made        4 shards" in out and f"cache       {states}: 64 rows" in out
    whole = bytes_of(states)
    assert set(whole) == {
        "recipe.yaml",
        "extraction.json",
        "manifest.json",
        *(f"shard-{n:05d}.safetensors" for n in range(4)),
    }
    assert "whole, every byte as it was written" in said(capsys, "verify", str(states))
    assert "nothing to mend" in said(capsys, "mend", str(states))

    (states / "shard-00003.safetensors").unlink()
    damaged = bytearray(whole["shard-00001.safetensors"])
    damaged[-100] ^= 1
    (states / "shard-00001.safetensors").write_bytes(damaged)
    (states / "shard-00009.safetensors").write_bytes(whole["shard-00000.safetensors"])
    problems = said(capsys, "verify", str(states), code=1)
    assert "shard-00003.safetensors: is missing" in problems
    assert "shard-00001.safetensors: the states of" in problems
    assert "shard-00009.safetensors: is not in the manifest" in problems
    assert f"latentthought teacher mend {states}" in problems
    assert "made        2 shards" in said(capsys, "mend", str(states))
    assert bytes_of(states) == whole

    (states / "manifest.json").write_bytes(whole["manifest.json"][:-9])
    assert "does not match its checksum" in said(capsys, "verify", str(states), code=1)
    assert "made        0 shards" in said(capsys, "mend", str(states))
    assert bytes_of(states) == whole

    parquet, again = tmp_path / "states.parquet", tmp_path / "again"
    assert "64 rows" in said(capsys, "export", str(states), "--output", str(parquet))
    said(capsys, "import", str(parquet), "--output", str(again))
    copied = bytes_of(again)
    assert {name: copied[name] for name in copied if name != "manifest.json"} == {
        name: whole[name] for name in whole if name.startswith("shard")
    }
    assert "exists already" in said(capsys, "export", str(states), "--output", str(parquet), code=2)
    assert "not empty" in said(capsys, "import", str(parquet), "--output", str(again), code=2)


def test_a_resume_is_of_the_same_thing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, recipe: str
) -> None:
    states = tmp_path / "states"
    extract = ("extract", recipe, "--smoke", "--output", str(states))
    said(capsys, *extract)
    assert "--resume" in said(capsys, *extract, code=2)
    assert "made        0 shards" in said(capsys, *extract, "--resume")
    changed = said(capsys, *extract, "--resume", "teacher.cache.codec=fp8", code=2)
    assert "teacher.cache.codec ('bf16' -> 'fp8')" in changed
    rows = said(capsys, *extract, "--resume", "seed=5", code=2)
    assert "seed (" in rows and "-> 5)" in rows
    assert "no folder" in said(
        capsys, "extract", recipe, "--smoke", "--output", str(tmp_path / "x"), "--resume", code=2
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what to do: extract, verify"),
        (("extarct",), "did you mean extract?"),
        (("extract", "quickstart", "--smoke", "--output", "x"), "teacher.cache says what is kept"),
        (("extract", "quickstart"), "--output DIR, or teacher.cache.path"),
        (("extract", "quikstart", "--smoke"), "Did you mean quickstart"),
        (("extract", "quickstart", "smoke"), "unexpected argument 'smoke'"),
        (("verify", "nowhere"), "no such folder"),
        (("mend", "nowhere"), "no such folder"),
        (("export", "nowhere", "--output", "x.parquet"), "no such folder"),
        (("import", "nowhere.parquet", "--output", "x"), "no such file"),
    ],
)
def test_mistakes_are_one_message(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    message = said(capsys, *arguments, code=2)
    assert words in message and "Traceback" not in message
    assert list(tmp_path.iterdir()) == [], "and nothing is left behind"


def test_a_full_disk_is_said_before_the_start(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentthought.distillation import forecast

    class Usage:
        free = 1000

    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda place: Usage)
    states = tmp_path / "states"
    message = said(capsys, "extract", recipe, "--smoke", "--output", str(states), code=2)
    assert (
        f"teacher.cache.path {states}: about" in message and "free; name a folder on another disk" in message
    )
    assert not states.exists()


def test_help_is_told_of_every_action(capsys: pytest.CaptureFixture[str]) -> None:
    from latentthought.cli.teacher import ACTIONS

    for action in ("", *ACTIONS):
        with pytest.raises(SystemExit) as ended:
            main(["teacher", *([action] if action else []), "--help"])
        assert ended.value.code == 0
        assert f"usage: latentthought teacher {action}".rstrip() in capsys.readouterr().out


def test_the_smoke_run_of_a_later_phase_makes_the_earlier_ones(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, recipe: str
) -> None:
    values = read_yaml(recipe)
    first = tmp_path / "first.yaml"
    write_yaml(first, {"extends": "quickstart"})
    changed = {**values["teacher"], "recipe": str(first), "model": "runs/teacher"}
    write_yaml(
        recipe, {**values, "teacher": {k: v for k, v in changed.items() if k not in ("scratch", "tokenizer")}}
    )
    out = said(capsys, "extract", recipe, "--smoke", "--output", str(tmp_path / "states"))
    assert f"a smoke run of {first}, made first" in out
    assert (tmp_path / "states-teacher" / "model" / "config.json").is_file()
    manifest = json.loads((tmp_path / "states" / "manifest.json").read_text())
    assert manifest["spec"]["teacher"]["name"] == str(tmp_path / "states-teacher")
    assert "whole" in said(capsys, "verify", str(tmp_path / "states"))


@pytest.mark.slow
def test_two_real_processes_write_the_bytes_of_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, recipe: str
) -> None:
    alone, two = tmp_path / "alone", tmp_path / "two"
    said(capsys, "extract", recipe, "--smoke", "--output", str(alone))
    command = ["teacher", "extract", recipe, "--smoke", "--output", str(two)]
    said_by_both = run_ranks(2, "latentthought", command, tmp_path / "said")
    assert said_by_both.count("made        4 shards") == 1, "one process speaks"
    assert bytes_of(two) == bytes_of(alone)


def test_a_dry_run_of_a_smoke_run_makes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    assert main(["train", "logic-distill", "--smoke", "--dry-run"]) == 0
    assert "would be made first" in capsys.readouterr().out
    assert set(tmp_path.iterdir()) == before
