"""Verdicts: same answers in other clothes, different answers that look alike, and texts that must not hang or be run."""

from __future__ import annotations

import gzip
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentthought import GradingPool
from latentthought.errors import ConfigError
from latentthought.grading import GradePolicy, grade, normalize


@pytest.mark.parametrize(
    ("a", "b", "status"),
    [
        ("18", "$18.00", "correct"),
        (r"\sqrt{8}", r"2\sqrt{2}", "correct"),
        ("x > 3", r"(3, \infty)", "correct"),
        ("Sally is a sterpus.", "sally is a sterpus", "correct"),
        ("18", "18.01", "wrong"),
        ("(1, 2)", "(2, 1)", "wrong"),
        ("Sally is a sterpus.", "Sally is a hilpus.", "wrong"),
    ],
)
def test_bare_answers_are_judged_alike_both_ways_round(a: str, b: str, status: str) -> None:
    assert grade(a, b).status == grade(b, a).status == status, grade(a, b)


@pytest.mark.parametrize(
    ("completion", "gold", "status"),
    [
        (r"We add 3 and 4 and get 7. So \boxed{7}.", "7", "correct"),
        ("She makes 18 dollars every day.", "18", "correct"),
        (r"<think>\boxed{3}</think>\boxed{4}", "3", "wrong"),
        ("I do not know.", "3", "ungradable"),
        ("", "3", "ungradable"),
        ("3", "", "ungradable"),
        ("b c d\n### e", "e", "correct"),
        ("It must be Evelyn", r"\text{Evelyn}", "correct"),
        ("It must be Robert", r"\text{Evelyn}", "ungradable"),
        ("Thus 5 or 6", "6", "wrong"),
        ("5 or 6", "6", "wrong"),
        ("16 - 3 - 4 = 9\n9 * 2 = 18\n#### 18", "16 - 3 - 4 = 9\n#### 18", "correct"),
        ("x^2+3", "3", "wrong"),
    ],
)
def test_completions(completion: str, gold: str, status: str) -> None:
    assert grade(completion, gold).status == status, grade(completion, gold)


def test_policy() -> None:
    assert grade("The answer is 5", "5", GradePolicy(strict=True)).status == "ungradable"
    assert grade(r"\boxed{5}", "5", GradePolicy(strict=True)).correct
    assert grade("0.33", "1/3", GradePolicy(precision=2)).correct
    assert not grade("0.333", "1/3", GradePolicy(precision=None)).correct
    assert not grade("50%", "0.5", GradePolicy(percent="sign")).correct
    assert not grade("50%", "50", GradePolicy(percent="value")).correct
    assert grade("(2, 1)", "(1, 2)", GradePolicy(ordered=False)).correct
    assert not grade("2, 1", "1, 2", GradePolicy(ordered=True)).correct
    assert not grade("5 cm", "5", GradePolicy(units=False)).correct
    assert grade("7" * 30, "7" * 30, GradePolicy(maximum_length=20)).correct
    assert grade("7" * 30, "7" * 31, GradePolicy(maximum_length=20)).status == "ungradable"


def test_choices() -> None:
    policy = GradePolicy(choices=("21", "21.5", "22", "none of these"))
    for prediction in (
        "C",
        "(C)",
        "c)",
        "22",
        "C) 22",
        "The answer is C",
        r"\boxed{\text{(C)}}",
        "So it is C.",
    ):
        assert grade(prediction, "C", policy).correct, prediction
        assert grade(prediction, "B", policy).status == "wrong", prediction
    assert grade("none of these", "D", policy).correct


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("5", 5), "gold: expected text, got int 5"),
        ((None, "5"), "prediction: expected text, got NoneType None"),
        (
            ("5", "5", {"strict": True}),
            "policy: expected a GradePolicy, got dict; GradePolicy.parse reads a dict",
        ),
    ],
)
def test_anything_but_text_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        grade(*arguments)
    with GradingPool(workers=1) as pool, pytest.raises(TypeError, match=re.escape(message)):
        pool.grade_many([arguments])


