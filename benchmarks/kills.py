"""Kill a run with SIGKILL at random moments, resume it each time, and compare with the run that was left alone.

    python -m benchmarks.kills --kills 10
    python -m benchmarks.kills --kills 50 RECIPE key=value ...
    python -m benchmarks.kills --evaluate runs/mine --task gsm8k,prosqa --limit 200 --kills 5 --processes 1,2

Three of ten kills strike while the program is still starting (reading data, building the model, loading the checkpoint), the
others at a random time after a random step, in the middle of a step, of a line of metrics or of a checkpoint. The weights and
the metrics of both runs have to be equal to the last bit; the last line of the output says so, and the exit code is 1 if not.
With --evaluate, a finished run is evaluated under kills instead (evaluation_kills.py): the samples have to be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.evaluation_kills import kill_task

STARTING_SHARE = 0.3
# long enough to be hit: the six stages of the quickstart, 40 steps each
LONGER = [f"curriculum.{stages}.steps=40" for stages in ("each", "first", "last")]
SMOKE = [*LONGER, "training.save_every=10", "training.log_every=5"]


def start(recipe: str, overrides: list[str], output: Path, resume: bool) -> subprocess.Popen:
    """A training process as a user would start it, in a process group of its own."""
    command = [
        sys.executable,
        "-m",
        "latentthought",
        "train",
        recipe,
        "--smoke",
        *overrides,
        "--output",
        str(output),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command + (["--resume"] if resume else []),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def last_step(output: Path) -> int:
    """The step of the last whole line of metrics; 0 before there is one."""
    try:
        lines = (output / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        return int(json.loads(lines[-1])["step"])
    except (FileNotFoundError, IndexError):
        return 0


def kill_somewhere(
    process: subprocess.Popen, output: Path, rng: random.Random, startup: float, total: int
) -> str:
    """Wait for a random moment and send SIGKILL; says which moment, or "" when the run was over before it."""
    if rng.random() < STARTING_SHARE:
        delay, after = rng.uniform(0.0, startup), None
    else:
        begin = last_step(output)  # a fifth of the run further at most, so that one run takes several kills
        delay, after = rng.uniform(0.0, 0.3), min(rng.randint(begin, begin + total // 5), total - 1)
    while after is not None and last_step(output) < after and process.poll() is None:
        time.sleep(0.005)
    try:
        process.wait(timeout=delay)
        return ""
    except subprocess.TimeoutExpired:
        step = last_step(output)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "while starting" if after is None else f"after step {step} of {total}"


def differences(left: Path, right: Path) -> list[str]:
    """What differs between two finished runs: tensors by name, lines of metrics by number (speed left out)."""
    from safetensors.torch import load_file

    mine, theirs = (load_file(run / "model" / "model.safetensors") for run in (left, right))
    found = sorted(mine.keys() ^ theirs.keys())
    shared = sorted(mine.keys() & theirs.keys())
    found += [name for name in shared if not mine[name].equal(theirs[name])]
    lines = [
        [
            {key: value for key, value in json.loads(line).items() if key != "tokens_per_second"}
            for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for run in (left, right)
    ]
    if lines[0] != lines[1]:
        found.append(f"metrics.jsonl ({len(lines[0])} and {len(lines[1])} lines)")
    return found


def finish(process: subprocess.Popen) -> None:
    """Wait for a run that nobody kills; its own words if it fails."""
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(
            f"a run failed with exit code {process.returncode}:\n{errors.decode(errors='replace')[-2000:]}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", default="quickstart")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--evaluate", metavar="MODEL", help="kill evaluations of this model instead of a training run"
    )
    parser.add_argument("--task", default="hops", metavar="A,B,...", help="the tasks to evaluate")
    parser.add_argument("--limit", default="200", help="rows of a task")
    parser.add_argument(
        "--processes", default="1", metavar="N,M,...", help="numbers to choose from at every start"
    )
    args = parser.parse_args()
    rng = random.Random(args.seed)
    if args.evaluate:
        counts = [int(count) for count in args.processes.split(",")]
        changes = [text for text in (args.recipe, *args.overrides) if "=" in text]
        options = ["--limit", args.limit, "--batch-size", "4", *changes]
        tasks = args.task.split(",")
        equal = [kill_task(args.evaluate, task, options, args.kills, counts, rng) for task in tasks]
        print(f"{sum(equal)} of {len(tasks)} tasks with the samples of the run that was left alone")
        return 0 if all(equal) else 1
    overrides = args.overrides or SMOKE
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        begun = time.perf_counter()
        process = start(args.recipe, overrides, whole, resume=False)
        while not last_step(whole) and process.poll() is None:
            time.sleep(0.02)
        startup = time.perf_counter() - begun
        finish(process)
        total = last_step(whole)
        kills, found = 0, []
        while kills < args.kills:
            if last_step(killed) == total:  # nothing left to strike: let it end, compare, begin another one
                finish(start(args.recipe, overrides, killed, resume=True))
                if found := differences(whole, killed):
                    break
                killed = killed.with_name(f"killed-{kills}")
            moment = kill_somewhere(
                start(args.recipe, overrides, killed, killed.exists()), killed, rng, startup, total
            )
            if moment:  # else it got to its end before the kill
                kills += 1
                print(f"kill {kills:2d} of {killed.name}: {moment}", flush=True)
        if not found:
            finish(start(args.recipe, overrides, killed, killed.exists()))
            found = differences(whole, killed)
    verdict = "weights and metrics equal, bit for bit" if not found else f"DIFFERENT: {', '.join(found[:5])}"
    print(f"{kills} kills in {args.recipe} --smoke, {total} steps, resumed each time: {verdict}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
