"""The pool: same verdicts as `grade`, a deadline that holds, one verdict lost per dead worker."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from latentthought.errors import ConfigError, LatentThoughtError, MissingExtraError
from latentthought.grading import GradePolicy, grade
from latentthought.grading.workers import mathverify
from latentthought.grading.workers.pool import GradingPool, default_pool
from latentthought.grading.workers.process import WorkerStartError

PAIRS = [
    ("The answer is 5.", "5"),
    (r"so \boxed{\frac{1}{2}}", "0.5"),
    ("6", "5"),
    ("", "5"),
    ("no idea", "5"),
    ("5", ""),
    ("lone \ud800 surrogate", "lone \ud800 surrogate"),
    ("NUL \x00, line \u2028 and\r\n\x1e separators", "1"),
    ("答案是 7", "7"),
]
HANG_GUARD = 60  # seconds; nothing here takes more than a few, unless it hangs


@pytest.fixture
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=2, deadline=1.0) as made:
        yield made


def stop(pool: GradingPool, worker: int = -1) -> int:
    """Make a worker hang, as one would that computes forever; the process id."""
    pid = pool._idle[worker].process.pid
    os.kill(pid, signal.SIGSTOP)
    return pid


def gone(pid: int, within: float = HANG_GUARD) -> bool:
    """Whether the process ends, and is reaped, in time."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            state, parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:2]
        except FileNotFoundError:
            return True
        if state == "Z" and int(parent) != os.getpid():  # another's to reap
            return True
        time.sleep(0.02)
    return False


def children() -> set[int]:
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def test_same_verdicts_as_grade(pool: GradingPool) -> None:
    judged = pool.grade_many(PAIRS)
    for (prediction, gold), verdict in zip(PAIRS, judged, strict=True):
        expected = grade(prediction, gold)
        assert verdict == expected
        assert verdict.extraction == expected.extraction
    assert [pool.grade(*pair) for pair in PAIRS] == judged


def test_order_policies_and_thought_ends(pool: GradingPool) -> None:
    numbers = [(str(i), str(i - i % 2)) for i in range(300)]
    assert [verdict.correct for verdict in pool.grade_many(numbers)] == [i % 2 == 0 for i in range(300)]
    policies = [GradePolicy(percent="sign"), GradePolicy(percent="value"), GradePolicy(strict=True)]
    rows = [("50%", "50", policy) for policy in policies]
    assert [v.status for v in pool.grade_many(rows)] == ["correct", "wrong", "ungradable"]
    assert pool.grade_many([("5", "5"), ("5", "5", policies[2])], GradePolicy())[1].status == "ungradable"
    assert pool.grade("4 <end> 5", "5", thought_ends=("<end>",)).correct
    assert pool.grade_many([]) == []


def test_a_pair_that_hangs_costs_one_verdict(pool: GradingPool) -> None:
    pool.grade_many([("1", "1"), ("2", "2")])
    pid = stop(pool, 0)
    begun = time.monotonic()
    judged = pool.grade_many([(str(i), str(i)) for i in range(40)])
    taken = time.monotonic() - begun
    lost = [verdict for verdict in judged if not verdict.correct]
    assert [(verdict.status, verdict.reason) for verdict in lost] == [("ungradable", "no verdict within 1 s")]
    assert 1.0 <= taken < HANG_GUARD
    assert gone(pid)
    assert pool.grade("9", "9").correct


def test_the_deadline_is_kept_while_others_wait() -> None:
    with GradingPool(workers=1, deadline=1.5) as pool:
        assert pool.grade("1", "1").correct
        stop(pool)
        with ThreadPoolExecutor(7) as threads:
            hanging = threads.submit(timed, pool, "2", "2")
            time.sleep(0.1)
            others = [threads.submit(timed, pool, str(i), str(i)) for i in range(3, 9)]
            seconds, verdict = hanging.result()
            assert verdict.status == "ungradable"
            assert 1.5 <= seconds < HANG_GUARD
            assert all(other.result()[1].correct for other in others)
        assert pool._count == 1  # the extra workers have gone home


def timed(pool: GradingPool, prediction: str, gold: str):
    begun = time.monotonic()
    verdict = pool.grade(prediction, gold)
    return time.monotonic() - begun, verdict


def test_an_idle_worker_that_is_killed_costs_nothing(pool: GradingPool) -> None:
    assert pool.grade("1", "1").correct
    pid = pool._idle[-1].process.pid
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.01)
    assert pool.grade("2", "2").correct
    assert gone(pid)


def test_a_busy_worker_that_is_killed_costs_one_verdict() -> None:
    with GradingPool(workers=1, deadline=30) as pool:
        assert pool.grade("0", "0").correct
        pid = stop(pool)
        threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
        judged = pool.grade_many([(str(i), str(i)) for i in range(1, 20)])
        assert [verdict.status for verdict in judged] == ["ungradable", *["correct"] * 18]
        assert judged[0].reason == "no verdict: the grading process ended (SIGKILL)"
        assert pool.grade("1", "1").correct  # a death is not remembered


def test_memory_is_bounded() -> None:
    with GradingPool(workers=1, deadline=120, memory_mb=256) as pool:
        judged = pool.grade_many([("1", "1"), ("9" * 70_000_000, "5"), ("2", "2")])
    assert [verdict.status for verdict in judged] == ["correct", "ungradable", "correct"]
    assert judged[1].reason == "no verdict: more memory than 256 MB"


