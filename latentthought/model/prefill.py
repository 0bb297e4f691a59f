"""A prompt is read once, however many samples or beams are made of it.

transformers' `generate` copies a prompt for each of its samples and beams before it reads it, so that k samples cost k prefills.
Here every column of a prompt but the last is read once, its keys and values are copied, and `generate` goes on from them as it
goes on after any word: its first pass runs the last column, of every copy. For B prompts of T columns that is B (T - 1) + k B
columns instead of k B T, in one pass more, and no more memory: the copied cache is as large as it would have been. The draws of
samples stay the same; logits agree to rounding, since T columns are no longer summed up in one product.

Rejected: sharing keys and values in memory too (it takes attention kernels that know which rows share what), running the last
column once as well (its logits would have to be handed to a token loop of our own).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from latentthought.model.backbone import positions_of

if TYPE_CHECKING:
    from latentthought.model.thinker import Thinker


def own_cache(model: Thinker) -> DynamicCache | None:
    """An empty cache as the base's own `generate` would make it.

    None for models that keep more than keys and values (states of linear attention), whose rows transformers does not copy, and
    for those that take no positions (ALiBi), which `Backbone.run` would give them.
    """
    takes_positions = "position_ids" in inspect.signature(model.base.forward).parameters
    if not (takes_positions and model.base._supports_default_dynamic_cache()):
        return None
    cache = DynamicCache(config=model.base.config.get_text_config(decoder=True))
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
    return cache if plain else None


def prefill_once(
    model: Thinker,
    cache: DynamicCache,
    copies: int,
    attention_mask: Tensor,
    input_ids: Tensor | None = None,
    embeds: Tensor | None = None,
) -> None:
    """Read all columns but the last of prompts that end in one column, and copy the rows of `cache` for each of `copies`.

    Args:
        cache: empty; extended in place.
        attention_mask: (B, T). input_ids: (B, T), or embeds: (B, T, D).

    Nothing is done where nothing is to be shared: for one copy, and for prompts of one column.
    """
    last = attention_mask.shape[1] - 1
    if copies == 1 or last == 0:
        return
    columns, ids = (None if part is None else part[:, :last] for part in (embeds, input_ids))
    # as transformers does: the mask of rows without padding would only cost time
    mask = None if bool(attention_mask.all()) else attention_mask[:, :last]
    model.backbone.run(columns, mask, positions_of(attention_mask)[:, :last], cache, input_ids=ids)
    cache.batch_repeat_interleave(copies)
