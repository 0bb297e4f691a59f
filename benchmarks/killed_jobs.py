"""What benchmarks/kills.py kills: a training run, or the extraction of a teacher's states.

Each works in a folder of its own under the same names, so that not even a path differs between one that was killed and one that
was left alone. What a recipe needs of earlier phases (its teacher, the states) is made in there too, under the same kills.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEPS = 240  # of a whole run: long enough to be hit


@dataclass(frozen=True)
class Job:
    """A command that can be killed, and goes on with `--resume`.

    name: for the report. command: all of it but `--resume`. output: the folder that it fills, by name. unit: what `done` counts.
    done: how far an output folder is. saving: whether a file that is not whole yet lies in it right now.
    differences: what differs between two finished output folders.
    """

    name: str
    command: tuple[str, ...]
    output: str
    unit: str
    done: Callable[[Path], int]
    saving: Callable[[Path], bool]
    differences: Callable[[Path, Path], list[str]]

    def start(self, place: Path) -> subprocess.Popen:
        """The command as a user would start or resume it in the folder `place`, in a process group of its own."""
        place.mkdir(exist_ok=True)
        resume = ["--resume"] if (place / self.output).is_dir() else []
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return subprocess.Popen(
            [*self.command, *resume],
            cwd=place,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )


def training(recipe: str, changes: list[str]) -> Job:
    """A training run; without changes one of 240 steps with a checkpoint every ten."""
    command = _smoke(("train", recipe), changes or _longer(recipe), "run")
    return Job(f"train {recipe}", command, "run", "steps", last_step, _checkpoint_begun, run_differences)


def extraction(recipe: str, changes: list[str]) -> Job:
    """An extraction; without changes one with two rows a shard."""
    changes = changes or ["teacher.cache.rows_per_shard=2"]
    command = _smoke(("teacher", "extract", recipe), changes, "states")
    name = f"teacher extract {recipe}"
    return Job(name, command, "states", "shards", _shards, _shard_begun, file_differences)


def _smoke(arguments: tuple[str, ...], changes: list[str], output: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "latentthought", *arguments, *changes, "--smoke", "--output", output)


def _longer(recipe: str) -> list[str]:
    """Changes that make a smoke run long enough to be hit, however its curriculum is written."""
    from latentthought.recipe import load_recipe

    curriculum = load_recipe(recipe, smoke=True).curriculum
    steps = STEPS // len(curriculum.expand())
    if curriculum.stages:
        stages = [{**stage.dump(), "steps": steps} for stage in curriculum.stages]
        lengths = [f"curriculum.stages={json.dumps(stages)}"]
    else:
        lengths = [f"curriculum.{part}.steps={steps}" for part in ("each", "first", "last")]
    return [*lengths, "training.save_every=10", "training.log_every=5"]


def last_step(run: Path) -> int:
    """The step of the last whole line of metrics; 0 before there is one."""
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        return int(json.loads(lines[-1])["step"])
    except (FileNotFoundError, IndexError):
        return 0


def _checkpoint_begun(run: Path) -> bool:
    return any((run / name).exists() for name in (".saving", ".adapter-new", ".model-new"))


def _shards(folder: Path) -> int:
    return sum(1 for _ in folder.glob("shard-*.safetensors"))


def _shard_begun(folder: Path) -> bool:
    return any(folder.glob("*.partial"))


def run_differences(left: Path, right: Path) -> list[str]:
    """What differs between two finished runs: files of weights, tensors by name, lines of metrics (speed left out)."""
    from safetensors.torch import load_file

    weights = [
        {
            f"{path.relative_to(run)}: {name}": tensor
            for part in ("model", "adapter", ".")
            for path in sorted((run / part).glob("*.safetensors"))
            for name, tensor in load_file(path).items()
        }
        for run in (left, right)
    ]
    mine, theirs = weights
    found = sorted(mine.keys() ^ theirs.keys())
    found += [name for name in mine if name in theirs and not mine[name].equal(theirs[name])]
    lines = [
        [
            {key: value for key, value in json.loads(line).items() if key != "tokens_per_second"}
            for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for run in (left, right)
    ]
    if lines[0] != lines[1]:
        found.append(f"metrics.jsonl ({len(lines[0])} and {len(lines[1])} lines)")
    return found


def file_differences(left: Path, right: Path) -> list[str]:
    """Files of two folders that are not there in both, or not equal to the last byte."""
    mine, theirs = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (left, right)
    )
    return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
