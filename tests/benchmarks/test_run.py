"""The command runs, names what it skips, keeps paths of this machine out, and replaces only its own block of the document."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import generate, rivals, soft_mix, train_step
from benchmarks.report import Floor, Report, write_block
from benchmarks.settings import Settings
from benchmarks.timing import Side, Timing, measure, peak_bytes, shortage
from benchmarks.workload import Sizes
from latentthought.errors import ConfigError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


OWN_TESTS = {"distillation", "divergence", "cross_entropy", "grading"}


def test_quick_run(tmp_path, capsys):
    """Those that have no quick run in a test file of their own."""
    file, names = tmp_path / "results.json", [n for n in command.BENCHMARKS if n not in OWN_TESTS]
    assert command.main([*names, "--quick", "--rounds", "1", "--threads", "1", "--output", str(file)]) == 0
    printed = capsys.readouterr().out
    assert f"`python -m benchmarks {' '.join(names)} --quick --rounds 1 --threads 1`" in printed
    # beside the sides of both contests, and among the promised figures
    assert printed.count("skipped: no folder given (--coconut DIR)") == 4
    assert "MISSED" not in printed
    results = json.loads(file.read_text())
    assert [entry["name"] for entry in results["benchmarks"]] == names
    assert list(results["seconds"]) == names
    for entry in results["benchmarks"][:3]:
        assert entry["rows"][0]["ratio"] == 1.0
        # a rival that does one row of all is extrapolated in time, and has no memory to show
        assert all(len(row["seconds"]) == 1 for row in entry["rows"])
        assert all(bool(row["peak_bytes"]) != ("extrapolated" in row["note"]) for row in entry["rows"])


def test_disagreement_is_exit_code_1(monkeypatch, capsys):
    honest = command.train_step.our_loss

    def louder(model, batch, **feedback):
        return 1.01 * honest(model, batch, **feedback)

    monkeypatch.setattr(command.train_step, "our_loss", louder)
    assert command.main(["train_step", "--quick", "--threads", "1"]) == 1
    message = r"error: train_step: sides that must agree do not: latentthought, sequential: loss .*, a loop without a cache "
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["training"], "no benchmark 'training'; there are: train_step, generate, samples, soft_mix"),
        (["--quick", "--write-docs"], "--write-docs: not with --quick"),
        (["--quick", "--teacher", "medium"], "--model, --teacher: not with --quick"),
        (["--rounds", "0"], "--rounds: must be 1 or more, got 0"),
        (["--device", "tpuu"], "--device: cpu or cuda"),
        (["train_step", "--quick", "--threads", "1", "--coconut", "nowhere"], "no coconut.py in nowhere"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, message, capsys):
    assert command.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_printed_command_has_no_paths():
    arguments = ["--coconut", "/somewhere/else", "--output=/tmp/x.json", "--write-docs", "--batch", "2"]
    assert command.command_of(arguments) == "python -m benchmarks --coconut DIR --batch 2"


def test_sizes_follow_the_arguments():
    chosen = command.parser().parse_args(["--thoughts", "2", "--batch", "3", "--padded", "--threads", "1"])
    sizes = command.settings_of(chosen).sizes
    assert (sizes.thoughts, sizes.batch, sizes.sequence, sizes.first_thought, sizes.padded) == (
        2,
        3,
        74,
        60,
        True,
    )


def test_a_model_of_a_billion_weights():
    chosen = command.parser().parse_args(["--model", "1b", "--threads", "1"])
    settings = command.settings_of(chosen)
    assert (settings.model, settings.sizes.parameters) == ("1b", 12 * 20 * 2048**2)
    timings = dict.fromkeys(
        (train_step.OURS, train_step.TUNING, train_step.FLOOR, train_step.JACOBI, rivals.NAIVE),
        Timing((1.0,)),
    )
    (target,) = train_step.targets_of(timings, settings)
    assert (target.what, target.limit) == ("1B model: time over plain fine-tuning", 1.2)
    where = dict.fromkeys(("command", "date", "commit", "machine", "threads", "dtype", "torch"), "")
    where |= {"transformers": "", "model": "1b", "quick": True, "sizes": asdict(settings.sizes)}
    report = Report("train_step", "", Floor(1, 1), [], {"train_step": "needs memory"})
    assert list(command.blocks_of(where, [report], "cuda")) == ["benchmarks cuda 1b"]


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        ("cpu", [("<=", 1.3), (">=", 1.7), ("<=", 1.15), (">=", 1.0), (">=", 40), ("<=", 1.1)]),
        ("cuda", [(">=", 4.0), (">=", 100), ("<=", 1.1)]),
    ],
)
def test_what_is_promised_on_a_device(device, wanted):
    """With the published program in turn, speed is held against it and not against the loop that stands in for it."""
    names = [train_step.OURS, train_step.FLOOR, train_step.JACOBI, rivals.NAIVE, rivals.PUBLISHED]
    names += [generate.OURS, generate.FLOOR, generate.THOUGHT, generate.DECODE]
    timings = dict.fromkeys(names, Timing((1.0,))) | {rivals.PUBLISHED: Timing((2.0,))}
    settings = Settings(device=torch.device(device))
    found = train_step.targets_of(timings, settings) + generate.targets_of(timings, settings)
    assert [(target.sense, target.limit) for target in found] == wanted
    coconut = [target for target in found if "Coconut" in target.what]
    assert all(target.value == 2.0 and rivals.PUBLISHED in target.what for target in coconut)


def test_too_little_memory_is_told(monkeypatch):
    assert not shortage(1, CPU)
    assert re.fullmatch(r"needs 1048576 GiB of free memory, there are \d+", shortage(1 << 50, CPU))
    for module in (train_step, soft_mix):
        monkeypatch.setattr(module, "shortage", lambda needed, device: "needs more")
        report = module.run(Settings(sizes=Sizes().quick(), quick=True, silent=True))
        assert (report.rows, report.skipped) == ([], {report.name: "needs more"})


def test_only_the_marked_block_is_replaced(tmp_path):
    file = tmp_path / "performance.md"
    file.write_text("above\n<!-- b:begin -->\nold\n<!-- b:end -->\nbelow\n")
    write_block(file, "b", "new\n")
    assert file.read_text() == "above\n<!-- b:begin -->\nnew\n<!-- b:end -->\nbelow\n"
    with pytest.raises(ConfigError, match="needs one line <!-- c:begin -->"):
        write_block(file, "c", "new")


def test_the_document_has_a_block_for_every_benchmark(repository):
    text = (repository / "docs" / "performance.md").read_text()
    own = [name for name in command.BENCHMARKS if name not in command.IN_ONE_TABLE]
    on_device = [f"{name} cuda" for name in own if name not in command.CPU_ONLY]
    for name in ("summary", "summary cuda", "cpu", "cuda", "cuda 1b", *own, *on_device):
        for mark in ("begin", "end"):
            assert text.count(f"<!-- benchmarks {name}:{mark} -->") == 1, name


def test_ratios_are_paired():
    # the machine slowed down threefold in the second round: every ratio is still 2
    floor, side = Timing((1.0, 3.0, 1.0)), Timing((2.0, 6.0, 2.0))
    assert side.ratio(floor) == 2.0


def test_every_side_runs_in_every_round_and_shares_are_scaled_up():
    ran = []
    sides = [
        Side("a", "floor", lambda: ran.append("a")),
        Side("b", "ours", lambda: (ran.append("b"), time.sleep(0.01)), share=0.5),
    ]
    timings = measure(sides, CPU, rounds=3, warmup=1)
    # a: warm-up, rounds and memory; b, which does half of it, the rounds alone
    assert sorted(ran) == ["a"] * 5 + ["b"] * 3
    assert timings["a"].peak_bytes is not None and timings["b"].peak_bytes is None
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3]
    assert timings["b"].median >= 0.02


def test_peak_memory_is_exact_on_a_cpu():
    def work():
        first = torch.ones(1 << 18)  # 1 MiB
        second = first + 1  # 2 MiB
        del first
        return second * 2  # 2 MiB again

    assert peak_bytes(work, CPU) == pytest.approx(2 << 20, abs=1024)  # and a few scalars
