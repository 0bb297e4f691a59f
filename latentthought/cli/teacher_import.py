"""`latentthought teacher import`: a cache from a Parquet file."""

from __future__ import annotations

import argparse
from pathlib import Path

from latentthought.cli.folders import require_empty, require_writable
from latentthought.cli.parser import Parser

DESCRIPTION = (
    "Make a cache of a Parquet file that `teacher export` wrote: the same rows, positions and numbers."
)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="a Parquet file of states")
    parser.add_argument("--output", metavar="DIR", required=True, help="the cache's folder, new or empty")


def run(args: argparse.Namespace) -> int:
    from latentthought.distillation.cache.parquet import from_parquet

    folder = Path(args.output)
    require_empty(folder)
    require_writable(folder)
    manifest = from_parquet(args.file, folder)
    rows = sum(len(shard.ids) for shard in manifest.shards)
    print(f"{folder}: {rows:,} rows, {manifest.positions:,} positions in {len(manifest.shards)} shards")
    return 0
