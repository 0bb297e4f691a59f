"""Running thoughts before the answer: prompt, start delimiter, thoughts one by one over the cache, end delimiter.

A thought is one cached pass over one column a row. The last thought is not run here: `generate` hands every embedding and the
cache of all columns but the last thought and the end delimiter to the base model's own `generate`, whose first pass runs them.

Rows of one batch think in the same columns. Rows that stop early, or have no thoughts at all, would leave holes behind, and
holes break sliding windows; so each row's kept columns, in embeddings, mask and cache alike, are gathered flush right.
The cost is one copy of the cache, paid only when counts differ. Rejected: a mask with holes (wrong for windows), one `generate`
a row (slow), padding thoughts at the end of a row (the model would see more thoughts than it was asked for).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from latentthought.errors import ConfigError
from latentthought.model.backbone import States, positions_of
from latentthought.model.cache import GROWTH, ReservedCache
from latentthought.model.policy import Budget, ThoughtPolicy

if TYPE_CHECKING:
    from latentthought.model.thinker import Thinker

Perturb = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Prompt:
    """Prompts flush right: `input_ids` and `attention_mask` (B, T), `padded` when some row is shorter than T."""

    input_ids: Tensor
    attention_mask: Tensor
    padded: bool

    @classmethod
    def read(cls, input_ids: Tensor, attention_mask: Tensor | None) -> Prompt:
        """Check a batch of prompts, and shift right-padded rows to the right edge.

        Thoughts and new tokens continue a row at its right edge, so a right-padded prompt comes back left-padded.
        """
        if input_ids.dim() != 2 or input_ids.shape[1] == 0 or input_ids.is_floating_point():
            raise ConfigError(
                f"input_ids: (B, T) token ids with T >= 1, not {tuple(input_ids.shape)} of {input_ids.dtype}"
            )
        mask = (
            torch.ones_like(input_ids)
            if attention_mask is None
            else attention_mask.to(input_ids.device).long()
        )
        if mask.shape != input_ids.shape:
            raise ConfigError(
                f"attention_mask: shape {tuple(mask.shape)} does not fit input_ids {tuple(input_ids.shape)}"
            )
        if bool(mask.all()):
            return cls(input_ids, mask, padded=False)
        if not bool(mask.any(dim=1).all()):
            raise ConfigError("attention_mask: a row has no token at all")
        order_BT = mask.bool().long().argsort(dim=1, stable=True)
        return cls(input_ids.gather(1, order_BT), mask.gather(1, order_BT), padded=True)

    def repeat(self, times: int) -> Prompt:
        """Each row `times` times, copies side by side."""
        if times == 1:
            return self
        return Prompt(
            self.input_ids.repeat_interleave(times, 0),
            self.attention_mask.repeat_interleave(times, 0),
            self.padded,
        )


@dataclass(frozen=True)
class DecodedThoughts:
    """What the head says at each state that is fed back: `ids` and `probabilities`, (B, S, k), most probable first."""

    ids: Tensor
    probabilities: Tensor

    def words(self, tokenizer: Any, counts: Tensor) -> list[list[list[tuple[str, float]]]]:
        """[row][thought][rank] -> (text of the token, probability), without a row's padding."""
        return [
            [
                [
                    (tokenizer.decode([token]), probability)
                    for token, probability in zip(ids, chances, strict=True)
                ]
                for ids, chances in zip(
                    self.ids[row, :count].tolist(), self.probabilities[row, :count].tolist(), strict=True
                )
            ]
            for row, count in enumerate(counts.tolist())
        ]


@dataclass(frozen=True)
class ThinkOutput:
    """Prompts with their thoughts, ready to be continued.

    states: (B, S, D), the states fed in, before scale and blend, zero-padded on the right; S = 0 for pause tokens.
    counts: (B,) thoughts a row.
    inputs_embeds: (B, W, D), attention_mask, position_ids: (B, W): prompt, delimiters and thoughts, flush right.
    cache: keys and values of the first columns; what it lacks (the last thought and the end delimiter, or everything for
        pause tokens) is still to be run, from `inputs_embeds[:, cache.get_seq_length():]`.
    decoded: most probable tokens of every state, when asked for.
    """

    states: Tensor
    counts: Tensor
    inputs_embeds: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    cache: DynamicCache
    decoded: DecodedThoughts | None = None


