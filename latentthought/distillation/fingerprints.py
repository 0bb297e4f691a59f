"""What tells one teacher, tokenizer or data set from another, whatever their files are called.

Weights are hashed tensor by tensor as they lie on disk (SHA-256, a gigabyte a second and core, so a 7B teacher takes seconds),
so that dealing them out to other files changes nothing; a model without files by the tensors in memory. With them goes what the
config says of how the model computes: the same weights under another rotary base are another teacher. A tokenizer is hashed by
what it does to text: vocabulary, merges, normaliser and chat template, without the padding and truncation that the last call
happened to set. A row is hashed by its text, whatever else the data set knows of it.
Rejected: the commit of a hub repository (a local folder has none), and parameters sampled here and there (fast, and blind to a
damaged middle; a cache of states outlives the run that made it, so the whole is worth reading once).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.data.example import Example
from latentthought.distillation.saved import (
    SavedTensor,
    adapter_base,
    adapter_settings,
    tensors_in,
    weight_files,
)
from latentthought.model.locating import read_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PART = 1 << 20
# what a config says beside how the model computes; the type that a teacher runs in stands in the spec of its cache
_BESIDE = frozenset(
    {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache"}
    | {"bos_token_id", "eos_token_id", "pad_token_id", "prompt_format"}
    | {"base", "base_model_name_or_path", "peft_version", "inference_mode"}
    | {"thoughts", "fill", "mix_ratio"}  # what `generate` does unless told otherwise
    | {"initializer_range", "attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout"}
)


def files_fingerprint(where: Path | str) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors in a model's safetensors files, whatever these are called, and
    over its config.

    where: a folder, or a hub name in the local cache; the weights of an adapter are its base's too.
    Raises `NotFoundError` where there are none, `DamagedFileError`.
    """
    base = adapter_base(where)
    tensors = [tensor for file in weight_files(where) for tensor in tensors_in(file)]
    # hashlib lets go of the interpreter, so the tensors of a large model are read side by side
    with ThreadPoolExecutor(max_workers=4) as pool:
        lines = sorted(pool.map(_tensor_line, tensors))
    if base is None:
        return _joined([*lines, _settings_line(_config_settings(read_config(where)))])
    return _joined([*lines, _settings_line(adapter_settings(where)), f"onto {files_fingerprint(base)}"])


def tensors_fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 over names, shapes, types and bytes of a model's parameters and saved buffers, and over its config."""
    import torch

    digest = hashlib.sha256(_settings_line(_config_settings(model.config)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        # numpy knows no bf16, and every type is a row of bytes
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over what a tokenizer does to text."""
    parts: dict[str, object] = {
        "chat_template": tokenizer.chat_template,
        "special": {name: str(token) for name, token in sorted(tokenizer.special_tokens_map.items())},
        "added": dict(sorted(tokenizer.get_added_vocab().items())),
    }
    if tokenizer.is_fast:
        inside = json.loads(tokenizer.backend_tokenizer.to_str())
        parts["inside"] = {
            key: value for key, value in inside.items() if key not in ("padding", "truncation")
        }
    else:
        parts["inside"] = [type(tokenizer).__name__, dict(sorted(tokenizer.get_vocab().items()))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def example_digest(example: Example) -> str:
    """64 bits of BLAKE2 over all text of an example that a format can write; not over its id and what else is known of it."""
    messages = None if example.messages is None else [dict(turn) for turn in example.messages]
    parts = [example.question, list(example.steps), example.answer, example.solution, messages]
    # ASCII, so that a lone surrogate is no error
    text = json.dumps(parts, sort_keys=True, default=str).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _tensor_line(tensor: SavedTensor) -> str:
    digest, left = hashlib.sha256(), tensor.end - tensor.begin
    with tensor.file.open("rb", buffering=0) as stream:
        stream.seek(tensor.begin)
        while left > 0 and (part := stream.read(min(left, _PART))):
            digest.update(part)
            left -= len(part)
    return f"{tensor.name} {tensor.dtype} {tensor.shape} {left} {digest.hexdigest()}"


def _config_settings(config: Any) -> dict[str, Any]:
    """What differs from the defaults of the family, so that a default that a later release adds changes nothing."""
    return {"model": config.get_text_config().to_diff_dict(), "thought": getattr(config, "thought", None)}


def _settings_line(settings: Any) -> str:
    return f"settings {json.dumps(_computing(settings), sort_keys=True, default=str)}"


def _computing(settings: Any) -> Any:
    """Settings, nested ones too, without those that have no part in a state."""
    if isinstance(settings, dict):
        return {str(key): _computing(value) for key, value in settings.items() if key not in _BESIDE}
    return settings


def _joined(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
