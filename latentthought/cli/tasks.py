"""`latentthought tasks`: the shipped evaluation tasks, a line each, or one of them in full."""

from __future__ import annotations

import argparse

from latentthought.cli.listing import show
from latentthought.cli.parser import Parser

DESCRIPTION = "List the evaluation tasks, or print one: `latentthought tasks gsm8k > mine.yaml` starts a task of your own."


def add_arguments(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="print this task")


def run(args: argparse.Namespace) -> int:
    from latentthought.resources import find_task, list_tasks

    return show(args.name, list_tasks, find_task)
