"""One plain form for one answer, one key for one text: and different ones for what only looks alike."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentthought.grading.normalization.latex import plain_latex
from latentthought.grading.normalization.plain import key, normalize
from latentthought.grading.normalization.words import digits_for_words


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"\dfrac{3}{4}\text{ cm}", "3/4 cm"),
        (r"2^{\frac{1}{2}}", "2^(1/2)"),
        (r"2^\frac12", "2^(1/2)"),
        ("[-36,104]", "[-36,104]"),
        (r"\left[-36,104\right]", "[-36,104]"),
        ("(-1,234)", "(-1,234)"),
        ("-36,104", "-36104"),
        ("{{8}}", "{8}"),
        (r"0.1\dot{6}", r"0.1\overline{6}"),
        ("✅ **42** 🎉", "42"),
        ("🎉", "🎉"),
        ("=> 12", "12"),
        (r"3\frac{1}{2}", "3 1/2"),
        (r"x\frac{1}{2}", "x(1/2)"),
        (r"x_2\frac{1}{2}", "x_2(1/2)"),
        (r"\frac{1}{2}x", "(1/2)x"),
        (r"\frac{ab}{cd}", "(ab)/(cd)"),
        (r"\frac{-3}{4}", "-3/4"),
        (r"{1 \over 3}", "(1/3)"),
        (r"\sqrt[3]{x+1}", "root(3,x+1)"),
        (r"\sqrt12", "sqrt(12)"),
        (r"\sqrt(2)", "sqrt(2)"),
        (r"x\sqrt{2}", "x sqrt(2)"),
        ("√12", "sqrt(12)"),
        (r"x^{2}3", "x^(2)3"),
        (r"x^{a+b}", "x^(a+b)"),
        ("x²+1", "x^2+1"),
        (r"\left\{1,2\right\}", r"\{1,2\}"),
        (r"90^\circ", "90 degrees"),
        ("3½", "3 1/2"),
        ("−5", "-5"),
        ("１，２３４", "1234"),
        ("1,234,567", "1234567"),
        ("1{,}234", "1234"),
        (r"1\,234", "1234"),
        (r"10,\!080", "10080"),
        ("1\u2009234", "1234"),
        ("(1,234)", "(1,234)"),
        ("1,234,5", "1,234,5"),
        ("٣٫٥", "3.5"),
        ("१२", "12"),
        ("11:30 a.m.", "11:30 AM"),
        ("50 percent", "50%"),
        ("1010 base 2", "1010_2"),
        (r"1010_{\text{two}}", "1010_2"),
        ("(1010)_2", "1010_2"),
        ("= 18", "18"),
        ("about 5", "5"),
        ("**5**", "5"),
        ('"dog"', "dog"),
        ("$x=1$ or $x=2$", "x=1 or x=2"),
        ("x=3 或 x=-3", "x=3 or x=-3"),
        (r"\$5", "$5"),
        ("$5 and $3", "$5 and $3"),
        (r"\begin{pmatrix} 1 \\[2pt] \frac12 \end{pmatrix}", r"\begin{pmatrix} 1 \\ (1/2) \end{pmatrix}"),
    ],
)
def test_plain_form(text: str, plain: str) -> None:
    assert normalize(text) == plain
    assert normalize(plain) == plain


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        ("twenty-one", "21"),
        ("one hundred and five dollars", "105 dollars"),
        ("two thousand three hundred", "2300"),
        ("one million two hundred thirty-four thousand five hundred sixty-seven", "1234567"),
        ("three quarters", "3/4"),
        ("two and a half", "2 1/2"),
        ("2 and 1/2", "2 and 1/2"),
        ("three and five", "3 and 5"),
        ("one two three", "1 2 3"),
        ("twenty-first", "21st"),
        ("twenty-third of May", "23rd of May"),
        ("two seconds", "2 seconds"),
        ("minus five", "-5"),
        ("three point one four", "3.14"),
        ("十二", "12"),
        ("三百零五", "305"),
        ("一万二千", "12000"),
        ("三分之二", "2/3"),
        ("百分之五十", "50%"),
        ("trois", "3"),
        ("ثلاثة", "3"),
        ("पाँच", "5"),
        ("someone", "someone"),
    ],
)
def test_number_words(words: str, digits: str) -> None:
    assert digits_for_words(words) == digits


SAME_KEY = [
    ("the dog", "Dog"),
    ("north-east", "northeast"),
    ("U.S.A.", "USA"),
    ("café", "Cafe"),
    ("5th", "fifth"),
    ("Jan. 5th", "January 5"),
    ("2 p.m.", "14:00"),
    ("11:30 a.m.", "11:30AM"),
    ("oui", "Yes"),
    ("是", "true"),
    ("نعم", "yes"),
    ("नहीं", "no"),
    (r"\text{No.}", "false"),
    ("2 * x", "2x"),
    ("DNE", "does not exist"),
    (r"\text{undefined}", "Does not exist."),
    ("No solutions", "no real solution"),
    ("无解", "no solution"),
]
OTHER_KEY = [
    ("1 2", "12"),
    ("1 1/2", "11/2"),
    ("5!", "5"),
    ("x-y", "xy"),
    ("ab-cd", "abcd"),
    ("2 am", "2 pm"),
    ("yes", "no"),
    ("n!", "n"),
    ("no solution", "undefined"),
]


@pytest.mark.parametrize(("a", "b"), SAME_KEY)
def test_same_key(a: str, b: str) -> None:
    assert key(a) == key(b) != ""


@pytest.mark.parametrize(("a", "b"), OTHER_KEY)
def test_other_key(a: str, b: str) -> None:
    assert key(a) != key(b)


PIECES = [
    *"0123456789.,/%$ ()[]{}\\^_~!:;'\"*xyAB=-+√½²π，。三十",
    r"\frac",
    r"\sqrt",
    r"\text",
    r"\left",
    r"\over",
]
PIECES += ["and ", "one ", "half ", "base ", " 000", " am", "\\\\", r"\{", "\u2009", "°", "\0", "\ud800"]


@settings(max_examples=1000, deadline=None)
@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_a_second_time_changes_nothing(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    key(text)


@pytest.mark.parametrize(
    "piece",
    ["{", "$", "9", "1,", "one ", "\\", "{{}}", r"\frac{1}", r"\sqrt[", "~", "a-", "'", "三", "^{", "base "],
)
def test_linear(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.perf_counter()
    for function in (normalize, key, plain_latex, digits_for_words):
        function(text)
    assert time.perf_counter() - started < 8
