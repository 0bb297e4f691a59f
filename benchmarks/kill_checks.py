"""What has to hold after a kill: every file is whole, and what is finished in the end is that of a job left alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# what a job writes under until it is whole, by its name or by its end
_TEMPORARY = (".saving", ".adapter-new", ".model-new", ".adapter-old", ".model-old", ".lock")
_UNFINISHED = (".tmp", ".partial")
# between engines only the order of sums differs, which Adam, dividing by the size of a gradient, makes larger from step to step
_LOSS_TOLERANCE, _WEIGHT_TOLERANCE = 2e-3, 2e-3


def half_written(place: Path) -> list[str]:
    """Files below a folder that are there under their own names and do not read as what they are, each with the reason.

    A file that is appended to (metrics, samples) may end in a line without its end: whoever reads it leaves that out.
    """
    found = []
    for path in sorted(place.rglob("*")):
        parts = path.relative_to(place).parts
        if any(part in _TEMPORARY or part.endswith(_UNFINISHED) for part in parts):
            continue
        if path.is_dir():
            problem = _checkpoint_problem(path) if path.name.startswith("checkpoint-") else None
        else:
            problem = _problem(path)
        if problem:
            found.append(f"{'/'.join(parts)}: {problem}")
    return found


def _checkpoint_problem(folder: Path) -> str | None:
    from latentthought.training.checkpoints import problem_with

    return problem_with(folder)


def _problem(path: Path) -> str | None:
    read = _reader(path)
    if read is None:
        return None
    try:
        read(path)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _reader(path: Path) -> Callable[[Path], Any] | None:
    """How the program itself reads a file."""
    from latentthought.config import read_yaml
    from latentthought.distillation.cache.manifest import read_manifest
    from latentthought.evaluation.results import Results
    from latentthought.evaluation.samples import read_json, read_samples
    from latentthought.reporting.metrics import read_metrics

    if path.name.startswith("samples") and path.suffix == ".jsonl":
        return read_samples
    if path.name.startswith("shard-"):
        return _read_shard
    by_name: dict[str, Callable[[Path], Any]] = {
        "metrics.jsonl": read_metrics,
        "manifest.json": lambda path: read_manifest(path.parent),
        "results.json": Results.load,
    }
    by_suffix: dict[str, Callable[[Path], Any]] = {
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]],
        ".json": read_json,
        ".yaml": read_yaml,
        ".safetensors": _read_tensors,
    }
    return by_name.get(path.name) or by_suffix.get(path.suffix)


def _read_tensors(path: Path) -> None:
    from safetensors.torch import load_file

    load_file(path)


def _read_shard(path: Path) -> None:
    from latentthought.distillation.cache.shards import Shard

    if damaged := Shard(path).damaged_rows():
        raise ValueError(f"rows {damaged} are damaged")


def run_differences(left: Path, right: Path) -> list[str]:
    """What differs between two finished runs: files of weights, tensors by name, lines of metrics (speed left out)."""
    mine, theirs = _weights(left), _weights(right)
    found = sorted(mine.keys() ^ theirs.keys())
    found += [name for name in mine if name in theirs and not mine[name].equal(theirs[name])]
    lines = [_metrics(run) for run in (left, right)]
    if lines[0] != lines[1]:
        found.append(f"metrics.jsonl ({len(lines[0])} and {len(lines[1])} lines)")
    return found


def nearly(left: Path, right: Path) -> list[str]:
    """As `run_differences`, where sums were made in another order: losses and weights may differ by what that makes of them."""
    mine, theirs = _weights(left), _weights(right)
    found = sorted(mine.keys() ^ theirs.keys())
    for name in mine.keys() & theirs.keys():
        off = (mine[name] - theirs[name]).abs().max().item()
        if not off <= _WEIGHT_TOLERANCE:
            found.append(f"{name} by {off:.2g}")
    lines = [_metrics(run) for run in (left, right)]
    if [line["step"] for line in lines[0]] != [line["step"] for line in lines[1]]:
        return [*found, f"steps of metrics.jsonl ({len(lines[0])} and {len(lines[1])} lines)"]
    for one, other in zip(*lines, strict=True):
        if one.keys() != other.keys():
            found.append(f"keys of step {one['step']}")
        elif not math.isclose(one["loss"], other["loss"], abs_tol=_LOSS_TOLERANCE):
            found.append(f"loss of step {one['step']} by {abs(one['loss'] - other['loss']):.2g}")
    return found


def _weights(run: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {
        f"{path.relative_to(run)}: {name}": tensor
        for part in ("model", "adapter", ".")
        for path in sorted((run / part).glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def _metrics(run: Path) -> list[dict[str, Any]]:
    from latentthought.training.monitor import CLOCKED

    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCKED} for line in lines]


def evaluation_differences(whole: Path, killed: Path, task: str) -> list[str]:
    """What differs between the results of two evaluations: samples, line by line and in order, all but the milliseconds; results,
    all but the costs; names of files."""
    folders = [output / "results" / task / "none" for output in (whole, killed)]
    rows = [list(_rows(folder / "samples.jsonl")) for folder in folders]
    found = [] if rows[0] == rows[1] else [f"samples.jsonl ({len(rows[0])} and {len(rows[1])} rows)"]
    results = [json.loads((folder / "results.json").read_text("utf-8")) for folder in folders]
    found += [key for key in results[0] if key != "costs" and results[0][key] != results[1].get(key)]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    return found if names[0] == names[1] else [*found, f"files {names[1]}"]


def answer_differences(whole: Path, killed: Path) -> list[str]:
    """What differs between a teacher's answers: its samples, and the rows that were made of them."""
    rows = [(output / "responses.jsonl").read_bytes() for output in (whole, killed)]
    found = evaluation_differences(whole, killed, "responses")
    return found if rows[0] == rows[1] else [*found, "responses.jsonl"]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text("utf-8").splitlines():
        yield {**json.loads(line), "milliseconds": 0}


def file_differences(left: Path, right: Path) -> list[str]:
    """Files of two folders that are not there in both, or not equal to the last byte."""
    mine, theirs = (
        {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name != ".lock"  # which names a process
        }
        for folder in (left, right)
    )
    return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
