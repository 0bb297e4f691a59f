"""Hops: follow links through a shuffled cycle, the smallest task that needs serial steps.

`c f k a ... ? c` gives the pairs c->f, k->a, ... of one cycle through all symbols and asks where so many links lead from c.
Each step is one look-up that needs the one before, the number of links is fixed (so nothing about it can be read off the
prompt), and every symbol is one token for a word tokenizer. With n symbols there are (n-1)! tables: 5,040 for 8, 39.9 million
for 12. A table's split is a hash of the cycle turned so that it starts at the first symbol, so test tables are never seen in
training, under any seed, starting symbol or order of the pairs.
Rejected: random permutations with several cycles (short cycles make far links easy).
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.data.example import Example
from latentthought.data.synthetic.splits import belongs


class HopsOptions(Config):
    """symbols on the cycle; links to follow; what stands between two symbols of a pair, and between two pairs.

    `*_rows`: rows of a split when no `limit` is given.
    """

    symbols: int = Field(default=12, ge=6, le=26)
    links: int = Field(default=5, ge=1)
    link_mark: str = " "
    pair_mark: str = " "
    train_rows: int = Field(default=100_000, ge=1)
    validation_rows: int = Field(default=1_000, ge=1)
    test_rows: int = Field(default=2_000, ge=1)

    @model_validator(mode="after")
    def _holds(self) -> HopsOptions:
        if self.links >= self.symbols:
            raise ValueError(
                f"links ({self.links}) must be below symbols ({self.symbols}): a whole round leads nowhere"
            )
        return self


def generate(options: HopsOptions, split: str, n: int | None, seed: int) -> Iterator[Example]:
    """`n` examples (None: without end) of a split; a longer run starts with the rows of a shorter one.

    `steps` are the symbols on the way, the last one being `answer`; `meta`: `start`, `choices` (all symbols).
    """
    rng = random.Random(f"hops {split} {seed}")
    symbols = string.ascii_lowercase[: options.symbols]
    size, links = options.symbols, options.links
    # a shared tuple: a hundred thousand rows hold it once
    choices = tuple(symbols)
    others = list(symbols[1:])
    made = 0
    while n is None or made < n:
        rng.shuffle(others)
        cycle = symbols[0] + "".join(others)
        if not belongs(cycle.encode(), split):
            continue
        ring = cycle + cycle
        order = list(range(size))
        rng.shuffle(order)
        start = rng.randrange(size)
        pairs = options.pair_mark.join([ring[i] + options.link_mark + ring[i + 1] for i in order])
        steps = tuple(ring[(start + step) % size] for step in range(1, links + 1))
        yield Example(
            id=f"hops/{split}/{seed}-{made}",
            question=f"{pairs} ? {ring[start]}",
            steps=steps,
            answer=steps[-1],
            meta={"start": ring[start], "choices": choices},
        )
        made += 1
