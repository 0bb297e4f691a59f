"""Trees made from trees."""

from __future__ import annotations

from fractions import Fraction

import pytest

from latentthought.grading import algebra
from latentthought.grading.equivalence.rewriting import shape, sign_choices, substitute
from latentthought.grading.expression.parser import parse
from latentthought.grading.expression.tree import Collection, Literal, Matrix, symbols, walk


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (r"\pm 4", [4, -4]),
        (r"3 \pm 1", [4, 2]),
        (r"\frac{1 \pm 3}{2}", [2, -1]),
        (r"\pm 1 \pm 10", [11, -9, 9, -11]),
        (r"10 \pm 1 \cdot (3 \pm 2)", [15, 11, 5, 9]),
        ("7", [7]),
    ],
)
def test_signs_are_written_out(text: str, values: list[int]) -> None:
    found = [algebra.value(node) for node in sign_choices(parse(text))]
    assert sorted(found) == sorted(values)


def test_too_many_signs_stay() -> None:
    node = parse(r"\pm 1 \pm 2 \pm 3 \pm 4 \pm 5")
    assert sign_choices(node) == (node,)


def test_substitution_evaluates_to_the_same() -> None:
    node = parse(r"\frac{x^2 + y}{x - 1}")
    replaced = substitute(node, "x", Literal(Fraction(3)))
    assert symbols(replaced) == {"y"}
    assert algebra.evaluate_at(replaced, {"y": 5}) == algebra.evaluate_at(node, {"x": 3, "y": 5}) == 7
    assert substitute(node, "z", Literal(Fraction(3))) is node


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        (r"\frac12 \begin{pmatrix} 2 \\ 4 \end{pmatrix}", [1, 2]),
        (r"-\begin{pmatrix} 2 & 4 \end{pmatrix}", [-2, -4]),
        (r"3 \cdot 2 \begin{pmatrix} 1 \\ 2 \end{pmatrix}", [6, 12]),
    ],
)
def test_a_factor_goes_into_the_cells(text: str, cells: list[int]) -> None:
    found = shape(parse(text))
    assert isinstance(found, Matrix)
    assert [algebra.value(cell) for cell in found.children] == cells


@pytest.mark.parametrize("text", ["(5)", "[5]", "{5}", "((5))"])
def test_brackets_around_one_thing_go(text: str) -> None:
    assert shape(parse(text)) == Literal(Fraction(5))


def test_a_sign_in_a_point_makes_points() -> None:
    found = shape(parse(r"(\pm 1, 0)"))
    assert isinstance(found, Collection) and found.opening == "{"
    assert [[algebra.value(x) for x in point.children] for point in found.items] == [[1, 0], [-1, 0]]
    assert not any(type(part).__name__ == "PlusMinus" for part in walk(found))
