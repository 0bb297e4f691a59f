"""What an answer owes to each thought: it is scored again, word by word, with one thought changed.

With x_1 ... x_S what is fed at the thoughts, thought k is

removed   taken out; the columns behind it close up.
noised    fed as x_k + noise of its own RMS (what the control of that name does to all thoughts at once).
swapped   fed as the x_k of another row.

and what follows it is either left or follows from the change:

direct    the other thoughts are fed as they were: what the answer reads off this one.
total     the thoughts after it are thought again, from what was fed. A removed thought takes those after it along: whichever
          single column goes, thinking on would give the same S - 1 thoughts, since nothing but x_k can follow x_(k-1).

Of the last thought both are the same. (Direct and total effects as in Pearl 2001; for thoughts in words Lanham et al. 2023,
arXiv 2307.13702, cut and corrupt them likewise.) Whatever is changed is run in one batch: a prompt is read once, its cache copied
for each change, and the thoughts, the end delimiter and the answer are one pass; only the total effect of noise and swaps needs
thinking, step by step. Rejected: zeros or a mean in a thought's place (states that no model ever fed, so that what breaks is not
known to be the missing content); generating each answer to see whether it changes (the scored pass tells: greedy decoding
leaves an answer where its most probable word is another one).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor
from transformers import DynamicCache

from latentthought.model.arguments import GenerationArguments
from latentthought.model.backbone import positions_of
from latentthought.model.cache import fork_cache
from latentthought.model.policy import Perturbation, ThoughtSampling
from latentthought.model.think import Prompt, ThoughtRun, lay_out, run_thoughts

if TYPE_CHECKING:
    from latentthought.model.thinker import Thinker

Kind = Literal["removed", "noised", "swapped"]
Reach = Literal["direct", "total"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REACHES: tuple[Reach, ...] = get_args(Reach)


@dataclass(frozen=True)
class Change:
    """One thought, `thought` (0-based), changed in one way. noise: relative RMS, and `draw` which one of it; donor: which of the
    row's donors a swapped thought comes from."""

    thought: int
    kind: Kind
    reach: Reach
    draw: int = 0
    noise: float = 1.0
    donor: int = 0

    def thoughts_left(self, thoughts: int) -> int:
        """How many thoughts there are afterwards."""
        if self.kind != "removed":
            return thoughts
        return thoughts - 1 if self.reach == "direct" else self.thought


@dataclass(frozen=True)
class Thinking:
    """Prompts that were read and thought about, as they are.

    states, inputs: (B, S, D), the thoughts before scale and as they were fed. last: (B, D), the state before the first thought
    that goes to the head. cache: keys and values of the columns before the thoughts, `mask` (B, T) says which are padding.
    """

    prompt: Prompt
    states: Tensor
    inputs: Tensor
    last: Tensor
    mask: Tensor
    cache: DynamicCache


@dataclass(frozen=True)
class Answers:
    """Answers to score, one a prompt: `ids` and `mask` (B, A), padded on the right."""

    ids: Tensor
    mask: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], device: torch.device) -> Answers:
        """Answers of at least one token each."""
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        return cls(ids, mask.bool())


@dataclass(frozen=True)
class Scores:
    """Answers scored under C changes a prompt, R = B C rows, a prompt's side by side.

    log_probs: (R,), of the whole answer. kept: (R,) bool, greedy decoding would write the same answer. first: (R, V), log
    probabilities of the first word.
    """

    log_probs: Tensor
    kept: Tensor
    first: Tensor


def batches_of(changes: Sequence[Change], thoughts: int, size: int) -> Iterator[list[Change]]:
    """Changes that can be run together, at most `size`: equally many thoughts left and, for noise and swaps, one reach."""
    groups: dict[tuple[int, str], list[Change]] = {}
    for change in changes:
        key = (change.thoughts_left(thoughts), "removed" if change.kind == "removed" else change.reach)
        groups.setdefault(key, []).append(change)
    size = max(1, size)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


@torch.no_grad()
def think_through(model: Thinker, prompt: Prompt, thoughts: int) -> Thinking:
    """Read prompts and think `thoughts` thoughts about each, nothing changed."""
    run = run_thoughts(model, prompt, [thoughts] * len(prompt.input_ids), lambda scaled: scaled)
    laid = lay_out(model, prompt, ThoughtRun(run.states, run.inputs, run.counts, DynamicCache()))
    width = prompt.input_ids.shape[1] + (model.thought.start_token_id is not None)
    mask = laid.attention_mask[:, :width]
    cache = DynamicCache()
    read = model.backbone.run(
        laid.inputs_embeds[:, :width],
        mask if prompt.padded else None,
        positions_of(mask),
        cache,
    )
    return Thinking(prompt, run.states, run.inputs, read.final[:, -1], mask, cache)


