"""Two lists of items laid beside each other: in order, one to one in any order, or as sets.

Being the same is not transitive where rounding is allowed, so that taking the first partner that fits can fail where a matching
exists: unordered items are matched along augmenting paths. At most 64 items, and 24 once the equal ones are taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Same = Callable[[Item, Item], bool]

MAXIMUM_ITEMS = 64
_MAXIMUM_UNEQUAL = 24


def match_ordered(a: Sequence[Item], b: Sequence[Item], same: Same[Item]) -> bool:
    """Whether the lists are equally long and the same item by item."""
    return len(a) == len(b) <= MAXIMUM_ITEMS and all(same(x, y) for x, y in zip(a, b, strict=True))


def match_unordered(a: Sequence[Item], b: Sequence[Item], same: Same[Item]) -> bool:
    """Whether some order of `b` is `a` item by item."""
    if len(a) != len(b) or len(a) > MAXIMUM_ITEMS:
        return False
    left, right = _without_equal(a, b)
    if len(left) > _MAXIMUM_UNEQUAL:
        return False
    known: dict[tuple[int, int], bool] = {}
    partner: dict[int, int] = {}  # of an item on the right

    def fits(i: int, j: int) -> bool:
        if (i, j) not in known:
            known[i, j] = same(left[i], right[j])
        return known[i, j]

    def place(i: int, tried: set[int]) -> bool:
        for j in range(len(right)):
            if j in tried or not fits(i, j):
                continue
            tried.add(j)
            if j not in partner or place(partner[j], tried):
                partner[j] = i
                return True
        return False

    return all(place(i, set()) for i in range(len(left)))


def match_sets(a: Sequence[Item], b: Sequence[Item], same: Same[Item]) -> bool:
    """Whether every item of one is an item of the other, however often it is written."""
    if max(len(a), len(b)) > MAXIMUM_ITEMS:
        return False
    if len(a) == len(b) and match_unordered(a, b, same):
        return True
    left, right = list(dict.fromkeys(a)), list(dict.fromkeys(b))
    if max(len(left), len(right)) > _MAXIMUM_UNEQUAL:
        return False
    return all(any(same(x, y) for y in right) for x in left) and all(
        any(same(x, y) for x in left) for y in right
    )


def _without_equal(a: Sequence[Item], b: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Both lists without the items that the other has as well: most of a list is written the same way."""
    left, right = [], list(b)
    for item in a:
        if item in right:
            right.remove(item)
        else:
            left.append(item)
    return left, right
