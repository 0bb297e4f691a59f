"""Aligned lines and systems as lists of statements; matrices and piecewise functions stay what they are."""

from __future__ import annotations

import time

import pytest

from latentthought.grading import grade
from latentthought.grading.normalization.environments import joined_lines


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"\begin{aligned} x &= 2 \\ y &= 3 \end{aligned}", "x = 2, y = 3"),
        (r"\begin{align*} x &= 2+3 \\[2pt] &= 5 \end{align*}", "x = 2+3 = 5"),
        (r"\begin{cases} x=2 \\ y=3 \end{cases}", "x=2, y=3"),
        (r"\left\{\begin{array}{l} x=2 \\ y=3 \end{array}\right.", "x=2, y=3"),
        (r"a \begin{aligned} x &= 2 \end{aligned} b", "a x = 2 b"),
    ],
)
def test_lines(text: str, plain: str) -> None:
    assert joined_lines(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        r"\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}",
        r"\begin{cases} x & x > 0 \\ -x & x \le 0 \end{cases}",
        r"\begin{aligned} x = 2",
        "x = 2",
    ],
)
def test_left_alone(text: str) -> None:
    assert joined_lines(text) == text


def test_a_system_is_a_point() -> None:
    system = r"\boxed{\begin{aligned} x &= 2 \\ y &= 3 \end{aligned}}"
    assert grade(system, "(2,3)").correct
    assert grade(system, "(3,2)").status == "wrong"


def test_linear() -> None:
    begun = time.perf_counter()
    for mark in (r"\begin{aligned}", r"\begin{x}", r"\begin{", r"\begin{cases} a \\ \end{cases}"):
        joined_lines(mark * (1_000_000 // len(mark)))
    assert time.perf_counter() - begun < 5
