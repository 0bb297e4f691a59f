"""Clocks that leap years ahead or go backwards: nothing crashes, no speed or time is negative, and what is learnt is the same."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.config import write_yaml
from latentthought.recipe import Recipe
from latentthought.training.progress import Lines
from latentthought.training.run import train
from tests.training.test_resume import assert_same_run

YEARS = 3e8


def leaping(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Every clock of the process leaps to and fro from one look to the next; how often it was looked at."""
    rng, looks = random.Random(0), itertools.count()

    def clock() -> float:
        next(looks)
        return YEARS + rng.choice([0.0, 1.0, -YEARS / 2, YEARS])

    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, clock)
    return lambda: next(looks)


def test_training(
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = make_recipe(training={"log_every": 1, "save_every": 5})
    train(recipe, tmp_path / "whole", progress=Lines())
    looked = leaping(monkeypatch)
    capsys.readouterr()
    result = train(recipe, tmp_path / "run", progress=Lines())
    assert looked() > 40
    assert result.seconds >= 0.0
    monkeypatch.undo()
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    speeds = [json.loads(line)["tokens_per_second"] for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert all(0.0 <= speed < 1e6 for speed in speeds) and len(speeds) == 18
    shown = capsys.readouterr().out
    assert "step 18/18" in shown
    assert not re.search(r"-\d*:\d\d left|:-", shown)


def test_evaluation_and_a_teachers_answers(
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = make_recipe(curriculum={"each": {"steps": 1}}).dump()
    write_yaml(tmp_path / "r.yaml", short)
    taught = {
        **short,
        "teacher": {"model": str(tmp_path / "run"), "responses": {"keep": "all", "max_new_tokens": 4}},
    }
    write_yaml(tmp_path / "taught.yaml", taught)
    assert main(["train", str(tmp_path / "r.yaml"), "--output", str(tmp_path / "run")]) == 0
    data = ["--task", "file", "--data", str(tmp_path / "rows.jsonl"), "--limit", "8", "--batch-size", "2"]
    commands = {
        "results/file": ["evaluate", str(tmp_path / "run"), *data, "--max-new-tokens", "4", "--output"],
        "results/responses": ["teacher", "respond", str(tmp_path / "taught.yaml"), "--output"],
    }
    for place, command in commands.items():
        capsys.readouterr()
        found = []
        for name in ("steady", "leaping"):
            if name == "leaping":
                looked = leaping(monkeypatch)
            output = tmp_path / f"{place.replace('/', '-')}-{name}"
            code = main([*command, str(output)])
            if name == "leaping":
                assert looked() > 1
            monkeypatch.undo()
            # a teacher that has learnt nothing gives no answer that could be kept, and its samples are there all the same
            assert code == (0 if place == "results/file" else 2), capsys.readouterr().err
            folder = output / place / "none"
            costs = json.loads((folder / "results.json").read_text())["costs"]
            assert all(0.0 <= value < math.inf for value in costs.values() if isinstance(value, int | float))
            rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
            assert all(0.0 <= row["milliseconds"] < math.inf for row in rows)
            found.append([{**row, "milliseconds": 0} for row in rows])
        assert found[0] == found[1]
