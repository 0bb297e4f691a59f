"""Drawing words in a way that does not depend on what else is in the batch: inverse transform sampling.

Each row brings its own uniform numbers, and its word n is the one on which number n falls when the vocabulary's chances are laid
end to end. So a row is written alike alone, in any batch and on any process.
Rejected: torch's generator, whose next numbers depend on the rows beside, and a generator a row (a launch a row and word).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Draws:
    """A logits processor for one greedy `generate` without beams: it leaves the drawn word as the only one to choose.

    Args:
        uniform_BN: numbers from 0 to 1 (1 excluded), one for each row and new token. words: ids to choose from.
    """

    def __init__(
        self, uniform_BN: Sequence[Sequence[float]], words: Sequence[int], temperature: float, device: Any
    ) -> None:
        # double: chances of a large vocabulary added up in single precision would lose its rare words
        self._uniform_BN = torch.tensor(uniform_BN, dtype=torch.float64).to(device)
        self._words_W = torch.tensor(words, device=device)
        self._temperature = temperature
        self._step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        chances_BW = (scores[:, self._words_W].double() / self._temperature).softmax(-1).cumsum(-1)
        wanted_B1 = self._uniform_BN[:, self._step, None] * chances_BW[:, -1:]
        self._step += 1
        # the first word whose summed chance is above the number, so that it has one of its own; clamped for a model that
        # gives no numbers any more, which the loss will say
        place_B1 = torch.searchsorted(chances_BW, wanted_B1, right=True).clamp_max(len(self._words_W) - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, self._words_W[place_B1], 0.0)


def uniform_numbers(seeds: Sequence[str], count: int) -> list[list[float]]:
    """`count` numbers from 0 to 1 (1 excluded) for each seed; more of them begin with the same."""
    generators = [random.Random(seed) for seed in seeds]
    return [[numbers.random() for _ in range(count)] for numbers in generators]
