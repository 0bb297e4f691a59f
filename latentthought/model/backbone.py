"""What we need of a Hugging Face causal language model, and no more: embed, run a cached pass, apply the head.

A pass takes input embeddings for some columns and the cache of all columns before them. Caches are `DynamicCache`s without a
config, plain or reserved (`model.cache`), whose layers all keep every column, sliding-window layers too: transformers then masks
by window itself, and columns can be cropped, gathered and rebuilt. That costs memory beyond the window and buys one rule for
every family.

Gradient checkpointing of transformers drops the cache inside its layers, silently, so a whole pass is the unit here: its inputs
(embeddings, and keys and values of the columns before) are kept, its inside is recomputed. A pass over many columns is cut into
pieces of some, since the inside of one is what a step holds at once (not where parameters are spread over ranks, which would
have to cut alike). A pass without cache uses the base's own per-layer checkpointing, which is exact there and saves more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, PreTrainedModel

from latentthought.errors import ConfigError
from latentthought.model.cache import ReservedCache, flatten_cache, rebuild_cache
from latentthought.model.capture import block_count, capturing
from latentthought.model.sharding import recomputing, sharded, whole_shape
from latentthought.model.shared_products import SharedProducts
from latentthought.model.tied_table import TiedTable

# columns of a recomputed piece of a pass, about, and how many pieces there are at most
PIECE_COLUMNS, MOST_PIECES = 12, 16


class States(NamedTuple):
    """Hidden states of one pass, each (B, T, D): `final` goes to the head, `fed` is what thoughts feed back, and `captured`
    holds the layers asked for, by the keys of `model.capture`."""

    final: Tensor
    fed: Tensor
    captured: Mapping[int, Tensor] = MappingProxyType({})


class Backbone:
    """A view of a causal language model; holds no parameters of its own.

    Args:
        base: a transformers model with a language-modelling head.
        layer: which hidden state is fed back; see `ThoughtConfig.layer`.
    """

    def __init__(self, base: PreTrainedModel, layer: int = -1):
        blocks = block_count(base)
        if layer > blocks:
            raise ConfigError(
                f"thought.layer: {layer} is out of range: the base has blocks 1 to {blocks} "
                "(0: embeddings, -1: after the final norm)"
            )
        self.base = base
        # transformers' last entry is after the final norm, so the last block is -1 by another name
        self.layer = -1 if layer == blocks else layer
        self.checkpointing = False
        self._inside_forward = False
        self._tied: TiedTable | None = None

    @property
    def width(self) -> int:
        """D, the width of embeddings and hidden states."""
        return self._embedding_shape[-1]

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return block_count(self.base)

    @property
    def positions(self) -> int | None:
        """How many positions the model has; None where it does not say."""
        return getattr(self.base.config.get_text_config(), "max_position_embeddings", None)

    @property
    def vocabulary(self) -> int:
        """V, the rows of the embedding."""
        return self._embedding_shape[0]

    @property
    def _embedding_shape(self) -> torch.Size:
        table = self.base.get_input_embeddings()
        # a table with token rows that train (peft) would put itself together only to be measured
        weight = cast("nn.Embedding", getattr(table, "original_module", table)).weight
        return whole_shape(weight)

    @property
    def absolute_positions(self) -> bool:
        """True for models with learnt positions (GPT-2), which padding shifts unless position ids are given."""
        config = self.base.config.get_text_config()
        return not any(
            getattr(config, name, None) is not None
            for name in ("rope_parameters", "rope_theta", "rope_scaling")
        )

    @contextmanager
    def one_gradient(self) -> Iterator[None]:
        """Inside, which is one forward, lookups with the head add to the head's gradient; see `model.tied_table`."""
        before = self._inside_forward, self._tied
        self._inside_forward, self._tied = True, None
        try:
            yield
        finally:
            self._inside_forward, self._tied = before

    def embed(self, input_ids: Tensor, with_head: bool = False) -> Tensor:
        """(B, T) ids -> (B, T, D): the embedding module's actual output (Gemma scales inside it).

        with_head: a head that is tied to the embedding has one gradient with it, where there is a head to come.
        """
        if with_head and self._inside_forward:
            self._tied = self._tied or TiedTable.of(self.base)
            if self._tied is not None:
                return self._tied.embed(input_ids)
        return self.base.get_input_embeddings()(input_ids)

    def head(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V) logits, with the output transforms that some families put after the head."""
        head = self.base.get_output_embeddings() if self._tied is None else self._tied.head
        logits = head(hidden)
        config = self.base.config.get_text_config()
        if (factor := getattr(config, "logit_scale", None)) is not None:  # Cohere
            logits = logits * factor
        if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
            logits = logits / divisor
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
            logits = torch.tanh(logits / cap) * cap
        return logits

    def run(
        self,
        embeddings: Tensor | None,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        cache: DynamicCache | None = None,
        input_ids: Tensor | None = None,
        capture: Sequence[int] = (),
        products: SharedProducts | None = None,
    ) -> States:
        """One pass over some columns; extends `cache` in place.

        Args:
            embeddings: (B, t, D), or None with `input_ids` (B, t).
            attention_mask: (B, cached + t), 1 where a column is attended, or None for all.
            position_ids: (B, t) or None.
            cache: keys and values of the columns before, or None for a pass that needs none.
            capture: layers whose states are wanted too; see `model.capture`.
            products: shared with the other passes of a step.
        """
        if embeddings is None or not (self.checkpointing and torch.is_grad_enabled()):
            return self._run(embeddings, attention_mask, position_ids, cache, input_ids, capture, products)
        if cache is None:
            with _layer_checkpointing(self.base):
                return self._run(embeddings, attention_mask, position_ids, None, None, capture)
        pieces = []
        for piece, mask, positions in _pieces(
            embeddings, attention_mask, position_ids, cache.get_seq_length()
        ):
            pieces.append(self._run_checkpointed(piece, mask, positions, cache, capture, products))
        return join_columns(pieces)

    def _run(
        self,
        embeddings: Tensor | None,
        mask: Tensor | None,
        positions: Tensor | None,
        cache: DynamicCache | None,
        input_ids: Tensor | None,
        capture: Sequence[int],
        products: SharedProducts | None = None,
    ) -> States:
        inputs = {"input_ids": input_ids} if embeddings is None else {"inputs_embeds": embeddings}
        sharing = products.installed() if products is not None else nullcontext()
        with capturing(self.base, {self.layer, *capture} - {-1}) as states, sharing:
            output = self.base.base_model(
                **inputs,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        states[-1] = output.last_hidden_state
        return States(states[-1], states[self.layer], {layer: states[layer] for layer in capture})

    def _run_checkpointed(
        self,
        embeddings: Tensor,
        mask: Tensor | None,
        positions: Tensor | None,
        cache: DynamicCache,
        capture: Sequence[int],
        products: SharedProducts | None,
    ) -> States:
        length = cache.get_seq_length()
        # a reserved cache stays where it is: what a pass depends on is how long it was, and autograd's links. The cache itself
        # must not be held: it gets the graph that leads back here
        rooms, reserved = (cache.rooms, cache.columns) if isinstance(cache, ReservedCache) else (None, 0)

        def cache_of(held: Sequence[Any], length: int) -> DynamicCache:
            return (
                rebuild_cache(held) if rooms is None else ReservedCache.resumed(reserved, rooms, held, length)
            )

        def recomputed(embeddings: Tensor, *held: Any) -> tuple[Any, ...]:
            inner = cache_of(held, length)
            states = self._run(embeddings, mask, positions, inner, None, capture, products)
            captured = [states.captured[layer] for layer in capture]
            return (states.final, states.fed, *captured, *_held(inner))

        final, fed, *rest = checkpoint(recomputed, embeddings, *_held(cache), **recomputing())
        cache.layers = cache_of(rest[len(capture) :], length + embeddings.shape[1]).layers
        return States(final, fed, dict(zip(capture, rest[: len(capture)], strict=True)))


def join_columns(passes: Sequence[States]) -> States:
    """The states of passes over columns that follow each other, as of one pass."""
    if len(passes) == 1:
        return passes[0]
    final = torch.cat([states.final for states in passes], dim=1)
    captured = {
        layer: final if layer == -1 else torch.cat([states.captured[layer] for states in passes], dim=1)
        for layer in passes[0].captured
    }
    if passes[0].fed is passes[0].final:
        return States(final, final, captured)
    return States(final, torch.cat([states.fed for states in passes], dim=1), captured)


def piece_columns(columns: int) -> int:
    """How many of a recomputed pass's columns are one piece."""
    pieces = min(MOST_PIECES, -(-columns // PIECE_COLUMNS))
    return -(-columns // max(1, pieces))


def _pieces(
    embeddings: Tensor, mask: Tensor | None, positions: Tensor | None, cached: int
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    """(embeddings, mask, positions) of each recomputed piece of a pass."""
    total = embeddings.shape[1]
    # ranks that wait for each other need equally many, however long their rows
    columns = total if sharded() else piece_columns(total)
    for start in range(0, total, columns):
        stop = min(start + columns, total)
        yield (
            embeddings[:, start:stop],
            None if mask is None else mask[:, : cached + stop],
            None if positions is None else positions[:, start:stop],
        )


def _held(cache: DynamicCache) -> Sequence[Any]:
    """What of a cache takes part in autograd."""
    return cache.links if isinstance(cache, ReservedCache) else flatten_cache(cache)


def positions_of(attention_mask: Tensor) -> Tensor:
    """(B, T) mask -> (B, T) position ids that start at 0 at each row's first attended column; padding gets 0."""
    return (attention_mask.long().cumsum(-1) - 1).clamp_min(0)


@contextmanager
def _layer_checkpointing(base: PreTrainedModel) -> Iterator[None]:
    # transformers 5.2x renamed the switch; older releases know only the old name
    word = "activation" if hasattr(base, "activation_checkpointing_enable") else "gradient"
    getattr(base, f"{word}_checkpointing_enable")(recomputing())
    try:
        yield
    finally:
        getattr(base, f"{word}_checkpointing_disable")()
