"""What `generate` was given for transformers' own `generate`: looked up, refused where thoughts would make it wrong, adapted.

An argument counts wherever transformers would find it: as a keyword, in a `generation_config`, or in the model's defaults.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from latentthought.errors import ConfigError, UnsupportedError
from latentthought.model.sharding import sharded
from latentthought.model.think import Prompt

# name -> (harmless values, why not)
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "assistant_model": ((), "drafts would be checked without the thoughts"),
    "prompt_lookup_num_tokens": ((), "drafts would be checked without the thoughts"),
    "assistant_early_exit": ((), "drafts would be checked without the thoughts"),
    "use_mtp": ((False,), "drafts would be checked without the thoughts"),
    # "hybrid" is an old default of sliding-window models, which transformers itself reads as None
    "cache_implementation": (("hybrid",), "thoughts need a cache whose columns can be gathered"),
    "prefill_chunk_size": ((), "the prompt has been run, with its thoughts, before the chunks would be cut"),
    "past_key_values": ((), "the cache of the prompt is made together with its thoughts"),
    "inputs_embeds": ((), "give token ids: the thoughts are laid out behind them"),
    "position_ids": ((), "positions follow from the attention mask and the thoughts"),
    "token_healing": ((False,), "it rewrites the end of a prompt that has already been thought about"),
    "guidance_scale": ((1, 1.0), "the unconditional half would run without thoughts"),
    "negative_prompt_ids": ((), "the unconditional half would run without thoughts"),
    "encoder_repetition_penalty": ((1, 1.0), "transformers ignores it where a prompt has embeddings"),
    "encoder_no_repeat_ngram_size": ((0,), "transformers ignores it where a prompt has embeddings"),
    "penalty_alpha": ((), "contrastive search would re-run the prompt without its thoughts"),
    "dola_layers": ((), "it is run by code from the hub, which knows no thoughts"),
    "custom_generate": ((), "a decoding loop from elsewhere knows no thoughts"),
}
_REFUSED_STEPWISE: dict[str, tuple[tuple[Any, ...], str]] = {
    "use_cache": ((True,), "the last state rides on the cache"),
    "output_attentions": ((False,), "ask `forward` for them, on the output"),
    "output_hidden_states": ((False,), "ask `forward` for them, on the output"),
}
# what belongs to `generate` and its configuration; anything else is meant for the model's passes
_OF_GENERATE = {
    *inspect.signature(GenerationMixin.generate).parameters,
    "input_ids",
    "attention_mask",
    "tokenizer",
}


class GenerationArguments:
    """The keyword arguments of one call of `generate`, without our own.

    Args:
        base: the model whose defaults apply.
        arguments: as given; neither the dict nor a `generation_config` in it is changed.
    """

    def __init__(self, base: PreTrainedModel, arguments: dict[str, Any]):
        self.defaults = base.generation_config
        self.keywords = dict(arguments)
        self.config = copy.deepcopy(self.keywords.get("generation_config"))
        if self.config is not None:
            self.keywords["generation_config"] = self.config

    def get(self, name: str, default: Any = None) -> Any:
        """The value in force, or `default` when it is None everywhere."""
        for value in (
            self.keywords.get(name),
            getattr(self.config, name, None),
            getattr(self.defaults, name, None),
        ):
            if value is not None:
                return value
        return default

    def set(self, name: str, value: Any) -> None:
        """Put a value in force; where there is a `generation_config`, inside it (transformers wants one or the other)."""
        if self.config is not None:
            self.keywords.pop(name, None)
            setattr(self.config, name, value)
        else:
            self.keywords[name] = value

    def refuse(self, stepwise: bool = False) -> None:
        """Raise UnsupportedError for what would be silently wrong; `stepwise` for mixed and hybrid decoding."""
        if (found := self._refused(stepwise)) is not None:
            raise UnsupportedError(
                f"generate: {found[0]} does not work with thoughts: {found[1]}. thoughts=0 takes everything."
            )

    def _refused(self, stepwise: bool) -> tuple[str, str] | None:
        """Name of the first option that needs the prompt to be read by transformers itself, and why."""
        for name, (harmless, reason) in {**_REFUSED, **(_REFUSED_STEPWISE if stepwise else {})}.items():
            value = self.get(name)
            if value is not None and not any(value is item or value == item for item in harmless):
                return name, reason
        return None

    @property
    def in_step(self) -> bool:
        """Whether ranks that share weights have to make equal numbers of passes."""
        return bool(self.get("synced_gpus", sharded()))

    @property
    def shared_by(self) -> int:
        """How many samples or beams may go on from one reading of a prompt; 1 where each has to be read by `generate` itself.

        So it is for options that look into the first pass or replace it, for inputs to the model that are not ours to cut, and
        for ranks in step, whose prompts may differ in whether there is anything to share.
        """
        foreign = any(not hasattr(self.defaults, name) and name not in _OF_GENERATE for name in self.keywords)
        if foreign or self.in_step or self._refused(stepwise=True) is not None:
            return 1
        return max(self.beams, self.returns)

    @property
    def beams(self) -> int:
        return self.get("num_beams", 1)

    @property
    def returns(self) -> int:
        """Sequences returned for a prompt."""
        return self.get("num_return_sequences", 1)

    @property
    def returns_dict(self) -> bool:
        return bool(self.get("return_dict_in_generate", False))

    @property
    def eos(self) -> list[int]:
        """Ids that end a row."""
        ids = self.get("eos_token_id", [])
        return (
            ids.reshape(-1).tolist()
            if isinstance(ids, Tensor)
            else list(ids)
            if isinstance(ids, (list, tuple))
            else [ids]
        )

    @property
    def pad(self) -> int:
        """Id that fills up finished rows."""
        return self.get("pad_token_id", self.eos[0] if self.eos else 0)

    def prompt(self, input_ids: Tensor | None, attention_mask: Tensor | None, device: torch.device) -> Prompt:
        """The prompts, with the mask that transformers would infer: no prompt is one start-of-text token, padding is masked."""
        given = self.keywords.pop("inputs", None)
        input_ids = given if input_ids is None else input_ids
        if input_ids is None:
            if (bos := self.get("bos_token_id")) is None:
                raise ConfigError(
                    "input_ids: none given, and the model has no start-of-text token to begin from"
                )
            input_ids = torch.tensor([[bos]])
        input_ids = input_ids.to(device)
        return Prompt.read(input_ids, self.mask_of(input_ids, attention_mask))

    def mask_of(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        """The mask in force; None where nothing says what is padding."""
        pad = self.get("pad_token_id")
        if attention_mask is None and pad is not None and pad not in self.eos:
            return (input_ids != pad).long()
        return attention_mask

    def add_processor(self, processor: LogitsProcessor, first: bool = False) -> None:
        """Join a logits processor to those of the user."""
        own = list(self.keywords.get("logits_processor") or [])
        self.keywords["logits_processor"] = LogitsProcessorList(
            [processor, *own] if first else [*own, processor]
        )

    def continue_from(self, prompt: Prompt) -> None:
        """Make lengths and penalties refer to the prompt, where transformers would take them from prompt and thoughts."""
        width = prompt.input_ids.shape[1]
        if self.get("max_new_tokens") is None and (longest := self.get("max_length")) is not None:
            if longest <= width:
                raise ConfigError(
                    f"max_length: {longest} leaves no room after a prompt of {width} tokens; use max_new_tokens"
                )
            self.set("max_new_tokens", longest - width)
            self._forget("max_length")
        if self.get("min_new_tokens") is None and (shortest := self.get("min_length")):
            self.set("min_new_tokens", max(shortest - width, 0))
            self._forget("min_length")
        penalty = self.get("repetition_penalty", 1.0)
        given = self.keywords.get("logits_processor") or []
        if penalty != 1.0 and not any(type(item) is RepetitionPenaltyLogitsProcessor for item in given):
            # transformers spares as many ids as the mask has padding, and ours pads rows that thought less than others
            padding = (prompt.attention_mask == 0).sum(1).repeat_interleave(max(self.beams, self.returns))
            self.add_processor(
                RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=padding), first=True
            )
            self.set("repetition_penalty", 1.0)

    def _forget(self, name: str) -> None:
        self.keywords.pop(name, None)
        if self.config is not None:
            setattr(self.config, name, None)
