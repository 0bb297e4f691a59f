"""From a base model to a thinking one, to disk and back, and out again as a plain Hugging Face model.

Reading is strict: transformers only warns when a checkpoint lacks rows or has others, and then leaves them at random, which
shows up as a model that is a little worse. Here any missing, unexpected or differently shaped tensor is an error.
Only safetensors are read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from latentthought.errors import (
    ConfigError,
    DamagedFileError,
    HubUnreachableError,
    LatentThoughtError,
    MissingFileError,
    UnsupportedError,
)
from latentthought.hub import cache_only, offline_reason
from latentthought.model.configuration import LatentThoughtConfig, ThoughtConfig
from latentthought.model.sharding import whole, whole_shape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from latentthought.thoughts.scale import ScaleMatcher


class ModelFiles(PreTrainedModel):
    """The part of `LatentThoughtForCausalLM` that makes, reads and exports models."""

    base: PreTrainedModel

    if TYPE_CHECKING:
        scale: ScaleMatcher

        def measure_scale(self) -> float: ...

    @classmethod
    def from_base(
        cls,
        name_or_model: str | os.PathLike | PreTrainedModel,
        thought: ThoughtConfig | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **load_arguments: Any,
    ) -> Self:
        """Wrap any Hugging Face causal LM.

        Args:
            name_or_model: a hub name, a folder, or a model (kept, not copied). Of a latent-thought model it is the base inside,
                with its thought-token rows, and its learnt scale where the new one has the same shape.
            thought: how thoughts are made.
            tokenizer: gets the thought tokens it lacks; the base then gets their rows, in embedding and head. None adds and
                resizes nothing, and the ids in `thought` are used as they are.
            load_arguments: for `AutoModelForCausalLM.from_pretrained`, such as dtype.
        """
        thought = thought or ThoughtConfig()
        if load_arguments and isinstance(name_or_model, PreTrainedModel):
            raise ConfigError(
                f"from_base: {', '.join(sorted(load_arguments))} would load a model, and one was given ready made"
            )
        base = (
            name_or_model
            if isinstance(name_or_model, PreTrainedModel)
            else load_base(name_or_model, **load_arguments)
        )
        earlier = base if isinstance(base, cls) else None
        if earlier is not None:
            base = earlier.base.train(earlier.training)
        if getattr(base.config, "is_encoder_decoder", False) or base.get_output_embeddings() is None:
            raise UnsupportedError(
                f"{type(base).__name__} is not a causal language model with a head over the vocabulary"
            )
        added: list[int] = []
        if tokenizer is not None:
            thought, added = add_thought_tokens(base, tokenizer, thought)
        if earlier is not None:
            added = sorted({*added, *earlier.config.added_token_ids})
        # post_init() would draw the weights of modules that do not carry this mark (LoRA layers, for one) anew
        for module in base.modules():
            module._is_hf_initialized = True
        for parameter in base.parameters():
            parameter._is_hf_initialized = True
        # making a config resets the attention choice of the configs inside it, so it is passed on
        attention = base.config._attn_implementation
        config = LatentThoughtConfig(
            text_config=base.config, thought=thought, added_token_ids=added, attn_implementation=attention
        )
        model = cls(config, base=base)
        model.scale.to(device=base.device)
        if model.scale.projector is not None:
            model.scale.projector.to(base.dtype)
            _inherit(model.scale.projector, earlier)
        if base.device.type != "meta":
            with whole([base.get_input_embeddings().weight]):
                model.measure_scale()
        return model.train(base.training)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, *arguments: Any, **keywords: Any):
        """Load a saved model; raises `DamagedFileError` on any missing, unexpected or differently shaped tensor."""
        wants_info = keywords.pop("output_loading_info", False)
        if keywords.pop("use_safetensors", True) is False:
            raise UnsupportedError(f"{name}: only safetensors are read, never pickled weights")
        keywords["use_safetensors"] = True
        keywords["ignore_mismatched_sizes"] = (
            True  # so that they are listed with the rest below, and refused there
        )
        model, info = _reading(
            name, super().from_pretrained, name, *arguments, output_loading_info=True, **keywords
        )
        problems = [f"missing {key}" for key in sorted(info["missing_keys"])]
        problems += [f"unexpected {key}" for key in sorted(info["unexpected_keys"])]
        problems += [
            f"{key} has shape {tuple(found)}, the config asks for {tuple(wanted)}"
            for key, found, wanted in info["mismatched_keys"]
        ]
        if problems:
            shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            raise DamagedFileError(f"{name}: the weights do not fit the model: {shown}")
        return (model, info) if wants_info else model

    def to_base(self) -> PreTrainedModel:
        """The plain Hugging Face model inside, thought-token rows included; it shares its weights with this one."""
        if any("lora_" in name for name, _ in self.base.named_parameters()):
            raise UnsupportedError(
                "the base carries adapters: merge them first (PeftModel.merge_and_unload())"
            )
        return self.base


def _inherit(projector: nn.Module, earlier: Any) -> None:
    """Give a scale's projector the weights that an earlier latent-thought model has learnt, where the shapes agree."""
    if earlier is None or earlier.scale.projector is None:
        return
    with whole(earlier.scale.projector.parameters()):
        learnt, own = earlier.scale.projector.state_dict(), projector.state_dict()
        if own.keys() == learnt.keys() and all(own[key].shape == learnt[key].shape for key in own):
            projector.load_state_dict(learnt)


