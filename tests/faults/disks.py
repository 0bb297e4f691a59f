"""Disks that fail, for whoever runs the tests: permissions mean nothing to root."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A disk that is full when a file has `size` bytes: the system itself refuses, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def read_only(monkeypatch: pytest.MonkeyPatch, mount: Path) -> None:
    """Below `mount` nothing can be made or opened for writing, as on a file system that is mounted so."""
    make, opened = os.mkdir, Path.open

    def refused(path: Any) -> bool:
        return not isinstance(path, int) and mount in (Path(path).absolute(), *Path(path).absolute().parents)

    def mkdir(path: Any, *rest: Any, **more: Any) -> None:
        if refused(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        make(path, *rest, **more)

    def open_(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if mode[0] != "r" and refused(self):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        return opened(self, mode, *rest, **more)

    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(Path, "open", open_)
