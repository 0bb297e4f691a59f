"""`generate` with thoughts inside the token loop: sets up a stepper, lets transformers run, and reads off the thoughts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationMixin

from latentthought.errors import ConfigError, UnsupportedError
from latentthought.model.arguments import GenerationArguments
from latentthought.model.decoding import HybridStepper, MixedStepper, Stepper, WithoutThoughts
from latentthought.model.policy import Budget, Perturbation
from latentthought.model.prefill import prefill_once
from latentthought.model.think import Prompt

if TYPE_CHECKING:
    from latentthought.model.thinker import Thinker


def generate_mixed(
    model: Thinker,
    call: GenerationArguments,
    prompt: Prompt,
    ratio: float,
    control: str,
    perturb: Perturbation,
) -> Any:
    """Every reasoning token a blend; see `MixedStepper`. The output gains `thoughts`, `thought_counts`, `thought_mask`."""
    if control not in ("none", "noised"):
        raise UnsupportedError(
            f"generate: control={control!r} is for pure thoughts; with mix_ratio use 'noised'"
        )
    if model.thought.blend == "bernoulli" and call.beams > 1:
        raise UnsupportedError(
            "generate: beams with the bernoulli blend would compare rows of different draws"
        )
    stepper = MixedStepper(model, perturb, call.returns_dict, ratio)
    output = _run(model, call, prompt, stepper)
    if isinstance(output, Tensor):
        return output
    width = prompt.input_ids.shape[1]
    head, new = output.sequences[:, :width], output.sequences[:, width:]
    mask = stepper.reasoning_mask(head, new, call.eos)
    output["thoughts"] = stepper.collect(mask, output.get("beam_indices"))
    output["thought_counts"] = mask.sum(1)
    output["thought_mask"] = torch.cat([torch.zeros_like(head, dtype=torch.bool), mask], dim=1)
    if stepper.draws:
        # the last token was never fed, so nothing was drawn for it
        drawn = torch.stack([*stepper.draws, torch.zeros_like(stepper.draws[0])], dim=1)
        output["mix_ratio"] = torch.cat([drawn.new_zeros(head.shape), drawn[:, : new.shape[1]]], dim=1)
    return output


def generate_hybrid(
    model: Thinker,
    call: GenerationArguments,
    prompt: Prompt,
    budget: Budget,
    control: str,
    perturb: Perturbation,
) -> Any:
    """Text with thought segments in it; see `HybridStepper`. Returns the text, placeholders taken out."""
    if model.thought.start_token_id is None or model.thought.end_token_id is None:
        raise ConfigError(
            "hybrid: needs thought.start_token_id and thought.end_token_id, which open and close segments"
        )
    if control == "shuffled":
        raise UnsupportedError(
            "generate: control='shuffled' needs rows that think at the same time; hybrid rows don't"
        )
    rows = max(call.beams, call.returns)
    if control == "no-thought":
        budget = [0] * len(prompt.input_ids)
    limits: Any = budget
    if isinstance(budget, list):
        limits = torch.tensor(budget, device=model.device).repeat_interleave(rows)
    pause = control == "pause" or model.thought.fill == "pause"
    stepper = HybridStepper(model, perturb, call.returns_dict, limits, pause)
    if (streamer := call.keywords.get("streamer")) is not None:
        if len(prompt.input_ids) * rows > 1:
            raise UnsupportedError(
                "generate: hybrid rows think at different times, so only a single row can be streamed"
            )
        call.keywords["streamer"] = WithoutThoughts(streamer, stepper)
    output = _run(model, call, prompt, stepper)
    sequences = output if isinstance(output, Tensor) else output.sequences
    width = prompt.input_ids.shape[1]
    mask = stepper.thought_mask(sequences[:, :width], sequences[:, width:])
    words = _without(sequences, torch.cat([mask.new_zeros(len(mask), width), mask], dim=1), call.pad)
    if isinstance(output, Tensor):
        return words
    output["thoughts"] = stepper.collect(mask, output.get("beam_indices"))
    output["thought_counts"] = mask.sum(1)
    output["raw_sequences"], output["sequences"] = sequences, words
    return output


def _run(model: Thinker, call: GenerationArguments, prompt: Prompt, stepper: Stepper) -> Any:
    call.add_processor(stepper)
    cache = stepper.new_cache()
    prefill_once(model, cache, call.shared_by, prompt.attention_mask, input_ids=prompt.input_ids)
    return GenerationMixin.generate(
        model,
        prompt.input_ids,
        attention_mask=prompt.attention_mask,
        past_key_values=cache,
        **call.keywords,
    )


def _without(ids: Tensor, drop: Tensor, pad: int) -> Tensor:
    """Rows of `ids` (R, T) without the dropped places, filled up on the right."""
    order = drop.long().argsort(dim=1, stable=True)
    kept = ids.gather(1, order).masked_fill(drop.gather(1, order), pad)
    return kept[:, : int((~drop).sum(1).max())]
