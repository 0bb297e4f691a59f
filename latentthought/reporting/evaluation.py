"""The report of an evaluation: what was found, whether the thoughts had a part in it, what it cost, and what was answered.

Everything in it is read from results and samples; a part without numbers (no groups, one control, one sample a question) is left
out rather than shown empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from latentthought.evaluation.diagnosis import Finding, diagnose
from latentthought.evaluation.results import Results, find_results
from latentthought.evaluation.samples import Sample
from latentthought.evaluation.statistics import Estimate
from latentthought.evaluation.tables import at_k, memory, p_value, percent, shown_metrics, signed, spanned
from latentthought.reporting.charts import Bar
from latentthought.reporting.document import (
    Bars,
    Block,
    Details,
    Heading,
    Lines,
    Notice,
    Table,
    Text,
    write_document,
)
from latentthought.reporting.examples import examples, samples_of

# more values of a key than these are no groups to read, but a page that is slow to open
_GROUPS = 50
_CONTROL_MEANINGS = {
    "none": "its own thoughts",
    "no-thought": "the delimiters with nothing between",
    "pause": "a constant in place of the thoughts",
    "shuffled": "another question's thoughts",
    "noised": "thoughts plus noise of their own size",
}


def write_report(folder: Path, results: Sequence[Results] | None = None) -> tuple[Path, Path]:
    """Write `report.md` and `report.html` into `folder` and return their paths.

    results: of one task or several, under any controls; None reads every `results.json` below `folder`. Samples, for the
    examples, are read from the `samples.jsonl` that lie below `folder` (`[results/][<task>/]<control>/`), where there are any.
    """
    if results is None:
        results = list(find_results(folder).values())
    tasks: dict[str, dict[str, Results]] = {}
    for row in sorted(results, key=lambda row: row.control != "none"):
        tasks.setdefault(row.task, {})[row.control] = row
    return write_document(_title(tasks), list(_blocks(folder, tasks)), folder)


def _title(tasks: Mapping[str, Mapping[str, Results]]) -> str:
    models = {row.model for rows in tasks.values() for row in rows.values()}
    named = next(iter(models)) if len(models) == 1 else f"{len(models)} models"
    return (
        f"{', '.join(tasks) or 'No results'}: {named}" if len(tasks) < 4 else f"{len(tasks)} tasks: {named}"
    )


def _blocks(folder: Path, tasks: Mapping[str, Mapping[str, Results]]) -> Iterator[Block]:
    if not tasks:
        yield Text("There are no results here.")
    if len(tasks) > 1:
        yield from _overview([row for rows in tasks.values() for row in rows.values()])
    for task, rows in tasks.items():
        if len(tasks) > 1:
            yield Heading(task)
        # the examples are from one control: the samples of the others are not read
        yield from _task(rows, samples_of(folder, next(iter(rows.values()))))


def _overview(rows: Sequence[Results]) -> Iterator[Block]:
    plain = [row for row in rows if row.control == "none"] or rows
    yield Bars([_accuracy_bar(row.task, row.accuracy) for row in plain])
    yield _results_table(rows)


def _task(rows: Mapping[str, Results], samples: Sequence[Sample]) -> Iterator[Block]:
    """Everything about one task."""
    plain = next(iter(rows.values()))
    counts = plain.counts
    answers = counts.correct + counts.wrong + counts.ungradable
    of = "" if answers <= plain.accuracy.n else f"{answers:,} answers to "
    yield Text(
        f"{percent(plain.accuracy.value)} of {of}{plain.accuracy.n:,} question{'s' * (plain.accuracy.n != 1)} right "
        f"(95 % interval {percent(plain.accuracy.low)} to {percent(plain.accuracy.high)})"
        if plain.accuracy.n
        else "No question was asked.",
        strong=True,
    )
    condition = "" if plain.control == "none" else f", control {plain.control}"
    yield Text(
        f"Task {plain.task}, version {plain.version}{condition}. {counts.correct:,} correct, {counts.wrong:,} wrong, "
        f"{counts.ungradable:,} ungradable; {counts.no_answer:,} without an answer. "
        f"An answer took {plain.costs.thoughts:.1f} thoughts, {plain.costs.tokens:.1f} tokens and "
        f"{plain.costs.milliseconds:.1f} ms ({plain.costs.seconds:,.0f} s in all)."
    )
    findings = diagnose(rows)
    if findings:
        yield Heading("What this says", 3)
        yield from map(_notice, findings)
    yield Heading("Accuracy and costs" if len(rows) == 1 else "Controls", 3)
    yield from _controls(rows)
    yield from _several_samples(plain)
    yield from _groups(plain)
    yield from _extraction(plain)
    yield from _contamination(plain)
    yield from examples(samples)
    yield from _settings(plain)


def _notice(finding: Finding) -> Block:
    return Notice(finding.level, finding.message, finding.advice)


def _accuracy_bar(name: str, found: Estimate) -> Bar:
    return Bar(name, found.value, found.low, found.high, spanned(found))


def _controls(rows: Mapping[str, Results]) -> Iterator[Block]:
    yield Bars([_accuracy_bar(control, row.accuracy) for control, row in rows.items()])
    lost = {control: row.against_none for control, row in rows.items() if row.against_none is not None}
    if lost:
        yield Text("Lost under each control, in points of accuracy on the same questions:")
        yield Bars(
            [
                Bar(control, d.difference, d.low, d.high, signed(d), difference=True)
                for control, d in lost.items()
            ]
        )
        counted = any(d.only_a is not None for d in lost.values())
        only = ("right: only none", "only control") if counted else ()
        yield Table(
            ("control", "the model gets", "lost (95 %)", *only, "p", "questions"),
            [
                (
                    control,
                    _CONTROL_MEANINGS.get(control, ""),
                    signed(d),
                    *("" if one is None else str(one) for one in (d.only_a, d.only_b)[: len(only)]),
                    p_value(d.p_value),
                    f"{d.n:,}",
                )
                for control, d in lost.items()
            ],
            left=2,
        )
    yield _results_table(list(rows.values()))


def _results_table(rows: Sequence[Results]) -> Table:
    """Accuracy beside its costs, a line per result."""
    metrics = shown_metrics(rows)
    several = len({row.task for row in rows}) > 1
    headings = [*(["task"] if several else []), "control", "accuracy (95 %)", *metrics]
    costs = ("no answer", "thoughts", "tokens", "ms", "peak memory")
    lines = [
        (
            *([row.task] if several else []),
            row.control,
            spanned(row.accuracy),
            *(spanned(row.metrics.get(name)) for name in metrics),
            str(row.counts.no_answer),
            f"{row.costs.thoughts:.1f}",
            f"{row.costs.tokens:.1f}",
            f"{row.costs.milliseconds:.1f}",
            memory(row.costs.peak_memory) or "-",
        )
        for row in rows
    ]
    return Table((*headings, *costs), lines, left=2 if several else 1)


def _several_samples(plain: Results) -> Iterator[Block]:
    counts = at_k(plain)
    if not counts:
        return
    yield Heading("Several samples a question", 3)
    yield Text(
        "Expected over all choices of k of the samples. pass@k: one of them is right; maj@k: their vote is, "
        "equivalent answers voting together."
    )
    found = {k: [plain.metrics.get(f"{kind}@{k}") for kind in ("pass", "maj")] for k in counts}
    yield Table(
        ("k", "pass@k (95 %)", "maj@k (95 %)"), [(str(k), *map(spanned, pair)) for k, pair in found.items()]
    )


def _groups(plain: Results) -> Iterator[Block]:
    for key, values in plain.groups.items():
        yield Heading(f"By {key}", 3)
        most = sorted(values, key=lambda name: -values[name].n)[:_GROUPS]
        if len(most) < len(values):
            yield Text(f"The {len(most)} largest of {len(values):,}; results.json has them all.")
        yield _estimates(key, {name: found for name, found in values.items() if name in most})


def _estimates(heading: str, values: Mapping[str, Estimate]) -> Bars:
    bars = [
        replace(_accuracy_bar(name, found), note=f"{found.n:,} question{'s' * (found.n != 1)}")
        for name, found in values.items()
    ]
    return Bars(bars, (heading, "accuracy (95 %)", "of"))


def _extraction(plain: Results) -> Iterator[Block]:
    if not (plain.extractions or plain.rules):
        return
    yield Heading("How answers were found", 3)
    if plain.extractions:
        yield _estimates("extraction", plain.extractions)
    if plain.rules:
        total = sum(plain.rules.values())
        rows = [(rule, f"{count:,}", percent(count / total)) for rule, count in plain.rules.items()]
        yield Table(("rule", "samples", "share"), rows)


def _contamination(plain: Results) -> Iterator[Block]:
    found = plain.contamination
    if found is None:
        return
    yield Heading("Contamination", 3)
    yield Text(
        f"{found.overlapping:,} of {found.rows:,} test rows ({percent(found.share)}) share a run of {found.words} words with "
        f"{found.texts:,} training texts{f' of {found.training}' if found.training else ''}; {found.copied:,} of them most of "
        "their words."
    )
    parts = {"clean rows": found.clean, "overlapping rows": found.overlap}
    if any(parts.values()):
        yield _estimates("rows", {name: part for name, part in parts.items() if part is not None})
    if found.ids:
        rows = [(row, percent(share)) for row, share in found.ids.items()]
        yield Details(f"Overlapping rows ({len(rows)} shown)", [Table(("row", "runs found"), rows)])


def _settings(plain: Results) -> Iterator[Block]:
    parts = {
        "Settings": plain.settings,
        "Data": plain.data,
        "Grading": plain.grading,
        "Versions": {**plain.versions, "git": plain.git, "seed": plain.seed},
        "Recipe of the training": plain.recipe,
    }
    yield Heading("How it was made", 3)
    for name, values in parts.items():
        if values:
            yield Details(name, [Lines(json.dumps(values, indent=2, ensure_ascii=False))])
