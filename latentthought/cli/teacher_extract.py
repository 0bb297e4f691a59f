"""`latentthought teacher extract`: the states of a recipe's teacher, computed once and kept."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from latentthought.cli.folders import require_writable
from latentthought.cli.parser import Parser, UsageError
from latentthought.cli.teachers import check_overrides
from latentthought.cli.together import together
from latentthought.resources import find_recipe

if TYPE_CHECKING:
    from latentthought.processes import Group
    from latentthought.recipe import Recipe

DESCRIPTION = """Compute the hidden states of a recipe's teacher on the recipe's rows, at the layers and positions that its
objective (or teacher.cache) names, and keep them as a cache that training reads. Says first what it will take.
A killed extraction goes on with --resume; finished shards are not made again."""
EPILOG = """examples:
  latentthought teacher extract lrd/2-states
  latentthought teacher extract my.yaml teacher.cache.codec=fp8 --output states
  torchrun --nproc-per-node 4 -m latentthought teacher extract my.yaml --output states --resume"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name or YAML file, with teacher.cache")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="changes to the recipe: dotted keys, YAML values"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="the cache's folder (default: the recipe's teacher.cache.path)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with what the folder holds")
    parser.add_argument("--dry-run", action="store_true", help="say what it will take, and write nothing")
    parser.add_argument(
        "--smoke", action="store_true", help="a tiny teacher and a few made-up rows; offline, CPU"
    )


def run(args: argparse.Namespace) -> int:
    return together(lambda group: _run(args, group))


def _run(args: argparse.Namespace, group: Group) -> None:
    check_overrides(args.overrides)
    find_recipe(args.recipe)  # a mistyped name should not wait for torch
    from latentthought.cli.noise import quiet
    from latentthought.cli.states import extract
    from latentthought.recipe import load_recipe

    quiet()
    recipe = load_recipe(args.recipe, args.overrides, smoke=args.smoke)
    folder = _folder(args, recipe, group)
    if args.smoke and not args.dry_run:
        from latentthought.cli.smoke_teacher import with_teacher

        recipe = with_teacher(recipe, folder, print if group.first else lambda text: None, group.count)
    try:
        extract(recipe, folder, group, resume=args.resume, smoke=args.smoke, dry_run=args.dry_run)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with --output {folder} --resume") from None
    if group.first and not args.dry_run:
        print(f"next        latentthought teacher verify {folder}")


def _folder(args: argparse.Namespace, recipe: Recipe, group: Group) -> Path:
    cache = recipe.teacher.cache if recipe.teacher is not None else None
    if args.output is None and args.smoke and not args.dry_run:
        # a smoke run stays out of the way of the states that the recipe is about
        from latentthought.cli.folders import numbered

        if group.count > 1:
            raise UsageError("several processes need one folder: give --output DIR")
        return numbered(f"{recipe.name}-states")
    place = args.output or (cache.path if cache is not None else None)
    if place is None:
        raise UsageError("say where the states go: --output DIR, or teacher.cache.path in the recipe")
    folder = Path(place)
    if group.first and not args.dry_run:
        if args.resume and not folder.is_dir():
            raise UsageError(f"--resume: there is no folder {folder}")
        require_writable(folder, "--output" if args.output else "teacher.cache.path")
        if not args.resume and folder.is_dir() and any(folder.iterdir()):
            from latentthought.errors import FolderInUseError

            raise FolderInUseError(
                f"{folder} is not empty: choose another --output, or go on with what it holds with --resume"
            )
    return folder
