"""`latentthought teacher export`: a cache as one Parquet file."""

from __future__ import annotations

import argparse
from pathlib import Path

from latentthought.cli.folders import require_writable
from latentthought.cli.parser import Parser, UsageError

DESCRIPTION = """Write a cache as one Parquet file with the columns id, question, steps, answer and hidden_states (layer by layer,
position by position), which any data tool reads and `teacher import` turns into a cache again."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of a cache")
    parser.add_argument(
        "--output", metavar="FILE", required=True, help="the Parquet file, which must not exist yet"
    )


def run(args: argparse.Namespace) -> int:
    from latentthought.amounts import in_bytes
    from latentthought.cli.states import read_origin
    from latentthought.distillation.cache.parquet import to_parquet
    from latentthought.distillation.cache.store import TeacherStateCache
    from latentthought.distillation.matching import changed_rows
    from latentthought.errors import ConfigError
    from latentthought.training.rows import training_rows

    folder, file = Path(args.folder), Path(args.output)
    if file.exists():
        raise UsageError(f"--output {file}: this file exists already; give another name")
    require_writable(file.parent)
    cache = TeacherStateCache.open(folder)
    recipe, smoke = read_origin(folder)
    responses = None if recipe.teacher is None else recipe.teacher.responses
    _, examples = training_rows(recipe.data, responses, recipe.seed, smoke)
    known = [example for example in examples if example.id in cache]
    changed, gone = changed_rows(cache, known), {*cache.ids} - {example.id for example in known}
    if changed or gone:
        what = f"{len(changed):,} have another text, {len(gone):,} are gone"
        raise ConfigError(
            f"{folder}: the rows of its recipe ({examples.origin}) are no longer those that its states are of: {what}, "
            f"{[*changed, *sorted(gone)][0]!r} for one"
        )
    rows = to_parquet(cache, known, file)
    print(f"{file}: {rows:,} rows, {in_bytes(file.stat().st_size)}")
    return 0
