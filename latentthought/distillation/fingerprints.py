"""What tells one teacher, tokenizer or data set from another, whatever their files are called.

Weights are hashed tensor by tensor as they lie on disk (SHA-256, a gigabyte a second and core, so a 7B teacher takes seconds),
so that dealing them out to other files changes nothing; a model without files by the tensors in memory. A tokenizer is hashed by
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
from typing import TYPE_CHECKING

from latentthought.data.example import Example
from latentthought.distillation.saved import SavedTensor, adapter_base, tensors_in, weight_files

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

_PART = 1 << 20


def files_fingerprint(where: Path | str) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors in a model's safetensors files, whatever these are called.

    where: a folder, or a hub name in the local cache; the weights of an adapter are its base's too.
    Raises `NotFoundError` where there are none, `DamagedFileError`.
    """
    base = adapter_base(where)
    tensors = [tensor for file in weight_files(where) for tensor in tensors_in(file)]
    # hashlib lets go of the interpreter, so the tensors of a large model are read side by side
    with ThreadPoolExecutor(max_workers=4) as pool:
        lines = sorted(pool.map(_tensor_line, tensors))
    return _joined(lines if base is None else [*lines, f"onto {files_fingerprint(base)}"])


def tensors_fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, shapes, types and bytes of a model's parameters and saved buffers."""
    import torch

    digest = hashlib.sha256()
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


def _joined(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
