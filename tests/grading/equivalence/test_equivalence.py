"""Whether two bare answers are the same: pairs decided by what a mathematician would say, each in both orders."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentthought.grading import GradePolicy, equivalent

PLAIN_SAME = [
    ("18", "18"),
    ("18", "18."),
    ("18", "$18"),
    ("18", "18 dollars"),
    ("18", r"\$18.00"),
    ("1234", "1,234"),
    ("1234567", "1{,}234{,}567"),
    ("1234", r"1\,234"),
    ("10080", r"10,\!080"),
    ("-5", "−5"),
    ("5", "５"),
    ("5", "five"),
    ("12", "١٢"),
    (r"\frac{1}{2}", "1/2"),
    (r"\frac12", "0.5"),
    (r"\dfrac{3}{4}", r"\frac{3}{4}"),
    (r"-\frac{3}{4}", "-3/4"),
    (r"\frac{-3}{4}", "-3/4"),
    ("2/3", "0.6667"),
    (r"3\frac{1}{2}", "3.5"),
    ("3 1/2", "7/2"),
    ("3½", "7/2"),
    ("50 percent", r"50\%"),
    ("1.5e3", "1500"),
    (r"1.5 \times 10^{3}", "1500"),
    (r"90^\circ", "90"),
    ("90°", "90 degrees"),
    ("5 cm", "5 centimeters"),
    (r"5\text{ cm}", "5"),
    ("3 hours", "3 hour"),
    ("2 million", "2000000"),
    (r"\text{Evelyn}", "Evelyn"),
    ("(C)", "C"),
    (r"\text{(C)}", "c)"),
    ("x=5", "5"),
    ("x = 1 or x = 2", "1, 2"),
    (r"x \in [0, 1)", "[0,1)"),
    ("(1, 2)", r"\left( 1, 2 \right)"),
    (r"\{1, 2\}", "1, 2"),
    ("(1, 1/2)", r"(1, \frac{1}{2})"),
    (r"\sqrt{2}", "√2"),
    (r"11\sqrt2", r"11 \sqrt{2}"),
    (r"2\pi", "2π"),
    ("2 * x", "2x"),
    ("x^{2}", "x^2"),
    ("x²", "x^2"),
    (r"\begin{pmatrix} 1 \\ -2 \end{pmatrix}", r"\begin{pmatrix}1\\-2\end{pmatrix}"),
    (r"(2,\infty)", "(2, ∞)"),
    ("Sally is a sterpus.", "sally is a sterpus"),
]
PLAIN_DIFFERENT = [
    ("18", "19"),
    ("18", "-18"),
    ("12345", "12345.5"),
    ("1/3", "0.3"),
    ("5 dollars", "5 cents"),
    ("x+1", "x-1"),
    ("(1, 2)", "(2, 1)"),
    ("[0, 1)", "[0, 1]"),
    ("(0, 1)", "[0, 1]"),
    ("True", "False"),
    ("x=5", "6"),
    (r"\frac{1}{2}", r"\frac{1}{3}"),
    ("x=", "y"),
    ("Sally is a sterpus.", "Sally is a hilpus."),
    ("1E999999999", "1"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
]
VALUES_SAME = [
    ("18", "18.0"),
    (r"\frac{1}{2}", "0.5"),
    ("1/3", "0.333"),
    ("2/3", "0.667"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}"),
    ("2^{10}", "1024"),
    ("5!", "120"),
    (r"\binom{5}{2}", "10"),
    (r"\log_2 8", "3"),
    (r"\sin 30^\circ", r"\frac12"),
    (r"\sqrt2", "1.414"),
    (r"\sqrt2", "1.41"),
    (r"\pi", "3.14"),
    (r"-\pi", "-3.14"),
    ("x^2-1", "(x-1)(x+1)"),
    ("3+4i", "4i+3"),
    ("xy", "yx"),
    ("2ab", "2ba"),
    (r"|{-3}|", "3"),
    ("e^{2}e", "e^3"),
    ("10:15", "2:3"),
    ("3:1", "3 : 1"),
    ("3:1", "3 to 1"),
    ("2:4:6", "1:2:3"),
    ("3:4", r"\frac{3}{4}"),
    ("1010_2", "1010"),
    ("1010_2", "12_8"),
    ("90^\\circ", "90"),
    ("50%", "0.5"),
    ("50%", "50"),
    (r"25\pi\%", r"25\pi"),
    ("17.99999999", "18"),
]
VALUES_DIFFERENT = [
    ("18", "18.01"),
    ("18.0", "18.01"),
    ("1/3", "0.33"),
    ("2/3", "0.666"),
    ("1/7", "0.142"),
    (r"\sqrt2", "1.4"),
    (r"\sqrt2", "1.42"),
    (r"\pi", "3.15"),
    (r"\pi", "3"),
    (r"\pi", "22/7"),
    ("12.3", "12.34"),
    ("2.5", "2.499"),
    ("x", "y"),
    ("2x", "x^2"),
    ("25", r"25\sqrt{2}"),
    ("3+4i", "3-4i"),
    ("x^2+1", "(x+1)^2"),
    ("5", "5x"),
    ("n!", "n"),
    ("3 1/2", "31/2"),
    ("(3 1/2, 1)", "(31/2, 1)"),
    ("3:5", "3:4"),
    ("3:30", "1:10"),
    ("1:3:2", "1:2:3"),
    ("52_9", "52_8"),
    ("1010_2", "10"),
    ("50%", "5"),
    ("0.5", "50"),
    ("-2", "2"),
    (r"\frac{1}{0}", "5"),
    (r"\infty", r"-\infty"),
    ("2^10", "210"),
    ("10!", "10^{10}"),
]
LISTS_SAME = [
    ("1, 2", "2, 1"),
    ("1 and 2", "{1, 2}"),
    ("1 and 2", "1 or 2"),
    ("12x - 34, -34 + 12x", "12x - 34"),
    ("20:34 and 8:34 p.m.", "8:34 p.m."),
    (r"\{1, 2\}", r"\{2,1\}"),
    (r"\{1, 1, 2\}", r"\{1,2\}"),
    ("{5}", "5"),
    ("[5]", "5"),
    ("(1, 2)", "1, 2"),
    ("[3, 1, 2]", "3, 1, 2"),
    (r"(\sqrt{8}, 1)", r"(2\sqrt2, 1)"),
    (r"\pm 4", "4, -4"),
    (r"\pm 4", r"\{-4, 4\}"),
    (r"1 \pm \sqrt{2}", r"1-\sqrt2, 1+\sqrt2"),
    (r"\frac{-1 \pm \sqrt{5}}{2}", r"\frac{\sqrt5-1}{2}, -\frac{1+\sqrt5}{2}"),
    (r"\pm 1 \pm i", "1+i, 1-i, -1+i, -1-i"),
    (r"(\pm 1, 0)", "(1,0), (-1,0)"),
    ("5 cm, 6 cm", "5, 6"),
    ("Tom, Dick and Harry", "Harry, Tom, Dick"),
    ("Alice is a knight and Bob is a knave", "Bob is a knave, Alice is a knight."),
    ("(1,2), (3,4)", r"\{(3,4),(1,2)\}"),
]
LISTS_DIFFERENT = [
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", r"\{1,2\}"),
    ("(1,2)", "{1,2}"),
    ("p and q", "p or q"),
    ("Tom and Dick", "Tom or Dick"),
    ("[1,2]", "1, 2"),
    ("[1,2]", r"\{1,2\}"),
    ("[1,2)", "1, 2"),
    ("1, 2", "12"),
    ("1, 2", "1, 2, 3"),
    ("3, 3, 7", "3, 5, 7"),
    ("3, 5", "3"),
    ("(3, 3)", "3"),
    ("3, 3, 7", "3, 7"),
    (r"\{1,2\}", "12"),
    (r"\pm 4", "4"),
    (r"\pm 4", "(4, -4)"),
    (r"1\pm\sqrt2", r"1\pm\sqrt3"),
    ("5 cm, 6 cm", "5 m, 6 m"),
    ("(1,2),(3,4)", "(2,1),(4,3)"),
    ("Dawn or Evelyn", "Evelyn"),
    ("3/5, 117/125", "3/5117/125"),
]
TEXTS_SAME = [
    ("Evelyn", r"\text{Evelyn}"),
    ("Yes", "true"),
    ("Yes!", "yes"),
    ("north-east", "northeast"),
    ("(C)", "c)"),
    ("no solution", r"\emptyset"),
    ("all real numbers", r"(-\infty, \infty)"),
    ("15:30", "3:30 PM"),
    ("11:30", "11:30 AM"),
    ("10:00 a.m.", "10 AM"),
    ("noon", "12 pm"),
    ("12 am", "midnight"),
    ("area = 12", "12"),
    (r"12\pi\text{ cm}^2", r"12 \pi"),
    ("3 hours", "180 minutes"),
    ("$5", "5 dollars"),
    ("3,5", "3.5"),
    ("2 and 3/4", "11/4"),
    ("2 and 3/4", "3/4, 2"),
    ("k = 1:2", "1:2"),
]
TEXTS_DIFFERENT = [
    ("cat", "act"),
    ("dog", "god"),
    ("abba", "baba"),
    ("listen", "silent"),
    ("AB", "BA"),
    ("A", "B"),
    ("Yes", "No"),
    ("3:30 AM", "3:30 PM"),
    ("15:30", "3:30"),
    ("12 am", "12 pm"),
    ("no solution", "0"),
    ("Tom is a wumpus", "Tom is a lempus"),
    ("Tom is not a lempus", "Tom is a lempus"),
    ("5 cm", "5 m"),
    (r"12\pi\text{ cm}", r"12\pi\text{ m}"),
    ("area = 12", "volume = 12"),
    ("sin", "5"),
    ("A", "A, C"),
    ("B", "B, C"),
    ("A or C", "C"),
    ("2 and 3/4", "2/3"),
    ("3,5", "35"),
    ("0,4", r"\frac{2}{5}"),
    (r"75\%", r"75^\circ"),
    ("area = 12", "perimeter = 13"),
]


def _both_ways(a: str, b: str, policy: GradePolicy = GradePolicy()) -> bool:
    one, other = equivalent(a, b, policy), equivalent(b, a, policy)
    assert one == other, f"not symmetric: {a!r}, {b!r}: {one}, {other}"
    return one[0]


@pytest.mark.parametrize(("a", "b"), PLAIN_SAME + VALUES_SAME + LISTS_SAME + TEXTS_SAME)
def test_same(a: str, b: str) -> None:
    assert _both_ways(a, b), equivalent(a, b)


@pytest.mark.parametrize(("a", "b"), PLAIN_DIFFERENT + VALUES_DIFFERENT + LISTS_DIFFERENT + TEXTS_DIFFERENT)
def test_different(a: str, b: str) -> None:
    assert not _both_ways(a, b), equivalent(a, b)


@pytest.mark.parametrize(
    ("a", "b", "policy", "same"),
    [
        ("(2, 1)", "(1, 2)", {"ordered": False}, True),
        ("2, 1", "1, 2", {"ordered": True}, False),
        (r"\{2, 1\}", r"\{1, 2\}", {"ordered": True}, False),
        ("((2, 1), 3)", "(3, (1, 2))", {"ordered": False}, True),
        ("[2, 1)", "[1, 2)", {"ordered": False}, False),
        ("2/4", "1/2", {"simplified": True}, False),
        (r"\sqrt{8}", r"2\sqrt2", {"simplified": True}, False),
        (r"2 \sqrt 2", r"2\sqrt{2}", {"simplified": True}, True),
        ("2/4", "2/4", {"simplified": True}, True),
        ("x=1, y=2", "x=2, y=1", {"ordered": False}, False),
        ("(a, b) = (1, 2)", "(a, b) = (2, 1)", {"ordered": False}, False),
        ("0.33", "1/3", {"precision": 2}, True),
        ("0.4567", "0.4571", {}, False),
        ("0.4567", "0.4571", {"precision": 3}, True),
        ("0.4567", "0.4577", {"precision": 3}, False),
        ("18.01", "18", {"precision": 3}, True),
        (r"18.01", r"2\sqrt{81}", {"precision": 3}, True),
        ("1.415", r"\sqrt2", {"precision": 3}, True),
        ("1.415", r"\sqrt2", {}, False),
        (r"\pi", "22/7", {"precision": 2}, False),
        ("(0.33, 1)", "(1/3, 1)", {"precision": 2}, True),
        ("(0.33, 1)", "(1/3, 1)", {}, False),
        ("0.333", "1/3", {"precision": None}, False),
        ("(0.333, 1)", "(1/3, 1)", {"precision": None}, False),
        (r"\sqrt2", "1.414", {"precision": None}, False),
        ("100.5", "100", {"precision": 0.01}, True),
        ("102", "100", {"precision": 0.01}, False),
        ("-100", "100", {"precision": 0.01}, False),
        ("9.87", r"\pi^2", {"precision": 0.01}, True),
        ("50%", "50", {"percent": "value"}, False),
        ("50%", "0.5", {"percent": "sign"}, False),
        ("(50%, 1)", "(0.5, 1)", {}, True),
        ("(50%, 1)", "(0.5, 1)", {"percent": "sign"}, False),
        ("5 cm", "5", {"units": False}, False),
        (r"5\pi\text{ cm}", r"5\pi", {"units": False}, False),
        ("(30°, 1)", "(30, 1)", {"units": False}, False),
        (r"\sqrt{8}", r"2\sqrt2", {"symbolic": "none"}, False),
        ("1/2, 3", "3, 0.5", {"symbolic": "none"}, True),
        ("22", "C", {"choices": ("21", "21.5", "22")}, True),
        (r"\frac{1}{2}", "A", {"choices": ("0.5", "1.5")}, True),
        (r"5(1+\sqrt3)", "A", {"choices": ("5(√3 + 1)", "6(√3 + √2)")}, True),
        ("21", "C", {"choices": ("21", "21.5", "22")}, False),
    ],
)
def test_policies(a: str, b: str, policy: dict, same: bool) -> None:
    assert _both_ways(a, b, GradePolicy(**policy)) is same, equivalent(a, b, GradePolicy(**policy))


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ("5", " 5 ", "same text"),
        ("1/2", "0.5", "same number"),
        ("1/3", "0.333", "same rounded number"),
        ("2024-01-02", "January 3, 2024", "another date"),
        (r"4 \pmod 3", r"1 \pmod 3", "same residue"),
        (r"\sqrt8", r"2\sqrt2", "same value"),
        ("x > 3", r"(3, \infty)", "same interval"),
        ("y = 2x + 1", "2x - y + 1 = 0", "same equation"),
        ("x = 5", "y = 5", "another name"),
        ("(1,2)", r"\{1,2\}", "other brackets"),
        ("5 cm", "5 m", "another unit (centimeter, meter)"),
    ],
)
def test_reasons_name_the_stage(a: str, b: str, reason: str) -> None:
    assert equivalent(a, b)[1] == reason


HOSTILE = [
    "9^9^9^9^9",
    "(" * 900 + ")" * 900,
    "1," * 900 + "1",
    "x" + "=x" * 900,
    r"\pm 1" * 300,
    "{" + ",".join(rf"\sqrt{{{n}}}" for n in range(200)) + "}",
    r"\cup".join(f"({n},{n + 2})" for n in range(150)),
    " or ".join(f"x={n}!" for n in range(100)),
    " or ".join(f"x>{n}" for n in range(100)),
    "|" * 900,
    r"\begin{pmatrix}" + r"\\".join("&".join("1" * 30) for _ in range(25)) + r"\end{pmatrix}",
    "a and " * 300,
    "1:" * 600 + "1",
    "\0\ud800",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers_are_bounded(text: str) -> None:
    started = time.perf_counter()
    for other in ("5", text + "1", text[:-1], text.replace("1", "2"), "x > 3", "{1,2}"):
        assert _both_ways(text, other) in (True, False)
    assert time.perf_counter() - started < 5


_PARTS = [*"0123456789.,/%$:;()[]{}|xyabAB=<>+-*^_! ", " and ", " or "]
_PARTS += [r"\frac", r"\sqrt", r"\pm ", r"\cup ", r"\in ", r"\infty "]
_TEXT = st.lists(st.sampled_from(_PARTS), max_size=14).map("".join)


@settings(max_examples=400, deadline=None)
@given(_TEXT, _TEXT)
def test_symmetric_and_without_exceptions(a: str, b: str) -> None:
    assert equivalent(a, b) == equivalent(b, a)
    assert equivalent(a, a)[0]
    for policy in (GradePolicy(ordered=False, simplified=True), GradePolicy(symbolic="none", precision=0.1)):
        assert equivalent(a, b, policy)[0] is equivalent(b, a, policy)[0]
