"""Tiny random models of every family that the tests run on, tied and untied, with a head that is not all alike."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 61
_SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.1,
}
FAMILIES: dict[str, dict] = {
    "llama": _SHARED,
    "qwen3": {**_SHARED, "head_dim": 8},
    "gpt2": {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": 0.1,
    },
    "gemma3_text": {
        **_SHARED,
        "head_dim": 8,
        "sliding_window": 6,
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "mistral": {**_SHARED, "sliding_window": 6},
    "phi3": _SHARED,
    "olmo2": _SHARED,
}
# every family once, with tied and untied heads and both attention kinds spread over them
PAIRWISE = [
    ("llama", True, "sdpa"),
    ("qwen3", False, "eager"),
    ("gpt2", True, "sdpa"),
    ("gemma3_text", True, "eager"),
    ("mistral", False, "sdpa"),
    ("phi3", False, "sdpa"),
    ("olmo2", True, "eager"),
]
WHOLE = [
    (family, tied, attention)
    for family in FAMILIES
    for tied in (True, False)
    for attention in ("sdpa", "eager")
]


def tiny_base(
    family: str, tied: bool = True, attention: str = "sdpa", seed: int = 0, **changes
) -> PreTrainedModel:
    """A random model in fp32 and eval mode; equal for equal arguments."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**FAMILIES[family], "tie_word_embeddings": tied, **changes})
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():  # biases and norms start at constants, which would hide a forgotten one
        for _name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()
