"""What `doctor` finds of launching: compilers, locks, launchers, ranks, and settings elsewhere that reach into a run.

Each finding says what is there, why it matters and what to do. Nothing is started but one import of transformer-engine, in a
process of its own and only where it is installed: its plain package is a shell whose import fails, and takes peft's with it.
Rejected: trying a group of processes, which is what `train --smoke` under the launcher does, and better.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from latentthought.training.surroundings import (
    DEVICES_OF_DEEPSPEED,
    ENGINES,
    MIXED_PRECISION,
    RANKS,
    is_on,
    rank_problem,
)

# the longest that a helper of DeepSpeed compiles, with a margin
_BUILD_MINUTES = 10
# kinds of accelerate's configuration that leave the engine to the recipe
_HARMLESS = ("NO", "MULTI_GPU", "MULTI_CPU")
_IMPORT_SECONDS = 60


@dataclass(frozen=True)
class Finding:
    """state: ok; note: nothing is wrong, and it helps to know; problem: something will not do what it seems to."""

    name: str
    state: Literal["ok", "note", "problem"]
    what: str
    why: str = ""
    remedy: str = ""

    def lines(self) -> Iterator[str]:
        """As `doctor` prints it."""
        mark = {"ok": "", "note": "", "problem": "PROBLEM: "}[self.state]
        yield f"  {self.name:<20} {mark}{self.what}"
        if self.state == "problem" and self.why:
            yield f"  {'':<20}   why: {self.why}"
        if self.state != "ok" and self.remedy:
            yield f"  {'':<20}   do: {self.remedy}"


def launching(environment: Mapping[str, str] = os.environ) -> list[dict[str, Any]]:
    """All findings, as plain values."""
    return [asdict(finding) for finding in findings(environment)]


def findings(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    yield _launchers(environment)
    yield _ranks(environment)
    yield _gloo()
    yield from _compilers(environment)
    yield from _locks(environment)
    yield from _accelerate(environment)
    yield from _deepspeed_device(environment)
    yield from _transformer_engine()


def _launchers(environment: Mapping[str, str]) -> Finding:
    names = ("torchrun", "accelerate", "deepspeed")
    found = [name for name in names if _program(name, environment)]
    beside = [name for name in names if name not in found and Path(sys.executable).with_name(name).is_file()]
    what = f"found: {', '.join(found) or 'none'}"
    if beside:
        return Finding(
            "launchers",
            "note",
            f"{what}; not on the PATH: {', '.join(beside)}",
            "a launcher that belongs to this Python starts processes of this Python",
            f"activate the environment, or put {Path(sys.executable).parent} on the PATH; "
            "python -m torch.distributed.run is torchrun",
        )
    return Finding("launchers", "ok" if found else "note", what, "they start a run on several processes")


def _ranks(environment: Mapping[str, str]) -> Finding:
    """RANK and its kin, all or none of which a launcher sets."""
    given = {name: environment[name] for name in RANKS if name in environment}
    why = "processes of one run find each other by all five; with some of them each waits for the others, or trains alone"
    remedy = "start by torchrun, accelerate launch or deepspeed, which set them, or unset them all"
    if not given:
        tasks = environment.get("SLURM_NTASKS", "1")
        if "SLURM_PROCID" in environment and tasks != "1":
            what = f"none set, in a Slurm step of {tasks} tasks"
            return Finding(
                "ranks",
                "problem",
                what,
                "srun sets SLURM_PROCID and not RANK, so every task would train alone",
                "one task a node that runs torchrun (docs/launch/slurm.sh)",
            )
        return Finding("ranks", "ok", "none set: a process started here is alone")
    shown = " ".join(f"{name}={value}" for name, value in given.items())
    missing = [name for name in RANKS if name not in given]
    # the group that one process is needs no address, and a run passes over what is told without a size
    alone = given.get("WORLD_SIZE") == "1" and "RANK" in given
    wrong = rank_problem(given) or (f"without {', '.join(missing)}" if missing and not alone else "")
    if wrong:
        return Finding("ranks", "problem", f"{shown}: {wrong}", why, remedy)
    return Finding("ranks", "ok", f"{shown}: complete")


def _gloo() -> Finding:
    try:
        import torch.distributed as distributed

        there = distributed.is_available() and distributed.is_gloo_available()
    except Exception:  # a broken torch is a finding of its own
        there = False
    if there:
        return Finding("gloo", "ok", "there: several processes can train on CPUs")
    return Finding(
        "gloo",
        "problem",
        "not there",
        "processes on CPUs meet by it, and those on GPUs when they evaluate together",
        "install a torch with torch.distributed (the builds of pytorch.org have it)",
    )


def _compilers(environment: Mapping[str, str]) -> Iterator[Finding]:
    why = "DeepSpeed compiles some of its helpers at first use, on a GPU machine; runs on CPUs need none"
    compiler = environment.get("CXX", "g++")
    found = _program(compiler, environment)
    yield Finding(
        "C++ compiler",
        "ok" if found else "note",
        found or f"{compiler} not found",
        why,
        "" if found else "install g++ (apt-get install g++), or name another in CXX",
    )
    found = _program("ninja", environment)
    beside = Path(sys.executable).with_name("ninja")
    remedy = f"put {beside.parent} on the PATH" if beside.is_file() else "pip install ninja"
    yield Finding("ninja", "ok" if found else "note", found or "not found", why, "" if found else remedy)


def extension_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where torch keeps what it has compiled; as torch.utils.cpp_extension has it, without importing that."""
    if chosen := environment.get("TORCH_EXTENSIONS_DIR"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path("~/Library/Caches/torch_extensions").expanduser()
    return Path(environment.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "torch_extensions"


def _locks(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Lock files of builds: the process that made one removes it, unless it was killed."""
    root = extension_folder(environment)
    for lock in sorted({*root.glob("*/lock"), *root.glob("*/*/lock")}):
        try:
            minutes = (time.time() - lock.stat().st_mtime) / 60
        except OSError:  # just released
            continue
        age = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"
        if minutes < _BUILD_MINUTES:
            yield Finding(
                "build lock", "note", f"{lock}, {age} old: something is being compiled, or was killed at it"
            )
        else:
            yield Finding(
                "build lock",
                "problem",
                f"{lock}, {age} old: left behind by a build that was killed",
                "whatever needs that helper next waits for the file to go, for ever and without a word",
                f"delete it: rm {lock}",
            )


def accelerate_file(environment: Mapping[str, str] = os.environ) -> Path:
    """The configuration that `accelerate launch` reads when it is given none."""
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "accelerate" / "default_config.yaml"


def _accelerate(environment: Mapping[str, str]) -> Iterator[Finding]:
    file = accelerate_file(environment)
    if file.is_file():
        yield _accelerate_config(file)
    for name in sorted(environment):
        if not name.startswith("ACCELERATE_"):
            continue
        value = environment[name]
        if (name in ENGINES and is_on(value)) or (
            name == MIXED_PRECISION and value.lower() not in ("no", "")
        ):
            yield Finding(
                "accelerate",
                "problem",
                f"{name}={value}",
                "engine and precision are the recipe's (engine.strategy, engine.precision); a run that says otherwise refuses it",
                f"unset {name}",
            )
        else:
            yield Finding("accelerate", "note", f"{name}={value}")


def _accelerate_config(file: Path) -> Finding:
    import yaml

    why = "accelerate launch takes from it what its command line does not say, and hands it to the run"
    remedy = f"give the options on the command line, or another --config_file, or remove {file}"
    try:
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        return Finding("accelerate", "problem", f"{file} does not read ({first})", why, remedy)
    values = read if isinstance(read, dict) else {}
    kind, precision = (
        str(values.get("distributed_type") or "NO"),
        str(values.get("mixed_precision") or "no").lower(),
    )
    shown = ", ".join(
        f"{key} {values[key]}"
        for key in ("distributed_type", "num_processes", "num_machines", "mixed_precision", "use_cpu")
        if key in values
    )
    changed = kind not in _HARMLESS or precision != "no"
    return Finding("accelerate", "problem" if changed else "note", f"{file}: {shown}", why, remedy)


def _deepspeed_device(environment: Mapping[str, str]) -> Iterator[Finding]:
    value = environment.get("DS_ACCELERATOR")
    if value is None:
        return
    wrong, remedy = "", "unset DS_ACCELERATOR: a run sets it by engine.device"
    if value not in DEVICES_OF_DEEPSPEED:
        wrong = f"no such device; allowed: {', '.join(DEVICES_OF_DEEPSPEED)}"
    else:
        try:
            import torch

            cuda = torch.cuda.is_available()
        except Exception:  # a broken torch is a finding of its own
            cuda = value == "cuda"
        if value == "cuda" and not cuda:
            wrong = "torch finds no CUDA device"
        elif value == "cpu" and cuda:
            wrong = "ZeRO would look for a CPU where there is a GPU"
    why = "DeepSpeed settles on this device when it is imported, whatever the recipe says"
    yield Finding(
        "DS_ACCELERATOR",
        "problem" if wrong else "ok",
        f"{value}: {wrong}" if wrong else value,
        why,
        remedy if wrong else "",
    )


def _transformer_engine() -> Iterator[Finding]:
    """Found without importing it; then imported by a process of its own."""
    if importlib.util.find_spec("transformer_engine") is None:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import transformer_engine.pytorch"],
            capture_output=True,
            text=True,
            timeout=_IMPORT_SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        said = done.stderr.strip().splitlines()
        error = "" if done.returncode == 0 else (said[-1] if said else f"exit code {done.returncode}")
    except (OSError, subprocess.TimeoutExpired) as failure:
        error = str(failure)
    if not error:
        yield Finding("transformer-engine", "ok", "imports")
        return
    yield Finding(
        "transformer-engine",
        "problem",
        f"installed, and does not import ({error})",
        "peft asks whether it is there and then imports it, so that import peft fails too, and with it every LoRA",
        "pip uninstall transformer-engine, or pip install --no-build-isolation 'transformer-engine[pytorch]' with CUDA",
    )


def _program(name: str, environment: Mapping[str, str]) -> str | None:
    return shutil.which(name, path=environment.get("PATH", os.defpath))
