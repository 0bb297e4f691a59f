"""`train --profile`: parts that add up to the step, by recipe; what it says where it cannot measure; and the file it leaves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from latentthought import load_recipe
from latentthought.cli import main, profiling
from latentthought.cli.profiling import FILE, PARTS, StepTimes
from latentthought.model import spans
from latentthought.model.spans import listening
from latentthought.training.run import train

CHANGES = ("evaluation.task=null", "engine.threads=1", "training.log_every=1")


class Whole(TrainerCallback):
    """Seconds from the begin of one step to that of the next, by a clock of its own."""

    def __init__(self) -> None:
        self.begins: list[float] = []

    def on_step_begin(self, *given: Any, **named: Any) -> None:
        self.begins.append(time.perf_counter())

    def on_train_end(self, *given: Any, **named: Any) -> None:
        self.begins.append(time.perf_counter())


def profiled(output: Path, name: str, *changes: str) -> tuple[StepTimes, list[float]]:
    """The parts of a smoke run, and the seconds of its steps."""
    from latentthought.cli.earlier import with_inputs

    recipe = with_inputs(load_recipe(name, (*CHANGES, *changes), smoke=True), output)
    times, whole = StepTimes(), Whole()
    with listening(times):
        train(recipe, output, smoke=True, callbacks=(times, whole))
    between = [b - a for a, b in zip(whole.begins, whole.begins[1:], strict=False)]
    return times, between


def test_parts_add_up_to_the_steps(tmp_path: Path) -> None:
    """Of all steps that count; the borders differ by the wait for the first batch that counts and the one after the last."""
    times, whole = profiled(tmp_path / "run", "quickstart")
    counted = sum(times.steps.values())
    assert counted == len(whole) - profiling.SKIPPED_STEPS
    summed = sum(sum(parts.values()) for parts in times.seconds.values())
    assert summed == pytest.approx(sum(whole[profiling.SKIPPED_STEPS :]), rel=0.1)


def test_thoughts_are_there_where_the_stage_has_them(tmp_path: Path) -> None:
    times, _ = profiled(tmp_path / "run", "quickstart", "curriculum.replay=0")
    text, latent = times.seconds["text"], times.seconds["latent-3"]
    for part in ("data", "prefix", "thoughts", "rest", "head", "backward", "optimizer", "reports"):
        assert latent[part] > 0, part
    assert text["prefix"] == text["thoughts"] == 0 and text["rest"] > 0 and text["head"] > 0
    # a single thought shares its pass with the rest
    assert times.seconds["latent-1"]["thoughts"] == 0
    assert {part for part in PARTS if latent[part]} == set(PARTS) - {
        *("own text", "teacher", "chain", "comparison", "spelling")
    }


@pytest.mark.parametrize(
    ("name", "present"),
    [
        ("codi-gpt2-gsm8k", {"chain", "comparison"}),
        ("levels/logit", {"teacher", "comparison"}),
        ("simcot-gpt2-gsm8k", {"spelling"}),
    ],
)
def test_parts_of_teachers(tmp_path: Path, name: str, present: set[str]) -> None:
    times, _ = profiled(tmp_path / "run", name)
    seconds = {part: sum(stage[part] for stage in times.seconds.values()) for part in PARTS}
    beside = {"own text", "teacher", "chain", "comparison", "spelling"}
    assert {part for part in beside if seconds[part] > 0} == present


def test_the_parts_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step whose every border is a second after the one before, told by events as of a GPU."""
    waited = []

    class Event:
        at = 0

        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            Event.at += 1
            self.time = Event.at

        def synchronize(self) -> None:
            waited.append(self.time)

        def elapsed_time(self, other: Event) -> float:
            return 1000.0 * (other.time - self.time)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(profiling, "SKIPPED_STEPS", 0)
    plan = SimpleNamespace(at=lambda step: SimpleNamespace(name="only"))
    loader = SimpleNamespace(dataset=SimpleNamespace(plan=plan))
    model = torch.nn.Linear(1, 1)
    model.is_gradient_checkpointing = True
    times = StepTimes()
    arguments, state = (
        SimpleNamespace(device=torch.device("cuda"), world_size=2),
        SimpleNamespace(global_step=0),
    )
    times.on_train_begin(arguments, state, None, train_dataloader=loader, model=model)
    with listening(times):
        with spans.span("data"):  # 1
            pass  # 2
        times.on_step_begin(arguments, state, None)  # 3: data 2
        with spans.span("teacher"), spans.span("rest"):  # 4: data 3
            pass  # 5: teacher 1, though it has parts of its own
        times._pass("other")  # 6: data 4
        with spans.span("prefix"):  # 7: other 1
            pass  # 8: prefix 1
        with spans.span("thoughts"):  # 9: other 2
            pass  # 10: thoughts 1
        times._pass("backward")  # 11: other 3
        with spans.span("rest"):  # what is recomputed counts as backward
            pass
        times.on_pre_optimizer_step(arguments, state, None)  # 12: backward 1
        times._pass("other")  # a validation's forward
        times.on_step_end(arguments, state, None)  # 13: optimizer 1
        with spans.span("prefix"):  # so does a validation's
            pass
        times.on_log(arguments, state, None)  # 14: reports 1
        times.on_save(arguments, state, None)  # 15: saving 1
        times.on_train_end(arguments, state, None)  # 16: reports 2
    found = {part: seconds for part, seconds in times.seconds["only"].items() if seconds}
    assert found == {
        "data": 4,
        "teacher": 1,
        "prefix": 1,
        "thoughts": 1,
        "other": 3,
        "backward": 1,
        "optimizer": 1,
        "reports": 2,
        "saving": 1,
    }
    assert times.steps == {"only": 1} and waited[-1] == Event.at == 16
    notes = " ".join(times._notes())
    assert "gradient checkpointing: backward" in notes and "the first process" in notes


