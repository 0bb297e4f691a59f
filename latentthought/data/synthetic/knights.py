"""Knights and knaves as a chain, the smallest logic puzzle that has to be deduced one person after the other.

Knights tell the truth, knaves lie. The narrator gives one person's kind, that person says a second one's, the second a third
one's, and so on; all but the narrator's sentence are shuffled. Each deduction is two look-ups (who is spoken of by the person
just known, and as what) and one exclusive or, the number of deductions is fixed, and exactly one solution breaks no statement.
With n people there are n! 2^n puzzles: 3,840 of 5, 645,120 of 7. The split is a hash of the chain with everybody's kind, so no
puzzle of one split occurs in another, in any order of its statements, under any seed; within a split rows may repeat.
Rejected: the statements of two clauses that the published puzzles have (Xie et al. 2024, arXiv:2410.23123; source
`knights-knaves`): those are searched, not followed, and a search has no fixed number of steps. And steps without the claim: two
sentences speak of or by the same person, and a small model takes the mean of both and stays with that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

from pydantic import Field

from latentthought.config import Config
from latentthought.data.example import Example
from latentthought.data.synthetic.splits import belongs

NAMES = ("Ann", "Bob", "Cy", "Dan", "Eve", "Fay", "Gus", "Hal")


class KnightsOptions(Config):
    """people: the first so many of the names. `*_rows`: rows of a split when no `limit` is given."""

    people: int = Field(default=5, ge=3, le=len(NAMES))
    train_rows: int = Field(default=50_000, ge=1)
    validation_rows: int = Field(default=500, ge=1)
    test_rows: int = Field(default=1_000, ge=1)


def generate(options: KnightsOptions, split: str, n: int | None, seed: int) -> Iterator[Example]:
    """`n` examples (None: without end) of a split; a longer run starts with the rows of a shorter one.

    `steps`: everybody but the first of the chain in the order of deduction, each with what is said of him and what he is
    (`Dan knight knave`: Dan is called a knight, and is a knave). `answer`: everybody's kind, in alphabetical order.
    `meta`: `solution` (name -> knight or knave), `level` (number of people), as in `knights-knaves`.
    """
    rng = random.Random(f"knights {split} {seed}")
    names = NAMES[: options.people]
    made = 0
    while n is None or made < n:
        chain = rng.sample(names, len(names))
        kinds = {name: rng.choice(("knight", "knave")) for name in names}
        if not belongs(" ".join(f"{name} {kinds[name]}" for name in chain).encode(), split):
            continue
        yield _example(rng, chain, kinds, f"knights-generated/{split}/{seed}-{made}")
        made += 1


def _example(rng: random.Random, chain: list[str], kinds: dict[str, str], id: str) -> Example:
    said, steps = [], []
    for speaker, other in pairwise(chain):
        # one of the speaker's own kind is a knight to both of them: the one says so truly, the other lies about a knave
        claim = "knight" if kinds[speaker] == kinds[other] else "knave"
        said.append(f"{speaker} says {other} is a {claim}.")
        steps.append(f"{other} {claim} {kinds[other]}")
    rng.shuffle(said)
    return Example(
        id=id,
        question=f"{' '.join(said)} {chain[0]} is a {kinds[chain[0]]}.",
        steps=tuple(steps),
        answer=", ".join(f"{name} is a {kind}" for name, kind in kinds.items()),
        meta={"solution": kinds, "level": str(len(chain))},
    )
