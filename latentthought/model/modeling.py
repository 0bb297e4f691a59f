"""`LatentThoughtForCausalLM`: a causal language model that can take its own hidden states as input.

The base model is held whole and untouched (composition): its own attention, cache, head and `generate` do the work, and any
family of transformers serves. Rejected: one subclass a family (copied forward code that goes stale), and monkey-patching
(breaks saving, peft and every tool that looks at the class).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from latentthought.errors import ConfigError, unknown
from latentthought.model.backbone import Backbone, States, positions_of
from latentthought.model.configuration import LatentThoughtConfig, ThoughtConfig
from latentthought.model.feedback import Feedback, FeedbackKind, FeedbackPasses, ThoughtInputs
from latentthought.model.generation import ThoughtGeneration
from latentthought.model.saving import ModelFiles
from latentthought.model.scoring import next_token_loss
from latentthought.thoughts.mixing import MixRatio, draw_positions
from latentthought.thoughts.scale import ScaleMatcher, root_mean_square


@dataclass
class LatentThoughtOutput(ModelOutput):
    """Output of a forward; what was not asked for is None.

    loss: 0-d. logits: (B, T, V), absent when labels are given unless `return_logits`. past_key_values: the cache.
    thoughts: (B, S, D), the states fed in before scale and blend, in order, zero-padded on the right. thought_counts: (B,).
    hidden: (B, T, D), the state of every position that the next one may be fed. scaled: `scale(hidden)`. embeddings: (B, T, D),
    token embeddings. text_states: (B, T, D), `hidden` of the pure-text pass, without gradient.
    predictions: (B, T), the argmax token for each labelled position, -100 elsewhere.
    monitor: 0-d tensors `rms_ratio` (thought RMS over embedding RMS) and `cosine` (of fed-in state and token embedding).
    hidden_states, attentions: of the base, for plain text.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Any = None
    thoughts: Tensor | None = None
    thought_counts: Tensor | None = None
    hidden: Tensor | None = None
    scaled: Tensor | None = None
    embeddings: Tensor | None = None
    text_states: Tensor | None = None
    predictions: Tensor | None = None
    monitor: dict[str, Tensor] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class LatentThoughtForCausalLM(ModelFiles, ThoughtGeneration, PreTrainedModel, GenerationMixin):
    """Any Hugging Face causal LM, able to think in hidden states. Build one with `from_base` or `from_pretrained`."""

    config_class = LatentThoughtConfig
    base_model_prefix = "base"
    supports_gradient_checkpointing = True
    _tied_weights_keys: dict[str, str] = {}
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: LatentThoughtConfig, base: PreTrainedModel | None = None):
        super().__init__(config)
        if base is None:
            text_config = config.text_config
            # a config built from another resets the attention choice, so it is passed on
            base = AutoModelForCausalLM.from_config(text_config, attn_implementation=text_config._attn_implementation)
        self.base = base
        self.thought = config.thought_config
        self.backbone = Backbone(base, self.thought.layer)
        self.scale = ScaleMatcher(self.thought.scale, self.backbone.width, self.thought.scale_width)
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
        return self.base.generation_config if "base" in self._modules else self.__dict__.get("_generation_config")

    @generation_config.setter
    def generation_config(self, value) -> None:
        if "base" in self._modules:
            self.base.generation_config = value
        else:  # PreTrainedModel.__init__ sets one before there is a base
            self.__dict__["_generation_config"] = value

    def set_thought(self, **changes: Any) -> ThoughtConfig:
        """Change thought settings that carry no weights (`thoughts`, `fill`, token ids, ...), in model and config alike."""
        if fixed := {"scale", "scale_width"} & changes.keys():
            raise ConfigError(f"thought.{sorted(fixed)[0]}: carries weights and is fixed when the model is made")
        self.thought = self.thought.replace(**changes)
        self.config.thought = self.thought.dump()
        self.backbone = Backbone(self.base, self.thought.layer)
        return self.thought

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict | None = None) -> None:
        """Recompute each pass as a whole in backward. (The base's own switch drops the cache and gives a wrong loss.)"""
        self.backbone.checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        self.backbone.checkpointing = False

    # the name in later releases of transformers
    activation_checkpointing_enable = gradient_checkpointing_enable
    activation_checkpointing_disable = gradient_checkpointing_disable

    @property
    def is_gradient_checkpointing(self) -> bool:
        return self.backbone.checkpointing

    @torch.no_grad()
    def measure_scale(self) -> float:
        """Set the scale target to the mean RMS over all rows of the embedding output; returns it. Called when a stage starts."""
        device = self.get_input_embeddings().weight.device
        rows = torch.arange(self.get_input_embeddings().weight.shape[0], device=device)
        squares = [root_mean_square(self.backbone.embed(part)) for part in rows.split(16384)]
        self.scale.target.copy_(torch.cat(squares).mean())
        return float(self.scale.target)

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
            output_attentions, output_hidden_states: as in transformers, for plain text only. return_dict: accepted for
                transformers' sake; the output is always a `LatentThoughtOutput`.

        Raises: ConfigError for a thought at a row's first position, an unknown method, or states without `single_pass`.
        """
        self._check(feedback, thought_states, thought_mask, past_key_values)
        thinks = thought_mask is not None and not (not isinstance(mix_ratio, Tensor) and mix_ratio == 0)
        thought_columns_ = self._thought_columns(thought_mask, attention_mask, thought_columns) if thinks else ()
        if past_key_values is not None and return_states and not thought_columns_:  # one step of mixed or hybrid decoding
            states = self.backbone.run(inputs_embeds, attention_mask, position_ids, past_key_values, input_ids)
            result = LatentThoughtOutput(past_key_values=past_key_values, hidden=states.fed)
            self._score(result, states.final, labels, return_logits, logits_to_keep, num_items_in_batch, return_predictions)
            return result
        if past_key_values is not None or use_cache or output_attentions or output_hidden_states:
            if thought_columns_:
                raise ConfigError("thought_mask with a cache, attentions or all hidden states: use think() or generate(), or return_states=True")
            output = self.base(
                input_ids=input_ids,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                position_ids=position_ids,
                labels=labels,
                past_key_values=past_key_values,
                use_cache=use_cache,
                logits_to_keep=logits_to_keep,
                output_attentions=output_attentions,
                output_hidden_states=output_hidden_states,
            )
            return LatentThoughtOutput(**output)
        result = LatentThoughtOutput()
        if not thought_columns_:
            states = self._text_pass(input_ids, inputs_embeds, attention_mask, position_ids)
            if text_states:
                result.text_states = states.fed.detach()
        else:
            passes = FeedbackPasses(
                self.backbone, self.scale, self.thought.blend, jacobi_iterations, gradient_iterations, backprop_thoughts
            )
            inputs = self._thought_inputs(input_ids, inputs_embeds, attention_mask, position_ids, thought_mask, mix_ratio, thought_columns_)
            done = passes.run(feedback, inputs, thought_states, text_states)
            states, result.text_states = done.states, done.text_states
            self._report_thoughts(result, inputs, done, exact=thought_columns is None)
        if return_states:
            result.hidden, result.scaled = states.fed, self.scale(states.fed)
            result.embeddings = self.backbone.embed(input_ids) if inputs_embeds is None else inputs_embeds
        self._score(result, states.final, labels, return_logits, logits_to_keep, num_items_in_batch, return_predictions)
        return result

    def _check(self, feedback: str, thought_states: Tensor | None, thought_mask: Tensor | None, cache: Any) -> None:
        if feedback not in ("sequential", "jacobi", "single_pass"):
            raise ConfigError(unknown("feedback", feedback, ("sequential", "jacobi", "single_pass")))
        if thought_states is not None and (feedback != "single_pass" or thought_mask is None):
            raise ConfigError(f"thought_states go with feedback='single_pass' and a thought_mask, not with feedback={feedback!r}")

    def _text_pass(self, input_ids: Tensor | None, embeds: Tensor | None, mask: Tensor | None, positions: Tensor | None) -> States:
        # rotary models see only differences of positions, so the bare model's own default stays untouched, bit for bit
        if positions is None and mask is not None and self.backbone.absolute_positions:
            positions = positions_of(mask)
        if self.backbone.checkpointing and embeds is None:
            embeds = self.backbone.embed(input_ids)
        return self.backbone.run(embeds, mask, positions, input_ids=input_ids)

    def _thought_columns(self, thought_mask: Tensor, attention_mask: Tensor | None, given: tuple[int, int] | None) -> tuple[int, ...]:
        if given is not None:
            columns = tuple(range(*given))
        else:
            columns = tuple(thought_mask.any(0).nonzero().flatten().tolist())
        if columns and columns[0] == 0:
            raise ConfigError("thought_mask: a thought at column 0 has no state before it; a row starts with at least one token")
        if thought_mask.device.type == "cpu" and columns:  # on an accelerator the look would wait for the device
            if thought_mask[:, : columns[0]].any() or thought_mask[:, columns[-1] + 1 :].any():
                raise ConfigError(f"thought_mask: thoughts outside thought_columns={given}")
            if attention_mask is not None and (thought_mask[:, 1:] & ~attention_mask[:, :-1].bool()).any():
                raise ConfigError("thought_mask: a thought at a row's first position has no state before it")
        return columns

    def _thought_inputs(
        self,
        input_ids: Tensor | None,
        embeds: Tensor | None,
        mask: Tensor | None,
        positions: Tensor | None,
        thought_mask: Tensor,
        ratio: MixRatio,
        columns: tuple[int, ...],
    ) -> ThoughtInputs:
        if mask is None:
            mask = torch.ones_like(thought_mask, dtype=torch.long)
        if self.thought.blend == "bernoulli":
            ratio = draw_positions(ratio, thought_mask)
        return ThoughtInputs(
            embeddings=self.backbone.embed(input_ids) if embeds is None else embeds,
            attention_mask=mask,
            position_ids=positions_of(mask) if positions is None else positions,
            thought_mask=thought_mask.bool(),
            ratio=ratio,
            thought_columns=columns,
        )

    def _report_thoughts(self, result: LatentThoughtOutput, inputs: ThoughtInputs, done: Feedback, exact: bool) -> None:
        mask_BS = inputs.thought_mask[:, inputs.start : inputs.stop]
        result.thought_counts = mask_BS.sum(1)
        # a stable sort of "not a thought" moves each row's thoughts to the left and keeps their order
        order_BS = (~mask_BS).long().argsort(dim=1, stable=True)
        thoughts_BSD = done.fed_in.gather(1, order_BS[..., None].expand(done.fed_in.shape))
        thoughts_BSD = thoughts_BSD * mask_BS.gather(1, order_BS)[..., None]
        result.thoughts = thoughts_BSD[:, : int(result.thought_counts.max())] if exact else thoughts_BSD
        with torch.no_grad():
            count = mask_BS.sum().clamp_min(1)
            text_BSD = inputs.embeddings[:, inputs.start : inputs.stop].float()
            rms_BS = root_mean_square(done.fed_in).squeeze(-1)
            cosine_BS = torch.cosine_similarity(done.fed_in.float(), text_BSD, dim=-1)
            result.monitor = {
                "rms_ratio": (rms_BS * mask_BS).sum() / count / self.scale.target,
                "cosine": (cosine_BS * mask_BS).sum() / count,
            }

    def _score(
        self,
        result: LatentThoughtOutput,
        final: Tensor,
        labels: Tensor | None,
        return_logits: bool | None,
        logits_to_keep: int | Tensor,
        items: Tensor | int | None,
        predictions: bool,
    ) -> None:
        if labels is not None:
            vocabulary = self.get_output_embeddings().weight.shape[0]
            result.loss, result.predictions = next_token_loss(self.backbone.head, final, labels, vocabulary, items, predictions)
        if return_logits or (return_logits is None and labels is None):
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) and logits_to_keep else slice(None)
            result.logits = self.backbone.head(final[:, logits_to_keep if isinstance(logits_to_keep, Tensor) else kept])


AutoModelForCausalLM.register(LatentThoughtConfig, LatentThoughtForCausalLM, exist_ok=True)
