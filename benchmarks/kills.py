"""Kill a job with SIGKILL at random moments, resume it each time, and compare with the one that was left alone.

    python -m benchmarks.kills --all --kills 50
    python -m benchmarks.kills --recipe lrd/3-student --kills 5
    python -m benchmarks.kills --recipe RECIPE --kills 50 --processes 2 key=value ...
    python -m benchmarks.kills --extract lrd/2-states --kills 5 --processes 1,2
    python -m benchmarks.kills --respond levels/response --kills 5
    python -m benchmarks.kills --evaluate runs/mine --task gsm8k,prosqa --limit 200 --kills 5 --processes 1,2

Three of ten kills strike while the program is still starting (making what it needs, reading data, building the model, loading
the checkpoint), three while a checkpoint, a shard or a results file is being written, the others at a random time after a random
step: in the middle of a step, of a line of metrics, of anything. Where several processes work together, every third kill strikes
one of them alone, and the others have to end by themselves. After each kill every file that is there has to be whole
(kill_checks.py). In the end weights, adapters, companions and metrics have to be equal to the last bit, of a cache all files, of
an evaluation the samples and results; only where another engine took over, up to the order of sums. The last line of the output
says so, and the exit code is 1 if not.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.kill_checks import half_written
from benchmarks.killed_jobs import Job, answers, evaluation, every_kind, extraction, finish, training

STARTING_SHARE, SAVING_SHARE = 0.3, 0.3
# of a checkpoint of a smoke run, from its first file to its name
SAVING_SECONDS = 0.05
ONE_ALONE_SHARE = 1 / 3
# until the others of a process that was killed alone have ended
_OTHERS_SECONDS = 120


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
    # not `wait`, which sleeps for as long as a save takes
    until = time.monotonic() + delay
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.0005)
    if process.poll() is not None:
        finish(process)
        return ""
    done, begun = job.done(output), job.saving(output)
    struck = _kill(process, rng)
    moment = "inside a save" if begun else "while starting" if starting and done == begin else "at work"
    return f"{moment}, {struck}after {done} of {total} {job.unit}"


def _kill(process: subprocess.Popen, rng: random.Random) -> str:
    """SIGKILL to a process and all that it started, or to one worker of a launcher; says so in that case."""
    family = psutil.Process(process.pid).children(recursive=True)
    workers = [member for member in family if "RANK" in _environment(member)]
    if len(workers) > 1 and rng.random() < ONE_ALONE_SHARE:
        rng.choice(workers).kill()
        try:
            process.communicate(timeout=_OTHERS_SECONDS)
        except subprocess.TimeoutExpired:
            sys.exit(f"one process was killed, and the others went on for {_OTHERS_SECONDS} s")
        return "one process alone, "
    process.kill()  # a launcher first: it would start to speak of its workers
    for member in family:
        if member.is_running():
            member.kill()
    psutil.wait_procs(family)
    process.communicate()
    return ""


def _environment(member: psutil.Process) -> dict[str, str]:
    try:
        return member.environ()
    except psutil.Error:
        return {}


def kill_job(job: Job, kills: int, rng: random.Random, folder: Path) -> list[str]:
    """Do a job whole once and under kills as often as it takes; what differs, or is half-written after a kill."""
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
        if job.done(killed / job.output) == total:
            # nothing left to strike: let it end, compare, begin another one
            finish(job.start(killed, rng))
            if found := job.differences(whole / job.output, killed / job.output):
                return found
            killed = folder / f"killed-{struck}"
        moment = kill_somewhere(job.start(killed, rng), job, killed / job.output, rng, startup, total)
        if moment:  # else it got to its end before the kill
            struck += 1
            print(f"kill {struck:2d} of {killed.name}: {moment}", flush=True)
            if halves := half_written(killed):
                return [f"half-written {half}" for half in halves]
    finish(job.start(killed, rng))
    return [
        *(f"half-written {half}" for half in half_written(killed)),
        *job.differences(whole / job.output, killed / job.output),
    ]


def kill_jobs(jobs: Sequence[Job], kills: int, rng: random.Random, folder: Path) -> int:
    """Deal kills out to jobs, each in a numbered folder; how many jobs ended otherwise than when left alone."""
    failed = []
    for number, job in enumerate(jobs):
        share = kills // len(jobs) + (number < kills % len(jobs))
        if not share:
            continue
        place = folder / f"{number}"
        place.mkdir()
        found = kill_job(job, share, rng, place)
        verdict = f"DIFFERENT: {', '.join(found[:5])}" if found else "equal, no file half-written"
        print(f"{job.name}: {share} kills, resumed each time: {verdict}", flush=True)
        failed += [job.name] if found else []
    kinds = min(len(jobs), kills)
    verdict = (
        f"{len(failed)} of {kinds} jobs DIFFERENT: {', '.join(failed)}"
        if failed
        else f"every resume succeeded, no file half-written, all {kinds} jobs equal to those left alone"
    )
    print(f"{kills} kills: {verdict}")
    return len(failed)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.split("\n")[0])
    parser.add_argument("changes", nargs="*", metavar="key=value", help="changes to the recipe or the task")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--all", action="store_true", help="deal the kills out to a job of every kind")
    what.add_argument("--recipe", default="quickstart", help="kill a smoke run of this recipe (quickstart)")
    what.add_argument("--extract", metavar="RECIPE", help="kill the extraction of its teacher's states")
    what.add_argument("--respond", metavar="RECIPE", help="kill its teacher while it answers")
    what.add_argument(
        "--evaluate", metavar="MODEL", help="kill evaluations of this model, each task as often"
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task", default="hops", metavar="A,B,...", help="the tasks to evaluate")
    parser.add_argument("--limit", default="200", help="rows of a task")
    parser.add_argument(
        "--processes", default="1", metavar="N,M,...", help="numbers to choose from at every start"
    )
    return parser


def jobs_of(args: argparse.Namespace, folder: Path) -> list[Job]:
    """What is to be killed."""
    counts = [int(count) for count in args.processes.split(",")]
    if args.all:
        return every_kind(folder / "0" / "whole" / "run")
    if args.evaluate:
        options = ["--limit", args.limit, "--batch-size", "4", *args.changes]
        return [evaluation(Path(args.evaluate), task, options, counts) for task in args.task.split(",")]
    if args.extract:
        return [extraction(args.extract, args.changes, counts)]
    if args.respond:
        return [answers(args.respond, args.changes, counts)]
    return [training(args.recipe, args.changes, counts)]


def main() -> int:
    args = arguments().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        jobs = jobs_of(args, Path(folder))
        kills = args.kills * (len(jobs) if args.evaluate else 1)
        return 1 if kill_jobs(jobs, kills, random.Random(args.seed), Path(folder)) else 0


if __name__ == "__main__":
    sys.exit(main())
