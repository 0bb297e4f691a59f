"""Several samples a question: pass@k and maj@k as expectations over every choice of k of the n samples.

Taking the first k samples, or drawing some k of them, adds noise that the other samples could have removed. Both numbers here
are exact: what the average over all k-subsets would be, and so unbiased for k fresh samples (Chen et al. 2021,
arXiv:2107.03374, for pass@k). A vote counts classes of equivalent answers, not strings; a tie is shared evenly among the
classes in it; a sample without an answer does not vote, and where nobody votes nothing is right.

Cost: pass@k is closed; maj@k is a table of (samples drawn, classes tied) for every count the right class may win with, in
which only classes that large matter: below 1 ms for 16 samples, about 10 ms for 64 in 10 classes, remembered by class sizes.
Rejected: enumerating subsets (10^18 of them at 64 samples), and Monte Carlo (noise beside a closed answer).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import Any, NamedTuple

from latentthought.evaluation.samples import Sample
from latentthought.grading import GradePolicy, equivalent

# above, the counts of subsets do not fit into a float, and exact integers (slower) are used
_FLOAT_SAMPLES = 1000


class Ballot(NamedTuple):
    """The votes of one question's samples. right: size of the class of right answers; others: sizes of the other classes,
    largest first; abstentions: samples without an answer."""

    right: int
    others: tuple[int, ...]
    abstentions: int

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return self.right + sum(self.others) + self.abstentions


def ballot(samples: Sequence[Sample], policy: GradePolicy = GradePolicy()) -> Ballot:
    """Count the votes of one question's samples. What was judged right is one class; the other answers form classes by
    grading equivalence with a class's first answer."""
    right = sum(sample.verdict.correct for sample in samples)
    texts: dict[str, int] = {}
    abstentions = 0
    for sample in samples:
        answer = sample.extraction.answer
        if sample.verdict.correct:
            continue
        if answer is None or not answer.strip():
            abstentions += 1
        else:
            texts[answer.strip()] = texts.get(answer.strip(), 0) + 1
    classes: dict[str, int] = {}
    for text, count in texts.items():
        known = next((other for other in classes if _same(text, other, policy)), text)
        classes[known] = classes.get(known, 0) + count
    return Ballot(right, tuple(sorted(classes.values(), reverse=True)), abstentions)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that k of n samples, drawn without replacement, hold a right one: 1 - C(n - c, k) / C(n, k)."""
    _check(n, correct, k)
    return 1.0 - comb(n - correct, k) / comb(n, k)


def maj_at_k(ballot: Ballot, k: int) -> float:
    """Chance that the vote of k of the samples, drawn without replacement, is right; a tie of t classes counts 1/t."""
    _check(ballot.samples, ballot.right, k)
    if not ballot.right:
        return 0.0
    return _majorities(*ballot)[k - 1]


def counts_of_samples(n: int) -> list[int]:
    """The k that are reported for n samples: 1, 2, 4, ... and n."""
    powers = [1 << power for power in range(n.bit_length()) if 1 << power < n]
    return [*powers, n] if n else []


def _check(n: int, correct: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k: between 1 and the {n} samples there are (got {k})")
    if not 0 <= correct <= n:
        raise ValueError(f"right samples: between 0 and {n} (got {correct})")


def _same(a: str, b: str, policy: GradePolicy) -> bool:
    # as `grade` has it: beyond that length only equal texts agree, and those are one already
    return max(len(a), len(b)) <= policy.maximum_length and equivalent(a, b, policy)[0]


@lru_cache(maxsize=65_536)
def _majorities(right: int, others: tuple[int, ...], abstentions: int) -> tuple[float, ...]:
    """maj@k for every k from 1 to the number of samples."""
    n = right + sum(others) + abstentions
    exact = n > _FLOAT_SAMPLES
    won: list[Any] = [0] * (n + 1)
    for votes in range(1, right + 1):
        for ties, row in enumerate(_rests(others, abstentions, votes, exact)):
            share = comb(right, votes) * (Fraction(1, ties + 1) if exact else 1 / (ties + 1))
            for drawn, count in enumerate(row):
                if count:
                    won[votes + drawn] += share * count
    return tuple(min(1.0, float(won[k] / comb(n, k))) for k in range(1, n + 1))


def _rests(others: tuple[int, ...], abstentions: int, votes: int, exact: bool) -> list[list[Any]]:
    """ways[t][u]: ways to draw u samples that are not right so that no class has more than `votes` and t classes have as many.

    A class smaller than `votes` can neither win nor tie, so all of those are one pool with the abstentions.
    """
    import numpy as np

    number = int if exact else float  # an integer beyond 64 bits would make objects of the floats it meets
    rivals = [size for size in others if size >= votes]
    pool = abstentions + sum(size for size in others if size < votes)
    ways = np.zeros((len(rivals) + 1, pool + sum(rivals) + 1), dtype=object if exact else float)
    ways[0, : pool + 1] = [comb(pool, drawn) for drawn in range(pool + 1)]
    for size in rivals:
        added = np.zeros_like(ways)
        for drawn in range(votes):
            added[:, drawn:] += number(comb(size, drawn)) * ways[:, : ways.shape[1] - drawn]
        added[1:, votes:] += number(comb(size, votes)) * ways[:-1, : ways.shape[1] - votes]
        ways = added
    rows: list[list[Any]] = ways.tolist()
    return rows
