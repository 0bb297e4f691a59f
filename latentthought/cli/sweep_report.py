"""What `sweep` says: a line for every point that has come to its end, the tables anew after each, and the figure in the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.errors import LatentThoughtError, MissingExtraError, Preempted

if TYPE_CHECKING:
    from latentthought.sweeping.grid import Choice
    from latentthought.sweeping.plan import Sweep
    from latentthought.sweeping.running import Record, Work


class SweepReport:
    """What a sweep says while it runs, and in the end. command: the command line that goes on with it."""

    def __init__(
        self,
        sweep: Sweep,
        baseline: Mapping[str, Choice],
        output: Path,
        works: Sequence[Work],
        command: str,
    ) -> None:
        from latentthought.cli.console import console

        self._sweep, self._baseline, self._output, self._works = sweep, baseline, output, works
        self._console = console()
        self._status: Any = None
        self.command = command

    @contextmanager
    def status(self) -> Iterator[None]:
        """A line that lives while points are running, on a terminal."""
        lives = self._console.is_terminal
        with self._console.status("starting") if lives else nullcontext() as self._status:
            yield
        self._status = None

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def waiting(self) -> None:
        """Called now and then while points are running."""
        if self._status is not None:
            self._status.update(self.counted())

    def counted(self) -> str:
        """How many points are in which state."""
        states = ["done" if work.finished else work.read().state for work in self._works if work.log.exists()]
        words = [f"{states.count(s)} {s}" for s in ("running", "failed", "stopped") if s in states]
        return ", ".join([f"{states.count('done')} of {len(self._works)} points done", *words])

    def finished(self, work: Work, record: Record) -> None:
        """A point has come to its end: a line about it, and the tables anew."""
        from latentthought.sweeping.results import gather

        seconds = record.training_seconds + record.evaluation_seconds
        text = f"{work.name}: {record.state}"
        if record.state == "failed":
            text += f": {record.error} ({work.log})"
        elif record.state == "done":
            found = next(one for one in gather(self._sweep, self._works) if one.point.name == work.name)
            text += f" in {seconds:,.0f} s"
            for (task, control), results in found.results.items():
                named = task if control == "none" else f"{task} {control}"
                text += f"  {named} {100 * results.accuracy.value:.1f} %"
        self.say(text)
        self.write()

    def write(self) -> list[Path]:
        """The tables as far as they go."""
        from latentthought.sweeping.results import gather, lines_of
        from latentthought.sweeping.table import write_tables

        found = gather(self._sweep, self._works)
        lines = lines_of(self._sweep, found, self._baseline)
        return write_tables(self._sweep, lines, found, self._output, self.command)

    def close(self) -> int:
        """Figure, tables, and how it ended: 0, or what the points that are not done make of it."""
        from latentthought.sweeping.results import gather, lines_of, state_of
        from latentthought.sweeping.table import remarks_of, render, write_figure

        found = gather(self._sweep, self._works)
        lines = lines_of(self._sweep, found, self._baseline)
        self._console.print(render(self._sweep, lines, self._console.width))
        for remark in remarks_of(self._sweep, lines, found):
            self.say(remark)
        try:
            figures = write_figure(self._sweep, lines, self._output)
        except MissingExtraError as error:
            self.say(f"no figure: {error}; then the same command with --resume draws it")
            figures = []
        for path in [*self.write(), *figures]:
            print(path)
        states = [state_of(one) for one in found]
        if failed := states.count("failed"):
            raise LatentThoughtError(
                f"{failed} of {len(states)} points failed; what they said is in {self._output / 'points'}/NAME.log; "
                f"to try them again: {self.command}"
            )
        if states.count("done") < len(states):
            raise Preempted(
                f"{states.count('done')} of {len(states)} points are done; go on with: {self.command}"
            )
        return 0
