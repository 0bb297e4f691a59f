"""`latentthought lm-eval`: lm-evaluation-harness as it is, with our model class registered and our tasks among its own.

Every argument is lm-eval's. Left out, `--model` is ours, and `--batch_size` is then `auto` (lm-eval's own default is one row).
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from latentthought.cli.parser import Parser, UsageError
from latentthought.errors import UnsupportedError, UserError, require_extra

DESCRIPTION = (
    "Run lm-evaluation-harness with the model class `latentthought` and the tasks latentthought_* in it."
)

EPILOG = """Every argument is lm-eval's own: `latentthought lm-eval run --help` lists them.

  latentthought lm-eval --model_args pretrained=RUN thoughts=6 --tasks latentthought_gsm8k,hellaswag
  latentthought lm-eval ls subtasks

Left out, --model is `latentthought` and --batch_size is auto. docs/lm-eval.md tells the model's arguments."""

# those that run no model
_OTHER_COMMANDS = ("ls", "validate")


def add_arguments(parser: Parser) -> None:
    parser.hand_on("arguments")


def run(args: argparse.Namespace) -> int:
    if args.arguments in ([], ["run"]):
        raise UsageError(
            "say what to run: --model_args pretrained=RUN --tasks NAME, or ls (see latentthought lm-eval --help)"
        )
    program = require_extra("lm_eval.__main__", "eval", "latentthought lm-eval")
    from latentthought.cli.noise import quiet
    from latentthought.evaluation.harness import register

    quiet()
    register()
    with _our_tasks(), _command_line(with_defaults(args.arguments)):
        try:
            _refuse_examples(program.HarnessCLI().parse_args())
            program.cli_evaluate()
        except (ValueError, KeyError, FileNotFoundError) as error:
            if isinstance(error, UserError) or not _raised_by_lm_eval(error):
                raise
            raise UserError(f"lm-eval: {error}") from error
    return 0


def with_defaults(arguments: Sequence[str]) -> list[str]:
    """The arguments with our model class where none is named, and rows in batches for it."""
    given = list(arguments)
    evaluates = given not in ([], ["run"]) and given[0] not in _OTHER_COMMANDS
    if not evaluates or _has(given, "--help", "-h") or _has(given, "--config", "-C"):
        return given
    if not _has(given, "--model", "-M"):
        given += ["--model", "latentthought"]
        if not _has(given, "--batch_size", "-b"):
            given += ["--batch_size", "auto"]
    return given


def _refuse_examples(chosen: argparse.Namespace) -> None:
    """Raise `UnsupportedError` for `--num_fewshot` with a task of ours, where lm-eval would go on without any example."""
    settings: dict[str, Any] = {}
    if getattr(chosen, "config", None):
        from lm_eval.config.evaluate_config import EvaluatorConfig

        settings = EvaluatorConfig.load_yaml_config(chosen.config)
    count = getattr(chosen, "num_fewshot", None)
    count = settings.get("num_fewshot") if count is None else count
    tasks = getattr(chosen, "tasks", None) or settings.get("tasks") or []
    names = ",".join([tasks] if isinstance(tasks, str) else map(str, tasks)).split(",")
    ours = next((name.strip() for name in names if name.strip().startswith("latentthought")), None)
    if count and ours:
        raise UnsupportedError(
            f"--num_fewshot {count}: {ours} takes no examples in lm-eval, which would draw them from the test rows; "
            f"leave it out, or run latentthought evaluate with few_shot.count={count}"
        )


def _has(arguments: Sequence[str], *names: str) -> bool:
    return any(argument.partition("=")[0] in names for argument in arguments)


@contextmanager
def _command_line(arguments: Sequence[str]) -> Iterator[None]:
    """lm-eval reads `sys.argv`."""
    before = sys.argv
    sys.argv = ["latentthought lm-eval", *arguments]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _our_tasks() -> Iterator[None]:
    """Our folder of tasks in every task manager that lm-eval makes: it has one `--include_path`, and that is the user's."""
    import lm_eval.tasks

    from latentthought.evaluation.harness import task_manager_class

    before = lm_eval.tasks.TaskManager
    lm_eval.tasks.TaskManager = task_manager_class()
    try:
        yield
    finally:
        lm_eval.tasks.TaskManager = before


def _raised_by_lm_eval(error: BaseException) -> bool:
    """Whether lm-eval itself refused something, rather than a library below it or our own code."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).startswith("lm_eval.")
