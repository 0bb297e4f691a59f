"""Several processes that share one piece of work, as torchrun and accelerate launch start them.

The work is independent batches, so all that the processes need of each other is a notice board: what each of them found, and
that one of them failed. The board is a key-value store (torch's TCPStore) at the first process, read between batches: nobody
waits in a collective that a failed process will never join, there is no timeout to outlive, and two processes may share a
device. The process that fails first says why; the others end without a word and with its exit code.
Rejected: gathering by collectives (a failure elsewhere is a hang of half an hour), a round of batches in step (every round then
takes as long as its slowest batch).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from latentthought.errors import ConfigError, LatentThoughtError

_POLL_SECONDS = 0.05
# how long a process that has nothing to say stays, so that the launcher does not end the one that is still speaking
_LINGER_SECONDS = 3.0
_LEAVE_SECONDS = 60.0
_FAILED = "failed"


class StoppedElsewhere(LatentThoughtError):
    """Another process of the group failed, and has said why; `exit_code` is its exit code."""

    def __init__(self, exit_code: int):
        super().__init__("another process failed")
        self.exit_code = exit_code


class Group:
    """This process, the `rank`-th of `count`; alone unless joined. device: the one to use, None where there is a choice."""

    def __init__(self, rank: int = 0, count: int = 1, device: str | None = None, store: Any = None):
        self.rank, self.count, self.device = rank, count, device
        self._store = store
        self._exchanges = 0

    @classmethod
    def join(cls) -> Self:
        """The group that a launcher started this process in (environment variable WORLD_SIZE); alone without one."""
        if process_count() < 2:
            return cls()
        import torch
        from accelerate import PartialState

        # by the CPU's backend: nothing but a port number goes through it, and a GPU may be shared
        state = PartialState(cpu=True)
        device = None
        if torch.cuda.is_available():
            device = f"cuda:{state.local_process_index % torch.cuda.device_count()}"
        return cls(state.process_index, state.num_processes, device, open_board(state.process_index))

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def check(self) -> None:
        """Raise `StoppedElsewhere` if another process has failed; costs a look at the board."""
        if self._store is None:
            return
        try:
            failed = self._store.check([_FAILED])
            code = int(self._store.get(_FAILED)) if failed else 0
        except RuntimeError:  # the board is gone, and the first process with it
            raise StoppedElsewhere(1) from None
        if failed:
            raise StoppedElsewhere(code)

    def exchange(self, value: Any = None) -> list[Any]:
        """The values (plain JSON data) that all processes give, by rank; waits for all of them, and ends when one fails.

        Every process has to call it as often, in the same order.
        """
        if self._store is None:
            return [value]
        self._exchanges += 1
        keys = [f"{self._exchanges}/{rank}" for rank in range(self.count)]
        self._post(keys[self.rank], json.dumps(value))
        return [json.loads(self._wait(key)) for key in keys]

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Ends the whole group with whatever ends the block: the process that fails first raises what it met, the others
        `StoppedElsewhere`."""
        try:
            yield
        except StoppedElsewhere:
            time.sleep(_LINGER_SECONDS)
            raise
        except BaseException as error:
            if self._store is not None and not self._fails_first(_exit_code(error)):
                time.sleep(_LINGER_SECONDS)
                raise StoppedElsewhere(_exit_code(error)) from None
            raise
        self._leave()

    def _fails_first(self, code: int) -> bool:
        try:
            first = self._store.add("failures", 1) == 1
            if first:
                self._store.set(_FAILED, str(code))
        except RuntimeError:
            return False
        return first

    def _post(self, key: str, value: str) -> None:
        try:
            self._store.set(key, value)
        except RuntimeError:
            raise StoppedElsewhere(1) from None

    def _wait(self, key: str) -> bytes:
        while True:
            self.check()
            try:
                if self._store.check([key]):
                    found: bytes = self._store.get(key)
                    return found
            except RuntimeError:
                raise StoppedElsewhere(1) from None
            time.sleep(_POLL_SECONDS)

    def _leave(self) -> None:
        """Say that this process is done; the first one holds the board until all are."""
        if self._store is None:
            return
        import torch.distributed

        self._post(f"left/{self.rank}", "")
        deadline = time.monotonic() + _LEAVE_SECONDS
        while self.first and time.monotonic() < deadline:
            if self._store.check([f"left/{rank}" for rank in range(self.count)]):
                break
            time.sleep(_POLL_SECONDS)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


ALONE = Group()


def process_count() -> int:
    """How many processes a launcher (torchrun and its kin) has started together; 1 without one.

    Raises `ConfigError` where WORLD_SIZE is no number of processes.
    """
    told = os.environ.get("WORLD_SIZE", "1")
    if not told.isdecimal() or int(told) < 1:
        raise ConfigError(
            f"WORLD_SIZE={told}: a launcher sets it to the number of processes; unset it to run one"
        )
    return int(told)


def first_on_machine() -> bool:
    """Whether this process is the first, or the only one, that a launcher started on this machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def child_environment() -> dict[str, str]:
    """The environment of a process of our own (`python -m latentthought ...`): it imports the package that is running here, also
    from a checkout that is not installed."""
    package = str(Path(__file__).resolve().parents[1])
    path = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_code if isinstance(error, LatentThoughtError) else 1


def open_board(rank: int) -> Any:
    """The store at the first process, which all have opened when this returns. All processes have to call it."""
    import torch.distributed

    host, first = os.environ.get("MASTER_ADDR", "localhost"), rank == 0
    wait = timedelta(minutes=5)
    held = (
        torch.distributed.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=wait)
        if first
        else None
    )
    port = [held.port if held is not None else 0]
    torch.distributed.broadcast_object_list(port, src=0)
    if held is None:
        held = torch.distributed.TCPStore(
            host, port[0], is_master=False, wait_for_workers=False, timeout=wait
        )
    torch.distributed.barrier()
    return held
