"""The folder of a run: who may write in it, and what it was started with.

A lock held by the operating system keeps two runs apart and vanishes with its process, however that ends; a lock file that
has to be deleted would outlive a kill.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from latentthought.errors import FolderInUseError, LatentThoughtError, UserError

RECIPE_FILE = "recipe.yaml"
MODEL_FOLDER = "model"
ADAPTER_FOLDER = "adapter"
_LOCK = ".lock"


@contextmanager
def claimed(output: Path, resume: bool) -> Iterator[None]:
    """Hold a run folder, made if need be. `FolderInUseError` when another run holds it, or when it is not empty and this is
    no resume; `UserError` where files cannot be locked."""
    if output.exists() and not output.is_dir():
        raise FolderInUseError(f"{output} is a file; --output wants a folder")
    output.mkdir(parents=True, exist_ok=True)
    with (output / _LOCK).open("a+", encoding="utf-8", errors="replace") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUseError(
                f"{output}: another run is writing to this folder{_holder(lock)}"
            ) from None
        except OSError as error:
            raise UserError(
                f"{output}: its file system does not lock files ({error.strerror}), so that two runs could write to it at once; "
                "mount it with locks (Lustre: -o flock), or take another --output"
            ) from None
        # for whoever comes second; that it stays when a run is killed means nothing
        lock.truncate(0)
        lock.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        others = sorted(path.name for path in output.iterdir() if path.name != _LOCK)
        if others and not resume:
            raise FolderInUseError(
                f"{output} is not empty ({', '.join(others[:4])}{', ...' if len(others) > 4 else ''}): "
                "choose another --output, or continue the run in it with --resume"
            )
        yield


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    found = lock.readline().strip()
    return f" ({found})" if found.startswith("pid ") else ""


def held(run: Path) -> str | None:
    """Who is writing to a run folder now (`pid 7 on host`, or nothing more than that somebody is); None when nobody is."""
    try:
        with (run / _LOCK).open("r", encoding="utf-8", errors="replace") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(lock).strip(" ()") or "another process"
    except OSError:  # no folder, or one that nobody has written to
        pass
    return None


def gone(run: Path) -> str:
    """What is said of a run folder that somebody has taken away."""
    return f"{run} is gone: it was deleted or moved while the run was writing to it"


def save_folder(final: Path, write: Callable[[Path], object]) -> Path:
    """Write what a run leaves into a temporary folder, then give it its name, `final`.

    Raises `LatentThoughtError` (exit 1) when writing fails, as on a full disk: the checkpoints are as they were.
    """
    from safetensors import SafetensorError

    fresh, before = (final.with_name(f".{final.name}-{what}") for what in ("new", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        write(fresh)
        # of a run that was killed before its end; a kill while it is deleted must not leave half of it
        if final.exists():
            shutil.rmtree(before, ignore_errors=True)
            final.replace(before)
        fresh.replace(final)
    except (OSError, SafetensorError) as error:
        raise LatentThoughtError(
            f"cannot save {final}: {error}. The checkpoints are intact; free some space and continue with --resume"
        ) from error
    finally:
        for leftover in (fresh, before):
            shutil.rmtree(leftover, ignore_errors=True)
    return final
