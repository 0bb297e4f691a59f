"""`latentthought teacher verify`: whether a cache is what was written."""

from __future__ import annotations

import argparse
from pathlib import Path

from latentthought.cli.parser import Parser

DESCRIPTION = """Read every byte of a cache of a teacher's states and list what is damaged, missing or foreign.
Exit code 0 for a whole cache, 1 for any other."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of a cache")


def run(args: argparse.Namespace) -> int:
    from latentthought.amounts import in_bytes
    from latentthought.distillation.cache.shards import mend_hint
    from latentthought.distillation.cache.store import TeacherStateCache, problems_in
    from latentthought.evaluation.progress import Progress

    folder = Path(args.folder)
    count = len(list(folder.glob("shard-*.safetensors")))
    with Progress("shards", count, True) as bar:
        problems = problems_in(folder, lambda done: bar.add(1))
    for problem in problems:
        print(f"{problem.file}: {problem.what}")
    if problems:
        print(f"{folder}: {len(problems)} problems; {mend_hint(folder)}")
        return 1
    manifest = TeacherStateCache.open(folder).manifest
    spec, rows = manifest.spec, sum(len(shard.ids) for shard in manifest.shards)
    print(f"{folder}: whole, every byte as it was written")
    print(f"  {rows:,} rows, {manifest.positions:,} positions, {in_bytes(manifest.bytes)} in {count} shards")
    print(
        f"  of {spec.teacher.name}, layers {', '.join(map(str, spec.layers))}; {', '.join(spec.rules)}; {spec.codec}"
    )
    return 0
