"""What tells one teacher, tokenizer or data set from another, whatever their files are called.

Weights are hashed as they lie on disk (SHA-256 of the safetensors files, a gigabyte a second and core, so a 7B teacher takes
seconds), and a model without files by its tensors. A tokenizer is hashed by what it does to text: vocabulary, merges,
normaliser and chat template, without the padding and truncation that the last call happened to set.
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

from latentthought.errors import NotFoundError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def files_fingerprint(where: Path | str) -> str:
    """SHA-256 over the safetensors files of a model folder, or of a hub model in the local cache.

    Raises `NotFoundError` where there are none.
    """
    folder = where if isinstance(where, Path) else _cached(where)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise NotFoundError(f"{folder}: no safetensors files, so no weights to tell this model by")
    # hashlib lets go of the interpreter, so the files of a large model are read side by side
    with ThreadPoolExecutor(max_workers=4) as pool:
        hashes = pool.map(_file_hash, files)
    return _joined(f"{file.name} {found}" for file, found in zip(files, hashes, strict=True))


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


def _cached(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.safetensors"], local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        raise NotFoundError(f"{name}: its weights are not in the local hub cache") from None


def _file_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _joined(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
