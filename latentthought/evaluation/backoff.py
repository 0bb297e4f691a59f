"""Work on slices of rows that shrink where memory runs out, and stay small.

A slice that does not fit is halved, and so is every one behind it. Where that happened is kept (`state`), because what a batch
samples, or is fed of its neighbours, depends on who is in it: a resumed run that is told takes the same slices again, instead of
finding out anew under what memory there is then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from latentthought.errors import LatentThoughtError
from latentthought.memory import is_out_of_memory

Row = TypeVar("Row")
Made = TypeVar("Made")


class Backoff:
    """`size` rows at once to begin with.

    halved: (batch, row, size) for every place from which there are only `size` rows at once; those of an interrupted run may be
    given. noted: called with `state` after every halving.
    """

    def __init__(
        self,
        size: int,
        halved: Sequence[Sequence[int]] = (),
        noted: Callable[[Mapping[str, Any]], None] | None = None,
    ):
        self.size = size
        self.halved = [(batch, row, rows) for batch, row, rows in halved]
        self._noted = noted

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed run has to know, plain JSON data."""
        return {"size": self.size, "halved": [list(place) for place in self.halved]}

    def run(
        self,
        rows: Sequence[Row],
        work: Callable[[Sequence[Row]], Made],
        tokens: Callable[[Row], int],
        batch: int = 0,
    ) -> Iterator[tuple[Sequence[Row], Made]]:
        """`work` on one slice of `rows` after the other. batch: their place among the batches, which are run in rising order.

        Raises `LatentThoughtError` when one row alone does not fit, with its number of `tokens`.
        """
        start = 0
        while start < len(rows):
            piece = rows[start : start + self._size_at(batch, start)]
            made = _attempt(work, piece)
            if made is not None:
                start += len(piece)
                yield piece, made[0]
                continue
            from latentthought.model.sharding import sharded

            if sharded():
                raise LatentThoughtError(
                    f"out of memory with {len(piece)} rows, and processes that share the weights take equal batches: lower "
                    "evaluation.batch_size"
                )
            if len(piece) == 1:
                raise LatentThoughtError(
                    f"out of memory with a batch of one row ({tokens(piece[0])} prompt tokens); "
                    "ask for fewer new tokens, or use a smaller dtype"
                )
            self.halved.append((batch, start, len(piece) // 2))
            if self._noted is not None:
                self._noted(self.state)

    def _size_at(self, batch: int, row: int) -> int:
        return min([self.size, *(size for *place, size in self.halved if place <= [batch, row])])


def _attempt(work: Callable[[Sequence[Row]], Made], rows: Sequence[Row]) -> tuple[Made] | None:
    """What `work` made, in a tuple; None when memory ran out."""
    import torch

    try:
        return (work(rows),)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # outside of the handler, so that the traceback no longer holds the tensors
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
