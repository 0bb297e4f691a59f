"""Overlap of test rows with training texts, against a search through the plain text."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from latentthought.data.example import Example
from latentthought.errors import ConfigError
from latentthought.evaluation.contamination import overlap
from tests.judged import answered


def test_runs_of_words_are_those_of_a_plain_search() -> None:
    """Random texts of few words, so that runs of 4 words meet by chance."""
    draw = random.Random(0)

    def text(least: int) -> str:
        return " ".join(draw.choice("abcdef") for _ in range(draw.randint(least, 30)))

    tests = [Example(f"t{i}", text(4), (), "1") for i in range(40)]
    training = [text(0) for _ in range(30)]
    found = overlap(tests, iter(training), words=4)
    expected = {}
    for test in tests:
        words = test.question.split()
        runs = {" ".join(words[i : i + 4]) for i in range(len(words) - 3)}
        seen = sum(any(f" {run} " in f" {other} " for other in training) for run in runs)
        if seen:
            expected[test.id] = round(seen / len(runs), 4)
    assert 0 < len(expected) < 40
    assert found.ids == expected
    assert (found.rows, found.texts, found.overlapping) == (40, 30, len(expected))
    assert found.copied == sum(share >= 0.7 for share in expected.values())
    assert list(found.ids.values()) == sorted(expected.values(), reverse=True)


def test_case_punctuation_and_width_do_not_hide_a_copy() -> None:
    question = "Natalia sold 48 clips in April, and then half as many in May: how many were sold?"
    copy = "NATALIA  sold ４８ clips — in April and then half as many in May; how many were sold"
    found = overlap([Example("a", question, (), "72"), Example("b", "x " * 20, (), "1")], [copy])
    assert found.ids == {"a": 1.0}
    assert (found.copied, found.share) == (1, 0.5)


def test_examples_are_searched_whole() -> None:
    words = " ".join(f"w{i}" for i in range(15))
    tests = [Example("a", words, (), "1")]
    assert overlap(tests, [Example("t", "no", (words,), "1")]).overlapping == 1
    assert overlap(tests, [Example("t", "no", (), "1", solution=words)]).overlapping == 1
    assert overlap(tests, [Example("t", words, (), "1")]).texts == 1


def test_a_short_question_needs_the_same_words() -> None:
    tests = [Example("a", "Compute 2 + 2.", (), "4"), Example("b", "?", (), "4")]
    assert overlap(tests, ["compute 2 2", "something else"]).ids == {"a": 1.0}
    assert overlap(tests, ["...", ""]).overlapping == 0, "no words are not the same words"
    assert overlap(tests, ["first compute 2 2 and then go on with it " * 3]).overlapping == 0


def test_accuracy_on_either_part() -> None:
    long = " ".join(f"w{i}" for i in range(15))
    tests = [Example(f"q{i}", f"{long} {i}" if i < 4 else f"v{i} " * 20, (), "7") for i in range(10)]
    found = overlap(tests, [long], samples=answered([0, 1, 2, 4], 10), name="mine")
    assert found.overlap is not None and found.clean is not None
    assert (found.overlap.value, found.overlap.n) == (0.75, 4)
    assert (found.clean.value, found.clean.n) == (pytest.approx(1 / 6), 6)
    assert found.training == "mine"


def test_nothing_to_look_for() -> None:
    found = overlap([], ["text"])
    assert (found.rows, found.share, found.clean) == (0, 0.0, None)
    assert overlap([Example("a", "q", (), "1")], []).texts == 0
    with pytest.raises(ConfigError, match="at least 2 words"):
        overlap([], [], words=1)


def test_training_texts_are_not_held() -> None:
    """Some 25 MB of training text pass through a process that may hold far less."""
    code = """
import resource
from latentthought.data.example import Example
from latentthought.evaluation.contamination import overlap
tests = [Example("a", " ".join(f"w{i}" for i in range(40)), (), "1")]
overlap(tests, [])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = overlap(tests, (" ".join(f"v{i}" for i in range(n, n + 1000)) for n in range(4000)))
assert found.texts == 4000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8_000, "KiB"
