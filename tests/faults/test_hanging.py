"""A process that hangs while the others wait is named, all end soon after the time-out, and the run goes on with --resume."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from latentthought.config import write_yaml
from latentthought.recipe import Recipe
from latentthought.training import watchdog
from latentthought.training.progress import Silent
from latentthought.training.run import train
from latentthought.training.watchdog import Post, Watch
from tests.training.test_strategies import assert_same_run
from tests.warm import Program, ranks

TIMEOUT = 8.0  # a busy machine may well stand still for a few seconds


class Pair:
    """Two processes that train together, of which the second one hangs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = ExitStack()

    def start(self, recipe: Recipe, output: Path, *hang: str) -> list[Program]:
        path = self.folder / "pair.yaml"
        write_yaml(path, recipe.dump())
        command = [str(path), str(output), *hang]
        return self.started.enter_context(ranks(2, "tests.faults.hanging", command, self.folder))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    with made.started:
        yield made


@pytest.fixture
def watched(make_recipe: Callable[..., Recipe]) -> Callable[[str], Recipe]:
    def made(strategy: str) -> Recipe:
        return make_recipe(
            model={"scratch": {"architecture": "llama", "layers": 2}},
            curriculum={"each": {"steps": 4}, "reset_optimizer": False},
            training={"log_every": 1, "save_every": 3},
            engine={"strategy": strategy, "micro_batch_size": 2, "timeout": TIMEOUT},
        )

    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "place"),
    [pytest.param("ddp", "beginning", marks=pytest.mark.full), ("zero3", "optimizer")],
)
def test_who_hangs_is_named_and_all_end(
    pair: Pair, watched: Callable[[str], Recipe], tmp_path: Path, strategy: str, place: str
) -> None:
    if strategy != "ddp":
        pytest.importorskip("deepspeed")
    recipe, output = watched(strategy), tmp_path / "run"
    first, second = pair.start(recipe, output, "5", place)
    said = [member.said(200) for member in (first, second)]
    assert (first.returncode, second.returncode) == (1, 1)
    phase = {"beginning": "before the first pass", "optimizer": "optimizer"}[place]
    for text in said:
        assert re.search(
            rf"process 1 of 2 \({socket.gethostname()}, pid {second.pid}\) is stuck; its last mark: step 5, {phase}, \d+ s ago",
            text,
        ), text
        assert "engine.timeout is 8 s. Every process ends" in text
        assert "Traceback (most recent call last)" not in text
    assert "process 1 stands here" in said[1] and "in never_comes_back" in said[1]
    assert "never_comes_back" not in said[0]
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-3"]

    train(recipe, output, resume=True, progress=Silent())
    train(recipe, tmp_path / "whole", progress=Silent())
    assert_same_run(output, tmp_path / "whole")


