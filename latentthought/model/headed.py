"""Safetensors files with a header that says what they are: whose format, which version, and more."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentthought.errors import ConfigError, DamagedFileError


def read_headed(path: Path, format: str, version: int) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a file of this format and version.

    Raises DamagedFileError where it does not read or is of another format, ConfigError for another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise DamagedFileError(f"{path}: unreadable: {error}") from None
    if header.get("format") != format:
        raise DamagedFileError(f"{path}: its header says format {header.get('format')!r}, not {format!r}")
    if header.get("version") != str(version):
        raise ConfigError(
            f"{path}: written in version {header.get('version')}, this release reads version {version}"
        )
    return header, tensors
