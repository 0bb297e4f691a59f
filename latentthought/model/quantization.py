"""A base in 8 or 4 bits, for adapters to train on, and back.

LLM.int8 (arXiv 2208.07339) or NF4 with doubly quantised constants (QLoRA, arXiv 2305.14314), by bitsandbytes, on GPU and CPU.
Embeddings, norms, the head and whatever trains stay in float32: together they are a few percent of a large model, and a small
AdamW step would be lost in them otherwise.

A 4-bit weight cannot take an adapter in: rounding to 16 levels wipes a small update out, so the weights are brought back
first and merged then. transformers' own `dequantize` goes through bf16 and leaves GPT-2's Conv1D transposed; ours is exact.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from latentthought.errors import UnsupportedError, require_extra
from latentthought.model.saving import load_base

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_QUANTIZED = ("Linear4bit", "Linear8bitLt")
# weights that share a scale
_BLOCK = 64


def load_quantized(
    origin: str | Path | PreTrainedModel, kind: str, compute_dtype: str = "bf16"
) -> PreTrainedModel:
    """A base whose linear layers are frozen in few bits, on this process's GPU, or the CPU where there is none.

    Args:
        origin: a hub name or folder, quantised layer by layer as it is read; or a model, which goes through a temporary folder.
        kind: "8bit" or "4bit".
        compute_dtype: "fp32", "bf16" or "fp16", what 4-bit layers multiply in (8-bit ones always do in int8 and float16).

    Raises `MissingExtraError` without bitsandbytes, `UnsupportedError` for widths that its CPU part gets wrong, and what reading
    a model raises.
    """
    bitsandbytes = require_extra("bitsandbytes", "quantize", f"model.lora.quantize: {kind}")
    # it says for every product that its inputs are cast
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if isinstance(origin, PreTrainedModel):
        with TemporaryDirectory(prefix="latentthought-") as folder:
            origin.save_pretrained(folder)
            base = load_quantized(folder, kind, compute_dtype)
        base.name_or_path = base.config.name_or_path = ""
        return base
    settings = BitsAndBytesConfig(
        load_in_8bit=kind == "8bit",
        load_in_4bit=kind == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=_DTYPES[compute_dtype],
    )
    base = load_base(origin, quantization_config=settings, dtype=torch.float32, device_map={"": _device()})
    for name, module in base.named_modules():
        if not isinstance(module, bitsandbytes.nn.Linear4bit):
            continue
        if module.weight.device.type == "cpu" and module.in_features % _BLOCK:
            raise UnsupportedError(
                f"model.lora.quantize: 4bit on a CPU needs layers whose inputs are a multiple of {_BLOCK}; {name} has "
                f"{module.in_features} (bitsandbytes reads such rows back wrongly); take 8bit, or a GPU"
            )
        # on some CPUs it would repack the weight for inference, in place, at the first validation
        module.support_avx512bf16_for_cpu = False
    return base


def is_quantized(model: nn.Module) -> bool:
    """Whether any layer of a model is held in 8 or 4 bits."""
    return any(type(module).__name__ in _QUANTIZED for module in model.modules())


@torch.no_grad()
def dequantize(base: PreTrainedModel) -> PreTrainedModel:
    """The same model with ordinary float32 layers, in place: what the few bits stand for, to the last bit."""
    from peft.utils.integrations import dequantize_module_weight

    for name, module in list(base.named_modules()):
        if type(module).__name__ not in _QUANTIZED:
            continue
        quantized: Any = module
        weight = dequantize_module_weight(quantized).float()
        transposed = getattr(quantized, "source_cls", None) is Conv1D
        with torch.device("meta"):
            wide: Any = Conv1D(*weight.shape) if transposed else nn.Linear(weight.shape[1], weight.shape[0])
        weight = weight.t().contiguous() if transposed else weight
        wide.weight = nn.Parameter(weight, requires_grad=False)
        bias = quantized.bias
        wide.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)
        base.set_submodule(name, wide)
    _forget(base)
    return base


def _forget(base: PreTrainedModel) -> None:
    """Take away what marks a model as quantised: it would be saved with it, and quantised again by whoever reads it."""
    if hasattr(base.config, "quantization_config"):
        del base.config.quantization_config
    base.hf_quantizer = None
    for mark in ("is_loaded_in_8bit", "is_loaded_in_4bit", "quantization_method"):
        if mark in vars(base):
            delattr(base, mark)


def _device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
