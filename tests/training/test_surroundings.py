"""Variables of accelerate and DeepSpeed that would change what a recipe says are refused."""

from __future__ import annotations

import pytest

from latentthought.cli import main
from latentthought.errors import ConfigError
from latentthought.processes import process_count
from latentthought.training.engine import EngineConfig
from latentthought.training.surroundings import check_surroundings


@pytest.mark.parametrize(
    ("engine", "environment"),
    [
        ({}, {}),
        (
            {},
            {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "True"},
        ),  # what accelerate launch --cpu sets
        ({"precision": "bf16"}, {"ACCELERATE_MIXED_PRECISION": "bf16"}),
        ({"strategy": "zero2", "precision": "bf16"}, {"ACCELERATE_MIXED_PRECISION": "no"}),
        ({}, {"ACCELERATE_USE_DEEPSPEED": "false", "DS_ACCELERATOR": "cpu"}),
    ],
)
def test_what_changes_nothing_is_let_be(engine: dict, environment: dict[str, str]) -> None:
    check_surroundings(EngineConfig(**engine), environment)


@pytest.mark.parametrize(
    ("engine", "environment", "message"),
    [
        ({}, {"ACCELERATE_MIXED_PRECISION": "bf16"}, "would train in bf16, and engine.precision is fp32"),
        ({"precision": "bf16"}, {"ACCELERATE_MIXED_PRECISION": "fp8"}, "would train in fp8"),
        (
            {"strategy": "zero1", "precision": "bf16"},
            {"ACCELERATE_MIXED_PRECISION": "bf16"},
            "engine.precision",
        ),
        (
            {},
            {"ACCELERATE_USE_DEEPSPEED": "true"},
            "asks accelerate for DeepSpeed, and this run's engine is ddp",
        ),
        ({"strategy": "zero2"}, {"ACCELERATE_USE_FSDP": "1"}, "FSDP"),
        ({}, {"DS_ACCELERATOR": "gpu"}, "no such device"),
    ],
)
def test_what_would_change_the_run_is_refused(
    engine: dict, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_surroundings(EngineConfig(**engine), environment)


def test_a_run_is_refused_before_anything_is_made(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert main(["train", "quickstart-no-thought", "--smoke", "--output", str(tmp_path / "run")]) == 2
    assert "ACCELERATE_MIXED_PRECISION=bf16" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "x"}, "RANK=x: RANK is not a whole number; start several"),
        (
            {"WORLD_SIZE": "2"},
            "WORLD_SIZE=2: without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; start several",
        ),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": "1"}, "without MASTER_ADDR; "),
    ],
)
def test_ranks_that_do_not_hold(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_surroundings(EngineConfig(), environment)
    whole = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    check_surroundings(EngineConfig(), whole)


def test_a_number_of_processes_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for told in ("x", "0", "-1"):
        monkeypatch.setenv("WORLD_SIZE", told)
        with pytest.raises(
            ConfigError, match=f"WORLD_SIZE={told}: a launcher sets it to the number of processes"
        ):
            process_count()
