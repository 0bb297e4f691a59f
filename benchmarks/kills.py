"""Kill a run with SIGKILL at random moments, resume it each time, and compare with the run that was left alone.

    python -m benchmarks.kills --kills 10
    python -m benchmarks.kills --recipe lrd/3-student --kills 5
    python -m benchmarks.kills --recipe RECIPE --kills 50 key=value ...
    python -m benchmarks.kills --extract lrd/2-states --kills 5
    python -m benchmarks.kills --evaluate runs/mine --task gsm8k,prosqa --limit 200 --kills 5 --processes 1,2

Three of ten kills strike while the program is still starting (making what it needs, reading data, building the model, loading
the checkpoint), three while a checkpoint or a shard is being written, the others at a random time after a random step: in the
middle of a step, of a line of metrics, of anything. The weights, adapters, companions and metrics of both runs have to be equal
to the last bit, or with --extract all files of the cache; the last line of the output says so, and the exit code is 1 if not.
With --evaluate, a finished run is evaluated under kills instead (evaluation_kills.py): the samples have to be equal.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.evaluation_kills import kill_task
from benchmarks.killed_jobs import Job, extraction, training

STARTING_SHARE, SAVING_SHARE = 0.3, 0.3
# of a checkpoint of a smoke run, from its first file to its name
SAVING_SECONDS = 0.05


def kill_somewhere(
    process: subprocess.Popen, job: Job, output: Path, rng: random.Random, startup: float, total: int
) -> str:
    """Wait for a random moment and send SIGKILL; says which moment, or "" when the job was over before it."""
    share, begin = rng.random(), job.done(output)
    # a fifth of the job further at most, so that one job takes several kills
    after = min(rng.randint(begin, begin + total // 5), total - 1)
    starting, saving = share < STARTING_SHARE, share > 1 - SAVING_SHARE
    delay = rng.uniform(0.0, startup if starting else SAVING_SECONDS if saving else 0.3)
    while not starting and process.poll() is None:
        if job.done(output) >= after and (not saving or job.saving(output)):
            break
        time.sleep(0.001)
    try:
        process.wait(timeout=delay)
        return ""
    except subprocess.TimeoutExpired:
        done, begun = job.done(output), job.saving(output)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    moment = "inside a save" if begun else "while starting" if starting and done == begin else "at work"
    return f"{moment}, after {done} of {total} {job.unit}"


def finish(process: subprocess.Popen) -> None:
    """Wait for a job that nobody kills; its own words if it fails."""
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(
            f"a job failed with exit code {process.returncode}:\n{errors.decode(errors='replace')[-2000:]}"
        )


def kill_job(job: Job, kills: int, rng: random.Random, folder: Path) -> list[str]:
    """Do a job whole once and under kills as often as it takes; what differs."""
    whole, killed = folder / "whole", folder / "killed"
    begun = time.perf_counter()
    process = job.start(whole)
    while not job.done(whole / job.output) and process.poll() is None:
        time.sleep(0.02)
    startup = time.perf_counter() - begun
    finish(process)
    total = job.done(whole / job.output)
    struck = 0
    while struck < kills:
        if (
            job.done(killed / job.output) == total
        ):  # nothing left to strike: let it end, compare, begin another one
            finish(job.start(killed))
            if found := job.differences(whole / job.output, killed / job.output):
                return found
            killed = folder / f"killed-{struck}"
        moment = kill_somewhere(job.start(killed), job, killed / job.output, rng, startup, total)
        if moment:  # else it got to its end before the kill
            struck += 1
            print(f"kill {struck:2d} of {killed.name}: {moment}", flush=True)
    finish(job.start(killed))
    return job.differences(whole / job.output, killed / job.output)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.split("\n")[0])
    parser.add_argument("changes", nargs="*", metavar="key=value", help="changes to the recipe or the task")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--recipe", default="quickstart", help="kill a smoke run of this recipe (quickstart)")
    what.add_argument("--extract", metavar="RECIPE", help="kill the extraction of its teacher's states")
    what.add_argument("--evaluate", metavar="MODEL", help="kill evaluations of this model")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task", default="hops", metavar="A,B,...", help="the tasks to evaluate")
    parser.add_argument("--limit", default="200", help="rows of a task")
    parser.add_argument(
        "--processes", default="1", metavar="N,M,...", help="numbers to choose from at every start"
    )
    return parser


def main() -> int:
    args = arguments().parse_args()
    rng = random.Random(args.seed)
    if args.evaluate:
        counts = [int(count) for count in args.processes.split(",")]
        options = ["--limit", args.limit, "--batch-size", "4", *args.changes]
        tasks = args.task.split(",")
        equal = [kill_task(args.evaluate, task, options, args.kills, counts, rng) for task in tasks]
        print(f"{sum(equal)} of {len(tasks)} tasks with the samples of the run that was left alone")
        return 0 if all(equal) else 1
    job = extraction(args.extract, args.changes) if args.extract else training(args.recipe, args.changes)
    with tempfile.TemporaryDirectory() as folder:
        found = kill_job(job, args.kills, rng, Path(folder))
    verdict = "equal to the last bit" if not found else f"DIFFERENT: {', '.join(found[:5])}"
    print(f"{args.kills} kills in {job.name} --smoke, resumed each time: {verdict}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
