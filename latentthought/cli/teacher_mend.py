"""`latentthought teacher mend`: what is damaged or missing of a cache, made anew."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from latentthought.cli.parser import Parser
from latentthought.cli.together import together

if TYPE_CHECKING:
    from latentthought.processes import Group

DESCRIPTION = """Make the damaged and the missing shards of a cache anew, and no others, by the recipe that the folder keeps. The
teacher and the rows have to be what they were."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of a cache")


def run(args: argparse.Namespace) -> int:
    return together(lambda group: mend(Path(args.folder), group))


def mend(folder: Path, group: Group) -> None:
    """Make `folder` whole again; see `DESCRIPTION`."""
    from latentthought.cli.noise import quiet
    from latentthought.cli.states import extract, read_origin
    from latentthought.distillation.cache.store import problems_in
    from latentthought.errors import MissingFileError

    quiet()
    recipe, smoke = read_origin(folder)
    if group.first:
        try:
            problems = problems_in(folder)
        except MissingFileError:
            print(f"{folder}: not finished; the shards that are there are kept")
        else:
            if not problems:
                print(f"{folder}: nothing to mend")
            for problem in problems:
                print(f"{problem.file}: {problem.what}")
                if problem.what == "is not in the manifest":
                    (folder / problem.file).unlink()
            if not problems:
                group.exchange(False)
                return
    if not any(found is False for found in group.exchange()):
        extract(recipe, folder, group, resume=True, smoke=smoke)
