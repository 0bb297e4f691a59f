"""Options named by letter, by text, or by both; and which letter of a completion is meant."""

from __future__ import annotations

import pytest

from latentthought.grading import GradePolicy, grade
from latentthought.grading.equivalence.choices import choice_index, letter, only_letter, without_letter

POLICY = GradePolicy(choices=("A)21", "B)21.5", "C)22 dollars", "D)none of these"))


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("C", 2),
        ("c", 2),
        ("(C)", 2),
        (r"\textbf{(C)}\ 22", 2),
        ("C) 22", 2),
        ("C. 22 dollars", 2),
        ("option C", 2),
        ("22 dollars", 2),
        ("none of these", 3),
        ("E", None),
        ("A and C", None),
        ("23", None),
        ("", None),
    ],
)
def test_index(text: str, index: int | None) -> None:
    assert choice_index(text, POLICY) == index


def test_letters() -> None:
    assert [letter(text) for text in ("(B)", "b)", "B. 25", "b", "Bob", "")] == [
        "B",
        "B",
        "B",
        None,
        None,
        None,
    ]
    assert [only_letter(text) for text in ("(B)", "B.", "b", "B. 25")] == ["B", "B", None, None]
    assert [without_letter(text) for text in ("(B) 25", "B)25", "25", "(B)")] == ["25", "25", "25", "(B)"]


@pytest.mark.parametrize(
    ("completion", "gold"),
    [
        ("We add and get 22.\nC", "C"),
        ("So the correct choice is **C**.", "C"),
        ("A total of 22 dollars remains. The answer is (C) 22 dollars.", "C"),
        ("Therefore, she has 22 dollars.", "C"),
        ("x = 43 / 2 = 21.5\nOption B", "B"),
        ("故选：C", "C"),
        ("Answer: C because 2 + 20 = 22", "C"),
    ],
)
def test_completions(completion: str, gold: str) -> None:
    for other in "ABCD":
        verdict = grade(completion, other, POLICY)
        assert verdict.correct == (other == gold), verdict


def test_a_letter_without_the_options() -> None:
    assert grade("The answer is (B) 25", "B").correct
    assert grade("A train leaves. It arrives after 5 hours, so B", "B").correct
    assert grade("The answer is (B) 25", "C").status == "wrong"
