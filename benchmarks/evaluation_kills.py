"""The other half of benchmarks/kills.py: evaluations that are killed, resumed each time, and compared with whole ones.

A kill strikes at a random moment: while the program starts, or once a random number of samples is there, in one process or in
several. What has to be equal are the samples, line by line and in order, all but the milliseconds; and the results, all but the
costs.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

STARTING_SHARE = 0.2


def start(arguments: Sequence[str], output: Path, processes: int, resume: bool) -> subprocess.Popen:
    """An evaluation as a user would start it."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [
        sys.executable,
        *(launcher if processes > 1 else []),
        *("-m", "latentthought", "evaluate", *arguments, "--output", str(output)),
        *(["--resume"] if resume else []),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> None:
    """Wait for an evaluation that nobody kills; its own words if it fails."""
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"an evaluation failed with exit code {process.returncode}:\n{errors.decode()[-2000:]}")


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to a process and all that it started: a launcher gives its workers sessions of their own."""
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    psutil.wait_procs(family[1:])
    process.communicate()


def written(folder: Path) -> int:
    """Samples on the disk, of all processes."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("samples*.jsonl"))


def kill_somewhere(
    process: subprocess.Popen, folder: Path, rng: random.Random, startup: float, total: int
) -> str:
    """Wait for a random moment and kill; says which moment, or "" when the evaluation was over before it."""
    begin = written(folder)
    starting = rng.random() < STARTING_SHARE
    until = time.monotonic() + rng.uniform(0.0, startup)
    # not far ahead, so that one evaluation takes several kills
    wanted = min(total, begin + rng.randint(1, max(1, total // 3)))
    while process.poll() is None:
        if time.monotonic() > until if starting else written(folder) >= wanted:
            there = written(folder)
            kill(process)
            return f"with {there} of {total} samples"
        time.sleep(0.002)
    finish(process)
    return ""


def differences(whole: Path, killed: Path) -> list[str]:
    """What differs between two results folders."""
    rows = [
        [
            {**json.loads(line), "milliseconds": 0}
            for line in (folder / "samples.jsonl").read_text("utf-8").splitlines()
        ]
        for folder in (whole, killed)
    ]
    found = [] if rows[0] == rows[1] else [f"samples.jsonl ({len(rows[0])} and {len(rows[1])} rows)"]
    results = [json.loads((folder / "results.json").read_text("utf-8")) for folder in (whole, killed)]
    found += [key for key in results[0] if key != "costs" and results[0][key] != results[1].get(key)]
    left = sorted(path.name for path in killed.iterdir())
    return found if left == sorted(path.name for path in whole.iterdir()) else [*found, f"files {left}"]


def kill_task(
    model: str, task: str, options: Sequence[str], kills: int, processes: Sequence[int], rng: random.Random
) -> bool:
    """Evaluate once whole and once with kills, in a random number of processes each time; whether both are equal."""
    with tempfile.TemporaryDirectory() as name:
        whole, killed = Path(name) / "whole", Path(name) / "killed"
        arguments = [model, "--task", task, *options]
        begun = time.perf_counter()
        process = start(arguments, whole, 1, resume=False)
        folder = whole / "results" / task / "none"
        while not written(folder) and process.poll() is None:
            time.sleep(0.01)
        startup = time.perf_counter() - begun
        finish(process)
        total, struck, moments = written(folder), 0, []
        target = killed / "results" / task / "none"
        while struck < kills and not (target / "results.json").is_file():
            count = rng.choice(processes)
            moment = kill_somewhere(
                start(arguments, killed, count, killed.exists()), target, rng, startup, total
            )
            if moment:
                struck += 1
                moments.append(f"{moment} ({count})")
        finish(start(arguments, killed, rng.choice(processes), killed.exists()))
        found = differences(folder, target)
    verdict = "equal" if not found else f"DIFFERENT: {', '.join(found[:5])}"
    print(f"{task}: {total} samples, {struck} kills ({'; '.join(moments)}): {verdict}", flush=True)
    return not found
