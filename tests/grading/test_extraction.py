"""Finding the answer: each rule, their order, and texts made to be slow."""

from __future__ import annotations

import time

import pytest

from latentthought.grading import extract_answer


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        (r"So \boxed{42}.", "42", "boxed"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", "boxed"),
        (r"First \boxed{3}. Later we find \boxed{7}.", "7", "boxed"),
        (r"\boxed 5 is it", "5", "boxed"),
        (r"\boxed{ x = \boxed{5} }", r"x = \boxed{5}", "boxed"),
        (r"\fbox{9}", "9", "fbox"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
        (r"\boxed{\left\{ 1 \right\}}", r"\left\{ 1 \right\}", "boxed"),
        (r"$x = \boxed{3}$ or $x = 4$, that is $\boxed{3}$ and $\boxed{4}$", "3, 4", "boxed"),
        (r"\boxed{3}, \boxed{5}, and \boxed{7}", "3, 5, 7", "boxed"),
        (r"\boxed{12} and then \boxed{120", "12", "boxed"),
        ("<answer> 12 </answer>", "12", "answer_tag"),
        (r"\boxed{1} <answer>the sum is \boxed{2}</answer>", "2", "boxed"),
        ("<answer>1</answer> no: <ANSWER>2</ANSWER>", "2", "answer_tag"),
        ("2 + 3 = 5\n#### 1,234", "1,234", "hash"),
        ("a a\n### Sally is a sterpus.", "Sally is a sterpus", "hash"),
        ("### Step 1: add\nThe answer is 5", "5", "phrase"),
        ("The answer is (B).", "(B)", "phrase"),
        ("Final Answer: **18**", "18", "phrase"),
        ("The answer is:\n\n18", "18", "phrase"),
        ("The final answer is $\\frac{3}{4}$. I hope it is correct.", r"\frac{3}{4}", "phrase"),
        ("the answer is 3 because 1 + 2 = 3", "3", "phrase"),
        ("答案是 12。", "12", "phrase"),
        ("La réponse est 12.", "12", "phrase"),
        ("الجواب هو 12", "12", "phrase"),
        ("उत्तर है 12", "12", "phrase"),
        ("We get $x^2 + 1$ in the end.", "x^2 + 1", "last_math"),
        (r"It follows that \[ y = 3 \]", "y = 3", "last_math"),
        ("She pays $5 and keeps $3.", "$3", "last_number"),
        ("That makes 1,234.50 in all", "1,234.50", "last_number"),
        ("from 3 to -4", "-4", "last_number"),
        ("no idea", None, "none"),
        ("", None, "none"),
    ],
)
def test_rules(text: str, answer: str | None, rule: str) -> None:
    found = extract_answer(text)
    assert (found.answer, found.rule) == (answer, rule)


def test_reasoning_does_not_count() -> None:
    assert extract_answer(r"<think>\boxed{1}</think>So it is 2").answer == "2"
    assert extract_answer(r"<think>\boxed{1}</think>").rule == "none"
    assert extract_answer(r"a </think> \boxed{1} </think> \boxed{2}").answer == "2"
    assert extract_answer("1 <|end|> 2 <|end|> three", thought_ends=("<|end|>",)).rule == "none"


def test_only_the_given_rules() -> None:
    assert extract_answer("The answer is 5", rules=("boxed", "fbox")).rule == "none"
    assert extract_answer(r"\fbox{5}", rules=("boxed",)).rule == "none"


MEGABYTE = 1_000_000
HOSTILE = {
    "open braces": "{" * MEGABYTE,
    "open boxes": r"\boxed{" * (MEGABYTE // 7),
    "nested boxes": r"\boxed{" * 100_000 + "5" + "}" * 100_000,
    "digits": "9" * MEGABYTE,
    "dollars": "$" * MEGABYTE,
    "backslashes": "\\" * MEGABYTE,
    "fractions": r"\frac{" * 100_000,
    "hashes": "### " * 250_000,
    "phrases": "the answer is " * 70_000,
    "spaces": "answer" + " " * MEGABYTE,
    "box and spaces": r"\boxed" + " " * MEGABYTE,
    "tags": "<answer>" * 120_000,
    "commas": "1," * 500_000,
    "side by side": r"\boxed{1}, " * 90_000,
    "nul": "\0" * MEGABYTE,
    "surrogates": "\ud800 5",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_linear(name: str) -> None:
    started = time.perf_counter()
    extract_answer(HOSTILE[name])
    assert time.perf_counter() - started < 5
