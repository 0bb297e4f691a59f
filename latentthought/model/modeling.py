"""`LatentThoughtForCausalLM`: a causal language model that can take its own hidden states as input.

The base model is held whole and untouched (composition): its own attention, cache, head and `generate` do the work, and any
family of transformers serves. Rejected: one subclass a family (copied forward code that goes stale), and monkey-patching
(breaks saving, peft and every tool that looks at the class).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache, GenerationMixin, PreTrainedModel

from latentthought.errors import ConfigError
from latentthought.model.backbone import Backbone, States, positions_of
from latentthought.model.capture import check_layers
from latentthought.model.companions import WithCompanions
from latentthought.model.configuration import LatentThoughtConfig, ThoughtConfig
from latentthought.model.feedback import FeedbackPasses, check_feedback
from latentthought.model.generation import ThoughtGeneration
from latentthought.model.inputs import ThoughtInputs, find_columns
from latentthought.model.output import LatentThoughtOutput
from latentthought.model.plain import run_base
from latentthought.model.recomputing import RecomputedPasses
from latentthought.model.saving import ModelFiles
from latentthought.model.scoring import kept_positions, next_token_loss
from latentthought.model.spans import span
from latentthought.model.tied_table import with_one_gradient
from latentthought.thoughts.layout import Feedback as FeedbackKind
from latentthought.thoughts.mixing import MixRatio
from latentthought.thoughts.scale import ScaleMatcher, root_mean_square


class LatentThoughtForCausalLM(
    ThoughtGeneration, ModelFiles, WithCompanions, RecomputedPasses, GenerationMixin
):
    """Any Hugging Face causal LM, able to think in hidden states. Build one with `from_base` or `from_pretrained`."""

    config_class = LatentThoughtConfig
    base_model_prefix = "base"
    supports_gradient_checkpointing = True
    _tied_weights_keys: dict[str, str] = {}
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # transformers' Trainer then divides by the labels of all micro-batches, not by those of each
    accepts_loss_kwargs = True

    def __init__(self, config: LatentThoughtConfig, base: PreTrainedModel | None = None):
        super().__init__(config)
        if base is None:
            text_config = config.get_text_config()
            # a config built from another resets the attention choice, so it is passed on
            base = AutoModelForCausalLM.from_config(
                text_config, attn_implementation=text_config._attn_implementation
            )
        self.base = base
        self.thought = config.thought_config
        self.backbone = Backbone(base, self.thought.layer)
        self.scale = ScaleMatcher(self.thought.scale, self.backbone.width, self.thought.scale_width)
        self.companions = nn.ModuleDict()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # the base has initialised its own modules by its own rules; only the projector of `scale="mlp"` is ours
        if module in set(self.scale.modules()):
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        return self.base.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.base.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.base.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.base.set_output_embeddings(new_embeddings)

    @property
    def generation_config(self):  # one set of generation defaults: the base's
        known = self.base if "base" in self._modules else None
        return known.generation_config if known is not None else self.__dict__.get("_generation_config")

    @generation_config.setter
    def generation_config(self, value) -> None:
        if "base" in self._modules:
            self.base.generation_config = value
        else:  # PreTrainedModel.__init__ sets one before there is a base
            self.__dict__["_generation_config"] = value

    def set_thought(self, **changes: Any) -> ThoughtConfig:
        """Change thought settings that carry no weights (`thoughts`, `fill`, token ids, ...), in model and config alike."""
        if fixed := {"scale", "scale_width"} & changes.keys():
            raise ConfigError(
                f"thought.{sorted(fixed)[0]}: carries weights and is fixed when the model is made"
            )
        self.thought = self.thought.replace(**changes)
        self.config.thought = self.thought.dump()
        checkpointing = self.backbone.checkpointing
        self.backbone = Backbone(self.base, self.thought.layer)
        self.backbone.checkpointing = checkpointing
        return self.thought

    @torch.no_grad()
    def measure_scale(self) -> float:
        """Set the scale target to the mean RMS over all rows of the embedding output; returns it. Called when a stage starts."""
        rows = torch.arange(self.backbone.vocabulary, device=self.device)
        sizes = [root_mean_square(self.backbone.embed(part)) for part in rows.split(16384)]
        self.scale.target.copy_(torch.cat(sizes).mean())
        return float(self.scale.target)

    @with_one_gradient
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        thought_mask: Tensor | None = None,
        mix_ratio: MixRatio = 1.0,
        feedback: FeedbackKind = "sequential",
        jacobi_iterations: int | None = None,
        thought_states: Tensor | None = None,
        thought_columns: tuple[int, int] | None = None,
        return_logits: bool | None = None,
        *,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        gradient_iterations: int | None = None,
        backprop_thoughts: int | None = None,
        return_states: bool = False,
        text_states: bool = False,
        return_predictions: bool = False,
        capture: Sequence[int] = (),
        score: Callable[[LatentThoughtForCausalLM, LatentThoughtOutput], Any] | None = None,
        reading: Mapping[str, Any] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> LatentThoughtOutput:
        """Run the model; where `thought_mask` is True the input is blend(E_t, scale(h_{t-1}), m_t).

        Args:
            input_ids: (B, T). At thought positions the original tokens (soft mix) or the placeholder (pure latent).
            attention_mask: (B, T), padding on either side of a row, no holes inside one.
            labels: (B, T), -100 where nothing is scored; the label at t is predicted at t - 1.
            thought_mask: (B, T) bool: the input at t is a fed-back state. None is plain text.
            mix_ratio: m, a float or a tensor broadcastable to (B, T). The float 0 runs the bare model, bit for bit.
            feedback, jacobi_iterations, gradient_iterations, backprop_thoughts: see `model.feedback`.
            thought_states: (B, T, D), the h of each position, for `single_pass`.
            thought_columns: (start, stop) that holds every thought; spares a wait for the device. Without it the columns are
                read off `thought_mask`. With it `thoughts` has stop - start slots.
            return_logits: all logits although labels are given. logits_to_keep: as in transformers.
            num_items_in_batch: divisor of the summed loss, in place of the valid labels of this batch.
            return_states: also `hidden`, `scaled` and `embeddings`. text_states: also those of the pure-text pass.
            return_predictions: also the argmax at labelled positions.
            capture: layers whose states are wanted as `captured`: 0 the input of block 1, b the output of block b before the
                final norm, -1 the state after it. score: called as score(model, output) when all else is there; what it returns
                is `value`. So head, projectors and auxiliary decoder are used inside the forward that an engine has
                wrapped (outside it, DDP and ZeRO would silently not train them).
            reading: arguments of one more forward, run first and with gradient, with the same layers captured: the same rows
                as a whole chain of thought (self distillation). It has no logits unless it asks for them.
            output_attentions, output_hidden_states: as in transformers, for plain text only. return_dict: accepted for
                transformers' sake; the output is always a `LatentThoughtOutput`.

        Raises: ConfigError for a thought at a row's first position, an unknown method, or states without `single_pass`.
        """
        check_feedback(feedback, thought_states, thought_mask, mix_ratio, self.backbone.width)
        check_layers(self.base, capture)
        asked = thought_mask
        if not isinstance(mix_ratio, Tensor) and mix_ratio == 0:
            thought_mask = None
        columns = () if thought_mask is None else find_columns(thought_mask, attention_mask, thought_columns)
        layers = tuple(capture) if score is None else tuple(dict.fromkeys((*capture, -1)))
        cached = past_key_values is not None
        if cached or use_cache or output_attentions or output_hidden_states:
            if columns:
                raise ConfigError(
                    "thought_mask with a cache, attentions or all hidden states: use think() or generate(), or return_states=True"
                )
            if (return_states and not cached) or text_states:
                raise ConfigError(
                    "return_states and text_states go neither with use_cache nor with attentions or all hidden states"
                )
            if layers or reading is not None:
                raise ConfigError(
                    "capture, score and reading go neither with a cache nor with attentions or all hidden states"
                )
            if not return_states:
                return run_base(
                    self.base,
                    labels,
                    self.backbone.vocabulary,
                    input_ids=input_ids,
                    inputs_embeds=inputs_embeds,
                    attention_mask=attention_mask,
                    position_ids=position_ids,
                    past_key_values=past_key_values,
                    use_cache=use_cache,
                    logits_to_keep=logits_to_keep,
                    output_attentions=output_attentions,
                    output_hidden_states=output_hidden_states,
                    return_logits=return_logits,
                    num_items_in_batch=num_items_in_batch,
                    return_predictions=return_predictions,
                )
        result = LatentThoughtOutput(past_key_values=past_key_values)
        if reading is not None:
            # not through __call__: an engine's hooks on the wrapped model take one forward a step
            # where none of it is scored its states are targets alone, and keep nothing for a backward pass
            with span("chain"), torch.set_grad_enabled(torch.is_grad_enabled() and "labels" in reading):
                result.reading = self.forward(**{"return_logits": False, **reading, "capture": layers})
        if thought_mask is not None and columns:
            inputs = ThoughtInputs.prepare(
                self._embeddings(input_ids, inputs_embeds, with_head=True),
                attention_mask,
                position_ids,
                thought_mask,
                mix_ratio,
                columns,
                self.thought.blend,
            )
            passes = FeedbackPasses(
                self.backbone,
                self.scale,
                self.thought.blend,
                jacobi_iterations,
                gradient_iterations,
                backprop_thoughts,
                layers,
            )
            done = passes.run(feedback, inputs, thought_states, text_states)
            states, result.text_states = done.states, done.text_states
            result.report_thoughts(inputs, done, self.scale.target, exact=thought_columns is None)
        else:
            with span("rest"):
                states = self._text_pass(
                    input_ids, inputs_embeds, attention_mask, position_ids, past_key_values, layers
                )
            result.text_states = states.fed.detach() if text_states else None
            if asked is not None:  # and nothing was fed back: the ratio is 0, or no row thinks
                result.thoughts, result.thought_counts = states.fed[:, :0], asked.sum(1) * 0
        if return_states:
            result.hidden, result.scaled = states.fed, self.scale(states.fed)
            result.embeddings = self._embeddings(input_ids, inputs_embeds)
        if labels is not None:
            with span("head"):
                result.loss, result.predictions = next_token_loss(
                    self.backbone.head,
                    states.final,
                    labels,
                    self.backbone.vocabulary,
                    num_items_in_batch,
                    return_predictions,
                )
        if return_logits or (return_logits is None and labels is None):
            result.logits = self.backbone.head(kept_positions(states.final, logits_to_keep))
        if layers:
            result.captured = {**states.captured, self.backbone.layer: states.fed, -1: states.final}
        # made anew, since transformers reads it as a tuple too, with the loss or the logits first
        if score is None:
            return LatentThoughtOutput(**result)
        # mixed precision copies whatever a forward returns to float32, and the step would hold it until its end
        spent = {"captured": None, "reading": None}
        return LatentThoughtOutput(**{**result, "value": score(self, result), **spent})

    def _embeddings(
        self, input_ids: Tensor | None, inputs_embeds: Tensor | None, with_head: bool = False
    ) -> Tensor:
        if inputs_embeds is not None:
            return inputs_embeds
        if input_ids is None:
            raise ConfigError("forward: give input_ids or inputs_embeds")
        return self.backbone.embed(input_ids, with_head)

    def _text_pass(
        self,
        input_ids: Tensor | None,
        embeds: Tensor | None,
        mask: Tensor | None,
        positions: Tensor | None,
        cache: DynamicCache | None,
        capture: Sequence[int],
    ) -> States:
        # rotary models see only differences of positions, so the bare model's own default stays untouched, bit for bit
        if positions is None and mask is not None and self.backbone.absolute_positions and cache is None:
            positions = positions_of(mask)
        if self.backbone.checkpointing:
            embeds = self._embeddings(input_ids, embeds)
        return self.backbone.run(embeds, mask, positions, cache, input_ids, capture)


AutoModelForCausalLM.register(LatentThoughtConfig, LatentThoughtForCausalLM, exist_ok=True)
