"""`think` and `generate`: one checkpoint that answers in words, after thoughts, with both at once, or as it sees fit.

text     thoughts=0: the base model's own `generate`, untouched but that several samples of a prompt share its reading.
latent   thoughts=N: the thoughts are run first (`model.think`), and the base's own `generate` goes on from their cache: its token
         loop, beams, samplers, processors and streamers work as ever and cost what they always cost.
mixed    mix_ratio=m: every reasoning token enters as a blend with the last state (`model.decoding`).
hybrid   the model opens thought segments inside its text (`model.decoding`).

Whichever it is, the samples and beams of one prompt share its reading (`model.prefill`), and its thoughts unless these are
varied from sample to sample.

Controls (`model.controls`) take the meaning out of thoughts and leave their form, so that a claim about them can be checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel

from latentthought.errors import ConfigError, UnsupportedError
from latentthought.model.arguments import GenerationArguments
from latentthought.model.controls import controlled_thoughts, read_control
from latentthought.model.decoding import ThoughtCache
from latentthought.model.policy import (
    Budget,
    Perturbation,
    ThoughtPolicy,
    Thoughts,
    ThoughtSampling,
    read_thoughts,
)
from latentthought.model.prefill import own_cache, prefill_once
from latentthought.model.stepwise import generate_hybrid, generate_mixed
from latentthought.model.think import Prompt, ThinkOutput

if TYPE_CHECKING:
    from latentthought.model.backbone import Backbone
    from latentthought.model.configuration import ThoughtConfig
    from latentthought.thoughts.scale import ScaleMatcher


class ThoughtGeneration:
    """Mixin of `LatentThoughtForCausalLM`, in front of `GenerationMixin`."""

    if TYPE_CHECKING:
        base: PreTrainedModel
        backbone: Backbone
        scale: ScaleMatcher
        thought: ThoughtConfig
        device: torch.device

    @torch.no_grad()
    def think(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        thoughts: Thoughts = None,
        *,
        thought_sampling: ThoughtSampling | None = None,
        top_k: int = 0,
    ) -> ThinkOutput:
        """Think about each prompt, and return the thoughts and the cache to go on from.

        Args:
            input_ids, attention_mask: (B, T) prompts; right-padded ones come back left-padded.
            thoughts: an int, one a row, a `ThoughtPolicy`, "auto"; None is what the model was trained with, and the 6 of
                `ThoughtPolicy` for one that was trained with none.
            thought_sampling: random variation of the thoughts.
            top_k: also decode each thought to its k most probable tokens (`.decoded.words(tokenizer, .counts)`).
        """
        prompt = GenerationArguments(self.base, {}).prompt(input_ids, attention_mask, self.device)
        wanted = self.thought.thoughts or ThoughtPolicy() if thoughts is None else thoughts
        budget = self._budget(wanted, len(prompt.input_ids))
        perturb = Perturbation(thought_sampling or ThoughtSampling(), self.device)
        return controlled_thoughts(self, prompt, budget, "none", perturb, top_k=top_k)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        thoughts: Thoughts = None,
        mix_ratio: float | None = None,
        *,
        hybrid: bool = False,
        thought_sampling: ThoughtSampling | None = None,
        control: str = "none",
        control_noise: float = 1.0,
        **arguments: Any,
    ) -> Any:
        """Prompt + new tokens, as transformers' `generate` returns them, after or during thoughts.

        Args:
            input_ids, attention_mask: (B, T) prompts; where there are thoughts, right-padded ones come back left-padded.
            thoughts: an int, one a row, a `ThoughtPolicy`, "auto", or 0 for plain text; None is what the model was trained
                with. Fed-back positions only: delimiters are extra, and neither counts as a new token.
            mix_ratio: m > 0 for mixed decoding: each reasoning token is fed as blend(E, scale(h), m) until the end token, or
                throughout where the model has none. A prompt that does not leave a segment open gets the start token,
                where there is one, as its first new token. None is what the model was trained with if `thoughts` is
                None too, else 0.
            hybrid: the model opens thought segments itself, by its start token; `thoughts` says how long each may be. The
                placeholders count as new tokens while generating and are taken out of what is returned.
            thought_sampling: random variation of thoughts. Without beams each of `num_return_sequences` thinks for itself.
            control: "none", "no-thought", "pause", "shuffled" or "noised"; control_noise: relative RMS of the noise.
            **arguments: anything transformers' `generate` takes.

        Returns:
            (B, T + N) ids, or with `return_dict_in_generate` its output object, where `thoughts` (B, S, D) are the states fed
            in, before scale and blend, zero-padded on the right, and `thought_counts` (B,) their numbers. Mixed decoding
            adds `thought_mask` (B, T + N), so that `forward` can be asked for the same, and under the bernoulli blend
            `mix_ratio` (B, T + N), the draws; hybrid adds `raw_sequences`, placeholders included.

        Raises: UnsupportedError for options that thoughts would make wrong; ConfigError for bad values.
        """
        call, chosen = GenerationArguments(self.base, arguments), read_control(control)
        if mix_ratio is None:
            mix_ratio = self.thought.mix_ratio if thoughts is None and not hybrid else 0.0
        if isinstance(mix_ratio, bool) or not isinstance(mix_ratio, (int, float)) or not 0 <= mix_ratio <= 1:
            raise ConfigError(f"mix_ratio: a number from 0 to 1, not {mix_ratio!r}")
        given = arguments.get("inputs") if input_ids is None else input_ids
        budget = self._budget(
            0 if mix_ratio > 0 and thoughts is None else thoughts, 1 if given is None else len(given)
        )
        thinks = any(budget) if isinstance(budget, list) else budget.maximum > 0
        sampling = thought_sampling or ThoughtSampling()
        if chosen == "noised":
            sampling = sampling.replace(noise=float(control_noise), seed=sampling.seed or 0)
        if hybrid and not thinks and thoughts is None:
            raise ConfigError(
                "hybrid: say how long a segment is: thoughts=N or a ThoughtPolicy, or set thought.thoughts"
            )
        if mix_ratio > 0 and (hybrid or thinks):
            raise UnsupportedError("generate: mix_ratio > 0 goes with neither thoughts nor hybrid")
        if not (thinks or hybrid or mix_ratio > 0):
            return self._generate_text(call, input_ids, attention_mask, chosen)
        call.refuse(stepwise=hybrid or mix_ratio > 0)
        prompt = call.prompt(input_ids, attention_mask, self.device)
        perturb = Perturbation(sampling, self.device)
        if mix_ratio > 0:
            return generate_mixed(self, call, prompt, float(mix_ratio), chosen, perturb)
        if hybrid:
            return generate_hybrid(self, call, prompt, budget, chosen, perturb)
        return self._generate_latent(call, prompt, budget, chosen, perturb)

    def _budget(self, thoughts: Thoughts, rows: int) -> Budget:
        return read_thoughts(thoughts, rows, self.thought.thoughts, self.thought.end_token_id is not None)

    def _generate_text(
        self,
        call: GenerationArguments,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        control: str,
    ) -> Any:
        if control not in ("none", "no-thought"):
            raise ConfigError(f"control: {control!r} needs thoughts, and there are none")
        if attention_mask is not None:
            call.keywords["attention_mask"] = attention_mask
        if input_ids is not None:
            call.keywords["input_ids"] = input_ids
        self._share_prefill(call)
        output = self.base.generate(**call.keywords)
        if isinstance(output, Tensor):
            return output
        rows = len(output.sequences)
        empty = torch.zeros(
            rows, 0, self.backbone.width, dtype=self.base.dtype, device=output.sequences.device
        )
        output["thoughts"], output["thought_counts"] = empty, output.sequences.new_zeros(rows)
        return output

    def _share_prefill(self, call: GenerationArguments) -> None:
        """Let `generate` go on from one reading of each prompt, where several answers are to follow and nothing forbids it."""
        given, copies = call.keywords.get("input_ids", call.keywords.get("inputs")), call.shared_by
        if copies == 1 or given is None or given.dim() != 2 or not given.shape[1]:
            return
        input_ids = given.to(self.device)
        mask = call.mask_of(input_ids, call.keywords.get("attention_mask"))
        mask = torch.ones_like(input_ids) if mask is None else mask.to(self.device)
        # rows that do not end in one column are left to transformers and its warning
        if (
            mask.shape == input_ids.shape
            and bool(mask[:, -1].all())
            and (cache := own_cache(self)) is not None
        ):
            prefill_once(self, cache, copies, mask, input_ids=input_ids)
            call.keywords |= {"past_key_values": cache, "attention_mask": mask}

    def _generate_latent(
        self,
        call: GenerationArguments,
        prompt: Prompt,
        budget: Budget,
        control: str,
        perturb: Perturbation,
    ) -> Any:
        copies = 1
        if perturb.sampling.active and call.beams == 1 and call.returns > 1:
            copies = call.returns
            call.set("num_return_sequences", 1)
        thought = controlled_thoughts(
            self, prompt, budget, control, perturb, copies=copies, in_step=call.in_step
        )
        prompt = prompt.repeat(copies)
        shared_by = call.shared_by
        call.continue_from(prompt)
        if thought.cache.get_seq_length():
            if (rows := max(call.beams, call.returns)) > 1:
                thought.cache.batch_repeat_interleave(rows)
        else:  # what is fed was known beforehand, and nothing has been read yet
            prefill_once(self, thought.cache, shared_by, thought.attention_mask, embeds=thought.inputs_embeds)
        if thought.cache.get_seq_length():
            call.keywords["past_key_values"] = thought.cache
        output = self.base.generate(
            prompt.input_ids,
            inputs_embeds=thought.inputs_embeds,
            attention_mask=thought.attention_mask,
            position_ids=thought.position_ids,
            **call.keywords,
        )
        if isinstance(output, Tensor):
            return output
        output["thoughts"], output["thought_counts"] = (
            part.repeat_interleave(call.returns, 0) for part in (thought.states, thought.counts)
        )
        return output

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, past_key_values: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """transformers' hook before a pass: with a `ThoughtCache` the next input may be a state."""
        inputs = GenerationMixin.prepare_inputs_for_generation(
            self, input_ids, past_key_values=past_key_values, **kwargs
        )
        if isinstance(past_key_values, ThoughtCache):
            if (embeds := past_key_values.stepper.inputs(input_ids)) is not None:
                inputs["input_ids"], inputs["inputs_embeds"] = None, embeds
            inputs["return_states"] = True
        return inputs

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        """transformers' hook after a pass."""
        if isinstance(cache := model_kwargs.get("past_key_values"), ThoughtCache):
            cache.stepper.observe(outputs)
        return GenerationMixin._update_model_kwargs_for_generation(self, outputs, model_kwargs, **kwargs)
