"""Looking into the passes that make thoughts: what each block's state would say (the logit lens), and where it looks.

Thought k is the state at the column before its own: at the last word before the thoughts for the first, at thought k - 1 for the
others. So what is read off that column, block by block, is how the thought came about, and the last reading, after the final
norm, is exactly what the head says of the thought itself (nostalgebraist 2020: final norm and head on the states of earlier
blocks, which were never trained to be read so).

The columns before are run once with whatever attention the model uses, and the few that are looked at with eager attention over
the cache: their weights are (H, columns, all columns) a block, not the square of a long prompt.
Rejected: hooks into attention modules (every family names them differently; transformers hands the weights out itself).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from latentthought.errors import UnsupportedError
from latentthought.model.capture import capturing
from latentthought.model.think import DecodedThoughts

if TYPE_CHECKING:
    from latentthought.model.thinker import Thinker

# how far the final norm of a block's state may be from the state that the head gets, relative to its size: rounding in bf16
_SAME = 0.05


@dataclass(frozen=True)
class Columns:
    """What was read off P columns of one row of W columns.

    words: [block - 1] -> the k most probable tokens of each column, ids and probabilities (1, P, k); the last block's after the
        final norm, which is what the head gets.
    attention: (L, P, W), the mean over heads of each block, on the CPU; None for a model that hands out no weights.
    """

    words: tuple[DecodedThoughts, ...]
    attention: Tensor | None


@torch.no_grad()
def read_columns(model: Thinker, embeds: Tensor, first: int, top_k: int) -> Columns:
    """Read columns `first` to the end of one row of input embeddings (1, W, D).

    Raises: UnsupportedError for a model with no single norm between its last block and its head.
    """
    base, blocks = model.base, range(1, model.backbone.blocks + 1)
    positions = torch.arange(embeds.shape[1], device=embeds.device)[None]
    cache = DynamicCache()
    if first:
        model.backbone.run(embeds[:, :first], None, positions[:, :first], cache)
    with eager_attention(base), capturing(base, blocks) as states:
        output = base.base_model(
            inputs_embeds=embeds[:, first:],
            position_ids=positions[:, first:],
            past_key_values=cache,
            use_cache=True,
            output_attentions=True,
        )
    final = output.last_hidden_state
    norm = final_norm(base, states[blocks[-1]], final)
    words = []
    for block in blocks:
        hidden = final if block == blocks[-1] else norm(states[block])
        probabilities, ids = (
            model.backbone.head(hidden).float().softmax(-1).topk(min(top_k, model.backbone.vocabulary))
        )
        words.append(DecodedThoughts(ids, probabilities))
    weights = [layer for layer in output.attentions or () if layer is not None]
    attention = torch.stack([layer[0].float().mean(0).cpu() for layer in weights]) if weights else None
    return Columns(tuple(words), attention)


def final_norm(base: PreTrainedModel, last: Tensor, final: Tensor) -> nn.Module:
    """The norm between the last block and the head: that child of the decoder which turns `last` into `final`.

    Found by what it does, since families name it differently (`norm`, `ln_f`, `final_layer_norm`) and some have others beside it.
    """
    for child in base.get_decoder().children():
        if "norm" in type(child).__name__.lower():
            distance = (child(last).float() - final.float()).norm() / final.float().norm()
            if distance < _SAME:
                return child
    raise UnsupportedError(
        f"{type(base).__name__}: found no norm between its last block and its head, "
        "so that the states of other blocks cannot be read"
    )


@contextmanager
def eager_attention(base: PreTrainedModel) -> Iterator[None]:
    """Attention whose weights can be seen, and the model's own again afterwards."""
    before = base.config._attn_implementation
    if before == "eager":
        yield
        return
    base.set_attn_implementation("eager")
    try:
        yield
    finally:
        base.set_attn_implementation(before)
