"""Task files: all of them load, run on made-up rows, and bad ones say what is wrong."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from latentthought.data.encoding import FormatConfig
from latentthought.errors import ConfigError, NotFoundError
from latentthought.evaluation import TaskConfig, load_task
from latentthought.evaluation.judging import judge
from latentthought.evaluation.puzzles import read_statements
from latentthought.evaluation.tasks import load_data
from latentthought.resources import list_tasks

NAMES = ["aqua", "gsm8k", "hops", "knights", "math", "math500", "prontoqa", "prosqa", "zebra"]


def test_the_tasks_are_there() -> None:
    assert set(NAMES) <= set(list_tasks())


@pytest.mark.parametrize("name", list_tasks())
def test_golds_are_right(name: str) -> None:
    """Every task's made-up rows load, and a gold in the trained form is judged correct."""
    task = load_task(name)
    assert (task.name, bool(task.description)) == (name, True)
    assert TaskConfig.parse(task.dump()) == task
    for example in load_data(task, smoke=True, limit=20):
        for form in (FormatConfig().answer, "{answer}"):
            judgement = judge(form.format(answer=example.answer), example, task)
            assert judgement.verdict.correct, (example.answer, judgement)
            assert all(value == 1.0 for value in judgement.scores.values())
        assert judge("", example, task).verdict.status == "ungradable"


@pytest.mark.parametrize("name", NAMES)
def test_golds_of_the_real_rows(name: str, data_folder: Path) -> None:
    task = load_task(name)
    for example in load_data(task):
        assert judge(f"some words\n### {example.answer}", example, task).verdict.correct, example.answer


def test_unknown_names() -> None:
    with pytest.raises(NotFoundError, match="gsm8k"):
        load_task("gsm8")
    with pytest.raises(ConfigError, match=r"(?s)metrix: unknown key.*metrics"):
        TaskConfig.parse({"name": "a", "version": 1, "data": {"source": "gsm8k"}, "metrix": ["accuracy"]})
    with pytest.raises(ConfigError, match="prescision"):
        TaskConfig.parse(
            {"name": "a", "version": 1, "data": {"source": "gsm8k"}, "policy": {"prescision": 3}}
        )
    with pytest.raises(ConfigError, match="does not measure consistency"):
        TaskConfig.parse(
            {
                "name": "a",
                "version": 1,
                "data": {"source": "zebra"},
                "judge": "zebra",
                "metrics": ["consistency"],
            }
        )


def test_prompt_format_is_the_trained_one() -> None:
    task = load_task("gsm8k")

    class Model:
        class config:
            prompt_format = FormatConfig(prompt="Q: {question}\n").dump()

    assert task.format_for(Model()).prompt == "Q: {question}\n"
    assert task.format_for(object()) == task.default_format
    assert (
        task.replace(format=FormatConfig(prompt="{question}!").dump()).format_for(Model()).prompt
        == "{question}!"
    )


def test_knights_partly_right() -> None:
    task = load_task("knights")
    example = load_data(task, smoke=True, limit=1)[0]
    people = dict(example.meta["solution"])
    first = next(iter(people))
    flipped = {**people, first: "knave" if people[first] == "knight" else "knight"}
    judgement = judge(
        "### " + ", ".join(f"{name} is a {kind}" for name, kind in flipped.items()), example, task
    )
    assert judgement.verdict.status == "wrong"
    assert judgement.scores["cell_accuracy"] == pytest.approx(1 - 1 / len(people))
    assert judgement.scores["consistency"] == 0.0
    listed = "\n".join(f"({i}) {name} is a {kind}" for i, (name, kind) in enumerate(people.items(), 1))
    assert judge(f"<think>{first} is a pirate</think>\n{listed}", example, task).verdict.correct


def test_statements_have_one_solution(data_folder: Path) -> None:
    """The statements that are read from the real puzzles have exactly the given solution."""
    task = load_task("knights")
    for example in load_data(task, limit=150):
        solution = {name: kind == "knight" for name, kind in example.meta["solution"].items()}
        statements = read_statements(example.question, tuple(solution))
        assert statements is not None
        worlds = [
            dict(zip(solution, kinds, strict=True))
            for kinds in itertools.product((True, False), repeat=len(solution))
        ]
        assert [world for world in worlds if all(said.holds(world) for said in statements)] == [solution]


def test_zebra_cells() -> None:
    task = load_task("zebra")
    example = load_data(task, smoke=True, limit=1)[0]
    header, rows = example.meta["solution"]["header"], example.meta["solution"]["rows"]
    cell = rows[0][1]
    wrong = example.answer.replace(f'"{cell}"', '"Nobody"')
    judgement = judge(f"Here it is:\n```json\n{wrong}\n```", example, task)
    assert judgement.verdict.status == "wrong"
    assert judgement.scores["cell_accuracy"] == pytest.approx(1 - 1 / (len(rows) * (len(header) - 1)))
    assert judge("{" * 100_000, example, task).verdict.status == "ungradable"
    assert judge('{"House 1": {"Name": ' + '{"a":' * 3000, example, task).verdict.status == "ungradable"
