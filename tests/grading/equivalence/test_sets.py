"""Sets of real numbers: which answers denote the same one, and that a set holds exactly the numbers that its text says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentthought.grading import algebra, equivalent
from latentthought.grading.equivalence.sets import NotRealError, RealSet, real_set
from latentthought.grading.expression.parser import parse
from latentthought.grading.expression.tree import Literal

SAME = [
    ("x > 3", r"(3, \infty)"),
    ("x > 3", "3 < x"),
    ("2 <= x <= 3", "[2, 3]"),
    (r"x \in [2, 3]", r"2 \le x \le 3"),
    (r"x \in [2, 3]", "3 >= x >= 2"),
    (r"(-\infty, 1) \cup (2, \infty)", "x < 1 or x > 2"),
    (r"(2, \infty) \cup (-\infty, 1)", "x < 1, x > 2"),
    (r"\mathbb{R} \setminus [1, 2]", "x < 1 or x > 2"),
    (r"x \ne 3", r"(-\infty, 3) \cup (3, \infty)"),
    (r"x \ne 3", r"\mathbb{R} \setminus \{3\}"),
    (r"x \neq 1, x \neq 2", r"(-\infty,1) \cup (1,2) \cup (2,\infty)"),
    ("x > 1 and x < 2", "1 < x < 2"),
    ("x > 1, x < 2", "(1, 2)"),
    (r"\{x \mid x > 3\}", "x > 3"),
    (r"\{x : -1 \le x < 2\}", "[-1, 2)"),
    (r"\{x \in \mathbb{R} : x \ne 0\}", r"x \neq 0"),
    (r"(0, 1] \cup [1, 2)", "(0, 2)"),
    (r"[0, 2] \cap [1, 3]", "[1, 2]"),
    (r"\{1\} \cup \{2\}", r"\{1, 2\}"),
    (r"\mathbb{R}", r"(-\infty, \infty)"),
    ("2x + 1 > 7", "x > 3"),
    ("-2x < 6", "x > -3"),
    ("|x - 1| < 2", "(-1, 3)"),
    (r"|x| \ge 2", r"x \le -2 \text{ or } x \ge 2"),
    (r"\left[\frac12, \sqrt8\right]", r"[0.5, 2\sqrt{2}]"),
    (r"(-\sqrt3, \sqrt3)", "(-3^{1/2}, 3^{1/2})"),
    ("]0, 1[", "(0, 1)"),
    (r"\emptyset", r"\{\}"),
    (r"x \in \mathbb{Z}", r"\mathbb{Z}"),
    ("x > 1, y > 2", "y > 2 and x > 1"),
    ("(a, b)", "(a, b)"),
    (r"[a, b) \cup (c, d]", r"(c, d] \cup [a, b)"),
]
DIFFERENT = [
    ("x > 3", r"x \ge 3"),
    ("x > 3", "x < 3"),
    ("x > 3", "y > 3"),
    ("x > 3", "3"),
    ("x > 3", "x = 3"),
    (r"x \in (3, \infty)", "y > 3"),
    (r"(2, \infty)", "2"),
    ("[0, 1)", "[0, 1]"),
    (r"(4, \infty]", r"(4, \infty)"),
    (r"[-\infty, 0) \cup (1, 2)", r"(-\infty, 0) \cup (1, 2)"),
    ("(0, 1)", "[0, 1]"),
    ("(0, 1)", "{0, 1}"),
    ("[0, 1]", "{0, 1}"),
    ("1 < x < 2", "x < 1 or x > 2"),
    ("1 < x < 2", "{1, 2}"),
    (r"x \ne 3", "x = 3"),
    (r"x \ne 3", "3"),
    (r"(0, 36)", r"(0, 9) \cup (9, 36)"),
    (r"(-\infty, 2)", r"(-\infty, 2) \cup (3, \infty)"),
    (r"\mathbb{R}", r"\mathbb{Z}"),
    (r"\mathbb{R}", r"\emptyset"),
    (r"\mathbb{R} \setminus \{3\}", r"\mathbb{R} \setminus \{4\}"),
    (r"\emptyset", "0"),
    (r"\{x \mid x > 3\}", r"\{x \mid x > 4\}"),
    (r"x^2 < 4", "x < 4"),
    (r"\{0\}", r"\emptyset"),
    ("[a, b)", "(a, b)"),
    (r"\{x \in \mathbb{Z} : x > 3\}", "x > 3"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same(a: str, b: str) -> None:
    assert equivalent(a, b)[0] and equivalent(b, a)[0], (equivalent(a, b), equivalent(b, a))


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str) -> None:
    assert not equivalent(a, b)[0] and not equivalent(b, a)[0], (equivalent(a, b), equivalent(b, a))


# --------------------------------------------------------------------------------------- the numbers that a set holds
def _holds(found: RealSet, number: Fraction) -> bool:
    here = Literal(number)

    def after(cut) -> bool:  # type: ignore[no-untyped-def]
        order = algebra.order(here, cut.at)
        return order > 0 or (order == 0 and not cut.after)

    return any(after(low) and not after(high) for low, high in found.intervals)


_CONDITIONS: list[tuple[str, Callable[[Fraction], bool]]] = [
    ("x > 1", lambda x: x > 1),
    ("x <= 2", lambda x: x <= 2),
    ("-1 <= x < 3", lambda x: -1 <= x < 3),
    ("x != 0", lambda x: x != 0),
    ("x = 2", lambda x: x == 2),
    ("3 - 2x >= 1", lambda x: 3 - 2 * x >= 1),
    ("|x - 1| <= 1", lambda x: abs(x - 1) <= 1),
    ("|2x| > 3", lambda x: abs(2 * x) > 3),
    ("|x| != 2", lambda x: abs(x) != 2),
]
_GRID = [Fraction(n, 4) for n in range(-16, 17)]


@pytest.mark.parametrize(("text", "holds"), _CONDITIONS)
def test_conditions_hold_where_they_say(text: str, holds: Callable[[Fraction], bool]) -> None:
    found = real_set(parse(text))
    assert [_holds(found, x) for x in _GRID] == [holds(x) for x in _GRID]


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(_CONDITIONS, 2)))
def test_and_or_of_conditions(one, other) -> None:  # type: ignore[no-untyped-def]
    for word, join in (("and", all), ("or", any)):
        found = real_set(parse(f"{one[0]} {word} {other[0]}"))
        assert [_holds(found, x) for x in _GRID] == [join((one[1](x), other[1](x))) for x in _GRID]


_ENDS = st.integers(-6, 6)
_INTERVAL = st.tuples(st.sampled_from("(["), _ENDS, _ENDS, st.sampled_from(")]")).filter(
    lambda i: i[1] < i[2]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_INTERVAL, min_size=1, max_size=4), st.sampled_from([r"\cup", r"\cap", r"\setminus"]))
def test_operations_on_random_intervals(intervals: list, operation: str) -> None:
    def inside(interval: tuple, x: Fraction) -> bool:
        opening, low, high, closing = interval
        return (low <= x if opening == "[" else low < x) and (x <= high if closing == "]" else x < high)

    text = operation.join("{}{},{}{}".format(*interval) for interval in intervals)
    found = real_set(parse(text))
    for x in _GRID:
        each = [inside(interval, x) for interval in intervals]
        expected = {r"\cup": any(each), r"\cap": all(each), r"\setminus": each[0] and not any(each[1:])}[
            operation
        ]
        assert _holds(found, x) is expected, (text, x)
    cuts = [cut for interval in found.intervals for cut in interval]
    assert all(algebra.order(a.at, b.at) <= 0 for a, b in itertools.pairwise(cuts))


@pytest.mark.parametrize(
    "text", ["5", "(2, 1)", "(1, 2, 3)", "x + y > 2", "x^2 > 4", r"\mathbb{Z}", "[a, b]", "(i, 2)"]
)
def test_what_is_no_set_of_reals(text: str) -> None:
    with pytest.raises(NotRealError):
        real_set(parse(text))
