"""Any file of rows: contract rows as they are, other columns through a field map."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from latentthought.config import Config
from latentthought.data.example import Example
from latentthought.data.sources.base import Source
from latentthought.data.sources.sentences import split_paragraphs, split_sentences


class FileOptions(Config):
    """steps: how one text of steps is cut (a list of text is taken as it is). meta: columns to keep in `meta`."""

    steps: Literal["lines", "sentences", "paragraphs"] = "lines"
    meta: list[str] = []


class File(Source):
    """`question` and `answer` are needed; `id`, `steps`, `solution`, `messages` and `meta` are read where they are there.

    Columns of other names: `fields: {question: problem, answer: gold.value}`, dotted paths into nested data.
    """

    name = "file"
    Options = FileOptions

    @property
    def names(self) -> tuple[str, ...]:
        return ("question", "answer", "id", "steps", "solution", "messages", "meta", *self.options.meta)

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        steps = row.get("steps")
        if isinstance(steps, str) and self.options.steps != "lines":
            split = split_sentences if self.options.steps == "sentences" else split_paragraphs
            row = {**row, "steps": list(split(steps))}
        example = Example.from_row(row, where)
        kept = {name: row[name] for name in self.options.meta if name in row}
        return replace(example, meta={**example.meta, **kept}) if kept else example

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        rng = random.Random(f"file {seed}")
        pairs = [(rng.randint(1, 50), rng.randint(1, 50)) for _ in range(n)]
        return [
            {"question": f"What is {a} + {b}?", "steps": [f"{a} + {b} = {a + b}"], "answer": str(a + b)}
            for a, b in pairs
        ]