def test_a_device_without_a_clock_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    times = StepTimes(said.append)
    arguments = SimpleNamespace(device=torch.device("mps"), world_size=1)
    times.on_train_begin(arguments, None, None)
    with listening(times), spans.span("data"), spans.span("rest"):
        times.on_step_end(arguments, None, None)
        times.on_train_end(arguments, None, None)
    assert said == ["--profile: the parts of a step can be timed on cpu and cuda, not on mps: no times"]
    assert not times.timed and not times.steps and not times.seconds


def test_no_table_and_no_file_where_nothing_is_timed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "_clock_of", lambda device: None)
    arguments = ["train", "quickstart-no-thought", "--smoke", *CHANGES, "--profile", "--output"]
    assert main([*arguments, str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert out.count("--profile: the parts of a step") == 1 and "where a step's time goes" not in out
    assert not (tmp_path / "run" / FILE).exists()


def test_the_file_says_what_the_table_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    changes = (*CHANGES, "engine.gradient_checkpointing=true")
    assert main(["train", "quickstart", "--smoke", *changes, "--profile", "--output", str(run)]) == 0
    out = capsys.readouterr().out
    found = json.loads((run / FILE).read_text())
    assert (found["version"], found["device"], found["processes"]) == (1, "cpu", 1)
    assert found["gradient_checkpointing"] and "gradient checkpointing: backward has the passes" in out
    stage = found["stages"]["latent-2"]
    total = sum(stage["seconds"].values())
    (line,) = (line.split() for line in out.splitlines() if line.split()[:1] == ["latent-2"])
    assert line[1] == str(stage["steps"]) and float(line[2]) == pytest.approx(
        1000 * total / stage["steps"], abs=0.06
    )
    assert f"{100 * stage['seconds']['data'] / total:.0f}" == line[3]


def test_a_run_without_the_flag_has_no_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: Any) -> None:
        raise AssertionError("somebody listens")

    monkeypatch.setattr(spans, "_told", never)
    run = tmp_path / "run"
    assert main(["train", "quickstart-no-thought", "--smoke", *CHANGES, "--output", str(run)]) == 0
    assert not (run / FILE).exists()


def test_a_plan_has_no_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "quickstart", "--smoke", "--dry-run", "--profile"]) == 2
    assert "--profile times the steps of a run, and --dry-run takes none" in capsys.readouterr().err
