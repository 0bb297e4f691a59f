"""`latentthought train`: a run by a recipe, from the first stage to the saved model."""

from __future__ import annotations

import argparse
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.cli.folders import remove_bare
from latentthought.cli.parser import Parser, UsageError
from latentthought.cli.teachers import check_overrides
from latentthought.errors import FolderInUseError, LatentThoughtError, Preempted
from latentthought.resources import find_recipe

if TYPE_CHECKING:
    from latentthought.cli.profiling import StepTimes

DESCRIPTION = (
    "Train by a recipe: a name (latentthought recipes) or a YAML file, with any of its keys changed on the command line.\n"
    "Exit code 75: the run was asked to stop (SIGTERM), saved itself, and goes on with --resume."
)
EPILOG = """examples:
  latentthought train coconut-gpt2-gsm8k --smoke
  latentthought train my.yaml data.path=rows.jsonl training.learning_rate=5e-5 --output runs/mine
  latentthought train my.yaml --output runs/mine --resume
  latentthought train prosqa-scratch --dry-run
  latentthought train lrd/3-student --dry-run --processes 1,8 --device-memory 80"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name or YAML file")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="changes to the recipe: dotted keys, YAML values"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="the run folder (default: the next of runs/RECIPE-001, -002, ...)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --output from its last checkpoint"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="the same path in seconds: a tiny model, made-up rows, a few steps; offline, CPU",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show recipe, stages, sizes, the first row and what the run takes; train nothing, write nothing",
    )
    parser.add_argument(
        "--processes",
        metavar="N,M,...",
        help="with --dry-run: only what the run takes, on so many processes; needs neither weights nor data",
    )
    parser.add_argument(
        "--device-memory", metavar="GB", type=float, help="with --dry-run: say what fits a device of so much"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="say at the end, and in profile.json, where a step's time went, by stage: prefix, thoughts, head, backward, ...",
    )


def run(args: argparse.Namespace) -> int:
    check_overrides(args.overrides)
    find_recipe(args.recipe)  # a mistyped name should not wait for torch
    if args.resume and not args.output:
        raise UsageError("--resume needs --output DIR, the folder of the run to go on with")
    if args.resume and not Path(args.output).is_dir():
        raise UsageError(f"--resume: there is no run folder {args.output}")
    if not args.dry_run and (args.processes or args.device_memory is not None):
        name = "--processes" if args.processes else "--device-memory"
        raise UsageError(f"{name} goes with --dry-run, which says what a run would take")
    if args.dry_run and args.profile:
        raise UsageError("--profile times the steps of a run, and --dry-run takes none: give one of them")
    if args.device_memory is not None and not 0 < args.device_memory < float("inf"):
        raise UsageError(f"--device-memory {args.device_memory:g}: gigabytes above 0, such as 80")
    from latentthought.cli.noise import quiet
    from latentthought.recipe import load_recipe

    quiet()
    recipe = load_recipe(args.recipe, args.overrides, smoke=args.smoke)
    if args.dry_run:
        _show(recipe, args)
        return 0
    output = Path(args.output) if args.output else _default_folder(recipe.name)
    fresh = not output.exists() or not any(output.iterdir())
    try:
        if args.smoke:
            from latentthought.cli.earlier import with_inputs

            recipe = with_inputs(recipe, output)
        _train(recipe, output, args)
    except BaseException as error:
        # what was there before, or is another run's, is not ours to take away
        if fresh and not isinstance(error, FolderInUseError | Preempted):
            _leave_nothing(output, error)
        if isinstance(error, KeyboardInterrupt) and output.is_dir():
            raise KeyboardInterrupt(
                f"go on from the last checkpoint in {output}, if there is one, with --resume"
            ) from None
        raise
    return 0


def _show(recipe: Any, args: argparse.Namespace) -> None:
    from latentthought.cli.dry_run import show
    from latentthought.cli.earlier import without_inputs
    from latentthought.cli.forecast import plan, read_counts

    if args.processes:
        plan(recipe, read_counts(args.processes), args.device_memory, args.smoke)
    else:
        show(without_inputs(recipe) if args.smoke else recipe, args.smoke, args.device_memory)


def _train(recipe: Any, output: Path, args: argparse.Namespace) -> None:
    from latentthought.cli.scoring import scorer_for
    from latentthought.training.run import train

    first = os.environ.get("RANK", "0") == "0"
    say = print if first else lambda text: None
    say(f"run folder  {output}")
    times: StepTimes | None = None
    listens: AbstractContextManager[None] = nullcontext()
    if args.profile:
        from latentthought.cli.profiling import StepTimes
        from latentthought.model.spans import listening

        times = StepTimes(say)
        listens = listening(times)
    scorer = scorer_for(recipe, args.smoke, say)
    with listens:
        result = train(
            recipe,
            output,
            resume=args.resume,
            smoke=args.smoke,
            scorer=scorer,
            callbacks=(times,) if times else (),
        )
    if not first:
        return
    if times is not None and times.timed:
        from latentthought.cli.console import console

        console().print(times.table())
        times.write(output)
    shown = {
        "loss": result.loss,
        **{key: value for key, value in result.metrics.items() if key.endswith("_accuracy")},
    }
    print(
        "  ".join(
            [
                f"{result.steps} steps in {result.seconds:.0f} s",
                *(f"{key} {value:.4g}" for key, value in shown.items() if value is not None),
            ]
        )
    )
    incidents = output / "incidents.jsonl"
    if incidents.exists() and (lines := len(incidents.read_text(encoding="utf-8").splitlines())):
        print(f"bad steps   {lines}, see {incidents}")
    print(f"model       {result.model}")
    if recipe.evaluation.task not in (None, "file"):  # which has no rows of its own
        print(f"next        latentthought evaluate {output} --task {recipe.evaluation.task} --control all")


def _default_folder(name: str) -> Path:
    from latentthought.cli.folders import numbered
    from latentthought.processes import process_count

    if process_count() > 1:
        raise UsageError("several processes need one folder: give --output DIR")
    return numbered(name)


def _leave_nothing(output: Path, error: BaseException) -> None:
    """A run that never took a step leaves no folder behind, so that the corrected command can use the same one."""
    if isinstance(error, LatentThoughtError | KeyboardInterrupt):
        remove_bare(output, {"recipe.yaml", ".lock"})
