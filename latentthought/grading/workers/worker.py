"""The child of a `GradingPool`: reads pairs as JSON lines from standard input, answers each with one line on standard output.

Started as `python -m latentthought.grading.workers.worker`, so that nothing of the parent's program (a notebook, a script
without a guard, a program read from standard input) is imported or run again. It lives in a session of its own, ends when its
input ends, limits its own memory before it reads anything, and is killed by the kernel (SIGALRM, not a Python handler) shortly
after the deadline of a pair, so that it does not outlive a parent that was itself killed in the middle of one.

Whatever else prints goes nowhere: the channel is a private copy of standard output, which is then pointed at the null device.
Rejected: multiprocessing (spawn imports the main module, fork copies locks that other threads hold), and pickles on the wire.

Lines in: a greeting `{"path", "memory_mb", "patience"}`; then `["load", engine]`, `["compare", answer, gold]` or
`["grade", prediction, gold, policy, thought_ends]`. Lines out: `{"ready": true}` or `{"failed": message}` for greeting and
load, otherwise `[status, reason, answer, rule]`. All of it is ASCII, so lone surrogates and line separators survive.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, BinaryIO

from latentthought.errors import MissingExtraError
from latentthought.grading.grader import judge
from latentthought.grading.policy import GradePolicy
from latentthought.grading.verdict import UNGRADABLE
from latentthought.grading.workers import mathverify
from latentthought.grading.workers.process import OUT_OF_MEMORY


def main() -> int:
    """Serve until standard input ends; returns the exit code."""
    requests, replies = _channel()
    greeting = json.loads(requests.readline() or b"null")
    if greeting is None:
        return 0
    # the parent may find its packages in folders that a fresh Python does not know; its own come first, as they did there
    sys.path += [folder for folder in greeting["path"] if folder not in sys.path]
    _limit_memory(greeting["memory_mb"])
    _signals()
    _send(replies, {"ready": True})
    for line in requests:
        request = json.loads(line)
        try:
            if request[0] == "load":
                answer: Any = _load()
            else:
                signal.setitimer(signal.ITIMER_REAL, greeting["patience"])
                answer = _verdict(request)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception as error:  # a fault of a grader costs one verdict, not the worker
            answer = [UNGRADABLE, f"the grader failed: {type(error).__name__}", None, "none"]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        _send(replies, answer)
    return 0


def _verdict(request: Sequence[Any]) -> list[str | None]:
    if request[0] == "compare":
        status, reason = mathverify.compare(request[1], request[2])
        return [status, reason, None, "none"]
    _, prediction, gold, policy, thought_ends = request
    verdict = judge(prediction, gold, _policy(policy), tuple(thought_ends), mathverify.compare)
    return [verdict.status, verdict.reason, verdict.extraction.answer, verdict.extraction.rule]


def _load() -> dict[str, Any]:
    try:
        mathverify.load()
    except MissingExtraError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        return {"failed": str(error)}
    return {"ready": True}


@lru_cache(maxsize=64)
def _policy(text: str) -> GradePolicy:
    return GradePolicy.parse(json.loads(text))


def _channel() -> tuple[BinaryIO, BinaryIO]:
    """Private copies of the two pipes; afterwards nobody else can read requests or write between replies."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)
    os.close(nothing)
    return requests, replies


def _signals() -> None:
    """Ready to work: start-up messages have been seen, an alarm ends the process, whatever the parent had blocked."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 2)
    os.close(nothing)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _limit_memory(megabytes: int) -> None:
    """Bound the address space, and write no core files. Systems that refuse (macOS) go without the bound."""
    import resource

    size, (_, ceiling) = megabytes << 20, resource.getrlimit(resource.RLIMIT_AS)
    if ceiling != resource.RLIM_INFINITY:
        size = min(size, ceiling)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (size, ceiling))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ValueError, OSError):
        return


def _send(replies: BinaryIO, answer: Any) -> None:
    # the line break before the first reply ends whatever was printed while Python started
    start = b"\n" if answer == {"ready": True} else b""
    replies.write(start + json.dumps(answer).encode("ascii") + b"\n")
    replies.flush()


if __name__ == "__main__":
    try:
        status = main()
    except (BrokenPipeError, KeyboardInterrupt):  # the parent is gone
        status = 0
    except MemoryError:  # while reading a request
        status = OUT_OF_MEMORY
    os._exit(
        status
    )  # no finalisers: nothing here is worth the time, and a half-imported library may hang in them