@torch.no_grad()
def changed_inputs(
    model: Thinker,
    thinking: Thinking,
    changes: Sequence[Change],
    donors: Tensor | None = None,
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """What is fed at the thoughts under each of C changes that go together (`batches_of`): (B C, S', D), a prompt's side by side.

    Args:
        donors: (B, K, S, D), what K other rows fed, for swapped thoughts.
        seeds: one a prompt, of its noise, so that no row's depends on its neighbours; a direct and a total effect get the same.
    """
    rows, thoughts = thinking.inputs.shape[:2]
    if changes[0].kind == "removed":
        kept = [
            [place for place in range(thoughts) if place != change.thought]
            if change.reach == "direct"
            else list(range(change.thought))
            for change in changes
        ]
        index = torch.tensor(kept, dtype=torch.long, device=thinking.inputs.device)
        return thinking.inputs[:, index].flatten(0, 1)
    fed = [_fed(thinking.inputs, change, donors, seeds or range(rows)) for change in changes]
    fed_RD = torch.stack(fed, dim=1).flatten(0, 1)
    places_R = torch.tensor([change.thought for change in changes], device=fed_RD.device).repeat(rows)
    if all(change.reach == "direct" for change in changes):
        inputs = thinking.inputs.repeat_interleave(len(changes), 0)
        here = torch.arange(thoughts, device=fed_RD.device) == places_R[:, None]
        return torch.where(here[..., None], fed_RD[:, None], inputs)
    assert all(change.reach == "total" for change in changes)
    counts = [thoughts] * (rows * len(changes))
    return run_thoughts(
        model, thinking.prompt, counts, _Replaced(places_R, fed_RD), copies=len(changes)
    ).inputs


def _fed(inputs: Tensor, change: Change, donors: Tensor | None, seeds: Sequence[int]) -> Tensor:
    """(B, D): what is fed in place of the thought that a change is about."""
    own = inputs[:, change.thought]
    if change.kind == "swapped":
        assert donors is not None
        return donors[:, change.donor, change.thought].to(own)
    noised = []
    for row, seed in zip(own.split(1), seeds, strict=True):
        number = ((seed * 1_009 + change.thought) * 1_009 + change.draw) % 2**63
        noised.append(Perturbation(ThoughtSampling(noise=change.noise, seed=number), own.device)(row))
    return torch.cat(noised)


class _Replaced:
    """A perturbation that feeds `inputs` (R, D) at the thought `places` (R,) of each row, and all others as they come."""

    def __init__(self, places: Tensor, inputs: Tensor):
        self.places, self.inputs, self.step = places, inputs, 0

    def __call__(self, scaled: Tensor) -> Tensor:
        here = (self.places == self.step)[:, None]
        self.step += 1
        return torch.where(here, self.inputs, scaled)


@torch.no_grad()
def score(
    model: Thinker, thinking: Thinking, inputs: Tensor, answers: Answers, each_row: bool = False
) -> Scores:
    """Score answers behind the thoughts `inputs` (B C, S', D).

    each_row: answers are one a row of `inputs` instead of one a prompt.
    """
    copies = len(inputs) // len(thinking.mask)
    ids, mask = answers.ids, answers.mask
    if not each_row:
        ids, mask = (part.repeat_interleave(copies, 0) for part in (ids, mask))
    rows, length = ids.shape
    before, last = (part.repeat_interleave(copies, 0) for part in (thinking.mask, thinking.last))
    parts = [inputs]
    if (end := model.thought.end_token_id) is not None:
        parts.append(model.backbone.embed(ids.new_full((rows, 1), end)))
    parts.append(model.backbone.embed(ids[:, :-1]))
    columns = torch.cat([part.to(inputs.dtype) for part in parts], dim=1)
    final = last[:, None]
    if columns.shape[1]:
        cache = fork_cache(thinking.cache)
        cache.batch_repeat_interleave(copies)
        whole = torch.cat([before, before.new_ones(rows, columns.shape[1])], dim=1)
        # an answer's padding may stand beyond the last position that the model has
        positions = positions_of(whole)[:, before.shape[1] :].clamp_max(
            (model.backbone.positions or 2**31) - 1
        )
        passed = model.backbone.run(
            columns, whole if thinking.prompt.padded else None, positions, cache
        ).final
        final = torch.cat([final, passed], dim=1)
    log_probs = model.backbone.head(final[:, -length:]).float().log_softmax(-1)
    of_answer = log_probs.gather(2, ids[..., None])[..., 0].masked_fill(~mask, 0.0)
    kept = ((log_probs.argmax(-1) == ids) | ~mask).all(1)
    return Scores(of_answer.sum(1), kept, log_probs[:, 0])


@torch.no_grad()
def answers_after(model: Thinker, thinking: Thinking, inputs: Tensor, **arguments: Any) -> Tensor:
    """New tokens (B C, N) that the base's own `generate` writes behind the thoughts `inputs` (B C, S', D)."""
    rows, left = inputs.shape[:2]
    prompt = thinking.prompt.repeat(rows // len(thinking.mask))
    run = ThoughtRun(inputs, inputs, [left] * rows, DynamicCache())
    laid = lay_out(model, prompt, run, delimited=[True] * rows)
    call = GenerationArguments(model.base, arguments)
    call.refuse()
    call.continue_from(prompt)
    output = model.base.generate(
        prompt.input_ids,
        inputs_embeds=laid.inputs_embeds,
        attention_mask=laid.attention_mask,
        position_ids=laid.position_ids,
        **call.keywords,
    )
    return output[:, prompt.input_ids.shape[1] :]


def divergence(first: Tensor, changed: Tensor) -> Tensor:
    """KL(as it was || changed) of log probabilities (..., V), in nats: (...)."""
    # a word of probability 0 adds nothing, and 0 * -inf is no number
    part = torch.where(first > -torch.inf, first.exp() * (first - changed), 0.0)
    return part.sum(-1).clamp_min(0.0)
