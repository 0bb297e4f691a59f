r"""MATH (Hendrycks et al. 2021, arXiv:2103.03874) and its 500-problem test subset (Lightman et al. 2023, arXiv:2305.20050)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from latentthought.data.example import Example, optional_text, text_field
from latentthought.data.sources.base import HubLocation, Source
from latentthought.data.sources.sentences import last_boxed, split_sentences
from latentthought.errors import DataError

_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


class HendrycksMath(Source):
    r"""A step is a sentence of the solution; the answer is what the last `\boxed{}` holds.

    `meta`: `subject`, `level` ("1" to "5", or "?").
    Two training solutions end in an empty box: such rows are left out, and counted.
    """

    name = "math"
    hub = HubLocation(
        "EleutherAI/hendrycks_math",
        {split: tuple((subject, split) for subject in _SUBJECTS) for split in ("train", "test")},
    )
    local_files = {"train": ("math/math_train.jsonl.gz",), "test": ("math/math_test.jsonl.gz",)}

    def left_out(self, row: Mapping[str, Any]) -> str | None:
        solution = row.get("solution")
        return (
            "the box of the solution is empty"
            if isinstance(solution, str) and last_boxed(solution) == ""
            else None
        )

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        solution = text_field(row, "solution", where)
        answer = optional_text(row, "answer", where) or last_boxed(solution)
        if not answer:
            raise DataError(f"{where}: no field 'answer', and field 'solution' has no \\boxed{{}}")
        level = (optional_text(row, "level", where) or "?").removeprefix("Level ")
        subject = optional_text(row, "subject", where) or optional_text(row, "type", where) or "?"
        return Example(
            id=optional_text(row, "id", where) or optional_text(row, "unique_id", where) or "",
            question=text_field(row, "problem", where),
            steps=split_sentences(solution),
            answer=answer,
            solution=solution,
            meta={"subject": subject, "level": level},
        )

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        rng = random.Random(f"math {seed}")
        rows = []
        for _ in range(n):
            a, b = rng.randint(2, 9), rng.randint(2, 9)
            answer = rf"\frac{{{b}}}{{{a}}}" if b % a else str(b // a)
            rows.append(
                {
                    "problem": f"Solve ${a}x = {b}$ for $x$.",
                    "level": f"Level {rng.randint(1, 5)}",
                    "type": rng.choice(["Algebra", "Prealgebra", "Number Theory"]),
                    "solution": rf"We divide both sides by ${a}.$ This gives $x = {b}/{a}.$ So $x = \boxed{{{answer}}}.$",
                }
            )
        return rows


class Math500(HendrycksMath):
    """The 500 test problems most results are quoted on; test only."""

    name = "math500"
    hub = HubLocation("HuggingFaceH4/MATH-500", {"test": ((None, "test"),)})
    local_files = {"test": ("math/math500_test.jsonl",)}

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        return [
            {
                "problem": row["problem"],
                "solution": row["solution"],
                "answer": last_boxed(row["solution"]),
                "subject": row["type"],
                "level": int(row["level"].removeprefix("Level ")),
                "unique_id": f"test/{row['type'].lower()}/{number}.json",
            }
            for number, row in enumerate(super().smoke_rows(n, seed))
        ]
