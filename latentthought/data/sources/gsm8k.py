"""GSM8K (Cobbe et al. 2021, arXiv:2110.14168) and its steps-only, augmented form (Deng et al. 2023, arXiv:2311.01460)."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any, Literal

from latentthought.config import Config
from latentthought.data.example import Example, steps_field, text_field
from latentthought.data.sources.base import HubLocation, Source
from latentthought.errors import DataError

_MARK = re.compile(r"<<[^<>]*>>")


class Gsm8kOptions(Config):
    """calculator_marks: `strip` removes the `<<16-3-4=9>>` inside the sentences, `keep` leaves them."""

    calculator_marks: Literal["strip", "keep"] = "strip"


class Gsm8k(Source):
    """A step is a line of the written solution; the answer is the number after `####`, without thousands commas."""

    name = "gsm8k"
    Options = Gsm8kOptions
    hub = HubLocation("openai/gsm8k", {"train": (("main", "train"),), "test": (("main", "test"),)})
    local_files = {
        "train": ("gsm8k/gsm8k_train.jsonl.gz", "gsm8k/gsm8k_train.jsonl"),
        "test": ("gsm8k/gsm8k_test.jsonl", "gsm8k/gsm8k_test.jsonl.gz"),
    }

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        solution, mark, answer = text_field(row, "answer", where).rpartition("####")
        if not mark or not answer.strip():
            raise DataError(f"{where}: field 'answer' has no '#### answer' at its end")
        solution = solution.strip()
        if self.options.calculator_marks == "strip":
            solution = _MARK.sub("", solution)
        steps = tuple(line.strip() for line in solution.splitlines() if line.strip())
        return Example(
            "", text_field(row, "question", where), steps, answer.strip().replace(",", ""), solution
        )

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        rows = []
        for question, steps, answer in _sums(n, seed):
            lines = [f"That makes {left} = <<{left}={right}>>{right}." for left, right in steps]
            rows.append({"question": question, "answer": "\n".join([*lines, f"#### {answer}"])})
        return rows


class Gsm8kAug(Source):
    """Steps are bare calculator marks, `<<4000*25=100000>>`; the hub set has 385,620 training rows, some with no step."""

    name = "gsm8k-aug"
    hub = HubLocation(
        "whynlp/gsm8k-aug",
        {"train": ((None, "train"),), "validation": ((None, "validation"),), "test": ((None, "test"),)},
    )
    local_files = {
        "train": ("gsm8k_aug/gsm8k_aug_train.jsonl.gz", "gsm8k_aug/gsm8k_aug_train_7500.jsonl.gz"),
        "validation": ("gsm8k_aug/gsm8k_steps_valid.jsonl",),
        "test": ("gsm8k_aug/gsm8k_steps_test.jsonl",),
    }

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        if "steps" in row:
            steps = steps_field(row, "steps", where)
        else:  # the form of other copies: one text of marks
            steps = tuple(_MARK.findall(text_field(row, "cot", where))) if row.get("cot") != "" else ()
        answer = text_field(row, "answer", where).removeprefix("####").strip().replace(",", "")
        return Example("", text_field(row, "question", where), steps, answer)

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        return [
            {
                "question": question,
                "steps": [f"<<{left}={right}>>" for left, right in steps],
                "answer": str(answer),
            }
            for question, steps, answer in _sums(n, seed)
        ]


def _sums(n: int, seed: int) -> list[tuple[str, list[tuple[str, int]], int]]:
    """Made-up shopping sums: question, (left side, result) of one to four steps, answer."""
    rng = random.Random(f"gsm8k {seed}")
    made = []
    for _ in range(n):
        total = rng.randint(2, 40)
        text, steps = [f"Ann has {total} apples."], []
        for _ in range(rng.randint(1, 4)):
            amount = rng.randint(2, 9)
            sign = rng.choice("+*-") if total > amount else "+"
            result = {"+": total + amount, "-": total - amount, "*": total * amount}[sign]
            text.append(
                {
                    "+": f"She buys {amount} more.",
                    "-": f"She eats {amount}.",
                    "*": f"She gets {amount} times as many.",
                }[sign]
            )
            steps.append((f"{total}{sign}{amount}", result))
            total = result
        made.append((" ".join([*text, "How many apples has she?"]), steps, total))
    return made