def load_base(name: str | os.PathLike, **arguments: Any) -> PreTrainedModel:
    """A causal LM by hub name or folder, safetensors only, without remote code."""
    arguments.setdefault("trust_remote_code", False)
    arguments.setdefault("use_safetensors", True)
    return _reading(name, AutoModelForCausalLM.from_pretrained, name, **arguments)


def add_thought_tokens(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, thought: ThoughtConfig
) -> tuple[ThoughtConfig, list[int]]:
    """Give tokenizer and base the thought tokens they lack.

    New rows, of the embedding and of an untied head, start as a copy of an existing row (as Coconut does with "<<"), since a row
    drawn at random has a norm and direction that no trained layer has seen.

    Returns: the config with all ids filled in, and the ids that are new.
    """
    from transformers import AddedToken

    names = {
        "start_token_id": thought.start_token,
        "end_token_id": thought.end_token,
        "thought_token_id": thought.thought_token,
    }
    known = tokenizer.get_vocab()
    fresh = [name for name in dict.fromkeys(filter(None, names.values())) if name not in known]
    source = _row_to_copy(tokenizer)
    tokenizer.add_tokens(
        [AddedToken(name, special=True, normalized=False) for name in fresh], special_tokens=True
    )
    added = [tokenizer.convert_tokens_to_ids(name) for name in fresh]
    if len(tokenizer) > whole_shape(base.get_input_embeddings().weight)[0]:
        with torch.random.fork_rng():  # how much is drawn for rows that are overwritten depends on the engine
            base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tables = (base.get_input_embeddings(), base.get_output_embeddings())
    for parameter in (part for table in tables for part in (table.weight, getattr(table, "bias", None))):
        if parameter is not None:
            with whole([parameter], changed=True), torch.no_grad():
                parameter[added] = parameter[source].clone()
    ids = {field: tokenizer.convert_tokens_to_ids(name) for field, name in names.items() if name is not None}
    return thought.replace(**ids), added


def _row_to_copy(tokenizer: PreTrainedTokenizerBase) -> int:
    for candidate in ("<<", ":", ".", "\n"):
        ids = tokenizer.encode(candidate, add_special_tokens=False)
        if ids and ids[0] != tokenizer.unk_token_id:
            return ids[0]
    return tokenizer.eos_token_id or 0


def _reading(name: str | os.PathLike, read: Any, *arguments: Any, **keywords: Any) -> Any:
    """Call a transformers loader; its many ways to fail become one line each, and an absent hub fails within seconds."""
    from huggingface_hub.errors import HFValidationError
    from safetensors import SafetensorError

    local = Path(name).exists()
    if not local and (str(name).startswith((".", "/", "~")) or str(name).count("/") > 1):
        raise MissingFileError(f"no such model folder: {name}")
    absent = None if local else offline_reason()
    try:
        with cache_only(absent is not None):
            return read(*arguments, **keywords)
    except LatentThoughtError:  # of a latent-thought model, which is read as a base is
        raise
    except HFValidationError:
        raise MissingFileError(f"{name}: neither a folder nor a hub name (owner/name)") from None
    except SafetensorError as error:
        raise DamagedFileError(f"{name}: unreadable weights: {error}") from None
    except RuntimeError as error:
        if not is_deepspeed_zero3_enabled():
            raise
        # under ZeRO-3 the first process alone looks at shapes, and transformers raises what it reports otherwise
        told = "; ".join(line.strip() for line in str(error).strip().splitlines()[1:4])
        raise DamagedFileError(f"{name}: the weights do not fit the model: {told or error}") from None
    except OSError as error:
        first = str(error).strip().splitlines()[0]
        if local:
            raise ConfigError(f"{name}: not a model folder with safetensors weights: {first}") from None
        raise HubUnreachableError(
            f"model {str(name)!r} is no folder here, and the hub did not give it ({absent or first}); "
            "give a local path to a model folder instead"
        ) from None
