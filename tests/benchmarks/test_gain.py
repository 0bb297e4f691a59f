"""The table of what distillation is worth: steps to the goal, scores between and at the end, and their intervals."""

from __future__ import annotations

import pytest

from benchmarks.gain import Run, interval, table

QUICK = Run("taught", 1, 40, 1.0, 10.0, {20: 0.3, 40: 0.9, 60: 1.0})
SLOW = Run("taught", 2, 60, 0.98, 20.0, {20: 0.1, 40: 0.5, 60: 0.95})
STUCK = Run("alone", 1, None, 0.1, 30.0, {20: 0.1, 40: 0.1, 60: 0.1})


def test_interval_is_students_t() -> None:
    """Two values: 12.706 standard errors to either side."""
    assert interval([40.0, 60.0], 0) == "50 ± 127"
    assert interval([7.0], 1) == "7.0"
    assert interval([], 0) == "none"


def test_every_arm_has_its_line() -> None:
    head, _, taught, alone = table([QUICK, SLOW, STUCK], 60).splitlines()
    assert "steps to 90%" in head and "score after 60 steps" in head and "at step" not in head
    assert taught == "| taught | 40, 60 | 50 ± 127 | 100.0, 98.0 % | 99.0 ± 12.7 % | 15 |"
    assert alone == "| alone | never | none | 10.0 % | 10.0 % | 30 |"


@pytest.mark.parametrize(
    ("step", "shown"), [(40, "90.0, 50.0 %"), (50, "90.0, 50.0 %"), (900, "100.0, 95.0 %")]
)
def test_a_step_between_has_the_last_score_before_it(step: int, shown: str) -> None:
    head, rule, taught = table([QUICK, SLOW], 60, step).splitlines()
    assert f"validation at step {step}" in head
    assert head.count("|") == rule.count("|") == taught.count("|")
    assert f"| {shown} |" in taught
