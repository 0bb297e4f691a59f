"""Consistency: what follows from the clues, checked by program and without the gold."""

from __future__ import annotations

import pytest

from latentthought.data.example import Example
from latentthought.evaluation.judging import judge
from latentthought.evaluation.tasks import load_data, load_task

GRAPH = Example(
    "g",
    "Every gerpus is a terpus. Every terpus is a zhorpus. Tom is a gerpus. Tom is a impus. Sam is a yumpus. Every yumpus is a "
    "hilpus. Is Tom a zhorpus or hilpus?",
    (),
    "Tom is a zhorpus.",
    meta={"individual": "Tom", "choices": ("zhorpus", "hilpus"), "target": "zhorpus"},
)
# a -> c -> b -> d -> a
CHAIN = Example("h", "c b d a b d a c ? c", ("b", "d"), "d", meta={"start": "c"})


@pytest.mark.parametrize(
    ("completion", "status", "consistent"),
    [
        ("### Tom is a zhorpus.", "correct", 1.0),
        ("Tom is a gerpus.\nEvery gerpus is a terpus.\n### Tom is a zhorpus.", "correct", 1.0),
        ("Tom is a yumpus.\n### Tom is a zhorpus.", "correct", 0.0),  # right, by a step that nobody said
        ("### Tom is a hilpus.", "wrong", 0.0),
        ("### Tom is a terpus.", "wrong", 1.0),  # true, and not what was asked
        ("### Tom is a wumpus.", "wrong", 0.0),
        ("", "ungradable", 0.0),
        (
            "<think>Sam is a gerpus.</think>### Tom is a zhorpus.",
            "correct",
            1.0,
        ),  # what was thought aloud is not claimed
    ],
)
def test_graphs(completion: str, status: str, consistent: float) -> None:
    verdict, scores = judge(completion, GRAPH, load_task("prosqa"))
    assert (verdict.status, scores) == (status, {"consistency": consistent})


@pytest.mark.parametrize(
    ("completion", "status", "consistent"),
    [
        ("### d", "correct", 1.0),
        ("b\nd\n### d", "correct", 1.0),
        ("d\n### d", "correct", 1.0),  # the first step was a thought
        ("b\na\n### d", "correct", 0.0),  # right, by a link that is not in the table
        ("### b", "wrong", 0.0),
        ("", "ungradable", 0.0),
    ],
)
def test_chains(completion: str, status: str, consistent: float) -> None:
    verdict, scores = judge(completion, CHAIN, load_task("hops"))
    assert (verdict.status, scores) == (status, {"consistency": consistent})


@pytest.mark.parametrize("name", ["prosqa", "hops"])
def test_gold_reasoning_is_consistent_and_other_answers_are_not(name: str) -> None:
    task = load_task(name)
    for example in load_data(task, smoke=True, limit=40):
        written = "\n".join(example.steps)
        assert judge(f"{written}\n### {example.answer}", example, task).scores == {"consistency": 1.0}
        wrong = next(
            choice for choice in example.meta["choices"] if choice not in example.answer.rstrip(".").split()
        )
        answer = f"{example.meta['individual']} is a {wrong}." if name == "prosqa" else wrong
        assert judge(f"### {answer}", example, task).scores == {"consistency": 0.0}, (example, answer)


def test_gold_reasoning_of_the_real_rows(data_folder: object) -> None:
    task = load_task("prosqa")
    for example in load_data(task):
        written = "\n".join(example.steps)
        assert judge(f"{written}\n### {example.answer}", example, task).scores == {"consistency": 1.0}


def test_a_row_without_steps_does_not_say_how_many_links() -> None:
    bare = Example("h", CHAIN.question, (), "d", meta=CHAIN.meta)
    assert judge("### d", bare, load_task("hops")).scores == {}