@dataclass(frozen=True)
class ThoughtRun:
    """Thoughts of a batch before they are laid out: `states` and `inputs` (B, S, D), `counts` one a row, and the cache of
    the prompt, the start delimiter and the thoughts that were run."""

    states: Tensor
    inputs: Tensor
    counts: list[int]
    cache: DynamicCache
    decoded: DecodedThoughts | None = None


def run_thoughts(
    model: Thinker,
    prompt: Prompt,
    budget: Budget,
    perturb: Perturb,
    top_k: int = 0,
    in_step: bool = False,
    copies: int = 1,
) -> ThoughtRun:
    """Think: the prompt's pass, then one pass a thought but the last.

    Args:
        budget: thoughts of each row (of each copy of it), or the policy that finds them.
        perturb: applied to each scaled state before it is fed.
        top_k: decode each state to its k most probable tokens.
        in_step: run every thought an adaptive policy allows, so that ranks that share weights make equal numbers of passes.
        copies: rows that each prompt becomes, side by side, once it has been read.
    """
    policy = budget if isinstance(budget, ThoughtPolicy) else None
    limit: int = max(budget) if isinstance(budget, list) else budget.maximum
    embeds, start = _with_delimiter(model, prompt, model.thought.start_token_id)
    rows, width = embeds.shape[:2]
    mask = torch.cat(
        [prompt.attention_mask, start.new_ones(rows, width - prompt.input_ids.shape[1] + limit)], dim=1
    )
    positions = positions_of(mask)
    cache = ReservedCache(width + limit + GROWTH)

    def run(columns: Tensor, begin: int, end: int) -> States:
        passed = model.backbone.run(
            columns, mask[:, :end] if prompt.padded else None, positions[:, begin:end], cache
        )
        return States(passed.final[:, -1], passed.fed[:, -1])

    now = run(embeds, 0, width) if limit else None
    if copies > 1:
        rows *= copies
        mask, positions = (part.repeat_interleave(copies, 0) for part in (mask, positions))
        if now is not None:
            now = States(now.final.repeat_interleave(copies, 0), now.fed.repeat_interleave(copies, 0))
            cache.batch_repeat_interleave(copies)
    counts = torch.full((rows,), limit, device=embeds.device)
    active = torch.ones(rows, dtype=torch.bool, device=embeds.device)
    states, inputs, tokens, previous = [], [], [], None
    for count in range(limit):
        assert now is not None
        if policy is not None and count >= policy.minimum:
            stop = active & policy.stops(now.fed, previous, end_probability(model, now.final, policy))
            counts, active = counts.masked_fill(stop, count), active & ~stop
            if not in_step and not bool(active.any()):
                break
        if top_k:
            tokens.append(model.backbone.head(now.final).float().softmax(-1).topk(top_k))
        states.append(now.fed)
        inputs.append(perturb(model.scale(now.fed)))
        previous = now.fed
        if count + 1 < limit:
            now = run(inputs[-1][:, None], width + count, width + count + 1)
    found: list[int] = budget if isinstance(budget, list) else counts.tolist()
    longest: int = max(found)
    empty = embeds.new_zeros(rows, 0, embeds.shape[-1])
    run_states = torch.stack(states[:longest], dim=1) if longest else empty
    kept_BS = torch.arange(longest, device=embeds.device) < torch.tensor(found, device=embeds.device)[:, None]
    decoded = None
    if tokens[:longest]:
        probabilities, ids = (torch.stack(part[:longest], dim=1) for part in zip(*tokens, strict=True))
        decoded = DecodedThoughts(ids, probabilities)
    return ThoughtRun(
        run_states * kept_BS[..., None],
        torch.stack(inputs[:longest], dim=1) if longest else empty,
        found,
        cache,
        decoded,
    )


