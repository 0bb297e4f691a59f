"""Working off points: each is `latentthought train` in a process of its own, then `latentthought evaluate` in another.

A point that crashes, is killed or runs out of memory takes nothing else with it, and what a point does is by construction what
the same command does alone. What it prints goes to `points/NAME.log`, what became of it to `points/NAME.yaml`. The processes are
in sessions of their own: an interrupt reaches the sweep alone, which asks them to stop, so that they save themselves first
(`train` makes a checkpoint and leaves with exit code 75). Whether a point is finished is read from what lies in its folder, never
from a list, so a sweep can be killed at any moment. What outlived a killed sweep still holds its folder, and is waited for.
Rejected: Hydra's multirun (its sweeps cannot be resumed, and it wants to own the configuration), Ray Tune (a cluster framework
whose trials are functions, not commands that one could type), sweeps of wandb (a server decides what runs next, and nothing goes
on without it).
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from latentthought.config import Config, read_yaml, write_yaml
from latentthought.errors import ConfigError, MissingFileError, Preempted
from latentthought.processes import child_environment
from latentthought.training.folder import MODEL_FOLDER, held

# a job of a cluster imports this module: nothing here needs torch
if TYPE_CHECKING:
    from latentthought.sweeping.plan import Sweep

POINTS = "points"
PROGRAM = (sys.executable, "-m", "latentthought")
_POLL_SECONDS = 0.5
_LAST_LINES = 8192


class Record(Config):
    """What became of a point. Seconds: wall time of its processes, start-up included, over all attempts but those that were
    killed together with the sweep. remark: of an evaluation that ended with a complaint and all of its results."""

    state: Literal["running", "done", "failed", "stopped"] = "running"
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    error: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Work:
    """All that is needed to do a point. program: how `latentthought` is called; train: its arguments; evaluations: (task's name,
    arguments) of each task."""

    name: str
    folder: Path
    program: tuple[str, ...]
    train: tuple[str, ...]
    evaluations: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.name}.log")

    def read(self) -> Record:
        """The record, or a fresh one where there is none that reads."""
        try:
            return Record.parse(read_yaml(self.folder.with_name(f"{self.name}.yaml")))
        except (MissingFileError, ConfigError):
            return Record()

    def write(self, record: Record) -> Record:
        write_yaml(self.folder.with_name(f"{self.name}.yaml"), record.dump())
        return record

    @property
    def finished(self) -> bool:
        return is_trained(self.folder) and all(
            is_evaluated(self.folder, task) for task, _ in self.evaluations
        )


def is_trained(folder: Path) -> bool:
    """Whether a run is finished: its model is there."""
    return (folder / MODEL_FOLDER).is_dir()


def is_evaluated(folder: Path, task: str) -> bool:
    """Whether a task is evaluated under all controls: its report, which is written last, is there."""
    return (folder / "results" / task / "report.md").is_file()


def works_of(sweep: Sweep, folder: Path) -> list[Work]:
    """What there is to do, point by point."""
    smoke = ["--smoke"] if sweep.smoke else []
    works = []
    for point in sweep.points:
        run = folder / POINTS / point.name
        train = ["train", sweep.recipe, *point.overrides, "--output", str(run), *smoke]
        evaluations = tuple(
            (name, ("evaluate", str(run), "--task", task, *sweep.evaluation.arguments(), *smoke))
            for task, name in sweep.tasks[point.name]
        )
        works.append(Work(point.name, run, PROGRAM, tuple(train), evaluations))
    return works


class Children:
    """The processes that are running now, so that they can be stopped together. Once stopping, none is started any more."""

    def __init__(self) -> None:
        self.stopping = False
        self._running: set[subprocess.Popen] = set()
        # a signal handler may come while its own thread is in here
        self._lock = threading.RLock()

    def run(self, command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> int:
        """Run a command; its exit code, negative where a signal ended it."""
        with self._lock:
            if self.stopping:
                return Preempted.exit_code
            child = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(child)
        try:
            return child.wait()
        finally:
            with self._lock:
                self._running.discard(child)

    def stop(self) -> int:
        """Ask all of them to save themselves and leave; how many there are."""
        return self._signal(signal.SIGTERM)

    def kill(self) -> int:
        """End them at once; what they saved before is intact."""
        return self._signal(signal.SIGKILL)

    def wait(self) -> None:
        """Wait until none is left; not for the thread that runs one."""
        while self._running:
            time.sleep(0.1)

    def _signal(self, number: signal.Signals) -> int:
        with self._lock:
            self.stopping = True
            for child in self._running:
                child.send_signal(number)
            return len(self._running)


def carry_out(work: Work, children: Children, environment: Mapping[str, str]) -> Record:
    """Train and evaluate one point, as far as it is not done; its record, which is on the disk too."""
    work.folder.parent.mkdir(parents=True, exist_ok=True)
    record = work.write(work.read().replace(state="running", error="", remark=""))
    with work.log.open("ab") as log:
        if not is_trained(work.folder):
            _wait_for_leftover(partial(held, work.folder), children, log)
        if not is_trained(work.folder):
            resume = ["--resume"] if work.folder.is_dir() else []
            code, seconds, said = _call(work, [*work.train, *resume], children, environment, log)
            record = record.replace(training_seconds=record.training_seconds + seconds)
            if code:
                return work.write(_ended(record, code, said, children))
        for task, arguments in work.evaluations:
            if not is_evaluated(work.folder, task):
                results = work.folder / "results" / task
                _wait_for_leftover(partial(_evaluation_in, results), children, log)
            if is_evaluated(work.folder, task):
                continue
            resume = ["--resume"] if (work.folder / "results" / task).is_dir() else []
            code, seconds, said = _call(work, [*arguments, *resume], children, environment, log)
            record = record.replace(evaluation_seconds=record.evaluation_seconds + seconds)
            if code and not is_evaluated(work.folder, task):
                return work.write(_ended(record, code, said, children))
            if code:  # all results are there, and something is to be said of them: the model wrote nothing
                record = record.replace(remark=said)
    return work.write(record.replace(state="done"))


def _call(
    work: Work, arguments: Sequence[str], children: Children, environment: Mapping[str, str], log: IO[bytes]
) -> tuple[int, float, str]:
    """Exit code, seconds, and the last line that tells why."""
    log.write(f"$ latentthought {' '.join(arguments)}\n".encode())
    log.flush()
    start, begun = log.tell(), time.perf_counter()
    code = children.run([*work.program, *arguments], environment, log)
    seconds = time.perf_counter() - begun
    return code, seconds, _complaint(Path(log.name), start, code) if code else ""


def _ended(record: Record, code: int, said: str, children: Children) -> Record:
    if children.stopping or code == Preempted.exit_code:
        return record.replace(state="stopped")
    return record.replace(state="failed", error=said)


def _complaint(log: Path, start: int, code: int) -> str:
    """The last line that a process printed, which is its error message, or the signal that ended it."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}{' (out of memory?)' if -code == signal.SIGKILL else ''}"
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - _LAST_LINES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    # behind a traceback stands a request to report it
    told = [
        line.strip() for line in lines if line.strip() and "this is a failure of latentthought" not in line
    ]
    return told[-1].removeprefix("latentthought: ").removeprefix("error: ") if told else f"exit code {code}"


