"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

# seconds between two updates of the bar, and between two plain lines
_BAR_EVERY = 0.2
_LINE_EVERY = 10.0


class Progress(Protocol):
    """Told about every step; decides itself what to show."""

    def start(self, done: int, total: int) -> None: ...
    def step(self, done: int, total: int, stage: str) -> None: ...
    def metrics(self, row: Mapping[str, Any]) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Silent:
    """Shows nothing."""

    def start(self, done: int, total: int) -> None: ...
    def step(self, done: int, total: int, stage: str) -> None: ...
    def metrics(self, row: Mapping[str, Any]) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Lines:
    """A line every few seconds and at every change of stage, for logs."""

    def __init__(self) -> None:
        self._begun, self._first, self._last = time.monotonic(), 0, 0.0
        self._done = self._total = 0
        self._stage = ""

    def start(self, done: int, total: int) -> None:
        self._begun, self._first = time.monotonic(), done
        self._done, self._total = done, total

    def step(self, done: int, total: int, stage: str) -> None:
        self._done, self._total = done, total

    def metrics(self, row: Mapping[str, Any]) -> None:
        now = time.monotonic()
        stage = str(row.get("stage", ""))
        due = now - self._last >= _LINE_EVERY or stage != self._stage or self._done >= self._total
        if due:
            self._last, self._stage = now, stage
            self.say(f"step {self._done}/{self._total}  {_describe(row)}  {self._left(now)}".rstrip())

    def say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def close(self) -> None: ...

    def _left(self, now: float) -> str:
        finished, passed = self._done - self._first, now - self._begun
        if finished <= 0 or passed < 0:
            return ""
        return f"{_clock((self._total - self._done) * passed / finished)} left"


class Bar:
    """A rich progress bar with stage, loss, accuracy and time left."""

    def __init__(self) -> None:
        from rich import progress

        self._bar = progress.Progress(
            progress.TextColumn("{task.fields[stage]}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[values]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            refresh_per_second=4,
        )
        self._task: Any = None
        self._last = 0.0

    def start(self, done: int, total: int) -> None:
        self._task = self._bar.add_task("train", total=total, completed=done, stage="", values="")
        self._bar.start()

    def step(self, done: int, total: int, stage: str) -> None:
        now = time.monotonic()
        if now - self._last >= _BAR_EVERY or done >= total:
            self._last = now
            self._bar.update(self._task, completed=done, total=total, stage=stage)

    def metrics(self, row: Mapping[str, Any]) -> None:
        self._bar.update(self._task, values=_describe(row, stage=False))

    def say(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        self._bar.stop()


def make_progress() -> Progress:
    """A bar when standard output is a terminal, lines otherwise."""
    from rich.console import Console

    return Bar() if Console().is_terminal else Lines()


def _describe(row: Mapping[str, Any], stage: bool = True) -> str:
    parts = [f"stage {row['stage']}"] if stage and "stage" in row else []
    parts += [
        f"{name} {row[key]:.{digits}f}" for key, name, digits in _SHOWN if isinstance(row.get(key), float)
    ]
    return "  ".join(parts)


_SHOWN = (
    ("loss", "loss", 4),
    ("train_row_accuracy", "rows right", 3),
    ("train_accuracy", "answers right", 3),
    ("mix_ratio", "mix", 2),
    ("validation_accuracy", "validation", 3),
)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