def end_probability(model: Thinker, final: Tensor, policy: ThoughtPolicy) -> Tensor | None:
    """P(end token) from final states (B, D), as (B,); None where the policy does not ask."""
    if policy.kind != "end_probability":
        return None
    return model.backbone.head(final).float().softmax(-1)[:, model.thought.end_token_id]


def lay_out(
    model: Thinker, prompt: Prompt, run: ThoughtRun, delimited: list[bool] | None = None
) -> ThinkOutput:
    """Prompt, delimiters and thoughts of each row side by side and flush right, with the part of the cache that holds.

    Args:
        run: thoughts of each row; with an empty cache its `inputs` may be anything (placeholders, another row's thoughts).
        delimited: rows that get their delimiters; when None, those that have thoughts.
    """
    rows, thoughts = run.inputs.shape[:2]
    embeds, _ = _with_delimiter(model, prompt, model.thought.start_token_id)
    starts = embeds.shape[1] - prompt.input_ids.shape[1]
    end = model.thought.end_token_id
    parts = [embeds, run.inputs.to(embeds.dtype)]
    if end is not None:
        parts.append(model.backbone.embed(prompt.input_ids.new_full((rows, 1), end)))
    embeds = torch.cat(parts, dim=1)
    counts = torch.tensor(run.counts, device=embeds.device)
    delimited = [count > 0 for count in run.counts] if delimited is None else delimited
    delimited_B1 = torch.tensor(delimited, device=embeds.device)[:, None]
    kept_BS = torch.arange(thoughts, device=embeds.device) < counts[:, None]
    ends = 0 if end is None else 1
    keep = torch.cat(
        [
            prompt.attention_mask.bool(),
            delimited_B1.expand(-1, starts),
            kept_BS,
            delimited_B1.expand(-1, ends),
        ],
        dim=1,
    )
    tail = 1 + ends
    even = len(set(run.counts)) == 1 and all(delimited)
    if even:
        mask, cache = keep.long(), run.cache
        if (surplus := cache.get_seq_length() - (embeds.shape[1] - tail)) > 0:
            cache.crop(-surplus)
    else:
        embeds, mask, cache = _flush_right(embeds, keep, run.cache, tail)
    return ThinkOutput(run.states, counts, embeds, mask, positions_of(mask), cache, run.decoded)


def _flush_right(
    embeds: Tensor, keep: Tensor, cache: DynamicCache, tail: int
) -> tuple[Tensor, Tensor, DynamicCache]:
    """Gather each row's kept columns to the right edge; the cache covers all of them but the last `tail`.

    A row's kept columns before its tail have all been run: its last thought and end delimiter make up the tail, and for a
    row without thoughts the tail is the end of its prompt, which is run once more.
    """
    width = int(keep.sum(1).max())
    order = keep.long().argsort(dim=1, stable=True)[:, -width:]
    embeds = embeds.gather(1, order[..., None].expand(-1, -1, embeds.shape[-1]))
    covered, cached = max(width - tail, 0), cache.get_seq_length()
    if not cached or not covered:
        return embeds, keep.gather(1, order).long(), DynamicCache()
    # dropped columns may lie beyond the cache; they are masked, so any column may stand in
    index = order[:, :covered].clamp_max(cached - 1)[:, None, :, None]
    for layer in cache.layers:
        if layer.is_initialized:
            layer.keys, layer.values = (
                tensor.gather(2, index.expand(-1, tensor.shape[1], -1, tensor.shape[3]))
                for tensor in (layer.keys, layer.values)
            )
    return embeds, keep.gather(1, order).long(), cache


def _with_delimiter(model: Thinker, prompt: Prompt, token: int | None) -> tuple[Tensor, Tensor]:
    """Embeddings (B, T [+ 1], D) and ids of the prompt and the start delimiter, where there is one."""
    ids = prompt.input_ids
    if token is not None:
        ids = torch.cat([ids, ids.new_full((len(ids), 1), token)], dim=1)
    return model.backbone.embed(ids), ids
