"""Output folders: numbered defaults, and writing a folder whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from latentthought.cli.parser import UsageError
from latentthought.errors import FolderInUseError

RUNS = Path("runs")


def numbered(name: str, parent: Path = RUNS) -> Path:
    """A fresh folder `parent/name-001`, the first number beyond all that are there; it is made at once, so that two commands
    that start together do not choose the same one."""
    parent.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(rf"{re.escape(name)}-(\d+)")
    taken = [int(match[1]) for entry in parent.iterdir() if (match := pattern.fullmatch(entry.name))]
    number = max(taken, default=0)
    while True:
        number += 1
        folder = parent / f"{name}-{number:03d}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue


def require_writable(folder: Path, name: str = "--output") -> None:
    """Raise `UsageError`, beginning with `name`, where `folder` cannot be made or written to; leaves nothing behind.

    Permissions are not asked for but tried: root has them all, and /proc takes no folder."""
    try:
        there = next(part for part in (folder, *folder.parents) if part.exists() or part.is_symlink())
        if there.is_dir():
            with TemporaryDirectory(prefix=".latentthought-", dir=there):
                return
    except OSError as error:
        raise UsageError(f"{name} {folder}: nothing can be written there ({error.strerror})") from None
    raise UsageError(f"{name} {folder}: {there} is not a folder")


def require_empty(folder: Path) -> None:
    """Raise `FolderInUseError` unless `folder` is absent or an empty folder."""
    if folder.is_file():
        raise FolderInUseError(f"--output {folder}: this is a file; give a folder that does not exist yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise FolderInUseError(f"--output {folder}: the folder is not empty; give another one")


def remove_bare(folder: Path, names: set[str]) -> None:
    """Remove a folder that holds nothing but files of these names, so that the corrected command can use the same one."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= names:
        shutil.rmtree(folder)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends well, and vanishes when it does not."""
    require_empty(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    partial.mkdir()
    try:
        yield partial
        if folder.is_dir():
            folder.rmdir()
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
