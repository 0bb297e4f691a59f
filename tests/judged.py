"""Samples and results made up for tests: judged by the real grader, written where `evaluate` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentthought.evaluation.results import Results, result_folder, summarize
from latentthought.evaluation.samples import SAMPLES, Sample
from latentthought.grading import grade


def judged(id: str, gold: str, *completions: str, control: str = "none", **fields: Any) -> list[Sample]:
    """The samples of one question, one for each completion."""
    found = []
    for number, completion in enumerate(completions):
        verdict = grade(completion, gold)
        sample = Sample(
            **{
                "task": "sums",
                "version": 1,
                "id": id,
                "sample": number,
                "seed": 0,
                "control": control,
                "prompt_hash": "",
                "completion": completion,
                "gold": gold,
                "extraction": verdict.extraction,
                "verdict": verdict,
                "thoughts": 2,
                "tokens": 3,
                "milliseconds": 4.0,
                **fields,
            }
        )
        found.append(sample)
    return found


def answered(right: Sequence[int], total: int, **fields: Any) -> list[Sample]:
    """One sample for each of `total` questions, those in `right` right."""
    return [s for i in range(total) for s in judged(f"q{i}", "7", "7" if i in set(right) else "8", **fields)]


def result(samples: Sequence[Sample], **fields: Any) -> Results:
    """The results of samples, as a run would report them."""
    control = samples[0].control if samples else "none"
    return Results(
        **{
            "task": "sums",
            "version": 1,
            "control": control,
            "model": "a-model",
            **summarize(samples, ["accuracy"]),
            **fields,
        }
    )


def saved(run: Path, samples: Sequence[Sample], results: Results | None = None) -> Path:
    """Write samples and results into a run folder; returns the folder they lie in."""
    results = results or result(samples)
    folder = result_folder(run, results.task, results.control)
    folder.mkdir(parents=True)
    lines = (json.dumps(sample.to_row(), ensure_ascii=False) + "\n" for sample in samples)
    (folder / SAMPLES).write_bytes("".join(lines).encode("utf-8", "replace"))
    results.save(folder)
    return folder


def by_control(right: Mapping[str, Sequence[int]], total: int) -> dict[str, Results]:
    """Results of several controls on the same questions: which of them each got right; `none` first."""
    from latentthought.evaluation.measures import correctness
    from latentthought.evaluation.statistics import paired_difference

    made: dict[str, Results] = {}
    plain = correctness(answered(right["none"], total))
    for control, hits in right.items():
        samples = answered(hits, total, control=control)
        lost = None if control == "none" else paired_difference(plain, correctness(samples))
        made[control] = result(samples, against_none=lost)
    return made
