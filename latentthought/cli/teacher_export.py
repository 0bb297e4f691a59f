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
    from latentthought.cli.states import read_origin
    from latentthought.data.sources.loading import load_examples
    from latentthought.distillation.cache.parquet import to_parquet
    from latentthought.distillation.cache.store import TeacherStateCache
    from latentthought.distillation.forecast import in_bytes
    from latentthought.errors import ConfigError

    folder, file = Path(args.folder), Path(args.output)
    if file.exists():
        raise UsageError(f"--output {file}: this file exists already; give another name")
    require_writable(file.parent)
    cache = TeacherStateCache.open(folder)
    recipe, smoke = read_origin(folder)
    examples = load_examples(recipe.data, seed=recipe.seed, smoke=smoke)
    if examples.fingerprint != cache.manifest.spec.data:
        raise ConfigError(
            f"{folder}: the rows of its recipe ({examples.origin}) are no longer those that its states are of"
        )
    rows = to_parquet(cache, (example for example in examples if example.id in cache), file)
    print(f"{file}: {rows:,} rows, {in_bytes(file.stat().st_size)}")
    return 0
