"""From what a user calls a model (run folder, model folder or hub name) to where it is, and its config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentthought.errors import (
    DamagedFileError,
    HubUnreachableError,
    MissingFileError,
    NotFoundError,
    nearest,
)

# what peft calls the settings of an adapter, and every adapter folder has
ADAPTER_CONFIG = "adapter_config.json"
MODEL_HELP = "a run folder, a model or adapter folder, or a model's name on the hub"


def locate(argument: str) -> tuple[Path | str, Path | None]:
    """The model folder or hub name that `argument` means, and the run folder when it is one.

    Raises `MissingFileError` for a path that does not exist and `NotFoundError` for a folder without a model.
    """
    path = Path(argument)
    if path.is_dir():
        if (path / "model" / "config.json").is_file():
            return path / "model", path
        if (path / "config.json").is_file() or (path / ADAPTER_CONFIG).is_file():
            return path, None
        if (path / "recipe.yaml").is_file():
            raise NotFoundError(
                f"{path}: this run has not finished, so it has no model/ yet; go on with train ... --resume"
            )
        raise NotFoundError(
            f"{path}: no config.json and no model/config.json: neither a model folder nor a run folder"
        )
    if path.is_file():
        raise NotFoundError(f"{path} is a file; MODEL is {MODEL_HELP}")
    if argument.count("/") > 1 or argument.startswith((".", "/", "~")) or argument.endswith("/"):
        raise MissingFileError(f"no such folder: {argument}{near_folders(path)}")
    return argument, None


def read_config(where: Path | str) -> Any:
    """The transformers config of a model folder or hub model; what goes wrong is one line (errors as `load_model`'s)."""
    from transformers import AutoConfig

    from latentthought.hub import cache_only, offline_reason

    absent = None if isinstance(where, Path) else offline_reason()
    try:
        with cache_only(absent is not None):
            return AutoConfig.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if isinstance(where, Path):
            if not _is_json(where / "config.json"):
                raise DamagedFileError(f"{where / 'config.json'}: not JSON: {first}") from error
            raise NotFoundError(f"{where}: cannot read its config.json: {first}") from error
        near = near_folders(Path(where))
        if absent:
            raise HubUnreachableError(
                f"model {where!r} is neither a folder here nor in the local hub cache, "
                f"and the hub is out of reach ({absent}); give the path of a local model folder{near}"
            ) from error
        raise NotFoundError(f"no model {where!r}: no folder here, and the hub says: {first}{near}") from error


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


def near_folders(path: Path) -> str:
    """The folders beside one that is not there whose names are like its own, as the end of a message; "" for none."""
    parent = path.parent
    if not parent.is_dir():
        return ""
    close = nearest(
        path.name, (entry.name for entry in parent.iterdir() if entry.is_dir() and entry.name[0] != "."), 2
    )
    return f"; did you mean {' or '.join(str(parent / name) for name in close)}?" if close else ""
