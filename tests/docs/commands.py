"""What the pages tell a reader to type, line by line, and what has to hold of each without running it."""

from __future__ import annotations

import importlib
import re
import shlex
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from latentthought.cli.commands import COMMANDS
from latentthought.cli.parser import Parser
from latentthought.cli.teacher import ACTIONS
from latentthought.evaluation.suites import load_suite
from latentthought.evaluation.tasks import load_task
from latentthought.recipe import load_recipe
from latentthought.resources import find_recipe, list_suites, lm_eval_folder
from tests.docs.pages import Block, blocks

SHELL = ("bash", "sh", "shell", "console")
# a reader's own file: overrides behind it are checked against this one
STAND_IN = "coconut-gpt2-gsm8k"
_PLACEHOLDERS = ("RECIPE",)
_VARIABLE = re.compile(r"[A-Z][A-Z_]*=")


class Line(NamedTuple):
    """One command. words: as a shell splits them, without variables in front, redirections and remarks."""

    where: str
    words: tuple[str, ...]
    into: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {shlex.join(self.words)}"


def lines_of(page: Path) -> Iterator[Line]:
    """Every command of a page's shell blocks.

    In a block without a language only lines that begin with a known program count, since it may show a file or an output.
    """
    for block in blocks(page):
        if block.language in SHELL or block.language == "":
            yield from lines_in(block)


def lines_in(block: Block) -> Iterator[Line]:
    text = block.text.replace("\\\n", " ")
    for offset, raw in enumerate(text.splitlines(), 1):
        line = raw.removeprefix("$ ") if block.language == "console" else raw
        if block.language == "console" and not raw.startswith("$ "):
            continue  # what the command printed
        words = (
            shlex.split(re.sub(r"(?:^|\s)#(?:\s.*)?$", "", line)) if _may_be_a_command(block, line) else []
        )
        while words and _VARIABLE.match(words[0]):
            del words[0]
        if words:
            at = words.index(">") if ">" in words else len(words)
            into = words[at + 1] if at < len(words) else None
            yield Line(f"{block.page.name}, line {block.line + offset}", tuple(words[:at]), into)


def _may_be_a_command(block: Block, line: str) -> bool:
    return block.language in SHELL or line.split(" ", 1)[0] in CHECKS or bool(_VARIABLE.match(line))


def check(line: Line, repository: Path) -> None:
    """Fail unless the command's own parser takes the line, and what it names is there."""
    program, *arguments = line.words
    assert program in CHECKS, f"{line}: no test knows this program"
    CHECKS[program](arguments, repository)


# --- our own command line ---------------------------------------------------------------------------------------------


def check_ours(arguments: Sequence[str], repository: Path) -> None:
    name, *rest = arguments
    assert name in COMMANDS, f"no command {name}"
    if "--help" in rest:
        return
    if name == "teacher":
        name, rest = f"teacher_{rest[0]}", rest[1:]
        assert name.removeprefix("teacher_") in ACTIONS
    if name == "lm-eval":
        _check_lm_eval(rest)
        return
    module = importlib.import_module(f"latentthought.cli.{name.replace('-', '_')}")
    parser = Parser(name, module.DESCRIPTION)
    module.add_arguments(parser)
    read = parser.read(rest)
    if name in _MEANINGS:
        _MEANINGS[name](read)


def _recipe(read: Namespace) -> None:
    """The recipe is there, and takes the overrides."""
    own = read.recipe in _PLACEHOLDERS or (read.recipe.endswith(".yaml") and not Path(read.recipe).exists())
    load_recipe(
        STAND_IN if own else find_recipe(read.recipe), read.overrides, smoke=getattr(read, "smoke", False)
    )


def _evaluation(read: Namespace) -> None:
    assert (read.task is None) != (read.suite is None), "evaluate takes --task or --suite"
    if read.suite:
        load_suite(read.suite).load(read.overrides)
        return
    for task in read.task.split(","):
        load_task("file" if task.endswith(".yaml") else task, read.overrides)


def _listed_task(read: Namespace) -> None:
    if read.name is not None and read.name not in list_suites():
        load_task(read.name)


_MEANINGS: dict[str, Callable[[Namespace], Any]] = {
    "train": _recipe,
    "teacher_extract": _recipe,
    "teacher_respond": _recipe,
    "evaluate": _evaluation,
    "recipes": lambda read: find_recipe(read.name) if read.name is not None else None,
    "tasks": _listed_task,
}


