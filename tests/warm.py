"""Programs in processes of their own that start in an instant.

Importing torch, transformers, peft and DeepSpeed takes a process six to eight seconds, longer than the runs that most tests start
one for. Here one process of each worker of pytest imports them once and forks for every program; it has computed nothing.
What these programs cannot show is left to tests that start real ones: launchers and the store that they hold, what is imported
when, the end of the interpreter (forks leave without it), what depends on the seed of hashes (forks share it). They see no GPU.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

import numpy as np

_IMPORTED = ["deepspeed", "latentthought.training.run", "transformers.trainer"]
_ROOT = Path(__file__).parents[1]
# as they were before any test; DeepSpeed settles on a device when it is imported, and CUDA does not survive a fork
_SURROUNDINGS = {**os.environ, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
# what is left of a group in which one has failed may wait for it for ever
_PATIENCE = 10.0


class Program:
    """`python -m module arguments` in the root of the checkout; what it prints goes to the file `said_in`."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        said_in: Path,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._said_in = said_in
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)
        with mock.patch.dict(os.environ, _SURROUNDINGS, clear=True):
            forkserver.ensure_running()
        work = (module, list(arguments), str(said_in), {**environment, "CUDA_VISIBLE_DEVICES": ""})
        self._process = context.Process(target=_run, args=work)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of `subprocess.Popen`; None for as long as it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, if it has not ended, and wait until it has."""
        self._process.kill()
        self._process.join()

    def said(self, timeout: float) -> str:
        """All that it has printed, once it has ended. Raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self._said_in.read_text(encoding="utf-8", errors="replace")


@contextmanager
def ranks(count: int, module: str, arguments: Sequence[str], folder: Path) -> Iterator[list[Program]]:
    """The processes of one job, as a launcher on this machine would start them; what runs at the end of the block is killed."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    group = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    programs: list[Program] = []
    try:
        for rank in range(count):
            own = {name: str(value) for name, value in {**group, "RANK": rank, "LOCAL_RANK": rank}.items()}
            programs.append(Program(module, arguments, folder / f"said-{rank}.txt", {**os.environ, **own}))
        yield programs
    finally:
        for program in programs:
            program.kill()


def run_ranks(count: int, module: str, arguments: Sequence[str], folder: Path, timeout: float = 300.0) -> str:
    """Run such a job to its end; what its processes printed, one after the other. Fails with it when one of them fails."""
    with ranks(count, module, arguments, folder) as programs:
        until = time.monotonic() + timeout
        while any(program.returncode is None for program in programs) and time.monotonic() < until:
            if any(program.returncode for program in programs):
                until = min(until, time.monotonic() + _PATIENCE)
            time.sleep(0.02)
    said = "".join(program.said(0.0) for program in programs)
    assert [program.returncode for program in programs] == [0] * count, said[-6000:]
    return said


def _run(module: str, arguments: list[str], said_in: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(_ROOT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    np.random.seed()  # noqa: NPY002 - the state that forks share
    file = os.open(said_in, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