@pytest.mark.full
def test_who_is_suspended_is_named_by_the_others(
    pair: Pair, watched: Callable[[str], Recipe], tmp_path: Path
) -> None:
    """SIGSTOP: as a scheduler, or a machine without memory, does it."""
    recipe = watched("ddp").replace(curriculum={**watched("ddp").curriculum.dump(), "each": {"steps": 2000}})
    first, second = pair.start(recipe, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    until = time.monotonic() + 300
    while not metrics.exists() or metrics.read_text().count("\n") < 5:
        assert first.returncode is None and time.monotonic() < until
        time.sleep(0.02)
    second.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    said = first.said(100)
    assert TIMEOUT < time.monotonic() - begun < 4 * TIMEOUT
    assert first.returncode == 1
    assert f"pid {second.pid}) is not heard of any more; its last mark: step " in said, said
    assert "process 0 waits for it: step " in said


@pytest.mark.full
def test_who_does_not_let_go_of_the_interpreter_shows_where_it_stands(
    pair: Pair, watched: Callable[[str], Recipe], tmp_path: Path
) -> None:
    first, second = pair.start(watched("ddp"), tmp_path / "run", "5", "interpreter")
    said = first.said(300)
    assert first.returncode == 1
    assert f"pid {second.pid}) is not heard of any more; its last mark: step " in said
    assert "process 0 waits for it: step 5, " in said
    time.sleep(2.0)
    second.kill()
    assert re.search(r"Timeout \(0:00:08.*\n(.*\n)+.*hanging.py\", line \d+ in on_step_begin", second.said(1))


def watch_with(posts: list[Post], timeout: float = 10.0, rank: int = 0) -> Watch:
    watch = Watch(None, rank, len(posts), timeout)
    watch._read(posts)
    return watch


def post(step: int, place: int, idle: float, state: str = "at work") -> Post:
    return Post(1, step, place, "forward", idle, state, "host, pid 1")


@pytest.mark.parametrize(
    ("posts", "named"),
    [
        ([post(5, 2, 11.0), post(5, 1, 11.0)], {1}),
        ([post(5, 0, 11.0), post(4, 9, 11.0)], {1}),
        ([post(5, 2, 11.0), post(5, 1, 9.0)], set()),  # behind, and still moving: compiling, validating
        ([post(5, 1, 11.0), post(5, 1, 12.0)], {0, 1}),
        ([post(5, 1, 11.0), post(5, 1, 3.0)], set()),
        ([post(5, 1, 11.0), post(3, 1, 0.0, "failed")], {1}),
        ([post(5, 1, 11.0), post(9, 1, 0.0, "done")], set()),  # saves the model alone, as long as it takes
        ([post(5, 2, 11.0), post(5, 1, 11.0), post(5, 1, 11.0), post(5, 2, 11.0)], {1, 2}),
    ],
)
def test_stuck_is_who_is_furthest_behind_and_does_not_move(posts: list[Post], named: set[int]) -> None:
    assert set(watch_with(posts)._stuck()) == named


def test_who_was_not_heard_of_is_named_though_it_stands_where_the_others_do() -> None:
    watch = watch_with([post(5, 1, 11.0), post(5, 1, 0.0)])
    watch._ages[1] = 9.0
    assert watch._stuck() == {}
    watch._ages[1] = 10.5
    assert watch._stuck() == {
        1: "process 1 of 2 (host, pid 1) is not heard of any more; its last mark: step 5, forward, 10 s ago"
    }
    watch = watch_with([post(5, 1, 0.0), post(5, 1, 11.0)], rank=1)
    watch._silence = 11.0  # the first process, whose board it is
    assert set(watch._stuck()) == {0}


def test_a_jump_of_the_clock_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a job that was suspended as a whole: time is counted in ticks that the thread lived to see."""
    watch = watch_with([post(5, 1, 0.0), post(5, 1, 0.0)])
    moments = iter([0.0, 1.0, 1e9, -5.0, 3.0, 4.0])
    ends: list[Any] = []
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(watch, "_end", ends.append)
    monkeypatch.setattr(watch, "_guard_interpreter", lambda: None)
    waits = iter([False] * 5 + [True])
    monkeypatch.setattr(watch._over, "wait", lambda seconds: next(waits))
    watch._tick()
    assert ends == []
    # nothing for the first tick, which sees the first mark, two for the leap, nothing backwards, two, and one
    assert watch._idle == 5.0


class SlowBoard:
    """Answers late, as over a network; keeps what was posted."""

    def __init__(self) -> None:
        self.posted: list[list[Any]] = []

    def set(self, key: str, value: str) -> None:
        time.sleep(0.3)
        self.posted.append(json.loads(value))

    def check(self, keys: list[str]) -> bool:
        return False


@pytest.mark.parametrize("state", ["done", "failed"])
def test_no_thread_is_at_the_board_when_the_watch_is_over(state: str) -> None:
    """One that is in its C++ code when Python ends aborts the process, whatever its work came to."""
    board = SlowBoard()
    watch = Watch(board, 0, 2, 1.0)
    watch.start()
    until = time.monotonic() + 20
    while not board.posted and time.monotonic() < until:
        time.sleep(0.01)
    watch.stop(state)
    assert not any(thread.is_alive() for thread in watch._threads)
    assert Post(*board.posted[-1]).state == state


def test_a_pass_through_the_model_counts_as_moving(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Also one in evaluation, of which only one process may make any; those in training have a phase of their own."""
    from latentthought.training.preparation import prepare

    model = prepare(make_recipe()).model
    watch = Watch(None, 0, 2, 10.0)
    hooks = watch.listen(model)
    ids = torch.ones(1, 4, dtype=torch.long)
    model.eval()
    model.generate(ids, max_new_tokens=3)
    assert watch._passes >= 3 and watch._mark == (0, 0, "setting up")
    model.train()
    watch.mark("data", 7)
    model(ids)
    assert watch._mark == (7, 2, "backward")
    for hook in hooks:
        hook.remove()
    model(ids)
    assert watch._mark == (7, 2, "backward")
