"""Checkpoints that are either whole or not there.

A checkpoint is written under a temporary name; when all its files are on disk they are hashed, `complete.json` with the
hashes is written last, and the folder gets its name. A kill or a full disk at any moment leaves the checkpoint before it as
it was. Reading goes from the newest backwards, and takes the first whose marker is there and whose hashes hold.
Weights are safetensors; what Trainer itself writes (`torch.save`) is read with `weights_only=True`, after its hash was checked.
Rejected: transformers' own pick of the last checkpoint (it takes half-written ones) and `training_args.bin` (a pickle).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from latentthought.errors import DamagedFileError, LatentThoughtError
from latentthought.files import sha256_of, sync_folder
from latentthought.model.sharding import whole, whole_copies, whole_shape
from latentthought.training.folder import gone

MARKER = "complete.json"
WEIGHTS = "model.safetensors"
PARTIAL = ".saving"
_NAME = re.compile(r"checkpoint-(\d+)")


def name_of(step: int) -> str:
    """Folder name of the checkpoint after `step` steps."""
    return f"checkpoint-{step}"


def step_of(folder: Path) -> int:
    """How many steps were done when a checkpoint was written."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else -1


def checkpoints_in(run: Path) -> list[Path]:
    """Checkpoint folders of a run, whole or not, oldest first."""
    return sorted(
        (path for path in run.glob("checkpoint-*") if path.is_dir() and step_of(path) >= 0), key=step_of
    )


@contextmanager
def saving(
    run: Path, step: int, owner: bool = True, meet: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """A temporary folder that becomes the checkpoint of `step` when the block ends well, and vanishes when it does not.

    owner: whether this process makes and renames the folder; meet: a barrier between the processes that write into it.
    Raises `LatentThoughtError` (exit 1) naming the checkpoint that is still good when writing fails, as on a full disk.
    """
    partial, final = run / PARTIAL / name_of(step), run / name_of(step)
    try:
        if owner:
            clear_unfinished(run)
            if not run.is_dir():  # not to be made again: recipe and metrics would be missing in it
                raise LatentThoughtError(gone(run))
            partial.mkdir(parents=True)
        meet()
        yield partial
        meet()
        if owner:
            _mark(partial, step)
            if final.exists():  # damaged, and passed over by the resume
                final.replace(run / PARTIAL / "damaged")
            partial.replace(final)
            sync_folder(run)
        meet()
    except (OSError, SafetensorError, RuntimeError) as error:
        if not run.is_dir():
            raise LatentThoughtError(gone(run)) from error
        good = next((path for path in reversed(checkpoints_in(run)) if problem_with(path) is None), None)
        state = (
            f"{good.name} is intact; free some space and resume from it"
            if good
            else "there is no earlier one"
        )
        raise LatentThoughtError(f"cannot save {final}: {error}. {state}") from error
    finally:
        if owner:
            clear_unfinished(run)


def newest(run: Path, say: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint of a run, or None where there is none. Says which ones it passed over, and why.

    Raises DamagedFileError when every one is damaged: to begin again over what is left of a run is for the user to decide.
    """
    passed_over: list[str] = []
    for folder in reversed(checkpoints_in(run)):
        problem = problem_with(folder)
        if problem is None:
            for line in passed_over:
                say(line)
            return folder
        passed_over.append(f"{folder.name} is passed over: {problem}")
    if passed_over:
        raise DamagedFileError(
            f"{run}: no checkpoint to resume from: {'; '.join(passed_over)}. To begin again, give another --output"
        )
    return None


def problem_with(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        files = dict(json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"])
    except FileNotFoundError:
        return f"it is not complete (no {MARKER})"
    except (ValueError, KeyError, TypeError, OSError):
        return f"its {MARKER} is damaged"
    for name, expected in files.items():
        path = folder / name
        try:
            found = sha256_of(path)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if found != expected:
            return f"{name} is damaged (its hash differs)"
    return None


def prune(run: Path, step: int, keep: int, best: Collection[int] = ()) -> None:
    """Delete all but the newest `keep` checkpoints up to `step`, and those of the steps `best`; what is later was damaged and
    passed over by the resume."""
    every = checkpoints_in(run)
    good = [folder for folder in every if step_of(folder) <= step][-keep:]
    good += [folder for folder in every if step_of(folder) in best]
    for folder in every:
        if folder not in good:
            _discard(folder)


def _discard(folder: Path) -> None:
    """Delete a checkpoint. It loses its name first: what a kill leaves of it must not look like a damaged one."""
    doomed = folder.parent / PARTIAL / folder.name
    with suppress(OSError):
        doomed.parent.mkdir(exist_ok=True)
        folder.replace(doomed)
    clear_unfinished(folder.parent)


def clear_unfinished(run: Path) -> None:
    """Delete what a kill has left of a checkpoint that was being written or deleted."""
    shutil.rmtree(run / PARTIAL, ignore_errors=True)


def save_weights(model: nn.Module, folder: Path, write: bool = True) -> None:
    """Write every trainable parameter and every saved buffer; frozen ones come from the base again.

    All ranks have to call it where ZeRO-3 has spread the parameters; write: whether this one writes.
    """
    tensors = whole_copies(_kept(model), keep=write)
    if write:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def load_weights(model: nn.Module, folder: Path) -> None:
    """Read back, strictly: any missing, unexpected or differently shaped tensor is a `DamagedFileError`."""
    try:
        stored = load_file(folder / WEIGHTS)  # mapped: a tensor is in memory from when it is looked at
    except (OSError, SafetensorError) as error:
        raise DamagedFileError(f"{folder / WEIGHTS}: unreadable weights: {error}") from error
    wanted = _kept(model)
    problems = [f"missing {name}" for name in sorted(wanted.keys() - stored.keys())]
    problems += [f"unexpected {name}" for name in sorted(stored.keys() - wanted.keys())]
    problems += [
        f"{name} has shape {tuple(stored[name].shape)}, the model {tuple(whole_shape(wanted[name]))}"
        for name in sorted(wanted.keys() & stored.keys())
        if stored[name].shape != whole_shape(wanted[name])
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise DamagedFileError(f"{folder / WEIGHTS}: the weights do not fit the model: {shown}")
    with torch.no_grad():
        for name, tensor in wanted.items():
            with whole([tensor], changed=True):
                tensor.copy_(stored[name])


def write_json(path: Path, values: Any) -> None:
    """Write JSON, whole or not at all; floats keep every bit."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _kept(model: nn.Module) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())  # tied ones once
    kept: dict[str, Tensor] = {name: p for name, p in parameters.items() if p.requires_grad}
    # not all of state_dict(): the scales of a quantised base stand there too, and come with it
    saved = model.state_dict(keep_vars=True)
    kept.update({name: b for name, b in model.named_buffers(remove_duplicate=False) if name in saved})
    return kept


def _mark(folder: Path, step: int) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    write_json(
        folder / MARKER, {"step": step, "files": {str(p.relative_to(folder)): sha256_of(p) for p in files}}
    )
    sync_folder(folder)
