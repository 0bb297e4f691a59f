"""What benchmarks/kills.py kills: a training run, an extraction of a teacher's states, a teacher's answers, an evaluation.

Each works in a folder of its own under the same names, so that not even a path differs between one that was killed and one that
was left alone. What a recipe needs of earlier phases (its teacher, the states) is made in there too, under the same kills, or
first where several processes train, which cannot make it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.kill_checks import (
    answer_differences,
    evaluation_differences,
    file_differences,
    nearly,
    run_differences,
)

ROOT = Path(__file__).resolve().parents[1]
STEPS = 240  # of a whole run: long enough to be hit
_STEPS_OF_MANY = 72  # of one among other jobs


@dataclass(frozen=True)
class Job:
    """A command that can be killed, and goes on with `--resume`.

    name: for the report. command: what follows `latentthought`, all of it but `--resume`. output: the folder that it fills, by
    name. unit: what `done` counts. done: how far an output folder is. saving: whether a file that is not whole yet lies in it
    right now. differences: what differs between two finished output folders. processes, engines: one of each is drawn for every
    start, and the first of them for the run that is left alone. first: a command that nobody kills, before the first start, whose
    output is thrown away for what it leaves beside it. program: what Python runs.
    """

    name: str
    command: tuple[str, ...]
    output: str
    unit: str
    done: Callable[[Path], int]
    saving: Callable[[Path], bool]
    differences: Callable[[Path, Path], list[str]]
    processes: tuple[int, ...] = (1,)
    engines: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    program: tuple[str, ...] = ("-m", "latentthought")

    def start(self, place: Path, rng: random.Random | None = None) -> subprocess.Popen:
        """The command as a user would start or resume it in the folder `place`; as the run left alone does, without `rng`."""
        if not place.is_dir():
            place.mkdir()
            if self.first:
                finish(_launched(place, (*self.program, *self.first), 1))
                shutil.rmtree(place / self.output)
        count = rng.choice(self.processes) if rng else self.processes[0]
        engine = rng.choice(self.engines or ("",)) if rng else "".join(self.engines[:1])
        resume = ["--resume"] if (place / self.output).is_dir() else []
        changes = [f"engine={engine}"] if engine else []
        return _launched(place, (*self.program, *self.command, *changes, *resume), count)


def _launched(place: Path, program: Sequence[str], processes: int) -> subprocess.Popen:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *(launcher if processes > 1 else []), *program],
        cwd=place,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen) -> None:
    """Wait for a job that nobody kills; its own words if it fails."""
    _, errors = process.communicate()
    if process.returncode:
        said = errors.decode(errors="replace")[-4000:]
        sys.exit(f"a job failed with exit code {process.returncode}:\n{said}")


def training(recipe: str, changes: Sequence[str], processes: Sequence[int] = (1,)) -> Job:
    """A training run; without changes one of 240 steps with a checkpoint every ten."""
    command = _smoke(("train", recipe), changes or _longer(recipe, STEPS), "run")
    return Job(
        f"train {recipe}",
        command,
        "run",
        "steps",
        last_step,
        _checkpoint_begun,
        run_differences,
        tuple(processes),
    )


def extraction(recipe: str, changes: Sequence[str], processes: Sequence[int] = (1,)) -> Job:
    """An extraction; without changes one with two rows a shard."""
    changes = changes or ["teacher.cache.rows_per_shard=2"]
    command = _smoke(("teacher", "extract", recipe), changes, "states")
    # several processes cannot make the teacher of a smoke run
    first = _smoke(("teacher", "extract", recipe), (), "states") if max(processes) > 1 else ()
    return Job(
        f"teacher extract {recipe}",
        command,
        "states",
        "shards",
        _shards,
        _shard_begun,
        file_differences,
        tuple(processes),
        first=first,
    )


def answers(recipe: str, changes: Sequence[str], processes: Sequence[int] = (1,)) -> Job:
    """A teacher's answers to its questions, four at a time."""
    changes = changes or ["teacher.responses.batch_size=4", "teacher.responses.samples=4"]
    command = _smoke(("teacher", "respond", recipe), changes, "answers")
    return Job(
        f"teacher respond {recipe}",
        command,
        "answers",
        "samples",
        _samples("responses"),
        _name_begun,
        answer_differences,
        tuple(processes),
    )


def evaluation(model: Path, task: str, options: Sequence[str], processes: Sequence[int] = (1,)) -> Job:
    """An evaluation of a finished run."""
    command = ("evaluate", str(model.resolve()), "--task", task, *options, "--output", "evaluated")
    return Job(
        f"evaluate {task}",
        command,
        "evaluated",
        "samples",
        _samples(task),
        _name_begun,
        lambda whole, killed: evaluation_differences(whole, killed, task),
        tuple(processes),
    )


def every_kind(model: Path) -> list[Job]:
    """A job of each kind that can be killed. model: the run to evaluate, which the first of them may make."""
    student = "lrd/3-student"
    alone = training("quickstart", _longer("quickstart", _STEPS_OF_MANY))
    adapted = training(student, _longer(student, _STEPS_OF_MANY))
    inputs = _smoke(("train", student), ["training.max_steps=1"], "run")
    return [
        alone,
        extraction("lrd/2-states", [], (1, 2)),
        answers("levels/response", [], (1, 2)),
        evaluation(model, "hops", ["--limit", "200", "--batch-size", "4"], (1, 2)),
        adapted,
        replace(
            alone,
            name="train quickstart, two processes under zero3",
            processes=(2,),
            engines=("zero3",),
        ),
        replace(
            adapted,
            name=f"train {student}, two processes under ddp",
            processes=(2,),
            first=inputs,
        ),
        replace(
            alone,
            name="train quickstart, another engine and number of processes at every start",
            processes=(1, 2),
            engines=("ddp", "zero2", "zero3"),
            differences=nearly,
        ),
    ]


def _smoke(arguments: tuple[str, ...], changes: Sequence[str], output: str) -> tuple[str, ...]:
    return (*arguments, *changes, "--smoke", "--output", output)


def _longer(recipe: str, steps: int) -> list[str]:
    """Changes that make a smoke run long enough to be hit, however its curriculum is written."""
    from latentthought.recipe import load_recipe

    curriculum = load_recipe(recipe, smoke=True).curriculum
    steps //= len(curriculum.expand())
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


def _samples(task: str) -> Callable[[Path], int]:
    """Counts samples on the disk, of all processes."""

    def count(output: Path) -> int:
        folder, found = output / "results" / task / "none", 0
        for path in folder.glob("samples*.jsonl"):
            try:
                found += path.read_bytes().count(b"\n")
            except FileNotFoundError:  # brought together with the others a moment ago
                continue
        return found

    return count


def _name_begun(output: Path) -> bool:
    return any(output.rglob("*.tmp"))
