"""Hostile inputs: each gets a verdict in time, as prediction and as gold, from any thread and through the pool; none is run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.hostile import HOSTILE
from latentthought.grading import GradePolicy, Verdict, grade
from latentthought.grading.workers import mathverify
from latentthought.grading.workers.pool import GradingPool

LIMIT = 5.5  # seconds: the deadline and half a second
STATUSES = ("correct", "wrong", "ungradable")
SHORT = [name for name, text in HOSTILE.items() if len(text) < 10_000]
LONG = [name for name in HOSTILE if name not in SHORT]  # mostly a megabyte
POLICY = GradePolicy(symbolic="math-verify" if mathverify._installed() else "own")


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file that no input may create."""
    path = tmp_path_factory.mktemp("hostile") / "executed"
    yield path
    assert not path.exists()


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=2) as made:
        yield made


def pairs(text: str) -> list[tuple[str, str]]:
    """As prediction, as gold, in a sentence, against something almost the same, and against itself."""
    return [
        (text, "5"),
        ("5", text),
        (f"The answer is ${text}$.", "5"),
        (f"{text}+1", f"1+{text}"),
        (text, text),
    ]


def judged_in_time(judge: Callable[..., Verdict], text: str) -> list[str]:
    """The status of each of the pairs."""
    found = []
    for prediction, gold in pairs(text):
        begun = time.monotonic()
        verdict = judge(prediction, gold)
        assert time.monotonic() - begun < LIMIT, verdict
        assert verdict.status in STATUSES
        assert not verdict.reason.startswith("the grader failed"), verdict.reason
        found.append(verdict.status)
    assert found[-1] != "wrong"  # nothing differs from itself
    if "5" not in text:
        assert "correct" not in found[:3]
    return found


@pytest.mark.parametrize("name", [*SHORT, *(pytest.param(name, marks=pytest.mark.full) for name in LONG)])
def test_grade_in_a_thread(name: str, marker: Path) -> None:
    text = HOSTILE[name].replace("{marker}", str(marker))
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(judged_in_time(grade, text)))
    thread.start()
    thread.join()
    assert found  # no exception, no failed assertion


@pytest.mark.parametrize("name", LONG)
def test_a_megabyte_as_prediction(name: str) -> None:
    begun = time.monotonic()
    assert grade(HOSTILE[name], "a gold").status in ("wrong", "ungradable")
    assert time.monotonic() - begun < LIMIT


@pytest.mark.parametrize("name", SHORT)
def test_pool(name: str, marker: Path, pool: GradingPool) -> None:
    """With the second opinion where it is installed; what is longer than these is not put to it."""
    text = HOSTILE[name].replace("{marker}", str(marker))
    judged_in_time(lambda prediction, gold: pool.grade(prediction, gold, POLICY), text)


@pytest.mark.parametrize("names", [SHORT, pytest.param(LONG, marks=pytest.mark.full)], ids=["short", "long"])
def test_all_at_once_from_threads(names: list[str], pool: GradingPool, marker: Path) -> None:
    """Every input through one pool, from four threads, none of which is the main one, with easy pairs in between."""
    rows = [
        pair
        for name in names
        for pair in (*pairs(HOSTILE[name].replace("{marker}", str(marker)))[:2], ("7", "7"))
    ]
    found: dict[int, list[Verdict]] = {}
    threads = [
        threading.Thread(target=lambda part=part: found.update({part: pool.grade_many(rows[part::4])}))
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdicts: list[Verdict] = [None] * len(rows)  # type: ignore[list-item]
    for part, judged in found.items():
        verdicts[part::4] = judged
    assert all(verdict.correct for verdict in verdicts[2::3])
    assert all(verdict.status in STATUSES for verdict in verdicts)


def test_nothing_was_run(marker: Path) -> None:
    assert os.listdir(marker.parent) == []
