"""argparse with one-line errors that name the nearest match, and options anywhere between the positional arguments."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from latentthought.errors import UserError, nearest


class UsageError(UserError, ValueError):
    """A command line that does not hold."""


class Parser(argparse.ArgumentParser):
    """The parser of one command. A wrong argument raises `UsageError`, which `main` prints as one message."""

    def __init__(self, command: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"latentthought {command}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,  # an abbreviation would become another option when options are added
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of any error")
        self._handed_on: str | None = None

    def hand_on(self, name: str) -> None:
        """Read nothing but a --help in front: every argument goes into the list `name`, for another program to read."""
        self._handed_on = name

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse everything or raise; `train R --smoke a=1` works, which `parse_args` does not do for a list in the end."""
        if self._handed_on and list(arguments[:1]) not in (["-h"], ["--help"]):
            return argparse.Namespace(**{self._handed_on: list(arguments)})
        for action in self._actions:
            if action.nargs == argparse.ZERO_OR_MORE:  # which argparse lists among what is missing
                action.required = False
        namespace, unknown = self.parse_known_intermixed_args(list(arguments))
        if unknown:
            self._refuse(unknown)
        return namespace

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        first = unknown[0]
        if first.startswith("-") and first != "-":
            option = first.split("=", 1)[0]
            known = [
                name for action in self._actions for name in action.option_strings if name.startswith("--")
            ]
            close = nearest(option, known, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; options: {', '.join(sorted(known))}"
            self.error(f"unknown option {option}{hint}")
        self.error(f"unexpected argument {first!r}")

    def error(self, message: str) -> NoReturn:
        choice = re.match(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            name, value, allowed = choice.groups()
            choices = re.findall(r"[\w.-]+", allowed)
            close = nearest(value, choices, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            message = f"{name} {value!r}: allowed are {', '.join(choices)}{hint}"
        raise UsageError(f"{message} (see {self.prog} --help)")


def positive(text: str) -> int:
    """An argument type: an integer of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """An argument type: an integer of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"expected at least {least}, got {value}")
    return value


def share(text: str) -> float:
    """An argument type: a number between 0 and 1."""
    value = amount(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text}")
    return value


def amount(text: str) -> float:
    """An argument type: a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a finite number of at least 0, got {text}")
    return value


def add_field_option(parser: argparse.ArgumentParser) -> None:
    """--field NAME=COLUMN, for files whose columns have other names; `columns` reads what it was given."""
    parser.add_argument(
        "--field",
        metavar="NAME=COLUMN",
        action="append",
        default=[],
        help="what the source calls NAME is COLUMN in the file (a.b: nested); may be repeated",
    )


def columns(texts: Sequence[str]) -> dict[str, str]:
    """Names and columns of --field."""
    found: dict[str, str] = {}
    for text in texts:
        name, separator, column = text.partition("=")
        if not (name and separator and column):
            raise UsageError(f"--field {text!r}: expected NAME=COLUMN, for example question=problem")
        if name in found:
            raise UsageError(f"--field {text}: {name} is given twice, {found[name]} before")
        found[name] = column
    return found


def refuse_greedy_samples(args: argparse.Namespace, noise: float = 0.0) -> None:
    """Several samples at temperature 0 would be one answer several times, unless noise tells their thoughts apart."""
    if args.samples > 1 and args.temperature == 0 and not noise:
        raise UsageError(
            f"--temperature 0 is greedy: all {args.samples} samples of a prompt would be the same; "
            "give a higher one, or leave it out"
        )


def thoughts_argument(text: str) -> Any:
    """An argument type: a count of thoughts, or `auto` (the model decides when to stop)."""
    if text == "auto":
        return text
    if not text.lstrip("+-").isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number or auto, got {text!r}")
    return natural(text)
