"""Every source on the real files: row counts, steps and answers as the data folder's own notes state them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latentthought.data.example import DATA_FOLDER, ExampleSet
from latentthought.data.sources import SOURCES, SourceConfig, load_examples
from latentthought.data.sources.sentences import last_boxed

# source, split: rows, rows without steps
COUNTS = {
    ("gsm8k", "train"): (7473, 0),
    ("gsm8k", "test"): (1319, 0),
    ("gsm8k-aug", "train"): (7500, 0),
    ("gsm8k-aug", "validation"): (500, 6),
    ("gsm8k-aug", "test"): (1319, 18),
    ("math", "train"): (7498, 0),
    ("math", "test"): (5000, 0),
    ("math500", "test"): (500, 0),
    ("aqua", "validation"): (254, 0),
    ("aqua", "test"): (254, 0),
    ("mathqa", "validation"): (4475, 0),
    ("mathqa", "test"): (2985, 0),
    ("prosqa", "validation"): (300, 0),
    ("prosqa", "test"): (500, 0),
    ("prontoqa", "validation"): (200, 0),
    ("knights-knaves", "train"): (4500, 0),
    ("knights-knaves", "test"): (500, 0),
    ("zebra", "train"): (800, 800),
    ("zebra", "test"): (200, 200),
    ("r1-traces", "train"): (144, 0),
}


def real(name: str, split: str, **settings: object) -> ExampleSet:
    return load_examples(SourceConfig.parse({"source": name, "split": split, **settings}))


@pytest.mark.parametrize(("name", "split"), COUNTS, ids=["-".join(key) for key in COUNTS])
def test_counts(name: str, split: str, data_folder: Path) -> None:
    candidates = SOURCES[name].local_files[split]
    if not any((data_folder / file).is_file() for file in candidates):
        pytest.skip(f"{DATA_FOLDER} has none of {', '.join(candidates)}")
    rows = real(name, split)
    assert (len(rows), sum(not row.steps for row in rows)) == COUNTS[name, split]
    assert len({row.id for row in rows}) == len(rows)


def test_math_counts_its_empty_boxes(data_folder: Path) -> None:
    assert real("math", "train").skip_counts == {"the box of the solution is empty": 2}


def test_math_boxes_read_as_the_reference_answers(data_folder: Path) -> None:
    for row in [*real("math500", "test"), *real("math", "test")]:
        assert last_boxed(row.solution or "") == row.answer


def test_sentences_lose_no_character(data_folder: Path) -> None:
    for row in real("math500", "test"):
        assert "".join("".join(row.steps).split()) == "".join((row.solution or "").split())


def test_gsm8k_answers_are_numbers_and_marks_are_gone(data_folder: Path) -> None:
    for row in real("gsm8k", "train"):
        assert float(row.answer) == float(row.answer)
        assert not any("<<" in step for step in row.steps)


def test_steps_only_files_agree_with_gsm8k(data_folder: Path) -> None:
    answers = {row.question: row.answer for row in real("gsm8k", "test")}
    steps_only = real("gsm8k-aug", "test")
    assert {row.question for row in steps_only} == set(answers)
    assert all(float(row.answer) == float(answers[row.question]) for row in steps_only)


def test_empty_steps_can_be_left_out(data_folder: Path) -> None:
    rows = real("gsm8k-aug", "validation", min_steps=1)
    assert len(rows) == 494
    assert rows.skip_counts == {"fewer than 1 steps": 6}


@pytest.mark.parametrize(("name", "split"), [("aqua", "test"), ("aqua", "validation"), ("mathqa", "test")])
def test_every_choice_is_told_apart(name: str, split: str, data_folder: Path) -> None:
    assert all(len(row.meta["choices"]) == 5 and row.answer in "ABCDE" for row in real(name, split))


def test_traces_are_finished_and_mostly_correct(data_folder: Path) -> None:
    rows = real("r1-traces", "train")
    assert rows.skip_counts == {"the trace is not finished (no response)": 9}
    assert sum(row.meta["correct"] for row in rows) == len(
        real("r1-traces", "train", options={"keep": "correct"})
    )
    # the mark is looser than equality of text
    assert all(row.meta["correct"] for row in rows if row.meta["trace_answer"] == row.answer)


def test_zebra_grids_and_clues(data_folder: Path) -> None:
    for row in real("zebra", "test"):
        houses, features = map(int, row.meta["level"].split("x"))
        grid = json.loads(row.answer)
        assert len(grid) == houses
        assert all(len(house) == features for house in grid.values())
        assert len(row.meta["clues"]) >= 1


def test_knights_have_as_many_people_as_the_level_says(data_folder: Path) -> None:
    rows = real("knights-knaves", "test")
    assert all(len(row.meta["solution"]) == int(row.meta["level"]) for row in rows)
    assert {row.meta["level"] for row in rows} == set("34567")