def test_a_text_is_no_pair() -> None:
    with GradingPool(workers=1) as pool, pytest.raises(TypeError, match="pair 2: expected"):
        pool.grade_many([("5", "5"), "55"])


def test_policy_refuses_nonsense() -> None:
    with pytest.raises(ConfigError, match=r"precision: .*digits"):
        GradePolicy(precision=0)
    with pytest.raises(ConfigError, match=r"precision: written .*got 'writen'"):
        GradePolicy.parse({"precision": "writen"})
    for precision in ("written", 3, 0.01, None):
        policy = GradePolicy.parse({"precision": precision})
        assert GradePolicy.parse(policy.dump()) == policy == GradePolicy(precision=precision)
    assert GradePolicy().precision == "written"
    with pytest.raises(ConfigError, match="unknown key 'prescision'; did you mean precision"):
        GradePolicy.parse({"prescision": 3})
    policy = GradePolicy(choices=("a", "b"), ordered=True)
    assert GradePolicy.parse(policy.dump()) == policy


HOSTILE = [
    "9^9^9^9^9",
    "9" * 3000 + "!",
    "1E999999999",
    "1e400/1e400",
    "__import__('os').system('true')",
    "\0" * 100,
    "\ud800",
    "1/0",
    *(
        mark * (1900 // len(mark))
        for mark in ("(", "~", "{", r"\frac{", r"\sqrt", "1,", "1 and ", "1/", "-", "^{")
    ),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_answers(text: str) -> None:
    started = time.perf_counter()
    for a, b in ((text, "5"), ("5", text), (text, text[:-1]), (rf"\boxed{{{text}}}", text + "1")):
        assert grade(a, b).status in ("wrong", "ungradable", "correct")
    assert grade(text, text).correct
    assert time.perf_counter() - started < 2


PARTS = [*"0123456789.,/%$ ()[]{}\\^_xyAB=-+", r"\frac", r"\sqrt", r"\text", r"\boxed", "and "]
ANSWERS = st.lists(st.sampled_from(PARTS), max_size=24).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | ANSWERS, st.text(max_size=60) | ANSWERS)
def test_never_raises(a: str, b: str) -> None:
    assert grade(a, b).status in ("correct", "wrong", "ungradable")
    if b.strip() and "boxed" not in b:
        assert grade(b, b).status == "correct"


@settings(max_examples=300, deadline=None)
@given(ANSWERS)
def test_normalization_settles(text: str) -> None:
    once = normalize(normalize(text))
    assert normalize(once) == once


# ------------------------------------------------------------------------------------------------------- real golds
def _rows(path: Path) -> list[dict]:
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as lines
    ):
        return [json.loads(line) for line in lines]


def test_gsm8k_golds(data_folder: Path) -> None:
    rows = _rows(data_folder / "gsm8k" / "gsm8k_test.jsonl")
    assert len(rows) == 1319
    forms = ["{}", "${}$", r"\boxed{{{}}}", "The answer is {}.", "{} dollars", r"\${}", "{}.0"]
    forms += ["#### {}", r"\text{{{}}}", "so\n### {}"]
    for row in rows:
        gold = row["answer"].split("####")[1].strip()
        assert grade(row["answer"], gold).correct
        for form in forms:
            assert grade(form.format(gold), gold).correct, (form, gold)
        assert grade(f"{int(gold.replace(',', '')):,}", gold.replace(",", "")).correct
        assert grade(f"{int(gold.replace(',', '')) + 1}", gold).status == "wrong"


def test_math_golds(data_folder: Path) -> None:
    rows = [
        r
        for name in ("math_test", "math_train")
        for r in _rows(data_folder / "math" / f"{name}.jsonl.gz")
        if r["answer"]
    ]
    assert len(rows) == 12_498
    disagreements = []
    for row in rows:
        gold = row["answer"]
        for form in (gold, f"${gold}$", rf"\boxed{{{gold}}}", gold.replace(r"\frac", r"\dfrac")):
            assert grade(form, gold).correct, (form, gold)
        if not grade(row["solution"], gold).correct:
            disagreements.append(row["id"])
    # solutions that box two answers side by side, where the file's gold is the last box only
    assert len(disagreements) <= 16
