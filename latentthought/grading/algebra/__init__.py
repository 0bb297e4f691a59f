"""Whether two expression trees have the same value, in bounded time."""

from latentthought.grading.algebra.values import (
    approximate,
    evaluate_at,
    is_simplified,
    order,
    proportional,
    same_value,
    value,
)

__all__ = ["approximate", "evaluate_at", "is_simplified", "order", "proportional", "same_value", "value"]
