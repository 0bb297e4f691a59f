"""No answer: nothing where one was announced, and refusals in a dozen languages; "no solution" is an answer."""

from __future__ import annotations

import pytest

from latentthought.grading import GradePolicy, extract_answer, grade

NOTHING = [
    r"\boxed{}", r"$\boxed{ }$", r"\boxed{\text{ }}", r"\boxed{\,}", r"\boxed{?}", r"\boxed", r"So the result is \boxed{}.",
    r"Thus the final result is \boxed{", r"3 + 4 = 7. So the final answer is \boxed{", r"Thus \boxed{\frac{1}{",
    "<answer></answer>", "<answer> </answer>", "<answer>", "**Final Answer:**", "**Answer**", "### Answer", "Answer:", "#### ",
    "3 + 4 = 7\n**Final Answer:**", "The answer is", "The answer is ...", "The answer is ___.", "答案是", "答案：",
    "La réponse est", "Réponse :", "الجواب:", "उत्तर:", "<think>3 + 4 = 7, so",
]  # fmt: skip
REFUSALS = [
    "I don't know.", "I do not know how to solve this.", "No idea.", "I'm not sure.", "I give up.", "N/A", "Hmm...",
    "The figure is missing, so I cannot determine the length of AB.", r"\boxed{\text{I don't know}}", "Answer: unknown",
    "The answer is: I don't know.", "After 5 steps we have 3 + 4 = 7. I am unable to find the answer.",
    "我不知道。", "抱歉，我无法回答这个问题。", "我也不清楚这道题的答案。", "很抱歉，我没有足够的信息来回答。",
    "Je ne sais pas.", "Je suis désolé, je ne peux pas répondre à cette question.", "Je n'ai pas de réponse.",
    "لا أعرف الجواب.", "عذراً، لا يمكنني الإجابة على هذا السؤال.", "मुझे उत्तर नहीं पता।", "मैं इसे हल नहीं कर सकता।",
    "No lo sé.", "Não sei.", "Ich weiß es nicht.", "Не знаю.", "わかりません。",
]  # fmt: skip


@pytest.mark.parametrize("gold", ["7", "Paris", "x^2+1"])
@pytest.mark.parametrize("text", NOTHING + REFUSALS)
def test_no_answer(text: str, gold: str) -> None:
    assert grade(text, gold).status == "ungradable", grade(text, gold)


@pytest.mark.parametrize("text", NOTHING)
def test_the_extraction_says_so_too(text: str) -> None:
    assert extract_answer(text).rule == "none"


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        (r"\boxed{12} and then \boxed{120", "12"),
        (r"The answer is 5. \boxed{}", "5"),
        ("I'm not sure, but I think it's 12.", "12"),
        ("It's probably 12, but I'm not sure.", "12"),
        ("I don't know whether 5 is prime, but the total is 12.", "12"),
        ("我不确定，可能是12。", "12"),
        ("I don't know", "I don't know"),
        ("Unknown", "unknown"),
    ],
)
def test_an_answer_all_the_same(text: str, gold: str) -> None:
    assert grade(text, gold).correct, grade(text, gold)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        (
            "There is no real number with this property, so the equation has no solution.",
            r"\text{no solution}",
        ),
        ("The equation has no real solutions.", r"\emptyset"),
        ("There are no solutions.", r"\varnothing"),
        ("The limit does not exist.", "DNE"),
        (r"\boxed{\text{DNE}}", r"\text{undefined}"),
        ("The answer cannot be determined.", "Cannot be determined"),
        ("方程无解", "no solution"),
    ],
)
def test_no_value_is_an_answer(text: str, gold: str) -> None:
    assert grade(text, gold).correct, grade(text, gold)
    assert grade(text, "3").status == "wrong"
    assert grade("3", gold).status == "wrong"


def test_the_same_text_is_correct_whatever_it_says() -> None:
    for text in (r"a \boxed{5}. Wait, the answer is 6", "</think>0", "#### 5 #### 6", "no, 5 or 6"):
        assert grade(text, text).correct
    assert grade("5", "5", GradePolicy(strict=True)).status == "ungradable"
