"""Verdicts with a deadline that holds: `grade` in child processes that can be killed, from any thread, program or notebook.

    with GradingPool() as pool:
        verdicts = pool.grade_many(zip(completions, golds))

A pair that takes longer than the deadline costs its worker, is `ungradable`, and nothing else: the pairs behind it go to
another worker, and so it is with a pair whose worker dies (out of memory, a crash, a kill from outside). The time of a pair
is counted by the parent, from when a running worker turns to it, so the verdict is there within the deadline and the moment
that a kill takes. Start-up, imports and waiting for a worker do not count, or one hanging answer would take the verdicts of
its neighbours; instead, callers who wait for a quarter of a second get extra workers, up to four times the usual number.

No helper threads: a caller runs its own workers with `poll`, which is what makes it safe in threads (and so in asyncio, by
`await asyncio.to_thread(pool.grade, ...)`), before and after a fork, and at the end of the interpreter. Verdicts are cached.
A pair that ran out of time is remembered as well, for it would again; a death is not: it may have been another's doing.

Cost: some 100 us a pair beside `grade` itself, 0.2 s to start a worker (1 s with math-verify), and its memory (20 MB; 65 MB).
Rejected: signals (main thread only, and they take the caller's alarm), threads (nothing ends them), concurrent.futures (one
dead process breaks all of it).
"""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any

from latentthought.errors import ConfigError, LatentThoughtError
from latentthought.grading.arguments import check_types
from latentthought.grading.extraction.rules import NO_ANSWER, THOUGHT_ENDS, Extraction
from latentthought.grading.policy import GradePolicy
from latentthought.grading.verdict import UNGRADABLE, Verdict
from latentthought.grading.workers import mathverify
from latentthought.grading.workers.cache import VerdictCache, short
from latentthought.grading.workers.process import IDLE, OUT_OF_MEMORY, Request, Worker, WorkerStartError, wait

PATIENCE = 0.25  # seconds that a caller waits for a worker before there are more of them
EXTRA = 4  # times the usual number of workers, at most
WINDOW = 4  # requests on their way to one worker: hides the round trip, and a kill repeats few
STARTS = 3  # in a row that may fail
Pair = tuple[str, str] | tuple[str, str, GradePolicy]


