"""Multiple choice with a written rationale.

AQuA-RAT (Ling et al. 2017, arXiv:1705.04146) and MathQA (Amini et al. 2019, arXiv:1905.13319).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from latentthought.data.example import Example, text_field
from latentthought.data.sources.base import HubLocation, Source
from latentthought.data.sources.sentences import split_sentences
from latentthought.errors import DataError

_LETTERS = "ABCDE"


def _example(
    question: str, choices: list[str], letter: str, rationale: str, meta: Mapping[str, Any], where: str
) -> Example:
    letter = letter.strip().upper()
    if len(letter) != 1 or letter not in _LETTERS[: len(choices)]:
        raise DataError(
            f"{where}: field 'correct' is {letter!r}; allowed: one of {', '.join(_LETTERS[: len(choices)])}"
        )
    listed = "\n".join(f"{name}) {choice}" for name, choice in zip(_LETTERS, choices, strict=False))
    return Example(
        id="",
        question=f"{question}\nAnswer choices:\n{listed}",
        steps=split_sentences(rationale) if "\n" not in rationale else _lines(rationale),
        answer=letter,
        solution=rationale,
        meta={**meta, "choices": tuple(choices)},
    )


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


class Aqua(Source):
    """Options are listed in the question, the answer is the letter; `meta.choices` holds the options without letters."""

    name = "aqua"
    hub = HubLocation(
        "deepmind/aqua_rat",
        {"train": (("raw", "train"),), "validation": (("raw", "validation"),), "test": (("raw", "test"),)},
    )
    local_files = {
        "train": ("aqua/aqua_train.jsonl.gz",),
        "validation": ("aqua/aqua_dev.jsonl",),
        "test": ("aqua/aqua_test.jsonl",),
    }

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        options = row.get("options")
        if (
            not isinstance(options, list)
            or not options
            or not all(isinstance(option, str) for option in options)
        ):
            raise DataError(
                f"{where}: field 'options' must be a list of text such as 'A)12', got {options!r}"
            )
        # an option is "A)12", seldom "A) 12" or "(A)12"
        choices = [
            re.sub(rf"^\(?{letter}\s*\)\s*", "", option.strip())
            for letter, option in zip(_LETTERS, options, strict=False)
        ]
        question, rationale = text_field(row, "question", where), text_field(row, "rationale", where)
        return _example(question, choices, text_field(row, "correct", where), rationale, {}, where)

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        return [
            {
                "question": question,
                "options": [f"{letter}){choice}" for letter, choice in zip(_LETTERS, choices, strict=True)],
                "rationale": rationale,
                "correct": correct,
            }
            for question, choices, rationale, correct in _speeds(n, seed)
        ]


class MathQa(Source):
    """AQuA re-annotated, in lower case. Options come as one text, `a ) 24 , b ) 120 , ...`; `meta.subject` is the category."""

    name = "mathqa"
    # the hub repository itself is a program; this revision holds its rows as Parquet
    hub = HubLocation(
        "allenai/math_qa",
        {
            "train": (("default", "train"),),
            "validation": (("default", "validation"),),
            "test": (("default", "test"),),
        },
        revision="refs/convert/parquet",
    )
    local_files = {
        "train": ("aqua/mathqa_train.jsonl.gz",),
        "validation": ("aqua/mathqa_dev.jsonl.gz",),
        "test": ("aqua/mathqa_test.jsonl.gz",),
    }

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        raw = text_field(row, "options_raw" if "options_raw" in row else "options", where)
        choices = _split_options(raw, where)
        question = text_field(row, "question" if "question" in row else "Problem", where)
        rationale = (
            text_field(row, "rationale" if "rationale" in row else "Rationale", where).strip('"').strip()
        )
        meta = {"subject": str(row["category"])} if row.get("category") else {}
        return _example(question, choices, text_field(row, "correct", where), rationale, meta, where)

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        return [
            {
                "Problem": question.lower(),
                "Rationale": f'"{rationale.lower()}"',
                "options": " , ".join(
                    f"{letter.lower()} ) {c}" for letter, c in zip(_LETTERS, choices, strict=True)
                ),
                "correct": correct.lower(),
                "category": "physics",
            }
            for question, choices, rationale, correct in _speeds(n, seed)
        ]


def _split_options(raw: str, where: str) -> list[str]:
    """`a ) 24 , b ) 120 , c ) ...` as five texts; options may hold commas, so the letters in turn are what is looked for."""
    raw = raw.strip()
    if raw.startswith("["):  # some rows hold a printed list
        raw = raw.strip("[]").replace("'", "")
    starts = [re.search(r"^\s*a \)", raw)]
    for letter in "bcde":
        previous = starts[-1]
        starts.append(re.compile(rf",\s*{letter} \)").search(raw, previous.end()) if previous else None)
    if not all(starts):
        raise DataError(f"{where}: the options cannot be told apart: {raw[:80]!r}")
    found = [start for start in starts if start]
    ends = [*(start.start() for start in found[1:]), len(raw)]
    return [raw[start.end() : end].strip() for start, end in zip(found, ends, strict=True)]


def _speeds(n: int, seed: int) -> list[tuple[str, list[str], str, str]]:
    """Made-up questions: text, five choices, rationale, letter."""
    rng = random.Random(f"choice {seed}")
    made = []
    for _ in range(n):
        speed, hours = rng.randint(2, 90), rng.randint(2, 9)
        values = [str(speed * hours + 10 * shift) for shift in range(5)]
        rng.shuffle(values)
        letter = _LETTERS[values.index(str(speed * hours))]
        rationale = (
            f"Distance is speed times time.\n{speed} * {hours} = {speed * hours}\nThe answer is {letter}."
        )
        made.append(
            (
                f"A train runs {speed} km an hour. How far does it get in {hours} hours?",
                values,
                rationale,
                letter,
            )
        )
    return made
