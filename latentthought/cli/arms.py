"""The arms of the quickstart: their recipes at one budget, and their training and scoring in processes of their own.

The thinking arm goes first. What it took, stage by stage, is the budget of all others: as many steps in all, and for the staged
ones (pause, removal) as many in each stage, so that an arm cannot lose by being stuck early. A process an arm, one thread
each: two small models side by side use two cores better than one model with two threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from latentthought.cli.outcome import SILENT, wrote_nothing
from latentthought.errors import LatentThoughtError
from latentthought.processes import child_environment

TASK = "hops"
MEANINGS = {
    "thoughts": "5 thoughts fed back as hidden states, then the answer",
    "no-thought": "question to answer, nothing between",
    "pause": "the same positions and curriculum, nothing fed back",
    "removal": "the same curriculum, nothing in place of the steps",
    "text": "every step written out, then the answer",
}
FIRST = "thoughts"
_SETTINGS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass
class Arm:
    """One arm: its folder, what its processes took, and what is to be said of it."""

    name: str
    folder: Path
    recipe: Path
    seconds: float = 0.0
    state: str = "waiting"
    remark: str = ""

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")


def recipe_of(name: str) -> str:
    """Name of the shipped recipe of an arm."""
    return "quickstart" if name == FIRST else f"quickstart-{name}"


def write_recipe(name: str, path: Path, seed: int | None, budget: dict[int, int] | None) -> None:
    """Write an arm's recipe, resolved. budget: steps by stage number that the thinking arm took; None leaves the recipe's own."""
    from latentthought.config import write_yaml
    from latentthought.recipe import load_recipe

    recipe = load_recipe(recipe_of(name))
    if seed is not None:
        recipe = recipe.replace(seed=seed)
    if budget is not None:
        stages = recipe.curriculum.expand()
        steps = (
            [budget.get(number, 1) for number in range(len(stages))]
            if len(stages) > 1
            else [sum(budget.values())]
        )
        fixed = [
            stage.replace(steps=count, epochs=None, advance_at=None).dump()
            for stage, count in zip(stages, steps, strict=True)
        ]
        curriculum = recipe.curriculum.replace(stages=fixed, each={}, first={}, last={}, on_collapse=None)
        recipe = recipe.replace(curriculum=curriculum.dump())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_yaml(path, {key: value for key, value in recipe.dump().items() if key != "extends"})


def steps_by_stage(run: Path) -> dict[int, int]:
    """Steps that a run spent in each stage, by stage number, from its metrics."""
    from latentthought.reporting.metrics import read_metrics

    taken: dict[int, int] = {}
    before = 0
    for row in read_metrics(run).rows:
        taken[row["stage_index"]] = taken.get(row["stage_index"], 0) + row["step"] - before
        before = row["step"]
    return taken


@dataclass
class Crew:
    """Runs arms in processes of one thread each, `jobs` at a time, and shows how far they are."""

    jobs: int
    smoke: bool
    rows: int
    arms: list[Arm] = field(default_factory=list)
    _children: set[subprocess.Popen] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _shown: float = 0.0
    _stopping: bool = False

    def run(self, tasks: Sequence[tuple[Any, ...]]) -> None:
        """Do all tasks, (method, arm) each; the first failure stops the others."""
        with ThreadPoolExecutor(self.jobs) as pool:
            pending: set[Future] = {pool.submit(*task) for task in tasks}
            try:
                while pending:
                    done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                    self._show()
            except BaseException:
                for future in pending:
                    future.cancel()
                self._stop()
                raise

    def train(self, arm: Arm) -> None:
        """Train an arm."""
        begun = time.perf_counter()
        arm.state = "training"
        self._call(arm, ["train", str(arm.recipe), "--output", str(arm.folder)])
        arm.seconds = time.perf_counter() - begun
        arm.state = "trained"

    def score(self, arm: Arm) -> None:
        """Score an arm; the thinking one under all controls. An arm that emits nothing has a score like any other."""
        arm.state = "scoring"
        control = "all" if arm.name == FIRST else "none"
        options = ["--task", TASK, "--control", control, "--limit", str(self.rows), "--batch-size", "250"]
        try:
            self._call(arm, ["evaluate", str(arm.folder), *options])
        except LatentThoughtError:
            if not _emits_nothing(arm.folder):
                raise
            arm.remark = f"{arm.name}: {SILENT}; its accuracy is that of no answer"
        arm.state = "done"

    def train_and_score(self, arm: Arm) -> None:
        self.train(arm)
        self.score(arm)

    def _call(self, arm: Arm, arguments: list[str]) -> None:
        arguments = [*arguments, *(["--smoke"] if self.smoke else [])]
        environment = {**child_environment(), **_SETTINGS}
        with arm.log.open("ab") as log:
            code = self._wait([sys.executable, "-m", "latentthought", *arguments], environment, log)
        if code:
            tail = "\n".join(arm.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise LatentThoughtError(
                f"arm {arm.name}: `latentthought {' '.join(arguments)}` ended with exit code {code}; {arm.log} ends:\n{tail}"
            )

    def _wait(self, command: list[str], environment: dict[str, str], log: IO[bytes]) -> int:
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        with self._lock:
            self._children.add(child)
            if self._stopping:  # another arm failed while this one was between its two processes
                child.terminate()
        try:
            return child.wait()
        finally:
            with self._lock:
                self._children.discard(child)

    def _stop(self) -> None:
        with self._lock:
            self._stopping = True
            children = list(self._children)
        for child in children:
            child.terminate()
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            if child.poll() is None:
                child.kill()

    def _show(self) -> None:
        terminal = sys.stdout.isatty()
        now = time.monotonic()
        if now - self._shown < (0.5 if terminal else 15.0):
            return
        self._shown = now
        text = "   ".join(
            f"{arm.name}: {self._progress(arm)}" for arm in self.arms if arm.state in ("training", "scoring")
        )
        if terminal:
            width = os.get_terminal_size().columns - 1
            print("\r\033[K" + text[:width], end="", flush=True)
        elif text:
            print(text, flush=True)

    def end_line(self) -> None:
        """Leave the progress line of a terminal."""
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)

    def _progress(self, arm: Arm) -> str:
        if arm.state != "training":
            return arm.state
        row = _last_row(arm.folder / "metrics.jsonl")
        if row is None:
            return "starting"
        accuracy = (
            f", {100 * row['train_accuracy']:.0f} % right"
            if isinstance(row.get("train_accuracy"), float)
            else ""
        )
        return f"stage {row.get('stage')}, step {row.get('step')}{accuracy}"


def _emits_nothing(run: Path) -> bool:
    """Whether a run was scored to the end, and has only empty completions."""
    from latentthought.evaluation import find_results

    if not (run / "results" / TASK / "report.md").is_file():  # which is written last
        return False
    plain = [results for results in find_results(run).values() if results.control == "none"]
    return all(wrote_nothing(results, run) for results in plain)


def _last_row(path: Path) -> dict[str, Any] | None:
    """The last whole line of a growing metrics file."""
    if not path.is_file():
        return None
    for line in reversed(path.read_bytes()[-4096:].split(b"\n")[:-1]):
        with contextlib.suppress(ValueError):
            return json.loads(line)
    return None
