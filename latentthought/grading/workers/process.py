"""The parent's end of one worker: what it was sent, how long it has taken, and what became of it.

Pipes are non-blocking in both directions, so a worker that hangs, dies or is stopped never blocks the caller, whatever the
size of a request. Replies come in the order of requests; only the first that is unanswered can be late, and only it is to
blame for a death. Start-up and the import of an engine are requests of their own, with a limit of their own: they are never
counted against a pair. For systems with POSIX pipes (Linux, macOS).
"""

from __future__ import annotations

import json
import os
import select
import signal
import site
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from latentthought.errors import LatentThoughtError, MissingExtraError, UnsupportedError

START_LIMIT = 120.0  # seconds for Python and the imports, on a machine that is busy otherwise
GRACE = 2.0  # a worker whose parent is gone ends this long after the deadline
OUT_OF_MEMORY = (
    86  # exit code: the memory limit was reached, and what is left of the heap is not to be trusted
)
_CHUNK = 1 << 16


class WorkerStartError(LatentThoughtError):
    """The grading process does not start: its own message is in the text."""


@dataclass(eq=False, slots=True)
class Request:
    """One line for a worker and, later, its answer; `limit` is in seconds of the worker's own time."""

    line: bytes
    limit: float
    engine: bool = False  # needs math-verify
    key: Any = None


IDLE = Request(b"", float("inf"))  # what a worker is at that was asked nothing


class Worker:
    """A child process. Not thread-safe: whoever took it out of the pool's list of idle ones has it alone."""

    def __init__(self, deadline: float, memory_mb: int) -> None:
        if not sys.executable:
            raise UnsupportedError(
                "grading in a process of its own needs sys.executable, which is empty here"
            )
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "latentthought.grading.workers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            bufsize=0,
            start_new_session=True,  # Ctrl-C in a terminal is the parent's business
        )
        for pipe in (self._requests, self._replies, self.process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self.started = False
        self.has_engine = False
        self.unanswered: deque[Request] = deque()
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._since = time.monotonic()
        greeting = {"path": sys.path, "memory_mb": memory_mb, "patience": deadline + GRACE}
        self._send(Request(json.dumps(greeting).encode("ascii") + b"\n", START_LIMIT))

    @property
    def _requests(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def _replies(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def readable(self) -> int:
        """File descriptor on which replies arrive."""
        return self._replies.fileno()

    @property
    def writable(self) -> int | None:
        """File descriptor of a pipe that has yet to take something, or None."""
        return self._requests.fileno() if self._outgoing else None

    @property
    def due(self) -> float:
        """When (`time.monotonic`) the first unanswered request has had its time."""
        return self._since + self.unanswered[0].limit if self.unanswered else float("inf")

    @property
    def pending(self) -> int:
        """Pairs without an answer."""
        return sum(request.key is not None for request in self.unanswered)

    def ask(self, request: Request) -> None:
        """Queue a request, after the import of the engine that it needs."""
        if request.engine and not self.has_engine:
            self.has_engine = True
            self._send(Request(b'["load","math-verify"]\n', START_LIMIT))
        self._send(request)

    def _send(self, request: Request) -> None:
        if not self.unanswered:
            self._since = time.monotonic()
        self.unanswered.append(request)
        self._outgoing += request.line
        self.write()

    def write(self) -> None:
        """Send what the pipe takes now; a broken pipe shows when replies are read."""
        try:
            while self._outgoing:
                with memoryview(self._outgoing) as view:
                    count = os.write(self._requests.fileno(), view[:_CHUNK])
                del self._outgoing[:count]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._outgoing.clear()

    def read(self) -> Iterator[tuple[Request, Any]]:
        """Answered pairs, in order. Raises EOFError when the worker is gone, and what it says when it cannot load something."""
        while True:
            try:
                data = os.read(self._replies.fileno(), _CHUNK)
            except BlockingIOError:
                return
            if not data:
                raise EOFError
            seen = len(self._incoming)
            self._incoming += data
            end = self._incoming.rfind(b"\n", seen)
            if end < 0:
                continue
            lines = bytes(self._incoming[:end]).split(b"\n")
            del self._incoming[: end + 1]
            for line in lines:
                if self.unanswered and (answered := self._answer(line)):
                    yield answered

    def _answer(self, line: bytes) -> tuple[Request, Any] | None:
        if not self.started and not line.startswith(
            b'{"'
        ):  # printed by something that runs when Python starts
            return None
        if not line:
            return None
        reply = json.loads(line)
        request = self.unanswered.popleft()
        self._since = time.monotonic()
        if request.key is not None:
            return request, reply
        if "failed" in reply:
            raise (MissingExtraError if self.started else WorkerStartError)(reply["failed"])
        if not self.started:
            self.started = True
            assert self.process.stderr is not None
            self.process.stderr.close()
        return None

    @property
    def alive(self) -> bool:
        """Whether the process still runs; reaps it when not."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """How it ended, and the last line it wrote while starting; for a process that has ended."""
        code = self.process.wait()
        text = b""
        if self.process.stderr is not None and not self.process.stderr.closed:
            text = self.process.stderr.read(_CHUNK) or b""
        end = f"exit code {code}"
        if code < 0:
            end = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        lines = text.decode(errors="replace").strip().splitlines()
        return f"{end}: {lines[-1]}" if lines else end

    def kill(self) -> None:
        """End it now, and reap it."""
        if self.alive:
            self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it: by itself when it is idle, killed when it is not; no descriptor and no zombie is left."""
        self._requests.close()
        try:
            if self.unanswered:
                self.process.kill()
            self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._close_pipes()

    def abandon(self) -> None:
        """Forget it in a fork of the process that owns it, which goes on using it."""
        self._close_pipes()
        self.process.returncode = 0  # or Popen would wait for a process that is not its child

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def wait(workers: Sequence[Worker]) -> list[bool]:
    """Sleep until a worker can be read or written to, or is late; for each whether it can."""
    poller = select.poll()
    for worker in workers:
        poller.register(worker.readable, select.POLLIN)
        if worker.writable is not None:
            poller.register(worker.writable, select.POLLOUT)
    due = min(worker.due for worker in workers)
    left = None if due == float("inf") else max(due - time.monotonic(), 0.0) * 1000 + 1
    ready = {descriptor for descriptor, _ in poller.poll(left)}
    return [worker.readable in ready or worker.writable in ready for worker in workers]


def _environment() -> dict[str, str]:
    """The parent's, in which the child finds this package, wherever it is and wherever both were started.

    `-P` keeps the current folder off the child's path, where a `random.py` would shadow Python's own; a checkout is put on
    it by name. A folder of installed packages is not: there it would come before the standard library.
    """
    root = str(Path(__file__).resolve().parents[3])
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONINSPECT"}
    if root not in {str(Path(folder).resolve()) for folder in installed}:
        paths = [root, environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment
