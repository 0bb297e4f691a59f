"""Answers to grade: the real GSM8K and MATH files of the folder LATENTTHOUGHT_DATA, or made-up ones in their likeness."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from dataclasses import dataclass
from pathlib import Path

GSM8K = ("gsm8k/gsm8k_test.jsonl", "gsm8k/gsm8k_train.jsonl.gz")
MATH = ("math/math_test.jsonl.gz", "math/math_train.jsonl.gz")


@dataclass(frozen=True)
class Answer:
    """A gold answer, a worked solution that ends in it, and the subject within which others are comparable."""

    gold: str
    solution: str
    subject: str


@dataclass(frozen=True)
class Answers:
    """Both sets, and where they come from."""

    gsm8k: list[Answer]
    math: list[Answer]
    source: str


def load(count: int | None, seed: int) -> Answers:
    """Real rows where LATENTTHOUGHT_DATA names a folder, `count` random ones of each set (None: all)."""
    rng = random.Random(seed)
    folder = os.environ.get("LATENTTHOUGHT_DATA")
    if not folder:
        gsm8k, math = _made_up(rng, count or 5000)
        return Answers(gsm8k, math, "made-up rows (LATENTTHOUGHT_DATA is unset)")
    gsm8k = []
    for row in _rows(Path(folder), GSM8K):
        gold = row["answer"].rsplit("####", 1)[1].strip()
        gsm8k.append(Answer(gold, row["answer"], "gsm8k"))
    math = [
        Answer(row["answer"], row["solution"], row["subject"])
        for row in _rows(Path(folder), MATH)
        if row["answer"]
    ]
    rng.shuffle(gsm8k)
    rng.shuffle(math)
    return Answers(gsm8k[:count], math[:count], "real data")


def _rows(folder: Path, names: tuple[str, ...]) -> list[dict]:
    found = []
    for name in names:
        opener = gzip.open if name.endswith(".gz") else open
        with opener(folder / name, "rt", encoding="utf-8") as lines:
            found += [json.loads(line) for line in lines]
    return found


def _made_up(rng: random.Random, count: int) -> tuple[list[Answer], list[Answer]]:
    numbers = [str(rng.choice([rng.randint(0, 99), rng.randint(100, 99999)])) for _ in range(count)]
    shapes = [
        lambda a, b, c: str(a),
        lambda a, b, c: rf"\frac{{{a}}}{{{b}}}",
        lambda a, b, c: rf"{a}\sqrt{{{b}}}",
        lambda a, b, c: rf"\frac{{{a} + \sqrt{{{b}}}}}{{{c}}}",
        lambda a, b, c: rf"x^2 + {a}x - {b}",
        lambda a, b, c: f"({a}, {-b}, {c})",
        lambda a, b, c: rf"\left[ {a}, {a + b} \right)",
        lambda a, b, c: rf"{a}\pi",
        lambda a, b, c: rf"\begin{{pmatrix}} {a} \\ {b} \end{{pmatrix}}",
        lambda a, b, c: f"{a}, {a + b}, {a + b + c}",
    ]
    math = [
        rng.choice(shapes)(rng.randint(1, 99), rng.randint(2, 40), rng.randint(2, 12)) for _ in range(count)
    ]
    return (
        [
            Answer(gold, f"There are {gold} - 1 = more.\nSo it is {gold}.\n#### {gold}", "gsm8k")
            for gold in numbers
        ],
        [Answer(gold, f"We get $y = {gold}$, so it is $\\boxed{{{gold}}}$.", "made up") for gold in math],
    )


def pairs(answers: list[Answer], seed: int) -> list[tuple[str, str]]:
    """(prediction, gold): solutions, sentences, boxes and bare answers; every second one against another's gold."""
    rng = random.Random(seed)
    made = []
    for number, answer in enumerate(answers):
        gold = answer.gold if number % 2 else rng.choice(answers).gold
        forms = (
            answer.solution,
            f"The answer is ${answer.gold}$.",
            rf"So \boxed{{{answer.gold}}}",
            answer.gold,
        )
        made.append((forms[number // 2 % 4], gold))
    return made


def strangers(answers: list[Answer], count: int, seed: int) -> list[tuple[str, str]]:
    """Random pairs of golds within a subject whose texts differ."""
    rng = random.Random(seed)
    subjects: dict[str, list[str]] = {}
    for answer in answers:
        subjects.setdefault(answer.subject, []).append(answer.gold)
    weights = [len(golds) for golds in subjects.values()]
    made: list[tuple[str, str]] = []
    while len(made) < count:
        golds = rng.choices(list(subjects.values()), weights)[0]
        a, b = rng.choice(golds), rng.choice(golds)
        if a != b:
            made.append((a, b))
    return made


_NUMBER = re.compile(r"-?\d+(?:\.\d+)?|-?\d{1,3}(?:,\d{3})+")


def dressed(gold: str) -> list[str]:
    """The same answer as other people write it: spacing, `\\dfrac`, dollars, a box, a sentence; a unit beside a number."""
    spaced = re.sub(r"\s*([=+])\s*", r" \1 ", gold)
    made = [
        f"  {gold} ",
        f"${gold}$",
        rf"\boxed{{{gold}}}",
        f"The answer is ${gold}$.",
        gold.replace(r"\frac", r"\dfrac"),
        gold.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac"),
        spaced,
    ]
    if _NUMBER.fullmatch(gold):
        made += [f"{gold}.", rf"{gold}\text{{ cm}}", f"**{gold}**"]
        if "." not in gold:
            made += [f"{int(gold.replace(',', '')):,}", f"{gold}.00"]
    return list(dict.fromkeys(made))
