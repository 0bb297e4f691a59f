"""`latentthought evaluate`: a model's accuracy on a task, with intervals, costs and controls."""

from __future__ import annotations

import argparse
from pathlib import Path

from latentthought.cli.models import MODEL_HELP, add_model_options, load
from latentthought.cli.parser import (
    Parser,
    UsageError,
    amount,
    natural,
    positive,
    refuse_greedy_samples,
    share,
    thoughts_argument,
)

DESCRIPTION = """Score a model on a task. The controls take the meaning out of the thoughts and leave the rest as it is:
  no-thought  the delimiters with nothing between      shuffled  another question's thoughts
  pause       a constant in place of the thoughts      noised    thoughts plus noise of their own size
What accuracy is left under them was not the thoughts' doing."""
EPILOG = """examples:
  latentthought evaluate runs/my-run --task gsm8k --limit 200
  latentthought evaluate runs/my-run --task prosqa --control all
  latentthought evaluate owner/model --task math500 --output results/their-model"""
CONTROLS = ("none", "no-thought", "pause", "shuffled", "noised", "all")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--task", metavar="NAME", required=True, help="a task's name (latentthought tasks) or YAML file"
    )
    parser.add_argument("--data", metavar="FILE", help="other rows, in the form of the task's source")
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
    parser.add_argument("--batch-size", metavar="N", type=positive, help="default: by device")
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
        "--smoke", action="store_true", help="a few rows that the task's source makes itself; offline"
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    refuse_greedy_samples(args)
    from latentthought.evaluation.tasks import load_task

    task = load_task(args.task)  # a mistyped name should not wait for a model to load
    if args.data and not Path(args.data).exists():
        from latentthought.errors import MissingFileError

        raise MissingFileError(f"--data {args.data}: no such file")
    loaded = load(args.model, args.device, args.dtype)
    output = Path(args.output) if args.output else loaded.run
    if args.resume and output is None:
        raise UsageError(
            "--resume needs --output DIR: MODEL is not a run folder, so its results were not kept"
        )

    from latentthought.cli.console import console
    from latentthought.evaluation import evaluate, render, render_groups

    results = evaluate(
        loaded.model,
        task,
        tokenizer=loaded.tokenizer,
        data=args.data,
        limit=args.limit or (16 if args.smoke else None),
        thoughts=args.thoughts,
        mix_ratio=args.mix,
        control=args.control,
        samples=args.samples,
        temperature=args.temperature or None,
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        output=output,
        resume=args.resume,
        seed=args.seed,
        smoke=args.smoke,
    )

    console().print(render(results.controls.values() if results.controls else [results]))
    if results.counts.unfit:
        asked = sum((results.counts.correct, results.counts.wrong, results.counts.ungradable))
        print(
            f"{results.counts.unfit} of {asked} prompts do not fit into the context with their thoughts: counted as wrong"
        )
    for table in render_groups(results):
        console().print(table)
    if output is not None:
        print(f"results in {output / 'results' / task.name}")
    return 0
