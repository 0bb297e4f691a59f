"""What `evaluate` says in the end: tables, findings, reports, contamination, and a model that wrote nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from latentthought.errors import UserError

if TYPE_CHECKING:
    from latentthought.data.example import Example, ExampleSet
    from latentthought.evaluation import Results

SILENT = "the model emits nothing, every completion is empty"


def with_contamination(
    results: Results, examples: ExampleSet, training: Iterable[Example | str], name: str, folder: Path
) -> Results:
    """The results with what the training data holds of the rows, in their file too."""
    from latentthought.evaluation import read_samples
    from latentthought.evaluation.contamination import overlap
    from latentthought.evaluation.results import result_folder
    from latentthought.evaluation.samples import SAMPLES

    place = result_folder(folder, results.task, results.control)
    samples = read_samples(place / SAMPLES)
    found = overlap(examples, training, samples=samples, name=name)
    changed = results.model_copy(update={"contamination": found})
    changed.save(place)
    if results.controls:
        controls = {**results.controls, results.control: changed}
        changed = changed.model_copy(update={"controls": controls})
    return changed


def show(results: Results) -> None:
    """The tables of one task, and what they say."""
    from latentthought.cli.console import console
    from latentthought.evaluation.diagnosis import diagnose, render_findings
    from latentthought.evaluation.tables import (
        render,
        render_contamination,
        render_extractions,
        render_groups,
        render_samples,
    )

    rows = results.controls or {results.control: results}
    tables = [render(rows.values(), width=console().width), *render_groups(results), render_samples(results)]
    if any(rule in results.rules for rule in ("boxed", "fbox")):  # else strict extraction finds nothing
        tables += render_extractions(results)
    if results.contamination is not None:
        tables.append(render_contamination(results.contamination))
    findings = diagnose(rows)
    if not results.controls:  # what only controls could say is not missed where none was asked for
        findings = [finding for finding in findings if finding.level in ("problem", "warning")]
    for table in [*tables, *([render_findings(findings)] if findings else [])]:
        if table is not None:
            console().print(table)


def finish(found: list[Results], suite_name: str | None, folder: Path, kept: bool, smoke: bool) -> None:
    """The table over several tasks, the reports, and a word about a model that wrote nothing.

    The last is a `UserError`, raised when all is written; an untrained model of a smoke run may write nothing.
    """
    from latentthought.cli.console import console
    from latentthought.evaluation.suites import render_suite, summarize_suite
    from latentthought.reporting.evaluation import write_report

    if len(found) > 1:
        suite = summarize_suite(suite_name or "tasks", found)
        console().print(render_suite(suite))
        if kept and suite_name:
            suite.save(folder)
    if kept:
        for results in found:
            place = folder / "results" / results.task
            markdown, html = write_report(place)
            print(f"results in {place}, report in {markdown.name} and {html.name}")
        if len(found) > 1:
            markdown, _ = write_report(folder / "results", found)
            print(f"all of them in {markdown} and .html")
    silent = [results.task for results in found if wrote_nothing(results, folder)]
    if silent and not smoke:
        raise UserError(
            f"{', '.join(silent)}: {SILENT} (its first token is the end token). "
            "Prompt it as it was trained (format, chat), and see that its end token is the tokenizer's"
        )


def wrote_nothing(results: Results, folder: Path) -> bool:
    """Whether every completion of a task below `folder` is empty, of those that were asked for."""
    from latentthought.evaluation import read_samples
    from latentthought.evaluation.results import result_folder
    from latentthought.evaluation.samples import SAMPLES

    asked = sum((results.counts.correct, results.counts.wrong, results.counts.ungradable))
    if results.counts.unfit == asked or results.counts.no_answer < asked:
        return False
    samples = read_samples(result_folder(folder, results.task, results.control) / SAMPLES)
    return not any(sample.completion.strip() for sample in samples)
