"""Results as tables for a terminal: narrow, a number with its interval, nothing that only colour would tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from latentthought.evaluation.contamination import Contamination
from latentthought.evaluation.results import Results
from latentthought.evaluation.statistics import Estimate, PairedDifference


def render(results: Iterable[Results], title: str | None = None, width: int = 120) -> Any:
    """A rich table: a line per task and control, accuracy with interval, missing answers, costs, difference from `none`.

    Where it would be wider than `width` characters it does without the memory (which the reports have), and then with the
    intervals below the numbers.
    """
    from rich.console import Console

    rows = sorted(results, key=lambda row: (row.model, row.task, row.control != "none"))
    ruler = Console(width=10 * width)
    for with_memory, folded in ((True, False), (False, False), (False, True)):
        table = _results_table(rows, title, with_memory, folded)
        if ruler.measure(table).maximum <= width:
            break
    return table


def _results_table(rows: Sequence[Results], title: str | None, with_memory: bool, folded: bool) -> Any:
    from rich.markup import escape  # a model or a task may be named [x], which is not a style

    table = plain_table(title)
    # those over several samples have a table of their own: render_samples
    metrics = [name for name in shown_metrics(rows) if "@" not in name]
    several_models = len({row.model for row in rows}) > 1
    compared = any(row.against_none for row in rows)
    measured = with_memory and any(row.costs.peak_memory for row in rows)
    if several_models:
        table.add_column("model", overflow="fold", max_width=24)
    table.add_column("task", no_wrap=True)
    table.add_column("control", no_wrap=True)
    headings = [
        "accuracy (95 %)",
        *([] if not compared else ["lost (95 %)"]),
        *(escape(name.replace("_", "\n")) for name in metrics),
    ]
    costs = ["thoughts", "tokens", "ms", *(["memory"] if measured else [])]
    for column in [*headings, "rows", "no\nanswer", *costs]:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = [escape(row.model)] if several_models else []
        intervals = [spanned(row.accuracy), *([_lost(row.against_none)] if compared else [])]
        cells += [escape(row.task), escape(row.control)]
        cells += [text.replace(" (", "\n(") if folded else text for text in intervals]
        cells += [percent(row.metrics[name].value) if name in row.metrics else "" for name in metrics]
        cells += [
            str(row.accuracy.n),
            str(row.counts.no_answer),
            f"{row.costs.thoughts:.1f}",
            f"{row.costs.tokens:.1f}",
            f"{row.costs.milliseconds:.1f}",
        ]
        table.add_row(*cells, *([memory(row.costs.peak_memory)] if measured else []))
    return table


def render_groups(results: Results) -> list[Any]:
    """One rich table per group key (subject, level) of a result."""
    return [_estimates(f"{results.task} by {key}", key, values) for key, values in results.groups.items()]


def render_samples(results: Results) -> Any | None:
    """A rich table of pass@k, maj@k and avg@k by k; None for a result of one sample a question."""
    asked = {int(name.removeprefix("avg@")) for name in results.metrics if name.startswith("avg@")}
    counts = sorted({*at_k(results), *asked})
    if not counts:
        return None
    table = plain_table(f"{results.task} ({results.control}), several samples a question")
    for column in ("k", "pass@k (95 %)", "maj@k (95 %)", "avg@k (95 %)"):
        table.add_column(column, justify="right")
    for k in counts:
        table.add_row(
            str(k), *(spanned(results.metrics.get(f"{kind}@{k}")) for kind in ("pass", "maj", "avg"))
        )
    return table


def render_extractions(results: Results) -> list[Any]:
    """Rich tables of how answers were found: accuracy by strict and flexible extraction, samples by rule."""
    tables = []
    if results.extractions:
        tables.append(_estimates(f"{results.task} by extraction", "extraction", results.extractions))
    if results.rules:
        table = plain_table(f"{results.task}: the rule that found the answer")
        table.add_column("rule")
        table.add_column("samples", justify="right")
        table.add_column("share", justify="right")
        total = sum(results.rules.values())
        for rule, count in results.rules.items():
            table.add_row(rule, str(count), percent(count / total))
        tables.append(table)
    return tables


def render_contamination(found: Contamination) -> Any:
    """A rich table of one line: how much of a task's rows the training data holds, and the accuracy on either part."""
    table = plain_table(f"contamination: runs of {found.words} words in {found.texts:,} training texts")
    for column in ("rows", "overlapping", "copied", "accuracy, clean rows", "accuracy, overlapping rows"):
        table.add_column(column, justify="right")
    table.add_row(
        str(found.rows),
        f"{found.overlapping} ({percent(found.share)})",
        str(found.copied),
        spanned(found.clean),
        spanned(found.overlap),
    )
    return table


def at_k(results: Results) -> list[int]:
    """The k of the pass@k and maj@k that a result has, in order."""
    names = [name.split("@") for name in results.metrics if name.startswith(("pass@", "maj@"))]
    return sorted({int(k) for _, k in names})


def shown_metrics(rows: Sequence[Results]) -> list[str]:
    """The metrics that a report shows beside accuracy: all but pass and maj over fewer samples than the most, and avg (the
    accuracy by another name)."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    most = max((k for row in rows for k in at_k(row)), default=0)
    return [name for name in names if "@" not in name or name in (f"pass@{most}", f"maj@{most}")]


def plain_table(title: str | None = None) -> Any:
    """An empty rich table in the one style of all tables here: narrow, and without vertical lines."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    return Table(
        title=title and escape(title),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def percent(value: float) -> str:
    """0.1234 -> `12.3 %`."""
    return f"{100 * value:.1f} %"


def span(low: float, high: float, sign: bool = False) -> str:
    """0.1, 0.2 -> `10.0 to 20.0`; with signs for differences."""
    form = "+.1f" if sign else ".1f"
    return f"{100 * low:{form}} to {100 * high:{form}}"


def spanned(found: Estimate | None) -> str:
    """`12.3 % (10.0 to 15.0)`; nothing for None, a dash where there was no question."""
    if found is None:
        return ""
    return f"{percent(found.value)} ({span(found.low, found.high)})" if found.n else "-"


def signed(found: PairedDifference) -> str:
    """`+1.2 (-0.3 to +2.7)`, in percentage points."""
    return f"{100 * found.difference:+.1f} ({span(found.low, found.high, sign=True)})"


def memory(size: int | None) -> str:
    """Bytes as MiB or GiB; nothing where it was not measured."""
    if size is None:
        return ""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def p_value(value: float | None) -> str:
    """A p-value with two digits; below 0.0001 only that."""
    if value is None:
        return ""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _estimates(title: str, heading: str, values: Mapping[str, Estimate]) -> Any:
    from rich.markup import escape

    table = plain_table(title)
    table.add_column(escape(heading))
    for column in ("accuracy", "95 % interval", "questions"):
        table.add_column(column, justify="right")
    for value, found in values.items():
        table.add_row(
            escape(value),
            percent(found.value),
            f"{percent(found.low)} to {percent(found.high)}",
            str(found.n),
        )
    return table


def _lost(difference: PairedDifference | None) -> str:
    if difference is None:
        return ""
    # what the control costs: none minus control
    return f"{100 * difference.difference:.1f} ({span(difference.low, difference.high)})"
