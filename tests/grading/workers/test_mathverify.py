"""math-verify as a last stage: what it is asked, what it may not read, and that the policy and our numbers stay in force."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from latentthought.grading import GradePolicy, grade
from latentthought.grading.workers import mathverify
from latentthought.grading.workers.mathverify import engine, readable, second_opinion
from latentthought.grading.workers.pool import default_pool

POLICY = GradePolicy(symbolic="math-verify")
needs_it = pytest.mark.skipif(not mathverify._installed(), reason="needs the extra eval")


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("sqrt(2)/2", r"\sqrt{2}/2"),
        (r"\sqrt[3]{x+1}", r"\sqrt[3]{x+1}"),
        ("x^(a+b)", "x^{a+b}"),
        (r"\dfrac{1}{2}", "1/2"),
        ("0.25x", r"\frac{25}{100}x"),
        (r"\{1,2\}", r"\{1,2\}"),
        ("[0, 1)", "[0, 1)"),
        ("１２", "12"),
    ],
)
def test_one_string_a_side(text: str, latex: str) -> None:
    assert readable(text) == latex


@pytest.mark.parametrize(
    "text",
    [
        "hello",  # would be a product of letters
        "import os",
        "__import__('os').system('true')",
        "x.__class__",
        r"5 \text{ cm and } 3",
        r"\sum_{n=1}^{\infty} 1",
        r"\int_0^1 x dx",
        r"\unknown{3}",
        "9^{9^{9}}",
        "9^9^9",
        "(2^{99})^{99}",
        "2^{1000}",
        "1e999",
        "1E5",
        "300!",
        "3!!",
        "(9!)!",
        "2^{9!}",
        r"\binom{99999}{49999}",
        "9" * 41,
        "x+" * 300 + "x",
        r"\sqrt{" * 9 + "x" + "}" * 9,
        "(" * 9 + "x" + ")" * 9,
        "(x",
        "x)",
        "{x)",
        "sqrt(x}",
        r"\begin{pmatrix}" + r"1 & 2 \\" * 40 + r"\end{pmatrix}",
        "1/2x",  # half of x, or one over 2x
        "50%",
        "\x00",
        "\ud800",
        "",
    ],
)
def test_what_is_never_parsed(text: str) -> None:
    assert readable(text) is None


def test_the_guards_are_linear() -> None:
    begun = time.perf_counter()
    for text in (
        "{" * 400,
        "(" * 400,
        "^" * 400,
        r"\sqrt" * 80,
        "1/" * 200,
        "1 " * 200,
        "a^{" * 100,
        "x" * 10**7,
    ):
        readable(text)
    assert time.perf_counter() - begun < 5


@needs_it
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
        ("(x-1)(x+1)", "x^2-1"),
        (r"\sin^2 x + \cos^2 x + y", "1 + y"),
        (r"\{\frac{\sqrt{8}}{2}, 1\}", r"\{1, \sqrt{2}\}"),
        (r"\frac{x}{0.5}", "2x"),
    ],
)
def test_it_sees_what_is_equal(a: str, b: str) -> None:
    for first, second in ((a, b), (b, a)):
        assert second_opinion(first, second, POLICY, "another text", default_pool().compare) == (
            "correct",
            "same value (math-verify)",
        )


@needs_it
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("25", r"25\sqrt{2}"),  # a part is not the whole
        ("x+1", "x+2"),
        ("2x", "x"),
        (r"0.333333\pi", r"\frac{\pi}{3}"),  # decimals are exact
        ("(1, 2)", "(2, 1)"),
        ("[1, 2)", "[1, 2]"),
    ],
)
def test_it_sees_what_is_not(a: str, b: str) -> None:
    for first, second in ((a, b), (b, a)):
        assert second_opinion(first, second, POLICY, "another text", default_pool().compare)[0] == "wrong"


@pytest.mark.parametrize(
    ("a", "b", "policy"),
    [
        ("18.0000001", "18", POLICY),
        ("1/3", "0.333333", POLICY.replace(precision=None)),
        ("2+x+x", "2+2x", POLICY.replace(simplified=True)),
        ("{1,x+x}", "{2x,1}", POLICY.replace(ordered=True)),
        ("x+x", "2x", POLICY.replace(choices=("x", "2x"))),
        ("hello", "ohell", POLICY),
    ],
)
def test_it_is_not_asked(a: str, b: str, policy: GradePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathverify, "_installed", lambda: True)

    def never(*_: str) -> tuple[str, str]:
        pytest.fail("it was asked")

    assert second_opinion(a, b, policy, "why", never) == ("wrong", "why")


@needs_it
def test_grade_asks_only_when_told_and_says_so() -> None:
    # in a fresh process, so that nothing is loaded yet
    code = r"""
import sys
from latentthought.grading import GradePolicy, grade
from latentthought.grading import grader
grader.equivalent = lambda a, b, policy: (False, "another text")
a, b = r"\frac{2}{\sqrt{2}}", r"\sqrt{2}"
print(grade(a, b).status, "latentthought.grading.workers.pool" in sys.modules)
asked = grade(a, b, GradePolicy(symbolic="math-verify"))
print(asked.status, asked.reason, asked.extraction.answer, {"sympy", "math_verify"} & set(sys.modules))
print(*grade("x+1", "x", GradePolicy(symbolic="math-verify")).reason.split())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        "wrong False",
        r"correct same value (math-verify) \frac{2}{\sqrt{2}} set()",
        "another text (math-verify agrees)",
    ], done.stderr
    assert done.stderr == ""


@needs_it
def test_a_hanging_comparison_is_ungradable() -> None:
    from latentthought.grading.workers.pool import GradingPool

    with GradingPool(workers=1, deadline=1.0) as pool:
        begun = time.monotonic()
        assert pool.compare("9^{9^{9^9}}", "1") == ("ungradable", "no verdict within 1 s")  # past the guards
        assert pool.compare("x+x", "2x")[0] == "correct"
        assert time.monotonic() - begun < 60


def test_the_engine_is_named() -> None:
    assert engine(GradePolicy()) == "latentthought"
    assert engine(GradePolicy(symbolic="none")) == "latentthought, no algebra"
    if mathverify._installed():
        assert engine(POLICY).startswith("latentthought, then math-verify 0.")


def test_choosing_it_changes_no_correct_verdict() -> None:
    if mathverify._installed():
        assert grade("0.5", "1/2", POLICY) == grade("0.5", "1/2")
