"""`latentthought tasks`: the shipped evaluation tasks and suites, a line each, or one of them in full."""

from __future__ import annotations

import argparse

from latentthought.cli.listing import show
from latentthought.cli.parser import Parser
from latentthought.errors import NotFoundError, unknown

DESCRIPTION = (
    "List the evaluation tasks and suites, or print one.\n"
    "`latentthought tasks gsm8k > mine.yaml` starts a task of your own, and `tasks file` is the template for your own rows."
)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="print this task or suite")


def run(args: argparse.Namespace) -> int:
    from latentthought.resources import find_suite, find_task, list_suites, list_tasks

    if args.name in list_suites():
        return show(args.name, list_suites, find_suite)
    if args.name and not args.name.endswith((".yaml", ".yml")) and args.name not in list_tasks():
        raise NotFoundError(unknown("task or suite", args.name, [*list_tasks(), *list_suites()]))
    code = show(args.name, list_tasks, find_task)
    if args.name is None:
        print("\nsuites (evaluate --suite NAME)")
        show(None, list_suites, find_suite)
    return code
