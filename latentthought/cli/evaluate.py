"""`latentthought evaluate`: a model's accuracy on a task, with intervals, costs and controls."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from latentthought.cli.folders import require_writable
from latentthought.cli.models import MODEL_HELP, add_model_options, load
from latentthought.cli.outcome import finish, show, with_contamination
from latentthought.cli.parser import (
    Parser,
    UsageError,
    add_field_option,
    amount,
    columns,
    natural,
    positive,
    refuse_greedy_samples,
    share,
    thoughts_argument,
)
from latentthought.cli.together import together
from latentthought.errors import MissingFileError

if TYPE_CHECKING:
    from latentthought.data.example import ExampleSet
    from latentthought.evaluation import Results, TaskConfig
    from latentthought.model.loading import LoadedModel
    from latentthought.processes import Group

DESCRIPTION = """Score a model on a task. The controls take the meaning out of the thoughts and leave the rest as it is:
  no-thought  the delimiters with nothing between      shuffled  another question's thoughts
  pause       a constant in place of the thoughts      noised    thoughts plus noise of their own size
What accuracy is left under them was not the thoughts' doing."""
EPILOG = """examples:
  latentthought evaluate runs/my-run --task gsm8k --limit 200
  latentthought evaluate runs/my-run --task prosqa --control all
  latentthought evaluate owner/model --task gsm8k chat=true few_shot.count=4 --output results/their-model
  latentthought evaluate runs/my-run --task file --data rows.jsonl --field question=problem --field answer=gold.value
  latentthought evaluate runs/my-run --suite logic --samples 8
  torchrun --nproc-per-node 4 -m latentthought evaluate runs/my-run --task gsm8k"""
