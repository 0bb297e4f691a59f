"""One batch made ready for feedback: what is asked for is checked here, so that the passes can trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentthought.errors import ConfigError
from latentthought.model.backbone import positions_of
from latentthought.thoughts.mixing import BlendRule, MixRatio, draw_positions


@dataclass(frozen=True)
class ThoughtInputs:
    """One batch whose thought columns are to be filled.

    embeddings: (B, T, D). attention_mask, position_ids, thought_mask (bool): (B, T).
    ratio: mix ratio, a float or (B, T); already drawn for the bernoulli rule.
    thought_columns: ascending columns in which at least one row may think.
    """

    embeddings: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    thought_mask: Tensor
    ratio: MixRatio
    thought_columns: tuple[int, ...]

    @classmethod
    def prepare(
        cls,
        embeddings: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        thought_mask: Tensor,
        ratio: MixRatio,
        thought_columns: tuple[int, ...],
        rule: BlendRule,
    ) -> ThoughtInputs:
        """Fill in mask and positions, and draw the latent positions of the bernoulli rule, once for all passes."""
        if isinstance(ratio, Tensor):
            ratio = _for_each_position(ratio.to(embeddings.device), thought_mask)
        mask = torch.ones_like(thought_mask, dtype=torch.long) if attention_mask is None else attention_mask
        return cls(
            embeddings=embeddings,
            attention_mask=mask,
            position_ids=positions_of(mask) if position_ids is None else position_ids,
            thought_mask=thought_mask.bool(),
            ratio=draw_positions(ratio, thought_mask) if rule == "bernoulli" else ratio,
            thought_columns=thought_columns,
        )

    def part(self, start: int, stop: int) -> str:
        """What a pass over columns [start, stop) is a part of, for `model.spans`: the last thought shares its pass with the rest,
        and jacobi's first update its own with the prefix."""
        if stop == self.embeddings.shape[1]:
            return "rest"
        return "thoughts" if start else "prefix"

    @property
    def start(self) -> int:
        """First thought column."""
        return self.thought_columns[0]

    @property
    def stop(self) -> int:
        """One past the last thought column."""
        return self.thought_columns[-1] + 1


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Ids (B, T) of prompts that end in one column, and their attention mask."""
    width = max(map(len, prompts))
    ids_BT = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for row, prompt in enumerate(prompts):
        ids_BT[row, width - len(prompt) :] = torch.as_tensor(prompt, dtype=torch.long)
        mask_BT[row, width - len(prompt) :] = 1
    return ids_BT, mask_BT


def _for_each_position(ratio: Tensor, thought_mask: Tensor) -> Tensor:
    """A mix ratio of any shape that broadcasts to (B, T), as (B, T)."""
    try:
        return ratio.expand(thought_mask.shape)
    except RuntimeError:
        raise ConfigError(
            f"mix_ratio: shape {tuple(ratio.shape)} does not broadcast to (B, T) = {tuple(thought_mask.shape)}"
        ) from None


def find_columns(
    thought_mask: Tensor, attention_mask: Tensor | None, given: tuple[int, int] | None
) -> tuple[int, ...]:
    """Columns in which some row thinks: `given` as (start, stop), or read off the mask, which waits for the device.

    Raises ConfigError for columns beyond the row, for a thought without a state before it, and for thoughts outside the
    given columns; on an accelerator the last two only where columns are not given, since looking waits for the device.
    """
    if given is not None:
        start, stop = given
        if not 0 <= start <= stop <= thought_mask.shape[1]:
            raise ConfigError(
                f"thought_columns: {given} is no (start, stop) within the {thought_mask.shape[1]} columns of the batch"
            )
        columns = tuple(range(*given))
    else:
        columns = tuple(thought_mask.any(0).nonzero().flatten().tolist())
    if columns and columns[0] == 0:
        raise ConfigError(
            "thought_mask: a thought at column 0 has no state before it; a row starts with at least one token"
        )
    if given is None or thought_mask.device.type == "cpu":
        _check_places(thought_mask, attention_mask, columns)
    return columns


def _check_places(thought_mask: Tensor, attention_mask: Tensor | None, columns: tuple[int, ...]) -> None:
    inside = torch.zeros(thought_mask.shape[1], dtype=torch.bool, device=thought_mask.device)
    inside[list(columns)] = True
    if (thought_mask.bool() & ~inside).any():
        span = (columns[0], columns[-1] + 1) if columns else (0, 0)
        raise ConfigError(f"thought_mask: thoughts outside thought_columns={span}")
    if attention_mask is not None and (thought_mask[:, 1:].bool() & ~attention_mask[:, :-1].bool()).any():
        raise ConfigError("thought_mask: a thought at a row's first position has no state before it")
