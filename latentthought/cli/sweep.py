"""`latentthought sweep`: a recipe over a grid of its keys and over seeds, in one table with intervals and one figure."""

from __future__ import annotations

import argparse
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.cli.evaluate import CONTROLS
from latentthought.cli.folders import numbered, remove_bare, require_writable
from latentthought.cli.noise import quiet
from latentthought.cli.parser import Parser, UsageError, positive, thoughts_argument
from latentthought.cli.teachers import check_overrides
from latentthought.errors import FolderInUseError, Preempted, UserError
from latentthought.resources import find_recipe, find_task

if TYPE_CHECKING:
    from latentthought.sweeping.grid import Choice
    from latentthought.sweeping.plan import EvaluationChoice, Sweep

DESCRIPTION = """Train a recipe at every point of a grid, under several seeds, evaluate every run, and put all of it into one
table with intervals and one figure. Each point is `latentthought train` and `latentthought evaluate` in processes of their
own, in OUTPUT/points/NAME: a crash of one leaves the others alone, and --resume goes on wherever the sweep was stopped.
Exit codes: 0; 1 points have failed (the table says which, and why); 75 stopped by SIGTERM, goes on with --resume."""
EPILOG = """examples:
  latentthought sweep quickstart training.learning_rate=1e-3,3e-3 --seeds 3
  latentthought sweep lrd/small/3-student model.lora.r=4,16,64 'objective.1.layers=[2],[3],[2,3]' --seeds 3 --jobs 2
  latentthought sweep lrd/small/3-student 'objective.1.weight,objective.0.weight=[0.1,0.9],[0.5,0.5]' --seeds 3
  latentthought sweep quickstart training.batch_size=32,64 curriculum.replay=0,0.3 --baseline curriculum.replay=0 --seeds 3
  latentthought sweep mine.yaml training.learning_rate=1e-4,3e-4 --output sweeps/rate --seeds 5 --resume
  latentthought sweep prosqa-scratch seed=1,2,3 --launcher submitit --launcher-option gpus_per_node=1
A value with commas of its own stands in brackets or quotes: key=[1,2],[3,4] are two lists, key="a, b" is one text."""
LAUNCHERS = ("local", "submitit")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name or YAML file")
    parser.add_argument(
        "axes",
        metavar="key=value,value,...",
        nargs="*",
        help="dotted keys and their values (YAML); one value is a plain change; key,key=[a,b],[c,d] change together",
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=positive,
        help="runs of every setting, from the recipe's seed on (default: 1)",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="default: the next of runs/RECIPE-sweep-001, -002, ..."
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with --output; values and seeds may be added"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="every point as `train --smoke`: seconds, offline, CPU"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="list the points and what the first one takes; start nothing, write nothing",
    )
    parser.add_argument(
        "--baseline",
        metavar="key=value",
        action="append",
        default=[],
        help="what settings are compared with, all other keys being the same (default: the first setting)",
    )
    _add_evaluation(parser)
    _add_launching(parser)


def _add_evaluation(parser: Parser) -> None:
    parser.add_argument(
        "--task",
        metavar="NAME",
        action="append",
        help="evaluate every run on it; may be repeated (default: the task that the recipe validates on, if any)",
    )
    parser.add_argument(
        "--no-evaluate", action="store_true", help="only train; the table has the runs' own validation"
    )
    parser.add_argument("--limit", metavar="N", type=positive, help="the first N rows of each task only")
    parser.add_argument(
        "--thoughts", metavar="N|auto", type=thoughts_argument, help="default: as many as in training"
    )
    parser.add_argument("--control", choices=CONTROLS, default="none", help="as of evaluate (default: none)")
    parser.add_argument("--max-new-tokens", metavar="N", type=positive, help="default: the task's")


def _add_launching(parser: Parser) -> None:
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=positive,
        help="points at a time; they split the cores, and have a GPU each if there are enough (default: one a GPU, else 1)",
    )
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="local", help="submitit: every point is a job of the cluster"
    )
    parser.add_argument(
        "--launcher-option",
        metavar="key=value",
        action="append",
        default=[],
        help="of submitit: cluster=slurm|local, timeout_min (default: a day), slurm_partition, gpus_per_node, mem_gb, ...",
    )


def run(args: argparse.Namespace) -> int:
    _check(args)
    quiet()
    from latentthought.sweeping.grid import find_choice
    from latentthought.sweeping.plan import plan_sweep, read_sweep, require_same

    output = Path(args.output) if args.output else None
    before = read_sweep(output) if args.resume and output is not None else None
    sweep = plan_sweep(args.recipe, args.axes, args.seeds, _evaluation(args), args.smoke, before)
    baseline = dict(find_choice(sweep.axes, text) for text in args.baseline)
    if before is not None and output is not None:
        require_same(sweep, before, output)
    if args.dry_run:
        _show(sweep)
        return 0
    from latentthought.training.folder import claimed

    output = output or numbered(f"{sweep.recipes[sweep.points[0].name].name}-sweep")
    try:
        with claimed(output, args.resume):
            return _run(args, sweep, baseline, output)
    except UserError as error:
        if not isinstance(
            error, FolderInUseError
        ):  # nothing has begun: the corrected command can use the same folder
            remove_bare(output, {".lock", "jobs"})
        raise


