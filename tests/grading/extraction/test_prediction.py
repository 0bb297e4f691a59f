"""Whole completions against golds of every kind: the gold says what is looked for, never which."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from latentthought.grading import GradePolicy, grade

CASES = [
    ("16 - 3 - 4 = 9 and 9 * 2 = 18", "18", "correct"),
    ("x^2 + 3", "3", "wrong"),
    ("5 or 6", "6", "wrong"),
    (r"25\sqrt{2}", "25", "wrong"),
    (r"0.\overline{3}", r"\frac{1}{3}", "correct"),
    ("**Answer:** The area is 12 square cm.", "12", "correct"),
    ("<answer>The total is 18 dollars.</answer>", "18", "correct"),
    (r"The value of \(m^2 + 4\) is \(m^2 + 4 = 66\).", "66", "correct"),
    (r"The probability is \dfrac{4}{9}.", r"\frac49", "correct"),
    (r"Therefore, the sum is:\n\[ 3\pi \]".replace(r"\n", "\n"), r"3\pi", "correct"),
    ("Therefore, the roots are 3 and 5.", "5, 3", "correct"),
    ("Thus y = 2x + 1.", "y=2x+1", "correct"),
    ("The train needs 4.5 minutes.", "4.5 hours", "wrong"),
    ("一共有12个苹果", "12", "correct"),
    ("La réponse est 3,5.", "3.5", "correct"),
    ("Yes, because 7 is prime.", "Yes", "correct"),
    ("The statement is not true.", "False", "correct"),
    ("No, it is not.", "Yes", "wrong"),
    ("So the winner must be Evelyn.", "Evelyn", "correct"),
    ("So it is not Evelyn.", "Evelyn", "ungradable"),
    ("The winner is Evelyn.", r"\text{Evelyn}", "correct"),
    ("Tom is a lempus, because every numpus is one. So: Tom is a lempus.", "Tom is a lempus.", "correct"),
    ("Tom is a numpus.", "Tom is a lempus.", "wrong"),
    ("I do not know.", "3", "ungradable"),
]


@pytest.mark.parametrize(("completion", "gold", "status"), CASES)
def test_completions(completion: str, gold: str, status: str) -> None:
    assert grade(completion, gold).status == status, grade(completion, gold)


def test_strict() -> None:
    strict = GradePolicy(strict=True)
    assert grade("The answer is 5", "5", strict).status == "ungradable"
    assert grade(r"The answer is $\fbox{5}$", "5", strict).correct


def _rows(path: Path) -> list[dict]:
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as lines
    ):
        return [json.loads(line) for line in lines]


def test_worked_solutions_without_their_mark(data_folder: Path) -> None:
    """GSM8K's rationales, without the line that gives the answer: what is left is a text as people write them."""
    rows = [row["answer"].rsplit("####", 1) for row in _rows(data_folder / "gsm8k" / "gsm8k_test.jsonl")]
    right = sum(grade(text.strip(), gold.strip()).correct for text, gold in rows)
    assert right >= 0.99 * len(rows)


def test_rationales_of_choices(data_folder: Path) -> None:
    rows = _rows(data_folder / "aqua" / "aqua_test.jsonl")
    right = sum(
        grade(row["rationale"], row["correct"], GradePolicy(choices=tuple(row["options"]))).correct
        for row in rows
    )
    assert right >= 0.97 * len(rows)


def test_responses_of_a_model(data_folder: Path) -> None:
    """What the source calls right is right; what it calls wrong and we do not are other ways of writing the gold answer."""
    rows = [
        row for row in _rows(data_folder / "traces" / "r1_distill_math_traces.jsonl.gz") if row["response"]
    ]
    verdicts = [(row, grade(row["response"], row["gt_answer"])) for row in rows]
    assert all(verdict.correct for row, verdict in verdicts if row["is_correct"])
    assert sum(verdict.correct and not row["is_correct"] for row, verdict in verdicts) <= 22
