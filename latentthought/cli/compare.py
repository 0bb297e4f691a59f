"""`latentthought compare`: two runs on the questions that both answered."""

from __future__ import annotations

import argparse
from pathlib import Path

from latentthought.cli.parser import Parser
from latentthought.errors import MissingFileError

DESCRIPTION = (
    "The paired differences between two runs, task by task: accuracy, and what else both measured (pass@k, maj@k, ...), each\n"
    "with its 95 % interval and a p-value (McNemar's exact test; a sign-flip test for several samples a question).\n"
    "A RUN is a run folder, a folder of results, or a results.json."
)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("run_a", metavar="RUN_A")
    parser.add_argument("run_b", metavar="RUN_B")
    parser.add_argument(
        "--output", metavar="FILE", help="write it to FILE.md, FILE.html or FILE.json as well"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    from latentthought.evaluation import compare, render_comparison
    from latentthought.reporting.comparison import check_format, to_json, write_comparison

    output = Path(args.output) if args.output else None
    if output:
        check_format(output)
        _require_folder(output)
    comparisons = compare(args.run_a, args.run_b)
    if args.json:
        print(to_json(comparisons))
    else:
        from latentthought.cli.console import console

        console().print(render_comparison(comparisons, args.run_a, args.run_b))
    if output:
        written = write_comparison(output, comparisons, args.run_a, args.run_b)
        if not args.json:  # standard output is the JSON then, and nothing else
            print(f"written to {written}")
    return 0


def _require_folder(output: Path) -> None:
    """Raise `UserError` unless the folder of `output` is there or can be made below another that is.

    The root of the file system is none of those: a path that begins there is a slip, or a disk that is not mounted.
    """
    from latentthought.cli.folders import require_writable

    folder = output.parent
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    if missing and folder.is_absolute() and missing[-1].parent == Path(folder.anchor):
        raise MissingFileError(f"--output {output}: no such folder: {folder}")
    require_writable(folder)
