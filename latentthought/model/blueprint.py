"""A model known by its config alone: what can be said of it, and counted on it, without its weights.

Configs come from a folder, from sizes in a recipe, or from the hub; of models that recipes name and people often ask about,
the sizes are written down here, so that a plan for 64 GPUs can be made on a laptop without a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from latentthought.model.scratch import ScratchConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def _llama(width: int, layers: int, heads: int, kv_heads: int, mlp: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": mlp,
        **more,
    }


_LLAMA3 = {"vocab_size": 128256, "max_position_embeddings": 131072}
_QWEN2 = {"vocab_size": 151936, "max_position_embeddings": 131072}
_LLAMA_70B = ("llama", _llama(8192, 80, 64, 8, 28672, **_LLAMA3))
# as their config.json has it; of Llama and Qwen what decides sizes
KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "openai-community/gpt2": ("gpt2", {}),
    "openai-community/gpt2-medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    "openai-community/gpt2-large": ("gpt2", {"n_embd": 1280, "n_layer": 36, "n_head": 20}),
    "openai-community/gpt2-xl": ("gpt2", {"n_embd": 1600, "n_layer": 48, "n_head": 25}),
    "meta-llama/Llama-2-7b-hf": (
        "llama",
        _llama(4096, 32, 32, 32, 11008, vocab_size=32000, max_position_embeddings=4096),
    ),
    "meta-llama/Llama-3.2-1B": (
        "llama",
        _llama(2048, 16, 32, 8, 8192, **_LLAMA3, tie_word_embeddings=True, head_dim=64),
    ),
    "meta-llama/Llama-3.2-3B": (
        "llama",
        _llama(3072, 28, 24, 8, 8192, **_LLAMA3, tie_word_embeddings=True, head_dim=128),
    ),
    "meta-llama/Llama-3.1-8B": ("llama", _llama(4096, 32, 32, 8, 14336, **_LLAMA3)),
    "meta-llama/Llama-3.1-70B": _LLAMA_70B,
    "meta-llama/Llama-3.3-70B-Instruct": _LLAMA_70B,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": _LLAMA_70B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": ("qwen2", _llama(1536, 28, 12, 2, 8960, **_QWEN2)),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": (
        "qwen2",
        _llama(3584, 28, 28, 4, 18944, vocab_size=152064, max_position_embeddings=131072),
    ),
}


def config_of(origin: str | Path | ScratchConfig, vocabulary: int | None = None) -> PreTrainedConfig:
    """The config of a language model by folder, run, hub name or sizes; of a latent-thought model that of its base.

    vocabulary: rows of the embedding of a model from sizes. Errors as `locating.read_config`'s.
    """
    from transformers import AutoConfig

    from latentthought.model.locating import locate, read_config

    if isinstance(origin, ScratchConfig):
        # the family's own ids of special tokens may lie outside a small vocabulary
        return origin.config(vocab_size=vocabulary, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    where, _ = locate(str(origin))
    if isinstance(where, str) and where in KNOWN:
        family, sizes = KNOWN[where]
        return AutoConfig.for_model(family, **sizes)
    return read_config(where).get_text_config()


def hollow(config: PreTrainedConfig) -> PreTrainedModel:
    """A causal language model of a config on the meta device: shapes and modules, and no memory for weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def count_parameters(config: PreTrainedConfig) -> int:
    """Parameters of a causal language model of this config; tied ones once."""
    return sum(parameter.numel() for parameter in hollow(config).parameters())
