"""Decoding with thoughts inside the token loop: mixed (every reasoning token blended with the last state) and hybrid (the
model opens a segment by a start token, thinks in states, is closed by the policy, and goes on in words).

transformers runs the loop, on the wrapper itself: sampling, beams, processors, criteria and streamers are all its own. What
the loop does not know, the last state of each row and whether the row is inside a segment, rides on the cache, which beam
search reorders row by row. A `Stepper` turns the next token into the next input, keeps the state that comes out, and
as a logits processor forces the tokens that are not the model's to choose. Everything is computed row by row on the device: no
step waits for the host. Rejected: `custom_generate` (a token loop of our own to maintain), carrying the state in
`model_kwargs` (beam search does not reorder them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor
from transformers.generation.streamers import BaseStreamer

from latentthought.model.policy import ThoughtPolicy
from latentthought.thoughts.mixing import blend, draw_positions

if TYPE_CHECKING:
    from latentthought.model.thinker import Thinker

Perturb = Callable[[Tensor], Tensor]


class ThoughtCache(DynamicCache):
    """A cache that also carries per-row tensors (`rows`, first dimension R = batch times beams), reordered along with it."""

    def __init__(self, stepper: Stepper):
        super().__init__()
        self.stepper = stepper
        self.rows: dict[str, Tensor] = {}

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)
        self.batch_select_rows(beam_idx)

    def batch_select_rows(self, indices: Tensor) -> None:
        """Keep, repeat or reorder the rows of what rides along."""
        self.rows = {
            name: tensor.index_select(0, indices.to(tensor.device)) for name, tensor in self.rows.items()
        }


class Stepper(LogitsProcessor):
    """One call of mixed or hybrid decoding.

    Args:
        keep_states: remember every state, (R, D) a step, for the `thoughts` of the output.

    `history[n]` is the state from which new token n was chosen, in the row order of that step.
    """

    supports_continuous_batching = False

    def __init__(self, model: Thinker, perturb: Perturb, keep_states: bool):
        self.model = model
        self.perturb = perturb
        self.start: int | None = model.thought.start_token_id
        self.end: int | None = model.thought.end_token_id
        self.history: list[Tensor] | None = [] if keep_states else None

    def new_cache(self) -> ThoughtCache:
        """The cache that `generate` is to be given."""
        self.cache = ThoughtCache(self)
        return self.cache

    def inputs(self, input_ids: Tensor) -> Tensor | None:
        """Embeddings (R, 1, D) of the tokens that were chosen last, the ends of `input_ids` (R, T); None for the prompt, which
        is plain text."""
        rows = self.cache.rows
        if "state" not in rows:
            rows["inside"] = is_open(input_ids, self.start, self.end)
            self.begin(input_ids)
            return None
        return self.step(input_ids[:, -1])[:, None]

    def observe(self, outputs: Any) -> None:
        """Keep the state that a pass ended in."""
        rows = self.cache.rows
        if "state" in rows:
            rows["previous"] = rows["state"]
        rows["state"] = outputs.hidden[:, -1]
        if self.history is not None:
            self.history.append(rows["state"])

    def begin(self, prompt_ids: Tensor) -> None:
        """Set up rows of one's own before the prompt's pass."""

    def step(self, tokens: Tensor) -> Tensor:
        """(R,) tokens -> (R, D) next inputs; brings the rows up to date."""
        raise NotImplementedError

    def collect(self, inside_RN: Tensor, beam_indices: Tensor | None) -> Tensor:
        """Thoughts (R', S, D), zero-padded on the right, of new tokens whose inputs were states: `inside_RN` (R', N) bool."""
        assert self.history is not None
        columns = inside_RN.shape[1]
        states = (
            torch.stack(self.history[:columns], dim=1)
            if columns
            else self.cache.rows["state"][:, None][:, :0]
        )
        if beam_indices is not None:  # the row that token n was chosen from changes from step to step
            steps = torch.arange(columns, device=states.device)
            states = states[beam_indices[:, :columns].long().clamp_min(0), steps]
        order = (~inside_RN).long().argsort(dim=1, stable=True)
        states = (
            states.gather(1, order[..., None].expand(states.shape)) * inside_RN.gather(1, order)[..., None]
        )
        return states[:, : int(inside_RN.sum(1).max())] if columns else states


class MixedStepper(Stepper):
    """Every reasoning token enters as blend(E, scale(h), ratio), until the end token, which is plain, as is all after it.

    Without an end token the reasoning lasts as long as the text. A prompt that does not leave a segment open gets the start
    token as its first new token, plain too. Under the bernoulli blend each reasoning token is drawn to be text or latent;
    `draws[n]` (R,) is the drawn ratio of new token n.
    """

    end: int

    def __init__(self, model: Thinker, perturb: Perturb, keep_states: bool, ratio: float):
        super().__init__(model, perturb, keep_states)
        self.end = -1 if model.thought.end_token_id is None else model.thought.end_token_id  # -1: no token
        self.ratio = ratio
        self.bernoulli = model.thought.blend == "bernoulli"
        self.draws: list[Tensor] = []
        self.first = True

    def step(self, tokens: Tensor) -> Tensor:
        rows = self.cache.rows
        reasoning = tokens != self.end
        embedding = self.model.backbone.embed(tokens)
        state = self.perturb(self.model.scale(rows["state"]))
        if self.bernoulli:
            generator = getattr(self.perturb, "generator", None)
            self.draws.append(draw_positions(self.ratio, tokens, generator))
            mixed = blend(embedding, state, self.draws[-1])
        else:
            mixed = blend(embedding, state, self.ratio, self.model.thought.blend)
        result = torch.where((rows["inside"] & reasoning)[:, None], mixed, embedding)
        # rows that were not open have just been given their start token: from here all are inside, until their end token
        rows["inside"] = reasoning if self.first else rows["inside"] & reasoning
        self.first = False
        return result

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not self.first or self.start is None:
            return scores
        start = torch.full_like(input_ids[:, 0], self.start)
        return torch.where(self.cache.rows["inside"][:, None], scores, forced(scores, start))

    def reasoning_mask(self, prompt_ids: Tensor, new_ids: Tensor, eos: list[int]) -> Tensor:
        """(R, N) bool: the new tokens whose input is a blend, from prompts (R, T) and new tokens (R, N)."""
        ended = (new_ids == self.end) | torch.isin(new_ids, new_ids.new_tensor(eos))
        mask = ended.long().cumsum(1) == 0
        mask[:, :1] &= is_open(prompt_ids, self.start, self.end)[:, None]
        return mask


class HybridStepper(Stepper):
    """Text in which the model opens thought segments itself, by its start token.

    Inside a segment the placeholder id stands for "the last state, fed back"; the policy closes it with the end token. Both
    are forced, and the placeholder is banned outside. A prompt that ends inside a segment thinks at once.

    Args:
        budget: thoughts of a segment: one count a row (R,), or the policy that ends it.
        placeholder: id written at thought positions; pause: feed its embedding instead of the state.
    """

    start: int
    end: int

    def __init__(
        self,
        model: Thinker,
        perturb: Perturb,
        keep_states: bool,
        budget: Tensor | ThoughtPolicy,
        pause: bool,
    ):
        super().__init__(model, perturb, keep_states)
        self.policy = budget if isinstance(budget, ThoughtPolicy) else None
        self.maximum = budget.maximum if isinstance(budget, ThoughtPolicy) else budget
        own_id = model.thought.thought_token_id
        # without a placeholder of its own a segment reads "start start start end": what is inside is told by position
        self.placeholder = self.start if own_id is None else own_id
        self.banned = own_id
        self.pause = pause

    def begin(self, prompt_ids: Tensor) -> None:
        self.cache.rows["thoughts"] = prompt_ids.new_zeros(len(prompt_ids))

    def step(self, tokens: Tensor) -> Tensor:
        rows = self.cache.rows
        embedding = self.model.backbone.embed(tokens)
        thinking = rows["inside"] & (tokens != self.end)
        opened = ~rows["inside"] & (tokens == self.start)
        rows["thoughts"] = (rows["thoughts"] + thinking).masked_fill(opened, 0)
        rows["inside"] = thinking | opened
        if self.pause:
            return embedding
        return torch.where(
            thinking[:, None], self.perturb(self.model.scale(rows["state"])).to(embedding.dtype), embedding
        )

    def observe(self, outputs: Any) -> None:
        super().observe(outputs)
        if self.policy is not None and self.policy.kind == "end_probability":
            self.cache.rows["end"] = outputs.logits[:, -1].float().softmax(-1)[:, self.end]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        rows = self.cache.rows
        close = rows["thoughts"] >= self.maximum
        if self.policy is not None:
            asked = self.policy.stops(rows["state"], rows.get("previous"), rows.get("end"))
            least = max(self.policy.minimum, 1) if self.policy.kind == "settled" else self.policy.minimum
            close = close | (asked & (rows["thoughts"] >= least))
        token = torch.where(close, self.end, self.placeholder)
        if self.banned is not None:
            scores = scores.clone()
            scores[:, self.banned] = -torch.inf
        return torch.where(rows["inside"][:, None], forced(scores, token), scores)

    def thought_mask(self, prompt_ids: Tensor, new_ids: Tensor) -> Tensor:
        """(R, N) bool: the new tokens that are placeholders."""
        return inside_segments(prompt_ids, new_ids, self.start, self.end)


def forced(scores: Tensor, tokens: Tensor) -> Tensor:
    """Scores (R, V) that leave only `tokens` (R,) to choose, at log probability 0."""
    return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)


def is_open(ids: Tensor, start: int | None, end: int | None) -> Tensor:
    """(R,) bool: rows of ids (R, T) whose last start token comes after their last end token; all rows without a start token."""
    if start is None:
        return torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    place = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    return (place * (ids == start)).amax(1) > (place * (ids == end)).amax(1)


def inside_segments(prompt_ids: Tensor, new_ids: Tensor, start: int, end: int) -> Tensor:
    """(R, N) bool: new tokens after a start token and before the next end token, both excluded; the prompt may leave one open."""
    ids = torch.cat([torch.where(is_open(prompt_ids, start, end), start, end)[:, None], new_ids], dim=1)
    place = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    last_start, last_end = ((place * (ids == token)).cummax(1).values for token in (start, end))
    return (last_start > last_end)[:, :-1] & (new_ids != end)


class WithoutThoughts(BaseStreamer):
    """Passes a single row's stream on to `streamer`, without placeholders."""

    def __init__(self, streamer: BaseStreamer, stepper: HybridStepper):
        self.streamer, self.stepper = streamer, stepper
        self.inside: bool | None = None

    def put(self, value: Tensor) -> None:
        start, end = self.stepper.start, self.stepper.end
        if self.inside is None:  # the prompt comes first
            self.inside = bool(is_open(value.reshape(1, -1), start, end))
            placeholder = False
        else:
            token = int(value.reshape(-1)[0])
            placeholder = self.inside and token != end
            self.inside = placeholder or token == start
        if not placeholder:
            self.streamer.put(value)

    def end(self) -> None:
        self.streamer.end()
