"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from latentthought.errors import LatentThoughtError
from latentthought.files import sync_folder

PARTIAL = ".partial"


def write_whole(path: Path, parts: Iterable[Any]) -> tuple[int, str]:
    """Write parts (bytes or arrays) one after the other under a temporary name, then rename. Returns (bytes, SHA-256).

    A kill or a full disk at any moment leaves `path` as it was. Raises `LatentThoughtError` when the disk refuses.
    """
    partial = path.with_name(path.name + PARTIAL)
    digest, size = hashlib.sha256(), 0
    try:
        with partial.open("wb") as file:
            for part in parts:
                view = memoryview(part).cast("B") if memoryview(part).nbytes else memoryview(b"")
                file.write(view)
                digest.update(view)
                size += view.nbytes
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise LatentThoughtError(
            f"cannot write {path}: {error.strerror or error}; the shards finished so far are kept"
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return size, digest.hexdigest()
