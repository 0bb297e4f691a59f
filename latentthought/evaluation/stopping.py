"""Strings that end a generation.

A stop string is looked for in the text of the last few tokens, row by row, so that it may be split over tokens in any way; a
row that has met one is finished, and the batch goes on for the others. Rejected: transformers' own `stop_strings`, which also
match across the end of the prompt ("\\n\\n" after a prompt that ends in a line break).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class UntilStrings:
    """Ends a row when the text of its new tokens holds one of `until`: a stopping criterion of transformers' `generate`.

    width: columns of the prompt. opened_by: a token id that a row has to have written before stop strings count, and after
    which they are looked for (the end of written reasoning, which may hold any string); None for from the start.
    """

    def __init__(self, tokenizer: Any, until: Sequence[str], width: int, opened_by: int | None = None):
        self.tokenizer, self.until, self.width, self.opened_by = tokenizer, tuple(until), width, opened_by
        # a token holds a byte at least; two more, since some tokenizers drop the space in front of the first
        self.reach = max(len(text.encode()) for text in self.until) + 2

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """(B, T) ids so far -> (B,) whether a row is finished."""
        import torch

        rows = input_ids[:, self.width :].tolist()
        texts = self.tokenizer.batch_decode([self._seen(row) for row in rows], skip_special_tokens=True)
        met = [any(stop in text for stop in self.until) for text in texts]
        return torch.tensor(met, device=input_ids.device)

    def _seen(self, row: list[int]) -> list[int]:
        if self.opened_by is not None:
            if self.opened_by not in row:
                return []
            row = after_last(row, self.opened_by)
        return row[-self.reach :]


def until(tokenizer: Any, stops: Sequence[str], width: int, opened_by: int | None = None) -> Any:
    """`stopping_criteria` for transformers' `generate` (see `UntilStrings`)."""
    from transformers import StoppingCriteriaList

    return StoppingCriteriaList([UntilStrings(tokenizer, stops, width, opened_by)])


def after_last(ids: list[int], token: int | None) -> list[int]:
    """The ids behind the last `token`; all of them where there is none."""
    if token is None or token not in ids:
        return ids
    return ids[len(ids) - ids[::-1].index(token) :]
