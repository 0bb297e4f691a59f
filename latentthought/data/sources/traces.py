r"""Reasoning traces of an R1-style teacher, the final answer in `\boxed{}`.

Two forms: the hub set of the original soft-mix work (`messages`, `reasoning`, `answer`, the last being the response text), and
files with `problem`, `thinking`, `response`, `gt_answer`, `is_correct`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

from latentthought.config import Config
from latentthought.data.example import Example, messages_field, optional_text, text_field
from latentthought.data.sources.base import HubLocation, Source
from latentthought.data.sources.sentences import last_boxed, split_paragraphs, split_sentences
from latentthought.errors import DataError


class TraceOptions(Config):
    r"""keep: `finished` traces have a response with a `\boxed{}`; `correct` ones are also marked so (a file without marks is
    taken as filtered already). steps: how the thinking is cut."""

    keep: Literal["finished", "correct"] = "finished"
    steps: Literal["paragraphs", "sentences", "lines"] = "paragraphs"


class R1Traces(Source):
    r"""Steps are the paragraphs of the thinking, `solution` the response after it, `answer` the reference (else the box).

    `meta`: `trace_answer` (the trace's own box), `correct` (true, false or absent), and `subject`, `level` where known.
    Unfinished traces are left out and counted.
    """

    name = "r1-traces"
    Options = TraceOptions
    hub = HubLocation("ant-des/filtered_reasoning_deepseek", {"train": ((None, "train"),)})
    local_files = {"train": ("traces/r1_distill_math_traces.jsonl.gz",)}

    def left_out(self, row: Mapping[str, Any]) -> str | None:
        response = row.get("answer") if "messages" in row else row.get("response")
        if response is None or (isinstance(response, str) and not response.strip()):
            return "the trace is not finished (no response)"
        if isinstance(response, str) and not last_boxed(response):
            return "the response has no boxed answer"
        if self.options.keep == "correct" and row.get("is_correct") is False:
            return "the trace's answer is marked wrong"
        return None

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        if "messages" in row:
            turns = messages_field(row, "messages", where) or ()
            asked = [turn["content"] for turn in turns if turn["role"] == "user"]
            if not asked or not asked[-1].strip():
                raise DataError(f"{where}: field 'messages' has no user turn")
            question, messages = (
                asked[-1].strip(),
                tuple(turn for turn in turns if turn["role"] != "assistant"),
            )
            thinking, response = text_field(row, "reasoning", where), text_field(row, "answer", where)
        else:
            question = text_field(row, "problem", where)
            messages = ({"role": "user", "content": question},)
            thinking, response = text_field(row, "thinking", where), text_field(row, "response", where)
        boxed = last_boxed(response)
        if not boxed:
            raise DataError(f"{where}: the response has no \\boxed{{}} answer")
        meta: dict[str, Any] = {"trace_answer": boxed}
        if isinstance(row.get("is_correct"), bool):
            meta["correct"] = row["is_correct"]
        for key in ("subject", "level"):
            value = optional_text(row, key, where)
            if value:
                meta[key] = value.removeprefix("Level ")
        cut = {"paragraphs": split_paragraphs, "sentences": split_sentences, "lines": _lines}[
            self.options.steps
        ]
        return Example(
            id=_identity(row),
            question=question,
            steps=cut(thinking),
            answer=optional_text(row, "gt_answer", where) or boxed,
            solution=response,
            messages=messages,
            meta=meta,
        )

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        rng = random.Random(f"traces {seed}")
        rows = []
        for _ in range(n):
            a, b, c = (rng.randint(2, 20) for _ in range(3))
            rows.append(
                {
                    "messages": [{"role": "user", "content": f"What is {a} + {b} + {c}?"}],
                    "reasoning": f"First, {a} + {b} = {a + b}.\n\nThen {a + b} + {c} = {a + b + c}.\n\nThat seems right.",
                    "answer": rf"The sum is \boxed{{{a + b + c}}}.",
                }
            )
        return rows


def _identity(row: Mapping[str, Any]) -> str:
    """Problem and seed where a file has them: one problem may have several traces."""
    parts = [str(row[key]) for key in ("problem_id", "seed") if row.get(key) is not None]
    return "-".join(["r1", *parts]) if row.get("problem_id") is not None else ""


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())
