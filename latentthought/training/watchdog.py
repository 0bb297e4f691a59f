"""Finds the process of several that hangs, names it, and ends them all.

Processes that train together meet in collectives at every step. When one of them hangs (a dead disk, a lock, a suspended
machine), the others wait in theirs until gloo or NCCL gives up, with an error that names nobody. So each process leaves a mark
wherever its step comes to another phase, and posts it every few seconds on a notice board (`processes.open_board`). Whoever has
not moved for `engine.timeout` looks at the board: stuck is who is furthest behind and does not move either, or is not heard of
any more. It is named with its host, its step and its phase; where it still can, it shows where it stands, by its own watch. Then
every process ends with exit code 1, and the checkpoints are there for `--resume`.

A mark is the assignment of one attribute; the time is kept by a thread, in ticks that it lived to see, so that neither a step of
the clock nor a job that was suspended as a whole looks like a hang. Time counts from the last mark, and every pass through the
model is one too: a validation on one process, or a long text, is no hang while it goes on. What makes no pass for longer than the
time-out is taken for one, so the time-out has to be longer than compiling, and than writing a checkpoint.
Rejected: a time-out in the collectives alone (names nobody; it is still set, a little longer, for what this cannot see), a
heartbeat of a thread alone (beats on while its process hangs), a barrier with a time-out at every step (costs every step a wait).
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers import TrainerCallback

from latentthought.processes import open_board

if TYPE_CHECKING:
    from latentthought.training.trainer import LatentThoughtTrainer

_POLL_SECONDS = 5.0
# ticks without a post after which a process counts as not heard of, and for which a stuck one stays, to be seen and to speak
_UNHEARD_TICKS, _LAST_TICKS = 4, 3
# for the last post to go out: a thread that is in the board's C++ code when Python ends aborts the process
_LEAVE_SECONDS = 30.0


class Unwatched:
    """What a trainer marks its phases on while nobody watches."""

    def mark(self, phase: str, step: int | None = None) -> None: ...


class Post(NamedTuple):
    """What a process says of itself. number: of its posts; step, place: its step and its mark within it; idle: seconds since
    that mark; state: `at work`, `done`, or `failed`."""

    number: int
    step: int
    place: int
    phase: str
    idle: float
    state: str
    who: str


class Watch(Unwatched, TrainerCallback):
    """The marks of this process, and the threads that post them and look at those of the others.

    board: a key-value store that all processes have. rank, count: of this process. timeout: seconds.
    """

    def __init__(self, board: Any, rank: int, count: int, timeout: float) -> None:
        self.rank, self.count, self.timeout = rank, count, timeout
        self._board, self._poll = board, min(_POLL_SECONDS, timeout / 10)
        self._who = f"{socket.gethostname()}, pid {os.getpid()}"
        self._mark = (0, 0, "setting up")
        self._passes = 0
        self._idle = self._silence = 0.0
        self._posts: dict[int, Post] = {}
        self._ages = dict.fromkeys(range(count), 0.0)
        self._state = "at work"
        self._over = threading.Event()
        self._main = threading.get_ident()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._talk, self._tick)]

    # --- the main thread: where it is -------------------------------------------------------------------------------

    def mark(self, phase: str, step: int | None = None) -> None:
        """The main thread comes to another phase; `step`: of another step."""
        before, place, _ = self._mark
        self._mark = (before, place + 1, phase) if step is None else (step, 0, phase)

    def on_step_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self.mark("before the first pass")

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self.mark("optimizer")

    def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self.mark("report")

    def listen(self, model: Any) -> list[Any]:
        """Mark the passes through a model, in training with their backward; handles to take the hooks off again."""

        def begin(module: Any, inputs: Any) -> None:
            if module.training:  # else some processes make more passes than others
                self.mark("forward")

        def end(module: Any, inputs: Any, output: Any) -> None:
            if module.training:
                self.mark("backward")

        def beat(module: Any, inputs: Any) -> None:
            self._passes += 1

        hooks = [model.register_forward_pre_hook(begin), model.register_forward_hook(end)]
        return [*hooks, model.base.register_forward_pre_hook(beat)]

    # --- the threads ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, state: str) -> None:
        """Watch no longer. state: how this process leaves, for the others to know: `done` or `failed`."""
        self._state = state
        self._over.set()
        for thread in self._threads:
            thread.join(_LEAVE_SECONDS)
        faulthandler.cancel_dump_traceback_later()

    def _talk(self) -> None:
        """Post where this process is, and read where the others are. May wait for ever, when the board's process does."""
        number = 0
        keys = [str(rank) for rank in range(self.count)]
        while True:
            over = self._over.wait(self._poll)
            number += 1
            post = Post(number, *self._mark, self._idle, self._state, self._who)
            with suppress(RuntimeError):  # the board has gone, which the silence shows
                self._board.set(keys[self.rank], json.dumps(post))
                if not over and self._board.check(keys):
                    self._read([Post(*json.loads(value)) for value in self._board.multi_get(keys)])
            if over:
                return

    def _read(self, posts: list[Post]) -> None:
        for rank, post in enumerate(posts):
            if rank not in self._posts or post.number != self._posts[rank].number:
                self._ages[rank] = 0.0
            self._posts[rank] = post
        self._silence = 0.0

    def _tick(self) -> None:
        """Count how long nothing has moved, and end the process when that is too long."""
        seen: Any = None
        last = time.monotonic()
        while not self._over.wait(self._poll):
            now = time.monotonic()
            lived, last = min(max(now - last, 0.0), 2 * self._poll), now
            moved, seen = seen != (self._mark, self._passes), (self._mark, self._passes)
            self._idle = 0.0 if moved else self._idle + lived
            self._silence += lived
            for rank in self._ages:
                self._ages[rank] += lived
            self._guard_interpreter()
            if self._idle > self.timeout and (stuck := self._stuck()):
                self._end(stuck)

    def _guard_interpreter(self) -> None:
        """Where the main thread holds the interpreter's lock for good, no thread of Python's can say so: one in C does."""
        with suppress(ValueError, OSError):  # no standard error to write to
            faulthandler.dump_traceback_later(self.timeout + self._poll, file=2)

    # --- who is stuck -----------------------------------------------------------------------------------------------

    def _stuck(self) -> dict[int, str]:
        """The processes that keep the others waiting, with what is known of each; none while one of those still moves."""
        if self._silence > self.timeout:
            return {0: self._told(0, "does not answer")} if self.rank else {}
        failed = {rank: post for rank, post in self._posts.items() if post.state == "failed"}
        if failed:
            return {rank: self._told(rank, "ended with an error") for rank in failed}
        active = {rank: post for rank, post in self._posts.items() if post.state == "at work"}
        if len(active) < 2 and self.rank in active:
            return {}  # nobody waits for it
        behind = min((post.step, post.place) for post in active.values())
        last = {rank: post for rank, post in active.items() if (post.step, post.place) == behind}
        if any(post.idle + self._ages[rank] <= self.timeout for rank, post in last.items()):
            return {}
        silent = {rank: post for rank, post in last.items() if self._unheard(rank)}
        return {
            rank: self._told(rank, "is not heard of any more" if rank in silent else "is stuck")
            for rank in silent or last
        }

    def _unheard(self, rank: int) -> bool:
        return self._ages[rank] > _UNHEARD_TICKS * self._poll

    def _told(self, rank: int, how: str) -> str:
        post = self._posts.get(rank)
        if post is None:
            return f"process {rank} of {self.count} {how}, while setting up"
        mark = f"step {post.step}, {post.phase}, {post.idle + self._ages[rank]:.0f} s ago"
        return f"process {rank} of {self.count} ({post.who}) {how}; its last mark: {mark}"

    def _end(self, stuck: dict[int, str]) -> None:
        heard = [rank for rank in self._posts if not self._unheard(rank)]
        waiting = [rank for rank in heard if rank not in stuck] or heard or [self.rank]
        lines = []
        if self.rank in stuck or self.rank == min(waiting) or 0 in stuck:
            lines = [*stuck.values()]
            if len(stuck) == self.count:
                lines.append("all of them wait at the same place, for each other or for the network")
            lines.append(
                f"engine.timeout is {self.timeout:g} s. Every process ends; the checkpoints are intact: go on with --resume"
            )
        if self.rank in stuck:
            frame = sys._current_frames().get(self._main)
            where = "".join(traceback.format_stack(frame)) if frame is not None else ""
            lines.append(f"process {self.rank} stands here:\n{where.rstrip()}")
        elif lines:
            step, _, phase = self._mark
            lines.append(f"process {self.rank} waits for it: step {step}, {phase}")
        if lines:
            sys.stderr.write("".join(f"latentthought: {line}\n" for line in lines))
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        # who is stuck stays a little: its end would tear the others from their collectives before they have spoken
        time.sleep(self._poll * (_LAST_TICKS if self.rank in stuck else 1))
        os._exit(1)  # the main thread is in C, and hears of nothing else


@contextmanager
def watching(timeout: float) -> Iterator[Callable[[LatentThoughtTrainer], None]]:
    """Gives what begins to watch over the processes of a trainer, for as long as the block lasts; nothing for one process.

    All processes have to begin.
    """
    with ExitStack() as stack:

        def begin(trainer: LatentThoughtTrainer) -> None:
            rank, count = trainer.accelerator.process_index, trainer.accelerator.num_processes
            if count > 1:
                stack.enter_context(_watched(trainer, Watch(open_board(rank), rank, count, timeout)))

        yield begin


@contextmanager
def _watched(trainer: LatentThoughtTrainer, watch: Watch) -> Iterator[None]:
    trainer.watch = watch
    trainer.callback_handler.callbacks.insert(0, watch)  # before whatever hangs
    hooks = watch.listen(trainer.latent_model)
    watch.start()
    state = "failed"
    try:
        yield
        state = "done"
    finally:
        watch.stop(state)
        for hook in hooks:
            hook.remove()
