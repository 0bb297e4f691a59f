"""Several processes: the notice board, evaluations shared by threads that stand for processes, and two real ones by torchrun."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed

from latentthought.errors import ConfigError, FolderInUseError
from latentthought.evaluation import evaluate
from latentthought.evaluation.samples import SampleFile, read_samples
from latentthought.processes import Group, StoppedElsewhere
from tests.warm import ranks, run_ranks

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentthought.processes._LINGER_SECONDS", 0.0)


def together(count: int, work: Callable[[Group], Any]) -> list[Any]:
    """What `work` returns, or raises, at every rank of a group of threads."""
    store = torch.distributed.HashStore()
    found: list[Any] = [None] * count

    def one(rank: int) -> None:
        group = Group(rank, count, None, store)
        try:
            with group.guard():
                found[rank] = work(group)
        except BaseException as error:
            found[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a hang"
    return found


def untimed(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "milliseconds": 0} for line in lines]


def untimed_results(folder: Path) -> dict[str, Any]:
    return {**json.loads((folder / "results.json").read_text()), "costs": None}


# ------------------------------------------------------------------------------------------------------------ the board
def test_values_go_round_in_order() -> None:
    def work(group: Group) -> Any:
        time.sleep(0.02 * (3 - group.rank))
        return [group.exchange({"rank": group.rank}), group.exchange(group.rank * 10)]

    for found in together(3, work):
        assert found == [[{"rank": 0}, {"rank": 1}, {"rank": 2}], [0, 10, 20]]


def test_alone_needs_nobody() -> None:
    group = Group()
    with group.guard():
        group.check()
        assert group.exchange("mine") == ["mine"]
    with pytest.raises(ConfigError, match="bad"), group.guard():
        raise ConfigError("bad")


def test_a_failure_ends_all_and_is_told_once() -> None:
    """One process fails while the others wait for it, or work: they end with its exit code, and say nothing."""

    def work(group: Group) -> None:
        if group.rank == 1:
            raise ConfigError("bad")
        if group.rank == 0:
            group.exchange()
        while True:
            group.check()
            time.sleep(0.01)

    first, second, third = together(3, work)
    assert isinstance(second, ConfigError)
    assert isinstance(first, StoppedElsewhere)
    assert isinstance(third, StoppedElsewhere)
    assert first.exit_code == third.exit_code == 2


def test_the_same_failure_everywhere_is_told_once() -> None:
    def work(group: Group) -> None:
        raise ConfigError("bad")

    kinds = sorted(type(error).__name__ for error in together(3, work))
    assert kinds == ["ConfigError", "StoppedElsewhere", "StoppedElsewhere"]


def test_a_board_that_is_gone() -> None:
    class Gone:
        def check(self, keys: list[str]) -> bool:
            raise RuntimeError("connection reset")

    with pytest.raises(StoppedElsewhere):
        Group(1, 2, None, Gone()).check()


# ---------------------------------------------------------------------------------------------------- shared evaluations
@pytest.fixture
def options(task: Any, tokenizer: Any, rows: Any) -> dict[str, Any]:
    return {"task": task, "tokenizer": tokenizer, "data": rows, "progress": False, "batch_size": 2}


def test_three_share_an_evaluation(
    make_thinker: Callable[[], Any], options: dict[str, Any], tmp_path: Path
) -> None:
    models = [make_thinker() for _ in range(4)]
    whole = evaluate(models[3], **options, samples=2, output=tmp_path / "one")
    shared = together(
        3,
        lambda group: evaluate(
            models[group.rank], **options, samples=2, output=tmp_path / "three", group=group
        ),
    )
    one, three = (tmp_path / name / "results/sums/none" for name in ("one", "three"))
    assert untimed(one) == untimed(three)
    assert untimed_results(one) == untimed_results(three)
    assert sorted(path.name for path in three.iterdir()) == ["results.json", "samples.jsonl", "settings.json"]
    assert all(found.accuracy == whole.accuracy for found in shared), "every process returns the results"
    assert [len(model.calls) for model in models] == [4, 3, 3, 10], "batches dealt out in turn, none twice"


def test_all_controls_shared(
    make_thinker: Callable[[], Any], options: dict[str, Any], tmp_path: Path
) -> None:
    models = [make_thinker(), make_thinker(), make_thinker()]
    evaluate(models[2], **options, control="all", output=tmp_path / "one")
    first, second = together(
        2,
        lambda group: evaluate(
            models[group.rank], **options, control="all", output=tmp_path / "two", group=group
        ),
    )
    assert first.controls.keys() == second.controls.keys()
    assert second.controls["pause"].against_none.difference == 0
    for control in first.controls:
        folders = [tmp_path / name / "results/sums" / control for name in ("one", "two")]
        assert untimed(folders[0]) == untimed(folders[1])
        assert untimed_results(folders[0]) == untimed_results(folders[1])


class Killed(BaseException):
    """Stands for SIGKILL: nothing is caught, nothing is tidied."""


def test_killed_and_resumed_by_another_number(
    make_thinker: Callable[[], Any], options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**options, "samples": 2}
    evaluate(make_thinker(), **settings, output=tmp_path / "one")
    target = tmp_path / "many" / "results/sums/none"
    calls = 0
    for count, lives in ((3, 4), (2, 5), (1, 6)):
        budget = [lives]

        def dying(group: Group, count: int = count, budget: list[int] = budget) -> None:
            nonlocal calls
            model = make_thinker()
            plain = model.generate

            def generate(*arguments: Any, **named: Any) -> Any:
                nonlocal calls
                budget[0] -= 1
                if budget[0] < 0:
                    raise Killed
                calls += 1
                return plain(*arguments, **named)

            model.generate = generate
            evaluate(model, **settings, output=tmp_path / "many", resume=True, group=group)

        together(count, dying)
        for part in target.glob("samples*.jsonl") if count > 1 else ():  # the next line was being written
            part.write_bytes(part.read_bytes() + b'{"task": "su')
    assert not list(target.glob("samples.rank*"))
    assert untimed(target) == untimed(tmp_path / "one" / "results/sums/none")
    assert calls < 10 + 3, "a kill costs the batch that was under way"


def test_a_kill_while_merging(
    make_thinker: Callable[[], Any], options: dict[str, Any], tmp_path: Path
) -> None:
    """The merged file is there, and so is a part: its samples count once."""
    evaluate(make_thinker(), **options, output=tmp_path)
    target = tmp_path / "results/sums/none"
    before = untimed(target)
    lines = (target / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (target / "samples.rank-001.jsonl").write_bytes(b"".join(lines[2:5]))
    (target / "settings.json.rank-001.tmp").write_bytes(b"{")
    model = make_thinker()
    evaluate(model, **options, output=tmp_path, resume=True)
    assert model.calls == []
    assert untimed(target) == before
    assert len(list(target.iterdir())) == 3


def test_several_processes_need_a_folder(make_thinker: Callable[[], Any], options: dict[str, Any]) -> None:
    first, second = together(2, lambda group: evaluate(make_thinker(), **options, group=group))
    assert "several processes need a folder" in str(first) + str(second)


def test_a_folder_in_use_stops_all(
    make_thinker: Callable[[], Any], options: dict[str, Any], tmp_path: Path
) -> None:
    evaluate(make_thinker(), **options, output=tmp_path, control="noised")
    models = [make_thinker(), make_thinker()]
    first, second = together(
        2, lambda group: evaluate(models[group.rank], **options, output=tmp_path, control="all", group=group)
    )
    assert isinstance(first, FolderInUseError)
    assert isinstance(second, StoppedElsewhere)
    assert models[0].calls == models[1].calls == [], "found out before the first control"


def test_two_writers_are_refused(
    make_thinker: Callable[[], Any], options: dict[str, Any], tmp_path: Path
) -> None:
    evaluate(make_thinker(), **options, output=tmp_path)
    folder = tmp_path / "results/sums/none"
    settings = json.loads((folder / "settings.json").read_text())
    samples = read_samples(folder / "samples.jsonl")
    (folder / "samples.jsonl").unlink()
    with SampleFile(folder, settings, True) as mine:
        mine.append(samples[:1])
        with pytest.raises(FolderInUseError, match="another evaluation is writing"):
            SampleFile(folder, settings, True)
    SampleFile(folder, settings, True)


# --------------------------------------------------------------------------------------------------------- real processes
@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from latentthought.cli import main

    run = tmp_path_factory.mktemp("model") / "run"
    assert main(["train", "quickstart", "--smoke", "--output", str(run)]) == 0
    return run


def command(model: Path, output: Path, *more: str) -> list[str]:
    options = ["--task", "hops", "--limit", "120", "--batch-size", "4", "--samples", "2"]
    return ["evaluate", str(model), *options, "--output", str(output), *more]


def torchrun(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "latentthought"]
    return subprocess.run(
        [sys.executable, *launcher, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_equal_one(saved_model: Path, tmp_path: Path) -> None:
    """The same samples in the same order, from a whole run, and from one that was killed in two and resumed in one."""
    one, two, killed = tmp_path / "one", tmp_path / "two", tmp_path / "killed"
    run_ranks(1, "latentthought", command(saved_model, one), tmp_path / "said")
    done = torchrun(command(saved_model, two))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("results in") == 1, "one process speaks for all"
    folder = killed / "results/hops/none"
    with ranks(2, "latentthought", command(saved_model, killed), tmp_path / "said") as programs:
        while not (folder / "samples.rank-001.jsonl").is_file():
            assert all(program.returncode is None for program in programs)
            time.sleep(0.01)
    run_ranks(1, "latentthought", command(saved_model, killed, "--resume"), tmp_path / "said")
    expected = one / "results/hops/none"
    for other in (two / "results/hops/none", folder):
        assert untimed(other) == untimed(expected)
        assert untimed_results(other) == untimed_results(expected)


@pytest.mark.slow
def test_one_message_from_two_processes(saved_model: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    done = torchrun(command(saved_model, tmp_path, "max_new_tokenz=3"))
    assert done.returncode != 0
    assert done.stderr.count("latentthought: error:") == 1
    assert "did you mean max_new_tokens?" in done.stderr
    assert time.monotonic() - begun < 60
