"""Named parts of a step, for whoever listens: `with span("prefix"): ...`.

Whoever wants to know where time goes listens for as long as a block lasts; without a listener a part costs the look-up of one
variable, well under a microsecond beside passes of milliseconds. The listener is a context variable: it ends with its block,
whatever ends that, and threads (the autograd engine's, a data loader's) do not have it. Parts may lie in each other; what that
means is the listener's to say. What a backward pass recomputes is inside no part: parts are opened around a pass, and what is
checkpointed is its inside.
Rejected: hooks on modules (a pass is no module, and all passes run the same ones) and a listener handed down as an argument
(through every signature, for a tool that is mostly off).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol


class Listener(Protocol):
    """Is told of every part as it begins and as it ends."""

    def enter(self, part: str) -> None: ...

    def leave(self, part: str) -> None: ...


_LISTENER: ContextVar[Listener | None] = ContextVar("listener of spans", default=None)
_NOBODY = nullcontext()


def span(part: str) -> AbstractContextManager[None]:
    """What runs in this block is `part` of a step."""
    listener = _LISTENER.get()
    return _NOBODY if listener is None else _told(listener, part)


@contextmanager
def _told(listener: Listener, part: str) -> Iterator[None]:
    listener.enter(part)
    try:
        yield
    finally:
        listener.leave(part)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Parts that begin in this block are told to `listener`."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)
