"""Suites: several tasks together, and their macro average."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from latentthought.errors import ConfigError, NotFoundError
from latentthought.evaluation.statistics import Estimate, wilson
from latentthought.evaluation.suites import SuiteConfig, load_suite, macro_average
from latentthought.evaluation.tasks import load_data, load_task
from latentthought.resources import list_suites, list_tasks


@pytest.mark.parametrize("name", list_suites())
def test_shipped_suites_load(name: str) -> None:
    suite = load_suite(name)
    assert (suite.name, bool(suite.description)) == (name, True)
    for task in suite.load():
        assert len(load_data(task, smoke=True, limit=4)) == 4


def test_suites_are_no_tasks() -> None:
    assert not {"suites/logic", "logic"} & set(list_tasks())
    with pytest.raises(NotFoundError, match=r"unknown suite 'logik'\. Did you mean logic\?"):
        load_suite("logik")


def test_changes_of_a_member_and_overrides_of_all(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ntasks:\n  - gsm8k\n  - {task: hops, changes: {max_new_tokens: 9, data: {limit: 3}}}\n"
    )
    gsm8k, hops = load_suite(file).load(["few_shot.count=2", "data.start=1"])
    assert (gsm8k.few_shot.count, hops.few_shot.count) == (2, 2)
    assert gsm8k.data.start == 1
    assert (hops.max_new_tokens, hops.data.limit, hops.data.split) == (9, 3, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ntasks: [hops, hops]", "task 'hops' is given twice"),
        ("name: a\ntasks: [hps]", "Did you mean hops"),
        ("name: a\ntasks: []", "tasks: "),
        ("name: a\ntsks: [hops]", "tsks: unknown key; did you mean tasks?"),
        ("name: a\ntasks: [{task: hops, change: {}}]", "unknown key"),
        ("name: a\ntasks: [{task: hops, changes: {metric: [accuracy]}}]", "did you mean metrics?"),
    ],
)
def test_bad_suites(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises((ConfigError, NotFoundError)) as caught:
        load_suite(file).load()
    assert message in str(caught.value)


def test_macro_average_by_hand() -> None:
    """0.2 of 50 and 0.9 of 10: the mean counts the tasks the same, the half widths add in squares."""
    accuracies = {}
    for name, right, total in (("large", 10, 50), ("small", 9, 10)):
        low, high = wilson(right, total)
        accuracies[name] = Estimate(value=right / total, low=low, high=high, n=total)
    found = macro_average(accuracies)
    assert found.value == pytest.approx(0.55)
    assert found.n == 60
    below = math.sqrt((0.2 - accuracies["large"].low) ** 2 + (0.9 - accuracies["small"].low) ** 2) / 2
    assert found.low == pytest.approx(0.55 - below)
    one = macro_average({"small": accuracies["small"]})
    assert (one.low, one.high) == pytest.approx((accuracies["small"].low, accuracies["small"].high))


def test_macro_interval_covers(tmp_path: Path) -> None:
    """On simulated suites of three tasks the 95 % interval holds the true mean about as often as it says."""
    import random

    rng, truths, hits = random.Random(0), (0.1, 0.5, 0.85), 0
    for _ in range(400):
        tasks = {}
        for truth in truths:
            right = sum(rng.random() < truth for _ in range(60))
            low, high = wilson(right, 60)
            tasks[str(truth)] = Estimate(value=right / 60, low=low, high=high, n=60)
        found = macro_average(tasks)
        hits += found.low <= sum(truths) / 3 <= found.high
    assert 0.92 <= hits / 400 <= 0.985


def test_a_suite_is_made_of_names() -> None:
    suite = SuiteConfig.parse({"name": "tasks", "tasks": ["hops", "gsm8k"]})
    assert [task.name for task in suite.load()] == ["hops", "gsm8k"]
    assert load_task("hops") == suite.load()[0]