def _check(args: argparse.Namespace) -> None:
    """What can be wrong with the arguments alone; torch is not imported yet."""
    from latentthought.processes import process_count

    check_overrides(args.axes)
    find_recipe(args.recipe)
    for task in args.task or ():
        find_task(task)
    if process_count() > 1:
        raise UsageError(
            "a sweep starts its own processes, one a point: start it by itself, without a launcher"
        )
    if args.resume and not args.output:
        raise UsageError("--resume needs --output DIR, the folder of the sweep to go on with")
    if args.resume and not Path(args.output).is_dir():
        raise UsageError(f"--resume: there is no folder {args.output}")
    there = {path.name for path in Path(args.output).iterdir()} if args.resume else set()
    if there - {".lock"} and "sweep.yaml" not in there:
        raise UsageError(f"--resume: {args.output} has no sweep.yaml, so it is not the folder of a sweep")
    if args.no_evaluate and (args.task or args.limit or args.thoughts is not None or args.control != "none"):
        raise UsageError("--no-evaluate, and an option of the evaluation: give one of them")
    if args.launcher_option and args.launcher != "submitit":
        raise UsageError("--launcher-option goes with --launcher submitit")
    if args.output and not args.dry_run:
        require_writable(Path(args.output))


def _evaluation(args: argparse.Namespace) -> EvaluationChoice:
    from latentthought.sweeping.plan import EvaluationChoice

    return EvaluationChoice(
        tasks=tuple(args.task) if args.task else None,
        none=args.no_evaluate,
        limit=args.limit,
        thoughts=args.thoughts,
        control=args.control,
        max_new_tokens=args.max_new_tokens,
    )


def _show(sweep: Sweep) -> None:
    """The points, and what the first one takes."""
    from latentthought.cli.forecast import plan

    width = max(len(point.name) for point in sweep.points)
    for point in sweep.points:
        tasks = ", ".join(name for _, name in sweep.tasks[point.name]) or "no evaluation"
        print(f"{point.name:<{width}}  {tasks}")
    print(f"{sweep.size}\n\nthe first one takes:")
    plan(sweep.recipes[sweep.points[0].name], [1], None, sweep.smoke)


def _launcher(args: argparse.Namespace, output: Path) -> Any:
    if args.launcher == "submitit":
        from latentthought.sweeping.cluster import SubmititLauncher, read_options

        return SubmititLauncher(output, read_options(args.launcher_option), args.jobs)
    from latentthought.sweeping.running import LocalLauncher, cores, visible_devices

    devices = visible_devices()
    jobs = args.jobs or max(1, len(devices))
    return LocalLauncher(jobs, devices, max(1, cores() // jobs))


def _run(args: argparse.Namespace, sweep: Sweep, baseline: dict[str, Choice], output: Path) -> int:
    """Do what is not done yet, then say what all of it found."""
    from latentthought.cli.sweep_report import SweepReport
    from latentthought.sweeping.plan import write_sweep
    from latentthought.sweeping.running import works_of

    launcher = _launcher(args, output)  # an option that does not hold is said before anything is written
    write_sweep(sweep, output)
    works = works_of(sweep, output)
    left = [work for work in works if not work.finished]
    there = len(works) - len(left)
    print(f"sweep       {output}\n            {sweep.size}{f', {there} finished before' if there else ''}")
    command = _command(args, output)
    report = SweepReport(sweep, baseline, output, works, command)
    report.write()
    try:
        with _stopping_on_sigterm(), report.status():
            launcher.run(left, report.finished, report.waiting, report.say)
    except KeyboardInterrupt:
        report.write()
        raise KeyboardInterrupt(f"{report.counted()}; go on with: {command}") from None
    except Preempted:
        report.write()
        raise Preempted(f"{report.counted()}; go on with: {command}") from None
    return report.close()


def _command(args: argparse.Namespace, output: Path) -> str:
    """The command line that goes on with a sweep."""
    words = ["latentthought", "sweep", args.recipe, *args.axes]
    given = {"--seeds": args.seeds, "--limit": args.limit, "--thoughts": args.thoughts}
    given |= {"--max-new-tokens": args.max_new_tokens, "--jobs": args.jobs}
    given |= {"--control": None if args.control == "none" else args.control}
    given |= {"--launcher": None if args.launcher == "local" else args.launcher}
    words += [str(part) for name, value in given.items() if value is not None for part in (name, value)]
    for name, values in (
        ("--task", args.task or ()),
        ("--baseline", args.baseline),
        ("--launcher-option", args.launcher_option),
    ):
        words += [part for value in values for part in (name, value)]
    words += [f"--{name}" for name in ("smoke", "no-evaluate") if getattr(args, name.replace("-", "_"))]
    return shlex.join([*words, "--output", str(output), "--resume"])


@contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
    """SIGTERM, which a scheduler sends, as an exception in this thread; put back afterwards."""

    def stop(number: int, frame: Any) -> None:
        raise Preempted("asked to stop")

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
