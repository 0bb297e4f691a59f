"""A stand-in for the processes of a sweep, so that what a sweep does with them is tested in seconds."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.judged import answered, result

QUESTIONS = 20
PROGRAM = (sys.executable, str(Path(__file__).with_name("fake.py")))


class Fake:
    """What the stand-in is told to do, and what it was asked."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.plan(right={})

    def plan(self, right: dict[str, int] | None = None, **told: Any) -> None:
        """Set the plan; `right` stays as it was unless given."""
        path = self.home / "plan.json"
        if right is None:
            right = json.loads(path.read_text())["right"]
        path.write_text(json.dumps({"right": right, **told}))
        for count in set(right.values()):
            folder = self.home / "templates" / str(count)
            if folder.is_dir():
                continue
            folder.mkdir(parents=True)
            samples = answered(range(count), QUESTIONS, task="hops")
            result(samples, task="hops").save(folder)
            lines = [json.dumps(sample.to_row()) + "\n" for sample in samples]
            (folder / "samples.jsonl").write_text("".join(lines))

    def calls(self) -> list[str]:
        """What was called since the last time, in the order of the calls."""
        path = self.home / "calls.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    home = tmp_path / "fake"
    home.mkdir()
    monkeypatch.setenv("SWEEP_FAKE", str(home))
    monkeypatch.setattr("latentthought.sweeping.running.PROGRAM", PROGRAM)
    return Fake(home)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line; what it printed, on the error stream where it fails."""
    from latentthought.cli import main

    def run(arguments: list[str], code: int = 0) -> str:
        capsys.readouterr()
        found = main(arguments)
        captured = capsys.readouterr()
        assert found == code, captured.err or captured.out
        return captured.out + captured.err

    return run