def _evaluation_in(folder: Path) -> str | None:
    """Whether somebody writes results of a task, under any control."""
    from latentthought.evaluation.samples import SAMPLES, in_use

    there = folder.glob(f"*/{SAMPLES}")
    return next((f"an evaluation in {file.parent}" for file in there if in_use(file)), None)


def _wait_for_leftover(holding: Callable[[], str | None], children: Children, log: IO[bytes]) -> None:
    """Wait for a process of this point that outlived an earlier sweep. holding: what it is, None once it is gone."""
    said = False
    while (holder := holding()) is not None and not children.stopping:
        if not said:
            log.write(f"waiting for {holder}, which a sweep before this one started\n".encode())
            log.flush()
            said = True
        time.sleep(_POLL_SECONDS)


class LocalLauncher:
    """Points on this machine, `jobs` at a time. Cores are split among the jobs, and every job has a GPU of its own as far as
    there are enough: the job in slot k gets device k, round and round."""

    def __init__(self, jobs: int, devices: Sequence[str] = (), threads: int = 1) -> None:
        self.jobs, self._devices, self._threads = jobs, devices, threads
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(jobs):
            self._slots.put(slot)

    def run(
        self,
        works: Sequence[Work],
        finished: Callable[[Work, Record], None],
        waiting: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """Do all works; `finished` is called in this thread after each, `waiting` twice a second.

        An exception in this thread (an interrupt, `Preempted` of a signal handler) lets every process save itself before it goes
        on its way; a second one kills them.
        """
        children = Children()
        with ThreadPoolExecutor(self.jobs) as pool:
            pending: dict[Future[Record], Work] = {
                pool.submit(self._one, work, children): work for work in works
            }
            try:
                while pending:
                    done, _ = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        finished(pending.pop(future), future.result())
                    waiting()
            except BaseException:
                self._stop(pending, children, say)
                raise

    def _one(self, work: Work, children: Children) -> Record:
        slot = self._slots.get()
        try:
            return carry_out(work, children, self.environment(slot))
        finally:
            self._slots.put(slot)

    def environment(self, slot: int) -> dict[str, str]:
        """What the processes of a slot find around them."""
        environment = child_environment()
        # one job alone has what `train` has; a smaller number that somebody has set is left alone
        told = environment.get("OMP_NUM_THREADS", "")
        if self.jobs > 1 and not (told.isdecimal() and 0 < int(told) <= self._threads):
            environment["OMP_NUM_THREADS"] = str(self._threads)
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[slot % len(self._devices)]
        return environment

    def _stop(
        self, pending: Mapping[Future[Record], Work], children: Children, say: Callable[[str], None]
    ) -> None:
        for future in pending:
            future.cancel()
        try:
            if count := children.stop():
                say(
                    f"stopping {count} {'run' if count == 1 else 'runs'}, which save themselves first; once more to kill them"
                )
            wait(pending)
        except BaseException:  # the second one
            children.kill()
            wait(pending)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_devices() -> list[str]:
    """The GPUs of this machine that a child may be given, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = [name.strip() for name in told.split(",")] if told else [str(number) for number in range(count)]
    return named[:count]