class GradingPool:
    """Killable graders. Safe to share between threads; workers start when they are first needed.

    workers: how many, by default one for each usable core, 4 at most. deadline: seconds for one pair. memory_mb: address
    space of a worker. cache: verdicts remembered (0: none).
    """

    def __init__(
        self, workers: int | None = None, deadline: float = 5.0, memory_mb: int = 1024, cache: int = 65536
    ) -> None:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = min(4, usable) if workers is None else workers
        self.deadline, self.memory_mb = deadline, memory_mb
        numbers = {"workers": (self.workers, 1), "memory_mb": (memory_mb, 128), "cache": (cache, 0)}
        for name, (value, least) in numbers.items():
            if type(value) is not int or value < least:
                raise ConfigError(f"grading pool: {name}: a whole number of at least {least} (got {value!r})")
        if not (isinstance(deadline, (int, float)) and 0 < deadline < float("inf")):
            raise ConfigError(f"grading pool: deadline: a positive number of seconds (got {deadline!r})")
        self._cache = VerdictCache(cache)
        self._all: set[Worker] = set()  # idle, and in the hands of a caller
        self._reset()
        weakref.finalize(self, _end, self._all)
        _pools.add(self)

    def _reset(self) -> None:
        self._idle: list[Worker] = []
        self._count = 0
        self._closed = threading.Event()
        self._free = threading.Condition()
        self._cache.renew_lock()
        self._all.clear()

    def grade(
        self,
        prediction: str,
        gold: str,
        policy: GradePolicy = GradePolicy(),
        *,
        thought_ends: tuple[str, ...] = THOUGHT_ENDS,
    ) -> Verdict:
        """What `latentthought.grade` says, or `ungradable` when it says nothing within the deadline."""
        return self.grade_many([(prediction, gold)], policy, thought_ends=thought_ends)[0]

    def grade_many(
        self,
        pairs: Iterable[Pair],
        policy: GradePolicy = GradePolicy(),
        *,
        thought_ends: tuple[str, ...] = THOUGHT_ENDS,
    ) -> list[Verdict]:
        """Verdicts of (prediction, gold) pairs, in order, by all workers at once; a third element is a policy of the pair's own.

        Equal pairs are judged once.
        """
        rows, thought_ends = list(pairs), tuple(thought_ends)
        for number, pair in enumerate(rows, 1):
            if isinstance(pair, str) or len(pair) not in (2, 3):
                raise TypeError(
                    f"pair {number}: expected (prediction, gold) or (prediction, gold, policy), got {pair!r:.60}"
                )
            check_types(pair[0], pair[1], pair[2] if len(pair) == 3 else policy)
        keys = [
            ("grade", short(prediction), short(gold), own[0] if own else policy, thought_ends)
            for prediction, gold, *own in rows
        ]
        found = self._answers(keys, lambda i: ["grade", *rows[i][:2], _plain(keys[i][3]), thought_ends])
        return [found[key] for key in keys]

    def compare(self, answer: str, gold: str) -> tuple[str, str]:
        """(status, reason) by math-verify alone, for two strings of `mathverify.readable`."""
        key = ("compare", answer, gold)
        verdict = self._answers([key], lambda _: list(key))[key]
        return verdict.status, verdict.reason

    def _answers(self, keys: list[tuple], message: Callable[[int], list]) -> dict[tuple, Verdict]:
        """Verdicts by key; `message(i)` is what to send for the i-th."""
        found: dict[tuple, Verdict] = {}
        requests: deque[Request] = deque()
        for position, key in enumerate(keys):
            if key in found:
                continue
            known = self._cache.get(key)
            found[key] = known or _PENDING
            if known is None:
                engine = key[0] == "compare" or key[3].symbolic == mathverify.NAME
                if engine:
                    mathverify.require()
                line = json.dumps(message(position)).encode("ascii") + b"\n"
                requests.append(Request(line, self.deadline, engine, key))
        if requests:
            with closing(self._run(requests)) as judged:
                for request, verdict, lasting in judged:
                    found[request.key] = verdict
                    if lasting:
                        self._cache.put(request.key, verdict)
        return found

    # ---------------------------------------------------------------------------------------------------------- work
    def _run(self, requests: deque[Request]) -> Generator[tuple[Request, Verdict, bool], None, None]:
        """(request, verdict, whether to remember it) until none is left; in no particular order."""
        crew = self._take(len(requests))
        failures = 0
        try:
            while requests or any(worker.pending for worker in crew):
                for _ in range(WINDOW):
                    for worker in crew:
                        if requests and worker.pending < WINDOW:
                            worker.ask(requests.popleft())
                for position, events in enumerate(wait(crew)):
                    worker, reason, lasting = crew[position], "", False
                    try:
                        if events:
                            worker.write()
                            for request, reply in worker.read():
                                failures = 0
                                yield request, _verdict(reply), True
                        if time.monotonic() < worker.due:
                            continue
                        reason, lasting = f"no verdict within {worker.unanswered[0].limit:g} s", True
                    except EOFError:
                        reason = self._death(worker)
                    lost, *others = worker.unanswered or [IDLE]
                    requests.extendleft(request for request in reversed(others) if request.key is not None)
                    crew[position] = self._replaced(worker)
                    if lost.key is not None:
                        yield lost, Verdict(UNGRADABLE, reason), lasting
                    elif lost is not IDLE and (failures := failures + 1) >= STARTS:
                        raise WorkerStartError(f"the grading process does not start ({reason})")
        finally:
            self._give_back(crew)

    def _death(self, worker: Worker) -> str:
        words = worker.last_words()
        if worker.process.returncode == OUT_OF_MEMORY:
            return f"no verdict: more memory than {self.memory_mb} MB"
        return f"no verdict: the grading process ended ({words})"

    def _take(self, wanted: int) -> list[Worker]:
        """One worker at least, for the caller alone; up to `wanted` where they are free."""
        begun = time.monotonic()
        with self._free:
            while True:
                if self._closed.is_set():
                    raise LatentThoughtError("the grading pool is closed")
                crew: list[Worker] = []
                while self._idle and len(crew) < min(wanted, self.workers):
                    worker = self._idle.pop()
                    if worker.alive:
                        crew.append(worker)
                    else:  # killed from outside while it had nothing to do
                        self._drop(worker)
                limit = self.workers * (EXTRA if time.monotonic() - begun >= PATIENCE else 1)
                if crew or self._count < limit:
                    break
                self._free.wait(PATIENCE)
            room = max(self.workers - self._count, 0 if crew else 1)
            new = min(min(wanted, self.workers) - len(crew), room)
            self._count += new
            try:
                crew += [self._started() for _ in range(new)]
            except BaseException:
                self._count -= new
                self._idle += crew
                raise
        return crew

    def _started(self) -> Worker:
        worker = Worker(self.deadline, self.memory_mb)
        self._all.add(worker)
        return worker

    def _replaced(self, worker: Worker) -> Worker:
        """Another worker, already starting, in the place of one that is dead."""
        worker.close()
        self._all.discard(worker)
        return self._started()

    def _drop(self, worker: Worker) -> None:
        worker.close()
        self._all.discard(worker)
        self._count -= 1

    def _give_back(self, crew: list[Worker]) -> None:
        with self._free:
            for worker in crew:
                # pairs are left when the caller was interrupted; extra workers go when their work is done
                if worker.pending or self._count > self.workers or self._closed.is_set() or not worker.alive:
                    self._drop(worker)
                else:
                    self._idle.append(worker)
            self._free.notify_all()

    def close(self) -> None:
        """End the workers; calls of other threads that are under way finish first."""
        self._closed.set()
        with self._free:
            for worker in self._idle:
                self._drop(worker)
            self._idle.clear()
            self._free.notify_all()

    def __enter__(self) -> GradingPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_PENDING = Verdict(UNGRADABLE, "not judged yet")
_pools: weakref.WeakSet[GradingPool] = weakref.WeakSet()
_default: GradingPool | None = None
_default_lock = threading.Lock()


def default_pool() -> GradingPool:
    """The pool that `grade` asks when its policy wants math-verify; made on first use, ended with the interpreter."""
    global _default
    with _default_lock:
        if _default is None:
            _default = GradingPool()
        return _default


def _verdict(reply: Sequence[Any]) -> Verdict:
    status, reason, answer, rule = reply
    return Verdict(status, reason, NO_ANSWER if rule == "none" else Extraction(answer, rule))


@lru_cache(maxsize=256)
def _plain(policy: GradePolicy) -> str:
    return json.dumps(policy.dump())


def _end(workers: set[Worker]) -> None:
    """At the end of the pool, or of the interpreter."""
    for worker in list(workers):
        worker.kill()
        worker.close()
    workers.clear()


def _forget() -> None:
    """In a fork: the workers are the parent's, and locks may be held by threads that are not here."""
    global _default_lock
    _default_lock = threading.Lock()
    for pool in list(_pools):
        for worker in pool._all:
            worker.abandon()
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
