"""`latentthought recovery`: what of a larger model's accuracy smaller ones have kept."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.cli.folders import require_empty, require_writable, written_whole
from latentthought.cli.parser import Parser, UsageError

if TYPE_CHECKING:
    from latentthought.evaluation.recovery import Recovery as Row
    from latentthought.evaluation.recovery import RecoveryReport

DESCRIPTION = """Accuracy of smaller models as a percentage of the original's, task by task, each with its 95 % interval
(paired, over questions and seeds). A RUN is a run folder, a folder of results, or a file or folder of lm-eval's; NAME=RUN
names it, and several of one name are seeds of one arm. Perplexities stand apart and are never averaged with accuracies."""
EPILOG = """examples:
  latentthought recovery runs/original pruned=runs/pruned ce=runs/ce-1 ce=runs/ce-2 all=runs/all-1 all=runs/all-2
  latentthought recovery lm-eval/original healed=lm-eval/healed logits=lm-eval/logits --output recovery"""
FILES = ("recovery.json", "recovery.csv", "recovery.md")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("original", metavar="ORIGINAL", help="results of the larger model")
    parser.add_argument("runs", metavar="[NAME=]RUN", nargs="+", help="results of smaller ones")
    parser.add_argument(
        "--control", metavar="NAME", default="none", help="which results count (default: none)"
    )
    parser.add_argument("--output", metavar="DIR", help=f"write {', '.join(FILES)} too; absent or empty")


def run(args: argparse.Namespace) -> int:
    arms = _arms(args.runs)
    output = Path(args.output) if args.output else None
    if output is not None:
        require_empty(output)
        require_writable(output)
    from latentthought.cli.console import console
    from latentthought.evaluation.recovery import recovery

    report = recovery(args.original, arms, args.control)
    terminal = console()
    for table in _tables(report):
        terminal.print(table)
    if report.nothing_to_recover:
        print(f"left out, since the original has no answer right: {', '.join(report.nothing_to_recover)}")
    if report.logits_only == ():
        print(
            "no run has compared distributions alone (ce and kl, no hidden states): without that baseline nobody can tell what "
            "the states were worth"
        )
    if output is not None:
        with written_whole(output) as folder:
            _write(report, folder)
        print(f"written to {output}")
    return 0


def _arms(runs: list[str]) -> dict[str, list[str]]:
    arms: dict[str, list[str]] = {}
    for text in runs:
        name, given, run = text.partition("=")
        if given and not Path(text).exists():
            if not (name and run):
                raise UsageError(f"{text!r}: NAME=RUN, or a RUN alone")
        else:
            run, name = text, Path(text).resolve().name
            if name in arms:
                raise UsageError(
                    f"{arms[name][0]} and {text} would both be called {name}: name them, NAME={text}"
                )
        if run in arms.get(name, ()):
            raise UsageError(f"{run} is given twice")
        arms.setdefault(name, []).append(run)
    return arms


HEADINGS = ("task", "run", "original", "accuracy", "recovered (95 %)", "seeds", "questions")


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table, under `HEADINGS`."""
    span = "" if row.low is None or row.high is None else f" ({row.low:.1f} to {row.high:.1f})"
    shared = f"{row.questions:,}" if row.questions else ""
    return (
        row.task,
        row.arm,
        f"{100 * row.original:.1f} %",
        f"{100 * row.value:.1f} %",
        f"{row.percent:.1f} %{span}",
        str(row.seeds),
        f"{shared} of {row.asked:,}" if row.questions < row.asked else shared,
    )


def _tables(report: RecoveryReport) -> list[Any]:
    from rich.markup import escape

    from latentthought.evaluation.tables import plain_table

    table = plain_table("recovery")
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if place < 2 else "right")
    for row in report.rows:
        table.add_row(*map(escape, cells(row)))
    for arm, value in report.means.items():
        table.add_row("mean of tasks", escape(arm), "", "", f"{value:.1f} %", "", "")
    tables = [table] if report.rows else []
    if report.perplexities:
        texts = plain_table("perplexity (lower is better)")
        for heading in ("text", "run", "original", "perplexity"):
            texts.add_column(heading)
        for one in report.perplexities:
            texts.add_row(escape(one.task), escape(one.arm), f"{one.original:.2f}", f"{one.value:.2f}")
        tables.append(texts)
    return tables


def _write(report: RecoveryReport, folder: Path) -> None:
    from latentthought.evaluation.recovery import Recovery

    (folder / FILES[0]).write_text(json.dumps(report.dump(), indent=2) + "\n", encoding="utf-8")
    with (folder / FILES[1]).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = list(Recovery.model_fields)
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in report.rows)
    lines = []
    if report.rows:
        lines += [f"| {' | '.join(HEADINGS)} |", "| --- | --- |" + " ---: |" * (len(HEADINGS) - 2)]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in cells(row))} |" for row in report.rows]
    lines += [f"| mean of tasks | {arm} | | | {value:.1f} % | | |" for arm, value in report.means.items()]
    if report.perplexities:
        lines += ["", "| text | run | original | perplexity |", "| --- | --- | ---: | ---: |"]
        lines += [f"| {p.task} | {p.arm} | {p.original:.2f} | {p.value:.2f} |" for p in report.perplexities]
    (folder / FILES[2]).write_text("\n".join(lines) + "\n", encoding="utf-8")
