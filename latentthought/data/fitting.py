"""Rows that are longer than the context: dropped, shortened in the middle of their reasoning, or an error; never silently.

The decision is made once, before training, against the longest row that any stage of the curriculum can make of an
example: the set of examples is then the same at every stage, and a slot of the run means the same example after a resume.
Rejected: cutting the end of the batch (it cuts the answer, which is what the loss is about).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from latentthought.data.encoding import Encoded, StepPart
from latentthought.errors import DataError

Overlong = Literal["drop", "truncate_steps", "error"]

T = TypeVar("T")

_SHOWN = 5


@dataclass
class Fitted:
    """Rows that fit. kept: their places among the rows given. dropped, truncated: one line per row, with its lengths."""

    rows: list[Encoded] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)

    def report(self) -> str:
        """One line of counts with the first few rows; empty when nothing was changed."""
        parts = [
            f"{len(lines)} rows {verb}: {_some(lines)}"
            for verb, lines in (("dropped", self.dropped), ("truncated", self.truncated))
            if lines
        ]
        return "; ".join(parts)


def fit_rows(
    rows: Iterable[Encoded],
    max_length: int | None,
    overlong: Overlong = "drop",
    length: Callable[[Encoded], int] = len,
) -> Fitted:
    """Make every row at most `max_length` tokens long, as `length` counts them (`Curriculum.longest`; None is no limit).

    `truncate_steps` takes tokens out of the middle of the reasoning: whole steps while more than two are left, then the
    inside of the longest; a row whose prompt, thoughts and answer alone are too long is dropped all the same.
    Raises `DataError` naming the rows under `error`, and whenever nothing is left.
    """
    fitted, given = Fitted(), 0
    for place, row in enumerate(rows):
        given += 1
        found = length(row) if max_length is not None else 0
        if max_length is None or found <= max_length:
            fitted.rows.append(row)
            fitted.kept.append(place)
            continue
        shorter = _truncate(row, max_length, length) if overlong == "truncate_steps" else None
        line = f"row {row.id or place}: {found} tokens, {max_length} allowed"
        if shorter is None:
            fitted.dropped.append(
                line + (", prompt and answer alone are too long" if overlong == "truncate_steps" else "")
            )
        else:
            fitted.truncated.append(f"{line}, {len(row) - len(shorter)} taken out of the middle steps")
            fitted.rows.append(shorter)
            fitted.kept.append(place)
    if overlong == "error" and fitted.dropped:
        raise DataError(
            f"{len(fitted.dropped)} of {given} rows are too long (max_length {max_length}): {_some(fitted.dropped)}. "
            "Raise max_length, or set overlong to drop or truncate_steps"
        )
    if given and not fitted.rows:
        raise DataError(f"none of {given} rows fits max_length {max_length}: {_some(fitted.dropped)}")
    return fitted


def _truncate(row: Encoded, max_length: int, length: Callable[[Encoded], int]) -> Encoded | None:
    while (excess := length(row) - max_length) > 0:
        if len(row.steps) > 2:
            row = _without_step(row, len(row.steps) // 2)
        else:
            # the length of the longest stage need not fall with the words (padded thoughts), hence the second test
            longest = max(range(len(row.steps)), key=lambda i: len(row.steps[i]), default=None)
            if longest is None or not row.steps[longest]:
                return None
            row = _without_middle(row, longest, min(excess, len(row.steps[longest])))
    return row


def _without_step(row: Encoded, step: int) -> Encoded:
    def others(pieces: list[T], piece: int) -> list[T]:
        return [*pieces[:piece], *pieces[piece + 1 :]]

    return replace(
        row,
        steps=others(row.steps, step),
        spans=row.spans and others(row.spans, step + 1),
        marks=row.marks and others(row.marks, step + 1),
        parts=tuple(others(_parts(row), step)),
    )


def _without_middle(row: Encoded, step: int, count: int) -> Encoded:
    start = (len(row.steps[step]) - count) // 2

    def shortened(pieces: list[Any], piece: int, wide: int = 1) -> list[Any]:
        kept = pieces[piece][: wide * start] + pieces[piece][wide * (start + count) :]
        return [*pieces[:piece], kept, *pieces[piece + 1 :]]

    parts = _parts(row)
    # an earlier cut of the same step lies in its middle too, so that both are one
    parts[step] = parts[step]._replace(cut=start, missing=parts[step].missing + count)
    return replace(
        row,
        steps=shortened(row.steps, step),
        spans=row.spans and shortened(row.spans, step + 1, 2),
        marks=row.marks and shortened(row.marks, step + 1),
        parts=tuple(parts),
    )


def _parts(row: Encoded) -> list[StepPart]:
    return [row.part(index) for index in range(len(row.steps))]


def _some(lines: Sequence[str]) -> str:
    return ", ".join(lines[:_SHOWN]) + (f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")
