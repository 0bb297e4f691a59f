"""pass@k and maj@k against the enumeration of every subset."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest

from latentthought.evaluation.voting import Ballot, ballot, counts_of_samples, maj_at_k, pass_at_k
from latentthought.grading import GradePolicy
from tests.judged import judged


def enumerated(votes: Ballot, k: int) -> tuple[float, float]:
    """(pass@k, maj@k) by looking at every subset of k samples."""
    names: list[str | None] = ["right"] * votes.right + [None] * votes.abstentions
    for place, size in enumerate(votes.others):
        names += [f"other {place}"] * size
    passed = voted = total = 0.0
    for subset in combinations(names, k):
        total += 1
        passed += "right" in subset
        counted = Counter(name for name in subset if name is not None)
        most = max(counted.values(), default=0)
        winners = [name for name, count in counted.items() if count == most]
        voted += ("right" in winners) / max(1, len(winners))
    return passed / total, voted / total


def test_every_subset_is_counted() -> None:
    draw = random.Random(0)
    seen = 0
    while seen < 60:
        votes = Ballot(
            draw.randint(0, 5),
            tuple(sorted((draw.randint(1, 4) for _ in range(draw.randint(0, 4))), reverse=True)),
            draw.randint(0, 2),
        )
        if not 1 <= votes.samples <= 12:
            continue
        seen += 1
        for k in range(1, votes.samples + 1):
            passed, voted = enumerated(votes, k)
            assert pass_at_k(votes.samples, votes.right, k) == pytest.approx(passed, abs=1e-12), (votes, k)
            assert maj_at_k(votes, k) == pytest.approx(voted, abs=1e-12), (votes, k)


def test_known_values() -> None:
    assert pass_at_k(10, 1, 10) == 1.0
    assert pass_at_k(10, 0, 5) == 0.0
    assert pass_at_k(200, 10, 1) == pytest.approx(0.05)
    assert maj_at_k(Ballot(2, (2,), 0), 4) == 0.5, "a tie of two is half"
    assert maj_at_k(Ballot(1, (1, 1), 0), 3) == pytest.approx(1 / 3)
    assert maj_at_k(Ballot(1, (), 3), 4) == 1.0, "those who say nothing do not vote"
    assert maj_at_k(Ballot(0, (), 4), 2) == 0.0, "where nobody votes nothing is right"
    assert maj_at_k(Ballot(3, (5,), 0), 8) == 0.0


@pytest.mark.parametrize("k", [0, 5, -1])
def test_more_than_there_are(k: int) -> None:
    with pytest.raises(ValueError, match="between 1 and the 4 samples"):
        pass_at_k(4, 1, k)
    with pytest.raises(ValueError, match="between 1 and the 4 samples"):
        maj_at_k(Ballot(1, (3,), 0), k)


def test_many_samples() -> None:
    """Beyond what floats can count, by exact integers: one right among 1,100 that say nothing is always the vote's choice."""
    assert maj_at_k(Ballot(1, (), 1100), 551) == pytest.approx(pass_at_k(1101, 1, 551), abs=1e-12)
    assert maj_at_k(Ballot(1, (1,), 1100), 1102) == 0.5
    # a large majority of a large vote is all but certain; at k = 1 it is the share
    found = maj_at_k(Ballot(48, (8, 4, 2, 1, 1), 0), 32)
    assert 0.999 < found <= 1.0
    assert maj_at_k(Ballot(48, (8, 4, 2, 1, 1), 0), 1) == pytest.approx(0.75)


def test_equivalent_answers_vote_together() -> None:
    samples = judged("q", "7", r"\boxed{1/2}", r"\boxed{0.5}", r"\boxed{7}", r"\boxed{7.0}", r"\boxed{9}", "")
    assert ballot(samples) == Ballot(2, (2, 1), 1)
    percent = judged("q", "7", r"\boxed{50\%}", r"\boxed{0.5}")
    assert ballot(percent, GradePolicy(percent="value")) == Ballot(0, (2,), 0)
    assert ballot(percent, GradePolicy(percent="sign")) == Ballot(0, (1, 1), 0)


def test_which_k_are_reported() -> None:
    assert counts_of_samples(0) == []
    assert counts_of_samples(1) == [1]
    assert counts_of_samples(6) == [1, 2, 4, 6]
    assert counts_of_samples(8) == [1, 2, 4, 8]
