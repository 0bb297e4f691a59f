"""Answers to look at: some of each verdict, spread evenly over the run and not its first ones, because rows are often sorted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from latentthought.evaluation.results import Results
from latentthought.evaluation.samples import SAMPLES, Sample, read_samples
from latentthought.reporting.document import Block, Details, Heading, Lines, Text

_EXAMPLES = 6
_LONGEST = 1500


def samples_of(folder: Path, row: Results) -> list[Sample]:
    """The samples of a result, wherever below the report's folder they may lie; [] when they are not there."""
    for below in (
        folder / "results" / row.task / row.control,
        folder / row.task / row.control,
        folder / row.control,
        folder,
    ):
        if (below / SAMPLES).is_file():
            found = read_samples(below / SAMPLES)
            return found if found and (found[0].task, found[0].control) == (row.task, row.control) else []
    return []


def examples(found: Sequence[Sample]) -> Iterator[Block]:
    """Some wrong, ungradable and right answers, each kind folded away; nothing for no samples."""
    if not found:
        return
    yield Heading("Examples", 3)
    kinds = {
        "Wrong": [s for s in found if s.verdict.status == "wrong"],
        "Ungradable": [s for s in found if s.verdict.status == "ungradable"],
        "Correct": [s for s in found if s.verdict.correct],
    }
    for name, rows in kinds.items():
        if rows:
            shown = _spread(rows, _EXAMPLES)
            yield Details(
                f"{name}: {len(shown)} of {len(rows):,}", [block for s in shown for block in _example(s)]
            )


def _spread(rows: Sequence[Sample], count: int) -> list[Sample]:
    count = min(count, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def _example(sample: Sample) -> Iterator[Block]:
    answer = "nothing" if sample.extraction.answer is None else repr(_short(sample.extraction.answer, 200))
    yield Text(
        f"{_short(sample.id, 200)}, sample {sample.sample}: gold {_short(sample.gold, 200)!r}, found {answer} "
        f"(rule {sample.extraction.rule}); {_short(sample.verdict.reason, 200)}"
    )
    yield Lines(_short(sample.completion, _LONGEST) or "(empty)")


def _short(text: str, most: int) -> str:
    """A text without its middle where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} [... {len(text) - most:,} characters ...] {text[-(most // 2) :]}"
