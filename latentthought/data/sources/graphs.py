"""ProsQA (Hao et al. 2024, arXiv:2412.06769) and ProntoQA (Saparov and He 2022, arXiv:2210.01240): search in a graph of classes.

Neither training file is on the hub; both read local files. For ProsQA training graphs see the source `prosqa-generated`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from latentthought.data.example import Example, steps_field, text_field
from latentthought.data.sources.base import Source
from latentthought.data.synthetic.prosqa import GraphOptions, raw_rows
from latentthought.errors import DataError

_QUESTION = re.compile(r"Is (\w+) an? (\w+) or (?:an? )?(\w+)\?$")
_ANSWER = re.compile(r"(\w+) is an? (\w+)\.?$")


class ProsQa(Source):
    """Answer `Tom is a lempus.`

    `meta`: `individual`, `choices` (the two classes in the question's order), `target`, `level` (number of steps).
    """

    name = "prosqa"
    stand_in = "source: prosqa-generated makes graphs of the same kind"
    local_files = {
        "train": ("prosqa/prosqa_train.jsonl.gz", "prosqa/prosqa_train.jsonl"),
        "validation": ("prosqa/prosqa_valid.jsonl",),
        "test": ("prosqa/prosqa_test.jsonl",),
    }

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        question, answer = text_field(row, "question", where), text_field(row, "answer", where)
        asked, given = _QUESTION.search(question), _ANSWER.match(answer)
        if not asked:
            raise DataError(f"{where}: field 'question' does not end in 'Is NAME a CLASS or CLASS?'")
        name, *choices = asked.groups()
        if not given or given.group(1) != name or given.group(2) not in choices:
            raise DataError(
                f"{where}: field 'answer' is {answer!r}; allowed: {name} is a {' or '.join(choices)}."
            )
        steps = steps_field(row, "steps", where)
        meta = {
            "individual": name,
            "choices": tuple(choices),
            "target": given.group(2),
            "level": str(len(steps)),
        }
        return Example("", question, steps, answer, meta=meta)

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        return raw_rows(GraphOptions(), "train", n, seed)


class ProntoQa(Source):
    """Answer True or False after a five-hop chain; `meta.choices` names the two."""

    name = "prontoqa"
    local_files = {
        "train": ("prosqa/prontoqa_train.jsonl.gz", "prosqa/prontoqa_train.jsonl"),
        "validation": ("prosqa/prontoqa_valid.jsonl",),
        "test": ("prosqa/prontoqa_test.jsonl",),
    }

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        answer = text_field(row, "answer", where)
        if answer not in ("True", "False"):
            raise DataError(f"{where}: field 'answer' is {answer!r}; allowed: True, False")
        meta = {"choices": ("True", "False")}
        return Example(
            "", text_field(row, "question", where), steps_field(row, "steps", where), answer, meta=meta
        )

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        rng = random.Random(f"prontoqa {seed}")
        rows = []
        for _ in range(n):
            kinds = rng.sample(
                ["wumpus", "tumpus", "rompus", "yumpus", "zumpus", "dumpus", "lorpus", "grimpus"], 4
            )
            negated = rng.random() < 0.5
            trait = f"{'not ' if negated else ''}happy"
            facts = [f"Every {a} is a {b}." for a, b in pairwise(kinds)]
            facts.append(f"Every {kinds[-1]} is {trait}.")
            steps = [f"Alex is a {kind}. {fact}" for kind, fact in zip(kinds, facts, strict=True)]
            rng.shuffle(facts)
            rows.append(
                {
                    "question": f"{' '.join(facts)} Alex is a {kinds[0]}. True or false: Alex is happy.",
                    "steps": [*steps, f"Alex is {trait}."],
                    "answer": str(not negated),
                }
            )
        return rows
