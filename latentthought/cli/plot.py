"""`latentthought plot`: figures of runs, results and sweeps."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from latentthought.cli.parser import Parser, UsageError, positive

if TYPE_CHECKING:
    from latentthought.distillation.similarity import Similarity
    from latentthought.reporting.figures.given import Run

DESCRIPTION = """Draw figures of runs, each as PNG, SVG and CSV: training curves by term and stage, accuracies with their
intervals, gains, sensitivities, costs. A RUN is a run folder, a metrics.jsonl, a folder of results or a results.json, a
sweep's folder, or a folder of any of these. Without --figure every figure is made that can be, and the others are named
with the reason.
Needs matplotlib: pip install 'latentthought[plot]'."""
EPILOG = """examples:
  latentthought plot runs/mine                                        everything that one run has numbers for
  latentthought plot runs/baseline runs/distilled --figure gain       the baseline first: the gain is over it
  latentthought plot runs/quickstart-001 --figure ablation,pareto     all runs below a folder
  latentthought plot sweeps/alpha --figure sensitivity                accuracy against what the sweep varied
  latentthought plot results/0 results/2 results/5 results/8          of `evaluate --thoughts N --output results/N`
  latentthought plot runs/student --figure layers --rows 128          student and teacher, layer by layer
  latentthought plot --list                                           all figures, and what each of them needs"""
ALL, LAYERS = "all", "layers"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="*", help="what to draw; the first one is the baseline of a gain"
    )
    parser.add_argument(
        "--figure",
        metavar="NAME[,NAME...]",
        action="append",
        default=[],
        help="only these (default: all that can be made; all: with the one that loads models, layers)",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="where to write (default: RUN/plots for one run, plots for several)"
    )
    parser.add_argument("--list", action="store_true", help="name all figures, and what each of them needs")
    parser.add_argument("--teacher", metavar="MODEL", help="for layers: another teacher than the run's own")
    parser.add_argument(
        "--rows", metavar="N", type=positive, default=64, help="for layers: rows of the recipe (default: 64)"
    )
    parser.add_argument(
        "--device", metavar="NAME", help="for layers: cpu, cuda, ... (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="for layers: the run was a smoke run, with made-up rows"
    )


def run(args: argparse.Namespace) -> int:
    from latentthought.reporting.figures.catalog import FIGURES, check_figures, draw
    from latentthought.reporting.figures.given import read_given

    if args.list:
        for name, figure in FIGURES.items():
            print(f"{name:<14}{figure.shows}\n{'':<14}needs {figure.needs}")
        return 0
    if not args.runs:
        raise UsageError(
            "say what to draw: give a RUN (a run folder, a folder of results, a sweep), or --list"
        )
    names = [name.strip() for text in args.figure for name in text.split(",") if name.strip()]
    if args.figure and not names:
        raise UsageError(
            f"--figure is empty: name one of {', '.join(FIGURES)}, or leave it out for all that can be made"
        )
    check_figures([name for name in names if name != ALL])
    wanted = None if not names or ALL in names else names
    models = bool(set(names) & {ALL, LAYERS}) or args.teacher is not None
    given = read_given(args.runs, _similarity(args) if models else None)
    drawn = draw(given, _output(args), wanted)
    for path in drawn.files:
        print(path)
    if drawn.left_out:  # beside the list of files, which another program may read
        print(
            "not drawn:",
            *(f"  {name}: {why}" for name, why in drawn.left_out.items()),
            sep="\n",
            file=sys.stderr,
        )
    return 0


def _similarity(args: argparse.Namespace) -> Callable[[Run], Similarity]:
    def similarity(given: Run) -> Similarity:
        from latentthought.cli.similarity import similarity_of

        return similarity_of(given.folder, args.teacher, args.rows, args.device, args.smoke)

    return similarity


def _output(args: argparse.Namespace) -> Path:
    from latentthought.cli.folders import require_writable

    first = Path(args.runs[0])
    beside = (first if first.is_dir() else first.parent) / "plots"
    output = Path(args.output) if args.output else beside if len(args.runs) == 1 else Path("plots")
    require_writable(output)
    return output
