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
        (r"$x=\boxed{3}$ or $x=\boxed{4}$", "3, 4", "boxed"),
        (r"\boxed{5}. Wait, that is wrong. The answer is 6.", "6", "phrase"),
        ("#### Step 2: add\n3 + 4 = 7\nAnswer: 7", "7", "phrase"),
        ("#### Final Answer\n18", "18", "hash"),
        ("### Final Answer\nThe solutions are 81 and 256.", "81 and 256", "hash"),
        ("**Answer:** 5", "5", "phrase"),
        ("**Final Answer**\n\n$5$", "5", "phrase"),
        ("## Answer\n\n42", "42", "phrase"),
        ("A: 18", "18", "phrase"),
        ("Answer: (B) 25", "(B) 25", "phrase"),
        ("ANSWER:A", "A", "phrase"),
        ("I choose option C.", "C", "phrase"),
        ("Option B is correct.", "B", "phrase"),
        ("Hence (A) is correct answer.", "A", "phrase"),
        ("We choose a number. Then 5.", "5", "last_number"),
        ("The answer is 5. Wait, no, the answer is 6.", "6", "phrase"),
        ("The answer is 5. Wait, that's wrong. It should be 6.", "6", "phrase"),
        ("The answer is 5, not 6.", "5", "phrase"),
        ("The answer is Rs. 500.", "Rs. 500", "phrase"),
        ("The answer is 11:30 a.m. and not later.", "11:30 a.m. and not later", "phrase"),
        ("The answer is **18 dollars** per day.", "18 dollars per day", "phrase"),
        ("The solutions are $x=1$ and $x=2$.", "$x=1$ and $x=2$", "phrase"),
        ("答案：12", "12", "phrase"),
        ("故选：C", "C", "phrase"),
        ("答案是 18，而不是 81。", "18", "phrase"),
        ("La réponse est 3,5.", "3.5", "phrase"),
        ("الإجابة النهائية هي 12.", "12", "phrase"),
        ("उत्तर 12 है।", "12", "phrase"),
        ("La respuesta es 12.", "12", "phrase"),
        ("Die Antwort ist 3,5.", "3.5", "phrase"),
        ("A resposta é 12.", "12", "phrase"),
        ("答えは12です。", "12", "phrase"),
        ("Ответ: 12", "12", "phrase"),
        ("Therefore, x = 5.", "x = 5", "conclusion"),
        ("So the total is 18 dollars.", "18 dollars", "conclusion"),
        ("thus there are 12 ways", "12", "conclusion"),
        ("So she has 12 apples left after 3 days.", "12", "conclusion"),
        ("Therefore, the roots are 3 and 5.", "3 and 5", "conclusion"),
        ("The polynomial is:\n\n4x^3 + 4x^2", "4x^3 + 4x^2", "conclusion"),
        ("所以一共有12个", "12", "conclusion"),
        ("So 3 + 4 = 7 of them are red.\nTogether 7 + 2 = 9 in the box of 20.", "9", "last_number"),
        ("It takes her 120/24 = <<120/24=5>>5 hours to read 120 pages.", "5", "last_number"),
        ("He pays $30000+$1800=$<<30000+1800=31800>>31,800 a year", "$31,800", "last_number"),
        ("He pays $4.00 and $2.00, in all $6.00", "$6.00", "last_number"),
        ("We find $x=5$. There are 12 eggs.", "12", "last_number"),
        ("no idea", None, "none"),
        ("I don't know the answer.", None, "none"),
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
    "prices": "$5 " * 250_000,
    "equals": "= 5 " * 250_000,
    "therefore": "So " * 300_000,
    "waits": "The answer is 5. Wait, " * 40_000,
    "correct": "(A) is " * 140_000,
    "ligatures that grow": "\ufdfa" * MEGABYTE,
    "nul": "\0" * MEGABYTE,
    "surrogates": "\ud800 5",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_linear(name: str) -> None:
    started = time.perf_counter()
    extract_answer(HOSTILE[name])
    assert time.perf_counter() - started < 5
