"""The benchmark of the grader runs, counts right, and survives a rival that hangs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import answers, rival_grader
from benchmarks.findings import Table
from benchmarks.grading import Tally, labelled_cases
from benchmarks.hostile import HOSTILE


def test_quick_run(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LATENTTHOUGHT_DATA", raising=False)
    monkeypatch.setattr(rival_grader, "installed", lambda: False)
    file, accepted = tmp_path / "results.json", tmp_path / "accepted.txt"
    options = [
        "--quick",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--output",
        str(file),
        "--accepted",
        str(accepted),
    ]
    assert command.main(["grading", *options]) == 0
    printed = capsys.readouterr().out
    assert "`python -m benchmarks grading --quick --rounds 1 --threads 1`" in printed
    assert "math-verify: not installed" in printed
    assert str(tmp_path) not in printed
    (results,) = json.loads(file.read_text())["benchmarks"]
    data = results["data"]
    assert data["not_themselves"] == []
    assert data["agreement"]["grade"]["all"]["cases"] == len(labelled_cases()[::20])
    assert len(accepted.read_text().splitlines()) == len(data["accepted"])
    assert data["hostile_verdicts"] == 2 * 3 * len(list(HOSTILE)[::8])
    assert {target["side"] for target in results["targets"]} == {"grade", "GradingPool"}


def test_labelled_cases_can_be_read() -> None:
    for case in labelled_cases():
        assert case["label"] in ("correct", "wrong", "ungradable"), case
        assert isinstance(case["prediction"], str) and isinstance(case["gold"], str), case


@pytest.mark.parametrize(
    ("label", "status", "three_way", "counted"),
    [
        ("correct", "correct", True, "agreed"),
        ("wrong", "correct", True, "false_accepts"),
        ("ungradable", "correct", False, "false_accepts"),
        ("correct", "wrong", True, "misses"),
        ("correct", "hangs", False, "misses"),
        ("ungradable", "wrong", True, "others"),
        ("ungradable", "wrong", False, "agreed"),
        ("wrong", "error", False, "agreed"),
    ],
)
def test_tally(label: str, status: str, three_way: bool, counted: str) -> None:
    tally = Tally()
    tally.add({"label": label, "prediction": "1", "gold": "2"}, status, three_way)
    counts = {name: getattr(tally, name) for name in ("agreed", "false_accepts", "misses", "others")}
    assert counts == dict.fromkeys(counts, 0) | {counted: 1}
    assert tally.negatives == (label != "correct")
    assert tally.failures == (status in ("hangs", "error"))


def test_a_rival_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rival_grader, "LIMIT", 0.3)

    def sleeping(self: rival_grader.Rival) -> subprocess.Popen:
        return subprocess.Popen(["sleep", "100"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(rival_grader.Rival, "_start", sleeping)
    rival = rival_grader.Rival()
    status, seconds = rival.judge("1", "2")
    assert status == "hangs" and seconds >= 0.3
    assert rival.process is None


def test_the_rival_as_it_ships() -> None:
    pytest.importorskip("math_verify")
    rival = rival_grader.Rival()
    assert rival.judge("$1/2$", "0.5")[0] == "correct"
    assert rival.judge("3", "4")[0] == "wrong"
    rival.close()


def test_rows() -> None:
    gsm8k = [answers.Answer(str(n), f"#### {n}", "gsm8k") for n in range(100)]
    mixed = [answers.Answer(str(n), "", f"subject {n % 2}") for n in range(50)]
    pairs = answers.pairs(gsm8k, seed=0)
    assert len(pairs) == 100
    assert sum(gold in prediction for prediction, gold in pairs) >= 50
    for a, b in answers.strangers(mixed, 200, seed=0):
        assert a != b and int(a) % 2 == int(b) % 2
    assert "1,234" in answers.dressed("1234") and r"\dfrac{1}{2}" in answers.dressed(r"\frac{1}{2}")


def test_a_table_is_escaped() -> None:
    lines = str(Table("t", ("a", "b"), [["|x|", "1\n2"]])).splitlines()
    assert lines[-1] == r"| \|x\| | 1 2 |"
    assert lines[3] == "| --- | ---: |"
