"""The verdicts asked for last, by pair and policy, in bounded memory.

Reinforcement learning and voting ask for the same few answers again and again; the ones that take long are asked for as often
as the others. Long texts are kept as hashes of 128 bits, long answers not at all: 65,536 entries are some tens of megabytes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from hashlib import blake2b

from latentthought.grading.verdict import Verdict

LONGEST_TEXT = 200  # characters that are kept as they are
LONGEST_ANSWER = 1000


class VerdictCache:
    """Least recently used verdicts are forgotten first; safe in threads. `size` 0 remembers nothing."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._verdicts: OrderedDict[tuple, Verdict] = OrderedDict()
        self.renew_lock()

    def renew_lock(self) -> None:
        """After a fork, when a thread that is not here may have held it."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._verdicts)

    def get(self, key: tuple) -> Verdict | None:
        """The verdict of an equal key, or None."""
        with self._lock:
            verdict = self._verdicts.get(key)
            if verdict is not None:
                self._verdicts.move_to_end(key)
            return verdict

    def put(self, key: tuple, verdict: Verdict) -> None:
        """Remember a verdict, unless its answer is long."""
        if len(verdict.extraction.answer or "") > LONGEST_ANSWER:
            return
        with self._lock:
            self._verdicts[key] = verdict
            while len(self._verdicts) > self.size:
                self._verdicts.popitem(last=False)


def short(text: str) -> str | bytes:
    """What stands for a text in a key: the text, or its hash where it is long."""
    if len(text) <= LONGEST_TEXT:
        return text
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
