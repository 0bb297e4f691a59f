"""`latentthought recipes`: the shipped recipes, a line each, or one of them in full, to read and to copy."""

from __future__ import annotations

import argparse

from latentthought.cli.listing import show
from latentthought.cli.parser import Parser

DESCRIPTION = "List the recipes, or print one: `latentthought recipes quickstart > mine.yaml` starts a recipe of your own."


def add_arguments(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="print this recipe")


def run(args: argparse.Namespace) -> int:
    from latentthought.resources import find_recipe, list_recipes

    return show(args.name, list_recipes, find_recipe)