def _check_lm_eval(arguments: Sequence[str]) -> None:
    ours = {f"latentthought_{path.stem}" for path in lm_eval_folder().glob("*.yaml") if path.stem[0] != "_"}
    if "--tasks" in arguments:
        named = arguments[arguments.index("--tasks") + 1].split(",")
        unknown = [name for name in named if name.startswith("latentthought") and name not in ours]
        assert not unknown, f"no task {unknown[0]} in the form of lm-eval"


# --- other programs ---------------------------------------------------------------------------------------------------


def _check_python(arguments: Sequence[str], repository: Path) -> None:
    if arguments[0] != "-m":
        assert (repository / arguments[0]).is_file(), arguments[0]
        return
    module, *rest = arguments[1:]
    if module == "latentthought":
        check_ours(rest, repository)
    else:
        assert module in _BENCHMARKS, module
        _BENCHMARKS[module](rest)


def _check_benchmarks(arguments: Sequence[str]) -> None:
    from benchmarks.__main__ import BENCHMARKS, parser

    read = parser().parse_args(list(arguments))
    assert set(read.names) <= set(BENCHMARKS), read.names


def _check_kills(arguments: Sequence[str]) -> None:
    from benchmarks.kills import arguments as parser

    read = parser().parse_args(list(arguments))
    for recipe in filter(None, (read.recipe, read.extract, read.respond)):
        find_recipe(recipe)
    for task in read.task.split(",") if read.evaluate else ():
        load_task(task, read.changes)


def _check_gain(arguments: Sequence[str]) -> None:
    from benchmarks.gain import _parser

    _parser().parse_args(list(arguments))


def _check_healing(arguments: Sequence[str]) -> None:
    from benchmarks.healing import _parser

    _parser().parse_args(list(arguments))


_BENCHMARKS = {
    "benchmarks": _check_benchmarks,
    "benchmarks.kills": _check_kills,
    "benchmarks.gain": _check_gain,
    "benchmarks.healing": _check_healing,
}


def _check_torchrun(arguments: Sequence[str], repository: Path) -> None:
    from torch.distributed.run import get_args_parser

    _launched(get_args_parser().parse_args(list(arguments)), repository)


def _check_accelerate(arguments: Sequence[str], repository: Path) -> None:
    from accelerate.commands.launch import launch_command_parser

    assert arguments[0] == "launch"
    _launched(launch_command_parser().parse_args(list(arguments[1:])), repository)


def _launched(read: Any, repository: Path) -> None:
    assert (read.module, read.training_script) == (True, "latentthought")
    check_ours(read.training_script_args, repository)


def _check_deepspeed(arguments: Sequence[str], repository: Path) -> None:
    at = arguments.index("--module")
    assert arguments[at + 1] == "latentthought"
    check_ours(arguments[at + 2 :], repository)


def _check_run_sh(arguments: Sequence[str], repository: Path) -> None:
    assert (repository / "docs" / "launch" / "run.sh").is_file()
    check_ours(["train", *arguments[1:], "--output", arguments[0], "--resume"], repository)


def _check_make(arguments: Sequence[str], repository: Path) -> None:
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    targets = [word for word in arguments if "=" not in word]
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no target {target}"
    for value in (word.removeprefix("ARGS=") for word in arguments if word.startswith("ARGS=")):
        if targets == ["bench"]:
            _check_benchmarks(shlex.split(value))
        elif targets == ["quickstart"]:
            check_ours(["quickstart", *shlex.split(value)], repository)


def _check_pip(arguments: Sequence[str], repository: Path) -> None:
    project = (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert arguments[0] == "install"
    for extra in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        for name in extra.split(","):
            assert re.search(rf"^{name} = \[", project, re.MULTILINE), f"no extra {name}"


def _nothing_to_check(arguments: Sequence[str], repository: Path) -> None:
    pass


CHECKS: dict[str, Callable[[Sequence[str], Path], None]] = {
    "latentthought": check_ours,
    "python": _check_python,
    "torchrun": _check_torchrun,
    "accelerate": _check_accelerate,
    "deepspeed": _check_deepspeed,
    "docs/launch/run.sh": _check_run_sh,
    "make": _check_make,
    "pip": _check_pip,
    "export": _nothing_to_check,
    ".venv/bin/pre-commit": _nothing_to_check,
}
