"""The files of labelled cases. The rules were written beside `development`; `held_out` was written without sight of them, and
what it showed has been corrected since: neither measures any longer how the grader does on cases that it has not seen. `audit`
was written without sight of the grader too, and no rule but one (a count of digits beside an integer) was changed for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latentthought.grading import GradePolicy, grade

CASES = Path(__file__).parent / "cases"
# (prediction, gold) that are accepted and should not be: an aside after the answer, where a second value stands
KNOWN_FALSE_ACCEPTS = {
    ("**Answer:** The rectangle's perimeter is **48 cm** (its area is 135 cm²).", "135"),
}


@pytest.mark.parametrize("name", ["development", "held_out", "audit"])
def test_agreement_with_people(name: str) -> None:
    rows = [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    differing, accepted = [], set()
    for row in rows:
        verdict = grade(row["prediction"], row["gold"], GradePolicy.parse(row.get("policy") or {}))
        if verdict.status != row["label"]:
            differing.append((row["prediction"], row["gold"], row["label"], verdict.status))
            if verdict.correct:
                accepted.add((row["prediction"], row["gold"]))
    assert len(rows) >= 300
    assert len(differing) <= 0.01 * len(rows), differing
    assert accepted <= KNOWN_FALSE_ACCEPTS
