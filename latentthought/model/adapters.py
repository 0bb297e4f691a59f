"""Low-rank adapters on a latent-thought model: LoRA, DoRA, and either on a quantised base (QLoRA).

They wrap the whole model, never its base, so that thoughts run through them too. What trains beside them: the rows of new
tokens, and the projector of `scale: mlp`. What they never touch: companions, which `get_peft_model` would freeze and
"all-linear" adapt; targets are therefore sought inside the base alone, whatever their names.

An adapter folder holds peft's own two files, the tokenizer, and `thought.safetensors`: the scale's weights under a header
that says which base the adapter goes onto and how that thinks, which peft does not know.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, model_validator

from latentthought.config import Config
from latentthought.errors import (
    ConfigError,
    DamagedFileError,
    MissingFileError,
    UnsupportedError,
    UserError,
    nearest,
    require_extra,
)
from latentthought.model.configuration import ThoughtConfig
from latentthought.model.sharding import whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from latentthought.model.modeling import LatentThoughtForCausalLM

THOUGHT_FILE = "thought.safetensors"
FORMAT, VERSION = "latentthought-adapter", 1
_EVERY_LINEAR = "all-linear"
Quantization = Literal["none", "8bit", "4bit"]
ComputeDtype = Literal["fp32", "bf16", "fp16"]


class LoraSettings(Config):
    """Low-rank adapters (needs the extra `peft`).

    r, alpha, dropout: as in LoRA (arXiv 2106.09685). targets: module names; empty takes what peft knows for the family,
        [all-linear] every linear layer of the base but the head.
    dora: magnitudes train apart from directions (arXiv 2402.09353). rslora: alpha over sqrt(r) (arXiv 2312.03732).
    quantize: hold the base in 8 or 4 bits (QLoRA; needs the extra `quantize`). compute_dtype: what 4-bit layers multiply in.
    """

    r: int = Field(16, gt=0)
    alpha: float = Field(32.0, gt=0.0)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    targets: tuple[str, ...] = ()
    dora: bool = False
    rslora: bool = False
    quantize: Quantization = "none"
    compute_dtype: ComputeDtype = "bf16"

    @model_validator(mode="after")
    def _fits_together(self) -> LoraSettings:
        if _EVERY_LINEAR in self.targets and len(self.targets) > 1:
            raise ValueError(f"targets: {_EVERY_LINEAR} takes in every other name; give it alone")
        return self


class AdapterOrigin(Config):
    """What an adapter goes onto: `base` (None: a model from nothing, which is nowhere to be had), its tokenizer where that is
    not the base's own, how the base is quantised, how it thinks, and the prompts that it was trained on."""

    base: str | None = None
    tokenizer: str | None = None
    quantize: Quantization = "none"
    compute_dtype: ComputeDtype = "bf16"
    thought: ThoughtConfig = ThoughtConfig()
    prompt_format: dict[str, Any] | None = None


def load_base_for(
    origin: str | Path | PreTrainedModel, quantize: Quantization, compute_dtype: ComputeDtype
) -> PreTrainedModel:
    """A base by name, folder or run, or one that is given, as a student trains on it: in float32, but for what is quantised."""
    import torch

    from latentthought.model.locating import locate, read_config
    from latentthought.model.quantization import load_quantized
    from latentthought.model.saving import load_base

    if isinstance(origin, (str, Path)):
        origin = locate(str(origin))[0]
        if quantize != "none" and hasattr(read_config(origin), "thought_config"):
            raise UnsupportedError(
                f"model.lora.quantize: {origin} is a latent-thought model; write its base first: latentthought export {origin} "
                "--to hf"
            )
    if quantize != "none":
        return load_quantized(origin, quantize, compute_dtype)
    # weights are float32 whatever the file holds: a small AdamW step is lost in a bf16 weight
    return load_base(origin, dtype=torch.float32) if isinstance(origin, (str, Path)) else origin


def with_adapters(model: LatentThoughtForCausalLM, settings: LoraSettings) -> Any:
    """The model wrapped by peft: adapters, new token rows and the scale's projector (where there is one) train, nothing else.

    Raises `MissingExtraError` without peft, `ConfigError` for a target that the base lacks.
    """
    from transformers.pytorch_utils import Conv1D

    peft = require_extra("peft", "peft", "model.lora")
    if settings.dora and settings.quantize == "8bit" and model.device.type == "cpu":
        raise UnsupportedError(
            "model.lora: dora with quantize: 8bit does not train on a CPU, where peft and bitsandbytes lose the scales between "
            "them; take quantize: 4bit, or a GPU"
        )
    rows = list(getattr(model.config, "added_token_ids", None) or [])
    config = peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_dora=settings.dora,
        use_rslora=settings.rslora,
        target_modules=_targets(model, settings.targets),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.base.modules()),
        task_type="CAUSAL_LM",
        trainable_token_indices=_row_modules(model, rows) if rows else None,
    )
    tables: tuple[Any, ...] = (model.get_input_embeddings(), model.get_output_embeddings())
    try:
        with whole([table.weight for table in tables]):  # whose new rows are copied
            wrapped = peft.get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"model.lora.targets: {str(error).splitlines()[0]}") from None
    for parameter in model.scale.parameters():
        parameter.requires_grad_(True)
    return wrapped


