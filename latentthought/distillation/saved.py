"""What can be known of a saved teacher without loading it: the files of its weights, its config, and the type it loads in.

A run may compare itself with a cache, or be refused for want of memory, in seconds and without the teacher's gigabytes. An
adapter folder has no config of its own: what counts is that of its base, which is loaded in float32 and merged with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from latentthought.errors import DamagedFileError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FLOATS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}


class SavedModel(NamedTuple):
    """config: of the language model. dtype: what it loads in where nobody asks for another."""

    config: PreTrainedConfig
    dtype: torch.dtype

    @classmethod
    def at(cls, where: Path | str) -> SavedModel:
        """The model in a folder, or of a hub name; an adapter folder stands for its base. Errors as `read_config`'s."""
        from latentthought.model.locating import read_config

        base = adapter_base(where)
        outer = read_config(where if base is None else base)
        config = outer.get_text_config()
        if base is not None:
            return cls(config, torch.float32)
        # as transformers finds it: what the config says, else the first weight
        declared = next((one.dtype for one in (outer, config) if isinstance(one.dtype, torch.dtype)), None)
        return cls(config, declared or _first_type(where))


def adapter_base(where: Path | str) -> Path | str | None:
    """The folder or hub name of what an adapter folder goes onto; None for a model that is whole.

    Raises `UnsupportedError` for an adapter whose base was made from nothing.
    """
    from latentthought.model.adapters import read_origin
    from latentthought.model.locating import ADAPTER_CONFIG, locate

    if not isinstance(where, Path) or not (where / ADAPTER_CONFIG).is_file():
        return None
    origin, _ = read_origin(where)
    if origin.base is None:
        raise UnsupportedError(
            f"{where}: the base of this adapter was made from nothing, and only the run's own model holds it: give that"
        )
    return locate(origin.base)[0]


def adapter_settings(where: Path | str) -> dict[str, Any]:
    """What an adapter folder says of how the adapter computes: its rank and scale, and how the model thinks.

    Errors as `read_origin`'s, and `DamagedFileError`.
    """
    from latentthought.model.adapters import read_origin
    from latentthought.model.locating import ADAPTER_CONFIG

    folder = Path(where)
    origin, _ = read_origin(folder)
    try:
        own: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedFileError(f"{folder / ADAPTER_CONFIG}: unreadable: {error}") from None
    return {"adapter": own, "origin": origin.dump()}


def weight_files(where: Path | str) -> list[Path]:
    """The safetensors files that a model folder, or a hub model in the local cache, is loaded from.

    A folder may hold the weights a second time in another form (`consolidated.safetensors`). Raises `NotFoundError` where there
    are none, `DamagedFileError` for an index that does not read.
    """
    folder = where if isinstance(where, Path) else _cached(where)
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    index = folder / _INDEX
    if index.is_file():
        try:
            named = {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DamagedFileError(f"{index}: not an index of safetensors files") from None
        files = [folder / name for name in sorted(named)]
        if lacking := [file.name for file in files if not file.is_file()]:
            raise NotFoundError(f"{folder}: {index.name} names {lacking[0]}, which is not there")
        return files
    files = [file for file in folder.glob("*.safetensors") if not file.name.startswith("consolidated")]
    if not files:
        raise NotFoundError(f"{folder}: no safetensors files, so no weights to tell this model by")
    return sorted(files)


class SavedTensor(NamedTuple):
    """A tensor in a safetensors file: its bytes are [begin, end) of the file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def tensors_in(file: Path) -> list[SavedTensor]:
    """All tensors of a safetensors file, in its order. Raises `DamagedFileError`."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= file.stat().st_size - 8:
                raise ValueError
            header: dict[str, Any] = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        return [
            SavedTensor(
                file,
                name,
                item["dtype"],
                tuple(item["shape"]),
                *(8 + length + at for at in item["data_offsets"]),
            )
            for name, item in header.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedFileError(f"{file}: not a safetensors file") from None


def _first_type(where: Path | str) -> torch.dtype:
    types = [tensor.dtype for tensor in tensors_in(weight_files(where)[0])]
    return next((_FLOATS[name] for name in types if name in _FLOATS), torch.float32)


def _cached(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        patterns = ["*.safetensors", "*.safetensors.index.json"]
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        raise NotFoundError(f"{name}: its weights are not in the local hub cache") from None