CONTROLS = ("none", "no-thought", "pause", "shuffled", "noised", "all")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "overrides", metavar="KEY=VALUE", nargs="*", help="changes to the task: dotted keys, YAML values"
    )
    parser.add_argument(
        "--task", metavar="NAME[,NAME...]", help="tasks by name (latentthought tasks) or YAML file"
    )
    parser.add_argument("--suite", metavar="NAME", help="the tasks of a suite, by name or YAML file")
    parser.add_argument("--data", metavar="FILE", help="other rows, in the form of the task's source")
    add_field_option(parser)
    parser.add_argument("--limit", metavar="N", type=positive, help="the first N rows only")
    parser.add_argument(
        "--samples", metavar="K", type=positive, default=1, help="answers a question (default: 1)"
    )
    parser.add_argument(
        "--temperature", metavar="T", type=amount, help="of the samples (default: greedy; 0.7 with --samples)"
    )
    parser.add_argument(
        "--thoughts",
        metavar="N|auto",
        type=thoughts_argument,
        help="default: as many as in training; 0: in words",
    )
    parser.add_argument(
        "--mix", metavar="M", type=share, help="share of the hidden state fed at every reasoning token"
    )
    parser.add_argument(
        "--control", choices=CONTROLS, default="none", help="default: none; all: every one that applies"
    )
    parser.add_argument("--max-new-tokens", metavar="N", type=positive, help="default: the task's")
    parser.add_argument("--batch-size", metavar="N", type=positive, help="default: by device and free memory")
    parser.add_argument(
        "--seed", metavar="N", type=natural, default=0, help="of samples and of made-up data (default: 0)"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="where results/TASK/CONTROL/ goes (default: the run folder, if MODEL is one)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with what the output folder holds")
    parser.add_argument(
        "--train-data",
        metavar="WHAT",
        help="look for the questions in what the model was trained on: a recipe, a run folder, a file of rows, or a source",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a few rows that the task's source makes itself; offline"
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    return together(lambda group: _run(args, group))


def _run(args: argparse.Namespace, group: Group) -> None:
    refuse_greedy_samples(args)
    if args.data and not Path(args.data).exists():
        raise MissingFileError(f"--data {args.data}: no such file")
    tasks = _tasks(args)  # a mistyped name should not wait for a model to load
    from latentthought.cli.training_rows import training_rows
    from latentthought.model.locating import locate

    _, run = locate(args.model)
    output = Path(args.output) if args.output else run
    if output is None and (args.resume or group.count > 1):
        why = "--resume" if args.resume else "an evaluation by several processes"
        raise UsageError(f"{why} needs --output DIR: MODEL is not a run folder, so its results are not kept")
    if output is not None and group.first:
        require_writable(output, "--output" if args.output else "the run folder")
        if not args.resume:
            _require_free(args, tasks, output)
    training = training_rows(args.train_data) if args.train_data and group.first else ()
    rows = [_rows(args, task) for task in tasks]
    loaded = load(args.model, args.device or group.device, args.dtype)
    group.exchange()
    with ExitStack() as stack:
        folder = output or Path(stack.enter_context(TemporaryDirectory(prefix="latentthought-")))
        found = []
        for task, examples in zip(tasks, rows, strict=True):
            results = _evaluate(args, group, loaded, task, examples, folder)
            if group.first:
                if args.train_data:
                    results = with_contamination(results, examples, training, args.train_data, folder)
                show(results)
            found.append(results)
        if group.first:
            suite = Path(args.suite).stem if args.suite else None
            finish(found, suite, folder, kept=output is not None, smoke=args.smoke)


def _rows(args: argparse.Namespace, task: TaskConfig) -> ExampleSet:
    """The rows of a task, and all that can be wrong with it beside the model, which may take minutes to load."""
    from latentthought.evaluation.measures import check_samples
    from latentthought.evaluation.tasks import load_data, require_groups

    check_samples(task.metrics, args.samples)
    limit = args.limit or (16 if args.smoke else None)
    examples = load_data(task, None, limit, seed=args.seed, smoke=args.smoke)
    require_groups(task, examples)
    task.few_shot.draw(task.data, seed=args.seed, smoke=args.smoke)
    return examples


def _require_free(args: argparse.Namespace, tasks: list[TaskConfig], output: Path) -> None:
    """Refuse folders that are in use before hours are spent on the tasks in front of them."""
    from latentthought.evaluation.results import result_folder
    from latentthought.evaluation.samples import require_free

    for task in tasks:
        for control in CONTROLS[:-1] if args.control == "all" else (args.control,):
            require_free(result_folder(output, task.name, control))


def _tasks(args: argparse.Namespace) -> list[TaskConfig]:
    """The tasks that are asked for, with what the command line changes in them."""
    from latentthought.evaluation.suites import SuiteConfig, load_suite
    from latentthought.resources import list_suites, list_tasks

    if args.task and args.suite:
        raise UsageError(f"--task {args.task} and --suite {args.suite}: give one of them, not both")
    if not (args.task or args.suite):
        raise UsageError(
            "say what to evaluate on: --task NAME or --suite NAME (latentthought tasks lists them)"
        )
    overrides = list(args.overrides)
    for text in overrides:
        if "=" not in text:
            raise UsageError(
                f"unexpected argument {text!r}: after the model come KEY=VALUE changes and --options"
            )
    tasks_known, suites_known = list_tasks(), list_suites()
    if args.suite:
        if args.suite in tasks_known and args.suite not in suites_known:
            raise UsageError(f"--suite {args.suite}: this is a task; give it as --task {args.suite}")
        suite = load_suite(args.suite)
    else:
        names = [name.strip() for name in args.task.split(",")]
        for name in names:
            if not name:
                raise UsageError(f"--task {args.task!r}: a name between the commas is empty")
            if name in suites_known and name not in tasks_known:
                raise UsageError(f"--task {name}: this is a suite; give it as --suite {name}")
        suite = SuiteConfig.parse({"name": "tasks", "tasks": names}, "--task")
    if (args.data or args.field) and len(suite.tasks) > 1:
        raise UsageError("--data and --field are about the rows of one task; several are asked for")
    if args.data:
        overrides.append(f"data.path={json.dumps(args.data, ensure_ascii=False)}")
    for name, column in columns(args.field).items():
        overrides.append(f"data.fields.{name}={json.dumps(column, ensure_ascii=False)}")
    tasks = suite.load(overrides)
    for task in tasks:
        if task.data.source == "file" and not task.data.path and not args.smoke:
            raise UsageError(f"task {task.name!r} has no rows of its own: give --data FILE")
    return tasks


def _evaluate(
    args: argparse.Namespace,
    group: Group,
    loaded: LoadedModel,
    task: TaskConfig,
    examples: ExampleSet,
    folder: Path,
) -> Results:
    from latentthought.evaluation import evaluate

    return evaluate(
        loaded.model,
        task,
        tokenizer=loaded.tokenizer,
        data=examples,
        thoughts=args.thoughts,
        mix_ratio=args.mix,
        control=args.control,
        samples=args.samples,
        temperature=args.temperature or None,
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        output=folder,
        resume=args.resume,
        seed=args.seed,
        smoke=args.smoke,
        group=group,
    )
