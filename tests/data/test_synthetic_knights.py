"""Knights and knaves: one solution by brute force, deductions in order, and splits that share no puzzle."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Mapping
from itertools import islice

import pytest

from latentthought.data.example import SPLITS, Example
from latentthought.data.sources import SourceConfig, load_examples
from latentthought.data.synthetic.knights import NAMES, KnightsOptions, generate
from latentthought.errors import ConfigError
from latentthought.evaluation import load_task
from latentthought.evaluation.judging import judge
from latentthought.evaluation.puzzles import read_statements


def claims(question: str) -> list[tuple[str | None, str, bool]]:
    """(speaker or None for the narrator, of whom, said to be a knight), by an own reading of the text."""
    sentences = [sentence.removesuffix(".").split() for sentence in question.split(". ")]
    return [
        (words[0] if words[1] == "says" else None, words[-4], words[-1] == "knight") for words in sentences
    ]


def worlds(question: str, names: tuple[str, ...]) -> list[dict[str, str]]:
    """Every assignment in which knights' claims are true and knaves' are false, by trying all of them."""
    said = claims(question)
    found = []
    for kinds in itertools.product((True, False), repeat=len(names)):
        knights = dict(zip(names, kinds, strict=True))
        if all(
            (knights[of] == knight) == (speaker is None or knights[speaker]) for speaker, of, knight in said
        ):
            found.append({name: "knight" if knight else "knave" for name, knight in knights.items()})
    return found


@pytest.mark.parametrize("people", [3, 5, 8])
def test_exactly_one_world_fits(people: int) -> None:
    names = NAMES[:people]
    for example in generate(KnightsOptions(people=people), "train", 40, 0):
        assert worlds(example.question, names) == [example.meta["solution"]]
        assert example.answer == ", ".join(
            f"{name} is a {kind}" for name, kind in sorted(example.meta["solution"].items())
        )
        assert example.meta["level"] == str(people)


@pytest.mark.parametrize("people", [3, 5, 8])
def test_steps_are_deduced_one_after_the_other(people: int) -> None:
    for example in generate(KnightsOptions(people=people), "train", 40, 0):
        said = claims(example.question)
        (known, knight) = next((of, knight) for speaker, of, knight in said if speaker is None)
        deduced = []
        for _ in range(people - 1):
            known, seems = next((of, seems) for speaker, of, seems in said if speaker == known)
            knight = seems == knight
            said_of, is_one = ("knight" if one else "knave" for one in (seems, knight))
            deduced.append(f"{known} {said_of} {is_one}")
        assert example.steps == tuple(deduced)


def puzzle(example: Example) -> frozenset[str]:
    return frozenset(re.split(r"(?<=\.) ", example.question))


def test_splits_share_no_puzzle_even_where_all_puzzles_are_drawn() -> None:
    drawn = {
        split: {puzzle(example) for example in generate(KnightsOptions(people=3), split, 2000, seed)}
        for seed, split in enumerate(SPLITS)
    }
    assert sum(len(puzzles) for puzzles in drawn.values()) == 48  # 3! chains of 2^3 kinds, each in one split
    assert len(frozenset.union(*map(frozenset, drawn.values()))) == 48
    assert all(drawn.values())


def test_stream_is_the_seed_and_nothing_else() -> None:
    options = KnightsOptions()
    assert list(generate(options, "train", 5, 3)) == list(islice(generate(options, "train", None, 3), 5))
    assert list(generate(options, "train", 5, 3)) != list(generate(options, "train", 5, 4))


def test_nothing_is_told_by_a_place() -> None:
    """Statements, speakers and kinds are even over their places, so the chain has to be followed."""
    rows = list(generate(KnightsOptions(), "train", 4000, 0))
    first = [example.question.split()[0] for example in rows]
    assert all(650 < first.count(name) < 950 for name in NAMES[:5])
    for name in NAMES[:5]:
        assert 1850 < sum(example.meta["solution"][name] == "knight" for example in rows) < 2150
    told = [claims(example.question)[-1][1] for example in rows]  # the first of the chain
    begins = [name == claims(row.question)[0][0] for name, row in zip(told, rows, strict=True)]
    assert 850 < sum(begins) < 1150  # the statement that follows from it stands first in one of four


def test_source_sizes_and_limit() -> None:
    config = SourceConfig(source="knights-generated", split="test", options={"test_rows": 30, "people": 4})
    rows = load_examples(config, seed=7)
    assert len(rows) == 30
    assert len(load_examples(config.replace(limit=10), seed=7)) == 10
    assert {row.meta["level"] for row in rows} == {"4"}


def test_options_that_do_not_hold() -> None:
    for people in (2, 9):
        with pytest.raises(ConfigError, match="people"):
            KnightsOptions.parse({"people": people})


@pytest.mark.parametrize("task", ["knights", "knights-generated"])
@pytest.mark.parametrize("people", [3, 5, 8])
def test_metrics_of_a_wrong_answer(task: str, people: int) -> None:
    """Every statement is read back, so that every world but the right one is inconsistent, checked without the gold."""
    config = SourceConfig(source="knights-generated", split="validation", options={"people": people})
    for example in load_examples(config.replace(limit=3)):
        solution: Mapping[str, str] = example.meta["solution"]
        statements = read_statements(example.question, tuple(solution))
        assert statements is not None
        assert len(statements) == people
        for kinds in itertools.product(("knight", "knave"), repeat=people):
            answer = ", ".join(f"{name} is a {kind}" for name, kind in zip(solution, kinds, strict=True))
            found = judge(f"Bob knave knave Cy knight knave = {answer}", example, load_task(task))
            right = sum(solution[name] == kind for name, kind in zip(solution, kinds, strict=True))
            assert found.scores["cell_accuracy"] == pytest.approx(right / people)
            assert found.verdict.correct == (right == people) == bool(found.scores["consistency"])


def test_fifty_thousand_rows_take_seconds() -> None:
    start = time.process_time()
    assert sum(1 for _ in generate(KnightsOptions(), "train", 10_000, 0)) == 10_000
    assert time.process_time() - start < 4  # measured: 0.25 s