def merged(wrapped: Any) -> LatentThoughtForCausalLM:
    """The model with its adapters merged in, in place; a quantised base is brought back to float32 first."""
    from latentthought.model.quantization import dequantize, is_quantized

    if not is_quantized(wrapped):
        return wrapped.merge_and_unload()
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config = deepcopy(wrapped.peft_config["default"])
    config.base_model_name_or_path = None  # which peft would warn about
    learnt = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    learnt = {name: tensor.detach().clone() for name, tensor in learnt.items()}
    model = wrapped.unload()
    dequantize(model.base)
    again = get_peft_model(model, config)
    set_peft_model_state_dict(again, learnt)
    return again.merge_and_unload()


def save_adapter(
    wrapped: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, origin: AdapterOrigin
) -> Path:
    """Write an adapter folder. origin: which base and how it is quantised; how it thinks is the model's own."""
    from safetensors.torch import save_file

    model = wrapped.get_base_model()
    origin = origin.replace(thought=model.thought.dump(), prompt_format=model.config.prompt_format)
    wrapped.peft_config["default"].base_model_name_or_path = origin.base or ""
    # the rows that train are adapters of their own; `auto` would ask the hub whether the base's embedding has grown
    wrapped.save_pretrained(folder, save_embedding_layers=False)
    tokenizer.save_pretrained(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.scale.state_dict().items()}
    header = {"format": FORMAT, "version": str(VERSION), "origin": json.dumps(origin.dump(), sort_keys=True)}
    save_file(tensors, folder / THOUGHT_FILE, metadata=header)
    return folder


def load_adapter(folder: Path, base: str | None = None) -> LatentThoughtForCausalLM:
    """The model that an adapter folder makes of its base, adapters merged in; the base in float32.

    Args:
        base: where the base is now, when it is not where it was in training.

    Raises `UnsupportedError` where the base was made from nothing, `DamagedFileError`, and what reading a model raises.
    """
    peft = require_extra("peft", "peft", f"the adapter {folder}")
    origin, scale = read_origin(folder)
    model = _bare_model(folder, origin, base)
    try:
        wrapped = peft.PeftModel.from_pretrained(model, folder)
        model.scale.load_state_dict(scale)
    except (RuntimeError, KeyError, ValueError, OSError) as error:
        raise DamagedFileError(
            f"{folder}: the adapter does not fit its base {base or origin.base}: {str(error).strip().splitlines()[0]}"
        ) from error
    return merged(wrapped)


def read_origin(folder: Path) -> tuple[AdapterOrigin, dict[str, Any]]:
    """What an adapter folder says of its base, and the weights of the scale. Raises `MissingFileError`, `DamagedFileError`,
    `ConfigError` for another version."""
    from latentthought.model.headed import read_headed

    path = folder / THOUGHT_FILE
    if not path.is_file():
        raise MissingFileError(f"{folder}: no adapter of ours (it has no {THOUGHT_FILE})")
    header, tensors = read_headed(path, FORMAT, VERSION)
    try:
        return AdapterOrigin.parse(json.loads(header["origin"]), str(path)), tensors
    except (KeyError, ValueError, ValidationError) as error:
        raise DamagedFileError(f"{path}: its header does not hold: {error}") from None


def _bare_model(folder: Path, origin: AdapterOrigin, base: str | None) -> LatentThoughtForCausalLM:
    from latentthought.data.tokenizer import load_tokenizer
    from latentthought.model.modeling import LatentThoughtForCausalLM

    name = base or origin.base
    if name is None:
        raise UnsupportedError(
            f"{folder}: its base was made from nothing (model.scratch) and only the run's own model holds it; "
            "use that, or export --to hf"
        )
    try:
        # as in training: a base and a tokenizer that do not know the thought tokens yet
        tokenizer = load_tokenizer(origin.tokenizer or name)
        ready = load_base_for(name, origin.quantize, origin.compute_dtype)
        model = LatentThoughtForCausalLM.from_base(ready, origin.thought, tokenizer)
    except UserError as error:
        raise type(error)(f"the base of {folder}: {error}") from None
    if model.thought != origin.thought:
        raise ConfigError(
            f"{folder}: the tokenizer of {name} gives the thought tokens other ids than in training"
        )
    model.config.prompt_format = origin.prompt_format
    return model


def _targets(model: LatentThoughtForCausalLM, names: tuple[str, ...]) -> str:
    """A pattern of the layers to adapt, which names those of the base alone."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    kinds = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
    inside = {name: module for name, module in model.base.named_modules() if isinstance(module, kinds)}
    if names == (_EVERY_LINEAR,):
        linear = {
            name.rpartition(".")[2]
            for name, module in inside.items()
            if module is not head and not isinstance(module, torch.nn.Embedding)
        }
        names = tuple(sorted(linear))
    names = names or _known_targets(model.base.config.model_type)
    for target in names:
        if not any(name == target or name.endswith(f".{target}") for name in inside):
            known = {name.rpartition(".")[2] for name in inside}
            close = nearest(target, known)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(sorted(known))}"
            raise ConfigError(f"model.lora.targets: the base has no layer {target!r}; {hint}")
    return rf"base\.(?:.*\.)?(?:{'|'.join(map(re.escape, names))})"


def _known_targets(model_type: str) -> tuple[str, ...]:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as known

    if model_type not in known:
        raise ConfigError(
            f"model.lora.targets: peft has no default for {model_type!r}; name the modules to adapt, or say [{_EVERY_LINEAR}]"
        )
    return tuple(known[model_type])


def _row_modules(model: LatentThoughtForCausalLM, rows: list[int]) -> dict[str, list[int]]:
    """Module names of the embedding and of an untied head, each with the rows that train."""
    modules = {model.get_input_embeddings()}
    if not model.config.tie_word_embeddings:
        modules.add(model.get_output_embeddings())
    return {name: rows for name, module in model.named_modules() if module in modules}
