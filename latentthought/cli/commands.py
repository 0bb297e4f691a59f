"""The table of commands, the help that lists them, and the step from a name to its module.

A command is a module with `DESCRIPTION`, `add_arguments(parser)` and `run(args) -> exit code`. Nothing else is imported
to print the list, so `latentthought --help` costs what starting Python costs.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from latentthought.cli.parser import Parser, UsageError
from latentthought.errors import nearest

COMMANDS = {
    "quickstart": "train, generate, score and report on a built-in task; no network, no GPU",
    "train": "train a model by a recipe",
    "generate": "answer prompts, thinking in hidden states",
    "evaluate": "score a model on a task, with controls",
    "grade": "grade a samples file again, without generating",
    "inspect": "a look inside the thoughts, as a page: what they say, and what the answer owes to each",
    "compare": "the paired difference between two results, with its interval",
    "recovery": "what of a larger model's accuracy smaller ones have kept",
    "lm-eval": "lm-evaluation-harness with this package's models and tasks in it",
    "teacher": "a teacher's states and answers, kept on disk for its students",
    "prune": "a smaller model made of parts of a larger one",
    "export": "a model in a form for other tools: plain, adapter, or with thoughts for a serving engine",
    "sweep": "a recipe over a grid of its keys and over seeds, in one table with intervals",
    "plot": "figures of runs, results and sweeps",
    "recipes": "list the recipes, or print one",
    "tasks": "list the evaluation tasks, or print one",
    "doctor": "versions, devices, extras, and what is missing",
}


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name; its exit code."""
    if not arguments:
        print(overview())
        return 2
    name, rest = arguments[0], list(arguments[1:])
    if name in ("-h", "--help", "help"):
        if name == "help" and rest:
            name, rest = rest[0], ["--help"]
        else:
            print(overview())
            return 0
    if name in ("-V", "--version"):
        from latentthought.cli.doctor import package_version

        print(f"latentthought {package_version()}")
        return 0
    if name not in COMMANDS:
        close = nearest(name, COMMANDS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        kind = "option" if name.startswith("-") else "command"
        raise UsageError(f"unknown {kind} {name!r}{hint}\ncommands: {', '.join(COMMANDS)}")
    module = importlib.import_module(f"latentthought.cli.{name.replace('-', '_')}")
    parser = Parser(name, module.DESCRIPTION, getattr(module, "EPILOG", None))
    module.add_arguments(parser)
    return module.run(parser.read(rest))


def overview() -> str:
    """The help of the program: every command in a line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: latentthought COMMAND ...",
            "",
            "Teach a causal language model to think in hidden states, and measure what the thoughts are worth.",
            "",
            *lines,
            "",
            "latentthought COMMAND --help tells a command's options; --debug shows the traceback of any error.",
        ]
    )
