"""`latentthought compare`: two runs on the questions that both answered."""

from __future__ import annotations

import argparse
import json

from latentthought.cli.parser import Parser

DESCRIPTION = (
    "The paired difference in accuracy between two runs, task by task, with its 95 % interval and McNemar's exact p-value.\n"
    "A RUN is a run folder, a folder of results, or a results.json."
)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("run_a", metavar="RUN_A")
    parser.add_argument("run_b", metavar="RUN_B")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    from latentthought.evaluation import compare, render_comparison

    comparisons = compare(args.run_a, args.run_b)
    if args.json:
        print(json.dumps([comparison.dump() for comparison in comparisons], indent=2))
        return 0
    from latentthought.cli.console import console

    console().print(render_comparison(comparisons, args.run_a, args.run_b))
    return 0
