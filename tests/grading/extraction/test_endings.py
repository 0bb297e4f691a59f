"""How completions end: remarks, corrections, lists, tables, code, hedges, politeness; what is meant is what is judged."""

from __future__ import annotations

import pytest

from latentthought.grading import grade

RIGHT = [
    (r"\boxed{12} units", "12"),
    ("**Answer:** $\\frac{3}{4}$", "3/4"),
    ("Hence the required probability is 1/6.", "1/6"),
    ("So, $x=3$ and $y=4$.", "(3,4)"),
    ("Thus x = 3 or x = -3.", "3,-3"),
    ("The correct option is (C).", "C"),
    ("C) 42", "42"),
    ("C) 42", "C"),
    ("The answer is C, 42.", "C"),
    ("सही विकल्प (D) है।", "D"),
    ("The total is 42. Let me know if you need 2 more examples!", "42"),
    ("12\n\nI hope this helps!", "12"),
    ("12\n\nExplanation: 7 is prime and 5 is odd.", "12"),
    ("Answer: 42 🎉", "42"),
    ("✅ **42**", "42"),
    ("| Pens | 5 |\n| **Total** | **42** |", "42"),
    ("| x | 42 |", "42"),
    ("• 42", "42"),
    ("```\n42\n```", "42"),
    ("The answer is <b>12</b>.", "12"),
    ('{"answer": "12"}', "12"),
    ("final_answer: 12", "12"),
    ("=> 12", "12"),
    ("∴ x = 12", "12"),
    ("Total: $12", "12"),
    ("Answer: 15 (I also considered 16, which is the number of gaps plus one.)", "15"),
    ("Answer: 15 (rounded from 14.7)", "15"),
    ("3 (mod 7)", r"3 \pmod{7}"),
    ("The answer is three quarters of the cake, i.e. 3/4.", "3/4"),
    ("The answer is 3/4, or equivalently 0.75", "3/4"),
    ("Not 5, but 7", "7"),
    ("The answer is not 5 but 7.", "7"),
    ("The answer is 5... no, 7.", "7"),
    ("5? No, 7.", "7"),
    ("Probably 12.", "12"),
    ("Distance = speed × time = 60 × 2.5 = 150 miles", "150"),
    (r"Area = \pi r^2 = 9\pi", r"9\pi"),
    (r"\[\begin{aligned} A &= \pi r^2 \\ &= 9\pi \end{aligned}\]", r"9\pi"),
    ("The two numbers are 3 and 4.", "3, 4"),
    ("The ratio is 3 to 4.", "3:4"),
    ("The vertex is at (3, -4).", "(3,-4)"),
    ("The time is 11:30 AM.", "11:30 AM"),
    ("The date is March 5.", "March 5"),
    ("The equation is y = -3/4 x + 2.", r"y=-\frac34x+2"),
    ("So the expression simplifies to x^2 + 1.", "x^2+1"),
    ("The maximum value of $f$ is $\\frac{7}{2}$, attained at $x = 1$.", "7/2"),
    ("The minimum is 5 when x = 2.", "5"),
    ("There are 3 left out of 10.", "3"),
    ("So the answer is $14$.\n\n**Note:** the answer would be 15 if we counted zero.", "14"),
    ("It is Paris, the capital of France.", "Paris"),
    ("True or False: True", "True"),
    ("速度是60千米/小时", "60"),
    ("共12元。", "12"),
]
WRONG = [
    ("So, $x=3$ and $y=4$.", "x=4, y=3"),
    ("Answer: 15 (I also considered 16, which is the number of gaps plus one.)", "16"),
    ("Not 5, but 7", "5"),
    ("The answer is either 5 or 7.", "7"),
    ("The two numbers are 3 and 4.", "4"),
    ("Yes and no", "Yes"),
    ("Yes or no", "Yes"),
    ("The answer is C or D.", "C"),
    ("答案是12或13", "12"),
    ("Total = 5 + 7 = 12", "5"),
    ("x = 8, y = -2", "-2"),
    (r"Hence $x = \pm 3$.", "3"),
]


@pytest.mark.parametrize(("text", "gold"), RIGHT)
def test_right(text: str, gold: str) -> None:
    assert grade(text, gold).correct, grade(text, gold)


@pytest.mark.parametrize(("text", "gold"), WRONG)
def test_wrong(text: str, gold: str) -> None:
    assert grade(text, gold).status == "wrong", grade(text, gold)
