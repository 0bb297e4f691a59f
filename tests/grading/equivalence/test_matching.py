"""Matchings of items, against trying every order."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from latentthought.grading.equivalence.matching import match_ordered, match_sets, match_unordered

_ITEMS = st.lists(st.integers(0, 12), max_size=6)


def _near(a: int, b: int) -> bool:
    """Not transitive, as rounding is not."""
    return abs(a - b) <= 1


@given(_ITEMS, _ITEMS)
def test_unordered_finds_an_order_when_there_is_one(a: list[int], b: list[int]) -> None:
    # the items of `b` as floats with a half are never equal to those of `a`, so that nothing is cancelled beforehand
    shifted = [item + 0.25 for item in b]
    expected = len(a) == len(b) and any(all(map(_near, a, order)) for order in permutations(shifted))
    assert match_unordered(a, shifted, _near) is expected
    assert match_unordered(shifted, a, _near) is expected


def test_the_first_partner_is_not_always_the_right_one() -> None:
    assert match_unordered([1, 0], [0.5, 1.5], lambda x, y: abs(x - y) <= 0.5)


@given(_ITEMS, _ITEMS)
def test_sets_and_order(a: list[int], b: list[int]) -> None:
    equal = int.__eq__
    assert match_ordered(a, b, equal) is (a == b)
    assert match_sets(a, b, equal) is (set(a) == set(b))
    assert match_unordered(a, b, equal) is (sorted(a) == sorted(b))


def test_too_many_items_are_not_compared() -> None:
    calls = []

    def same(x: int, y: int) -> bool:
        calls.append((x, y))
        return False

    assert not match_unordered(range(65), range(65), same)
    assert not match_unordered(range(25), range(100, 125), same)
    assert not match_sets(range(25), range(100, 130), same)
    assert not calls
    assert match_unordered(range(64), range(63, -1, -1), same) and not calls
