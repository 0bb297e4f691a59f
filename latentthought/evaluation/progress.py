"""The progress line of long work on rows: how far, how right so far, how long still."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class Progress:
    """A rich progress bar on standard error, with the running accuracy of what is judged; silent in a log file, and when not
    `shown`."""

    def __init__(self, label: str, total: int, shown: bool):
        self._bar: Any = None
        self._right = self._seen = 0
        if not shown:
            return
        from rich import progress
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[accuracy]}"),
                progress.TimeElapsedColumn(),
                progress.TimeRemainingColumn(),
            )
            self._bar = progress.Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task(label, total=total, accuracy="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, judged: int, right: int | None = None) -> None:
        """Count so many as done, and how many of them are correct (None: nothing is judged)."""
        self._seen += judged
        self._right += right or 0
        if self._bar is not None:
            accuracy = "" if right is None else f"{100 * self._right / self._seen:.1f} % right"
            self._bar.update(self._task, advance=judged, accuracy=accuracy)
