"""What may be graded: two texts and a policy. Anything else is the caller's mistake, said before it becomes a verdict."""

from __future__ import annotations

from latentthought.grading.policy import GradePolicy


def check_types(prediction: object, gold: object, policy: object) -> None:
    """`TypeError` unless these are two texts and a policy: a gold that is a number or missing is a fault of the data."""
    for name, value in (("prediction", prediction), ("gold", gold)):
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected text, got {type(value).__name__} {value!r:.60}")
    if not isinstance(policy, GradePolicy):
        raise TypeError(
            f"policy: expected a GradePolicy, got {type(policy).__name__}; GradePolicy.parse reads a dict"
        )
