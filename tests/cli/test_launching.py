"""What `doctor` finds of launching, in made-up surroundings."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from latentthought.cli import launching, main
from latentthought.cli.launching import Finding, accelerate_file, extension_folder

COMPLETE = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "host",
    "MASTER_PORT": "29500",
}


def found(environment: dict[str, str], name: str) -> list[Finding]:
    return [finding for finding in launching.findings(environment) if finding.name == name]


def one(environment: dict[str, str], name: str) -> Finding:
    [finding] = found(environment, name)
    return finding


def test_every_problem_says_why_and_what_to_do(tmp_path: Path) -> None:
    bad = {
        "WORLD_SIZE": "2",
        "DS_ACCELERATOR": "gpu",
        "ACCELERATE_USE_FSDP": "1",
        "PATH": str(tmp_path),
        "HF_HOME": str(tmp_path),
        "TORCH_EXTENSIONS_DIR": str(tmp_path),
    }
    problems = [finding for finding in launching.findings(bad) if finding.state == "problem"]
    assert {finding.name for finding in problems} == {"ranks", "DS_ACCELERATOR", "accelerate"}
    assert all(finding.why and finding.remedy for finding in problems)


@pytest.mark.parametrize(
    ("environment", "state", "said"),
    [
        ({}, "ok", "alone"),
        (COMPLETE, "ok", "complete"),
        ({"WORLD_SIZE": "1", "RANK": "0"}, "ok", "complete"),
        ({"WORLD_SIZE": "2"}, "problem", "without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({key: COMPLETE[key] for key in COMPLETE if key != "MASTER_ADDR"}, "problem", "without MASTER_ADDR"),
        ({"RANK": "3"}, "problem", "without LOCAL_RANK, WORLD_SIZE"),
        ({**COMPLETE, "RANK": "2"}, "problem", "RANK is not below WORLD_SIZE"),
        ({**COMPLETE, "WORLD_SIZE": "two"}, "problem", "WORLD_SIZE is not a whole number"),
        ({**COMPLETE, "WORLD_SIZE": "0"}, "problem", "WORLD_SIZE is 0"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, "problem", "a Slurm step of 8 tasks"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, "ok", "alone"),
    ],
)
def test_ranks(environment: dict[str, str], state: str, said: str) -> None:
    finding = one(environment, "ranks")
    assert (finding.state, said in finding.what) == (state, True), finding


def test_an_old_lock_is_named_and_a_young_one_noted(tmp_path: Path) -> None:
    old, young = tmp_path / "py311_cpu" / "shm" / "lock", tmp_path / "adam" / "lock"
    for lock in (old, young):
        lock.parent.mkdir(parents=True)
        lock.touch()
    then = time.time() - 3 * 3600
    os.utime(old, (then, then))
    by_state = {
        finding.state: finding for finding in found({"TORCH_EXTENSIONS_DIR": str(tmp_path)}, "build lock")
    }
    assert set(by_state) == {"note", "problem"}
    assert by_state["problem"].remedy == f"delete it: rm {old}"
    assert "3 hours old" in by_state["problem"].what
    assert str(young) in by_state["note"].what
    assert found({"TORCH_EXTENSIONS_DIR": str(tmp_path / "none")}, "build lock") == []


def test_folders_are_those_of_torch_and_accelerate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import default_yaml_config_file
    from torch.utils.cpp_extension import get_default_build_root

    assert str(accelerate_file()) == default_yaml_config_file
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    assert str(extension_folder().resolve()) == get_default_build_root()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert str(extension_folder()) == get_default_build_root()


@pytest.mark.parametrize(
    ("text", "state", "said"),
    [
        ("distributed_type: MULTI_GPU\nnum_processes: 4\nmixed_precision: 'no'\n", "note", "num_processes 4"),
        ("distributed_type: DEEPSPEED\n", "problem", "distributed_type DEEPSPEED"),
        ("distributed_type: 'NO'\nmixed_precision: bf16\n", "problem", "mixed_precision bf16"),
        ("a: [\n", "problem", "does not read"),
    ],
)
def test_the_configuration_of_accelerate(tmp_path: Path, text: str, state: str, said: str) -> None:
    file = tmp_path / "accelerate" / "default_config.yaml"
    file.parent.mkdir()
    file.write_text(text)
    finding = one({"HF_HOME": str(tmp_path)}, "accelerate")
    assert (finding.state, said in finding.what) == (state, True), finding
    assert str(file) in finding.what


@pytest.mark.parametrize(
    ("variable", "value", "state"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "problem"),
        ("ACCELERATE_USE_DEEPSPEED", "false", "note"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "problem"),
        ("ACCELERATE_MIXED_PRECISION", "no", "note"),
        ("ACCELERATE_USE_CPU", "true", "note"),
    ],
)
def test_variables_of_accelerate(tmp_path: Path, variable: str, value: str, state: str) -> None:
    finding = one({variable: value, "HF_HOME": str(tmp_path)}, "accelerate")
    assert (finding.state, finding.what) == (state, f"{variable}={value}")


@pytest.mark.parametrize(("value", "state"), [("cpu", "ok"), ("cuda", "problem"), ("gpu", "problem")])
def test_the_device_of_deepspeed(monkeypatch: pytest.MonkeyPatch, value: str, state: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert one({"DS_ACCELERATOR": value}, "DS_ACCELERATOR").state == state


def test_the_device_of_deepspeed_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert "where there is a GPU" in one({"DS_ACCELERATOR": "cpu"}, "DS_ACCELERATOR").what


def test_programs_are_sought_on_the_path(tmp_path: Path) -> None:
    for name in ("g++", "ninja", "torchrun", "deepspeed"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    here = {"PATH": str(tmp_path)}
    assert one(here, "C++ compiler").what == str(tmp_path / "g++")
    assert one(here, "ninja").state == "ok"
    assert "found: torchrun, deepspeed" in one(here, "launchers").what
    nowhere = {"PATH": str(tmp_path / "none")}
    compiler = one(nowhere, "C++ compiler")
    assert (compiler.state, compiler.what) == ("note", "g++ not found")
    assert "install g++" in compiler.remedy
    assert one({**here, "CXX": "clang++"}, "C++ compiler").what == "clang++ not found"
    assert "found: none" in one(nowhere, "launchers").what


def test_launchers_beside_a_python_that_is_not_active(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torchrun").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    finding = one({"PATH": ""}, "launchers")
    assert "not on the PATH: torchrun" in finding.what
    assert str(tmp_path) in finding.remedy


def test_gloo_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one({}, "gloo").state == "ok"
    monkeypatch.setattr("torch.distributed.is_gloo_available", lambda: False)
    assert one({}, "gloo").state == "problem"


@pytest.mark.parametrize(
    ("body", "state"),
    [("raise RuntimeError('empty shell')\n", "problem"), ("", "ok")],
    ids=["shell", "whole"],
)
def test_transformer_engine_is_found_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, state: str
) -> None:
    package = tmp_path / "transformer_engine"
    package.mkdir()
    (package / "__init__.py").write_text(body)
    (package / "pytorch.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = one({}, "transformer-engine")
    assert finding.state == state
    assert ("empty shell" in finding.what) is (state == "problem")
    assert "transformer_engine" not in sys.modules


def test_doctor_prints_and_dumps_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["doctor", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["launching"]
    [ranks] = [finding for finding in listed if finding["name"] == "ranks"]
    assert ranks["state"] == "problem"
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "PROBLEM: WORLD_SIZE=2: without RANK" in shown
    assert f"why: {ranks['why']}" in shown
    assert f"do: {ranks['remedy']}" in shown