def test_many_threads(pool: GradingPool) -> None:
    rows = [[(str(i * k), str(i)) for i in range(100)] for k in range(8)]
    with ThreadPoolExecutor(8) as threads:
        judged = list(threads.map(pool.grade_many, rows))
    for k, verdicts in enumerate(judged):
        assert [verdict.correct for verdict in verdicts] == [i * k == i for i in range(100)]


def test_asyncio(pool: GradingPool) -> None:
    async def main() -> list[bool]:
        tasks = [asyncio.to_thread(pool.grade, str(i), "3") for i in range(8)]
        return [verdict.correct for verdict in await asyncio.gather(*tasks)]

    assert asyncio.run(main()) == [i == 3 for i in range(8)]


def test_after_a_fork(pool: GradingPool) -> None:
    assert pool.grade("1", "1").correct
    theirs = pool._idle[-1].process.pid
    child = os.fork()
    if child == 0:  # no assertion may escape into a second pytest
        try:
            fine = pool.grade("2", "2").correct and theirs not in {
                worker.process.pid for worker in pool._idle
            }
            pool.close()
        finally:
            os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert pool.grade("3", "3").correct
    assert pool._idle[-1].process.pid == theirs


def test_an_interrupted_call_leaves_no_answer_behind() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with GradingPool(workers=1, deadline=30) as pool:
        assert pool.grade("0", "0").correct
        pid = stop(pool)
        before = signal.signal(signal.SIGUSR1, interrupt)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        try:
            with pytest.raises(KeyboardInterrupt):
                pool.grade_many([("1", "1"), ("2", "3")])
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert gone(pid)
        assert [v.correct for v in pool.grade_many([("4", "5"), ("6", "6")])] == [False, True]


def test_neither_process_nor_pipe_is_left() -> None:
    default_pool().grade("1", "1")  # of other tests, perhaps
    gc.collect()
    processes, descriptors = children(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        pool = GradingPool(workers=2, deadline=0.2)
        pool.grade_many([("1", "1"), ("2", "2")])
        stop(pool)
        pool.grade_many([(str(i), str(i)) for i in range(9)])
        pool.close()
        pool.close()
    dropped = GradingPool(workers=1)
    dropped.grade("1", "1")
    del dropped
    gc.collect()
    assert children() == processes
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_cache() -> None:
    with GradingPool(workers=1, deadline=0.5, cache=3) as pool:
        assert pool.grade("1", "1").correct
        stop(pool)
        assert pool.grade("1", "1").correct  # remembered
        assert pool.grade("2", "2").status == "ungradable"
        assert pool.grade("2", "2").reason == "no verdict within 0.5 s"  # so is a pair that ran out of time
        for i in range(3, 9):
            assert pool.grade(str(i), str(i)).correct
        assert len(pool._cache) == 3
        assert pool.grade("2", "2").correct  # forgotten
        assert pool.grade("50%", "50").correct
        assert not pool.grade("50%", "50", GradePolicy(percent="value")).correct
        long = "1 " * 5000
        assert pool.grade(long + "7", "7").correct
        assert not pool.grade(long + "8", "7").correct
        pool.grade("x" * 1500, "7")
        assert ("x" * 1500) not in str(pool._cache._verdicts)
    with GradingPool(workers=1, cache=0) as pool:
        assert pool.grade("1", "1").correct
        assert len(pool._cache) == 0


def test_equal_pairs_are_judged_once() -> None:
    with GradingPool(workers=1, deadline=0.5) as pool:
        assert pool.grade("1", "1").correct
        stop(pool)
        begun = time.monotonic()
        judged = pool.grade_many([("2", "2")] * 200)
        assert {verdict.status for verdict in judged} == {"ungradable"}
        assert time.monotonic() - begun < HANG_GUARD


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers: a whole number of at least 1"),
        ({"workers": 1.5}, "workers"),
        ({"deadline": 0}, "deadline: a positive number of seconds"),
        ({"deadline": float("inf")}, "deadline"),
        ({"memory_mb": 16}, "memory_mb: a whole number of at least 128"),
        ({"cache": -1}, "cache"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GradingPool(**options)


def test_a_closed_pool_says_so(pool: GradingPool) -> None:
    pool.close()
    with pytest.raises(LatentThoughtError, match="the grading pool is closed"):
        pool.grade("1", "1")


def test_a_worker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such library' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with (
        GradingPool() as pool,
        pytest.raises(WorkerStartError, match=r"does not start .*exit code 3: no such library"),
    ):
        pool.grade("1", "1")
    monkeypatch.setattr(sys, "executable", "")
    with GradingPool() as pool, pytest.raises(LatentThoughtError, match=r"sys\.executable"):
        pool.grade("1", "1")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, pool: GradingPool) -> None:
    monkeypatch.setattr(mathverify, "_installed", lambda: False)
    policy = GradePolicy(symbolic="math-verify")
    for ask in (grade, pool.grade):
        with pytest.raises(MissingExtraError, match=r"latentthought\[eval\]"):
            ask("1", "2", policy)


def test_grade_and_compare_have_no_caller_of_their_own_signals(pool: GradingPool) -> None:
    """The caller's alarm is left alone: graders that use signals cancel it."""
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        pool.grade("1", "1")
        end = time.monotonic() + HANG_GUARD
        while not rang and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rang
