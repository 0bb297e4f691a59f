"""`latentthought plot`: the figures of training runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from latentthought.cli.parser import Parser

DESCRIPTION = (
    "Draw losses by term and stage, accuracy, mix ratio over time and the scale monitor of one or more runs,\n"
    "each as PNG, SVG and CSV. Needs matplotlib: pip install 'latentthought[plot]'."
)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run folder, or a metrics.jsonl")
    parser.add_argument(
        "--output", metavar="DIR", help="where to write (default: RUN/plots for one run, plots for several)"
    )


def run(args: argparse.Namespace) -> int:
    from latentthought.reporting.plots import plot_runs

    first = Path(args.runs[0])
    beside = (first if first.is_dir() else first.parent) / "plots"
    output = Path(args.output) if args.output else beside if len(args.runs) == 1 else Path("plots")
    for path in plot_runs(args.runs, output):
        print(path)
    return 0
