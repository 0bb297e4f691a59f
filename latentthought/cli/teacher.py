"""`latentthought teacher`: a teacher's states and answers, kept on disk for its students."""

from __future__ import annotations

import argparse
import importlib

from latentthought.cli.parser import Parser, UsageError
from latentthought.errors import nearest

ACTIONS = {
    "extract": "compute the states of a recipe's teacher once, and keep them as a cache",
    "verify": "read every byte of a cache and say what is wrong with it",
    "mend": "make only what is damaged or missing of a cache anew",
    "export": "write a cache as one Parquet file (question, steps, answer, hidden_states)",
    "import": "make a cache of such a file",
    "respond": "let the teacher answer the recipe's rows, as rows to train on",
}
DESCRIPTION = "What a teacher knows, computed once and kept:\n" + "\n".join(
    f"  {name:<8} {what}" for name, what in ACTIONS.items()
)
EPILOG = "latentthought teacher ACTION --help tells an action's options"


def add_arguments(parser: Parser) -> None:
    parser.add_argument("words", metavar="ACTION ...", nargs="*", help=", ".join(ACTIONS))
    parser.hand_on("words")


def run(args: argparse.Namespace) -> int:
    if not args.words:
        raise UsageError(f"teacher: say what to do: {', '.join(ACTIONS)}")
    action, *rest = args.words
    if action not in ACTIONS:
        close = nearest(action, ACTIONS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"teacher: unknown action {action!r}{hint}\nactions: {', '.join(ACTIONS)}")
    module = importlib.import_module(f"latentthought.cli.teacher_{action}")
    parser = Parser(f"teacher {action}", module.DESCRIPTION, getattr(module, "EPILOG", None))
    module.add_arguments(parser)
    return int(module.run(parser.read(rest)))
