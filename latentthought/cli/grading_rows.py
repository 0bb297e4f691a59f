"""`latentthought grade --gold FIELD --prediction FIELD`: verdicts for any file of rows.

Rows are judged by killable workers, a few hundred at a time, so a prediction that defeats the grader costs its own verdict. All
rows are read before any is judged: what is wrong with a file is said at once, with its line.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentthought.config import apply_overrides
from latentthought.data.sources.loading import field_at
from latentthought.data.sources.reading import BadRow, kind_of, read_rows
from latentthought.errors import ConfigError, DataError, MissingFileError, UserError
from latentthought.evaluation.progress import Progress
from latentthought.evaluation.provenance import versions
from latentthought.evaluation.samples import write_json
from latentthought.evaluation.statistics import Estimate, estimate
from latentthought.evaluation.tables import percent, plain_table, spanned
from latentthought.grading import GradePolicy, Verdict
from latentthought.grading.workers.pool import GradingPool

GRADED, SUMMARY = "graded.jsonl", "summary.json"
_AT_A_TIME = 512

Row = Mapping[str, Any]


def grade_rows(args: argparse.Namespace) -> int:
    """Judge the rows of `args.file`, print a summary, and write both to `args.output` if it is given."""
    from latentthought.cli.console import console
    from latentthought.cli.folders import written_whole

    policy = _policy(args.policy)
    path = Path(args.file)
    if path.is_dir():
        raise DataError(f"{path} is a folder; give one file of rows")
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    try:
        rows, pairs = _read(path, args, policy)
    except DataError:
        if found := _another_form(path, args.gold):
            raise DataError(found) from None
        raise
    verdicts = _verdicts(pairs)
    accuracy = estimate({index: [float(verdict.correct)] for index, verdict in enumerate(verdicts)})
    print(f"{len(rows):,} rows, {spanned(accuracy)} correct")
    for table in _tables(verdicts):
        console().print(table)
    if args.output:
        with written_whole(Path(args.output)) as folder:
            _write(folder, args, policy, rows, verdicts, accuracy)
        print(f"written to {args.output}: {GRADED}, {SUMMARY}")
    return 0


def _policy(settings: Sequence[str]) -> GradePolicy:
    for text in settings:
        key, separator, _ = text.partition("=")
        if not (separator and key.strip()):
            raise ConfigError(f"--policy {text!r}: expected key=value, for example precision=3")
    try:
        return GradePolicy.parse(apply_overrides({}, settings))
    except UserError as error:
        raise type(error)(f"--policy: {error}") from None


def _read(
    path: Path, args: argparse.Namespace, policy: GradePolicy
) -> tuple[list[Row], list[tuple[str, str, GradePolicy]]]:
    """The rows, and what is to be judged of each. Raises `DataError` naming file and line."""
    rows: list[Row] = []
    pairs: list[tuple[str, str, GradePolicy]] = []
    for where, row in read_rows(path):
        if isinstance(row, BadRow):
            raise DataError(f"{where}: {row.reason}")
        gold = _text(row, args.gold, where)
        if not gold.strip():
            raise DataError(f"{where}: field {args.gold!r} is empty: there is no gold answer")
        own = policy
        if args.choices:
            own = policy.replace(choices=_choices(field_at(row, args.choices, where), args.choices, where))
        rows.append(row)
        pairs.append((_text(row, args.prediction, where), gold, own))
    return rows, pairs


def _another_form(path: Path, gold: str) -> str | None:
    """What a .jsonl or .json file is, where it is not rows but CSV or one object around them; None where that is not it."""
    if kind_of(path) not in ("jsonl", "json"):
        return None
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"").removeprefix(b"\xef\xbb\xbf").strip()
    for mark, kind in ((b"\t", "tsv"), (b",", "csv")):
        if mark in first and not first.startswith((b"{", b"[", b"\x1f\x8b")):  # the last: gzip
            return f"{path}: this looks like {kind.upper()}, not JSON; name it .{kind}"
    if kind_of(path) != "json" or not first.startswith(b"{"):
        return None
    try:
        whole = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # a row a line, or damaged: what was found before stands
        return None
    for key, value in whole.items():
        rows = isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
        if rows and gold.partition(".")[0] in value[0]:
            return f"{path}: one object with rows in its field {key!r}; give a file of that list alone, or of a row a line"
    return None


def _text(row: Row, field: str, where: str) -> str:
    """A field as text; null and NaN (pandas' null) are empty, a number or a truth value is what it reads as."""
    value = field_at(row, field, where)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, (str, int, float)):
        raise DataError(f"{where}: field {field!r} must be text or a number, got {type(value).__name__}")
    return str(value)


def _choices(value: Any, field: str, where: str) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        value = [value[letter] for letter in sorted(value)]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{where}: field {field!r} must be a list of option texts, or letter to text")
    return tuple(value)


def _verdicts(pairs: Sequence[tuple[str, str, GradePolicy]]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    with GradingPool() as pool, Progress("grading", len(pairs), shown=True) as bar:
        for start in range(0, len(pairs), _AT_A_TIME):
            found = pool.grade_many(pairs[start : start + _AT_A_TIME])
            verdicts += found
            bar.add(len(found), sum(verdict.correct for verdict in found))
    return verdicts


def _tables(verdicts: Sequence[Verdict]) -> list[Any]:
    """By status and by the rule that found the answer."""
    total = len(verdicts)
    counts = _counts(verdicts)
    tables = []
    for heading, found in (("verdict", counts["status"]), ("rule", counts["rules"])):
        table = plain_table()
        for column in (heading, "rows", "share"):
            table.add_column(column, justify="left" if column == heading else "right")
        for name, count in found.items():
            table.add_row(name, f"{count:,}", percent(count / total))
        tables.append(table)
    return tables


def _counts(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    return {
        "status": dict(Counter(verdict.status for verdict in verdicts).most_common()),
        "rules": dict(Counter(verdict.extraction.rule for verdict in verdicts).most_common()),
    }


def _write(
    folder: Path,
    args: argparse.Namespace,
    policy: GradePolicy,
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    accuracy: Estimate,
) -> None:
    with (folder / GRADED).open("wb") as file:
        for row, verdict in zip(rows, verdicts, strict=True):
            judged = {
                "status": verdict.status,
                "reason": verdict.reason,
                "answer": verdict.extraction.answer,
                "rule": verdict.extraction.rule,
            }
            line = json.dumps({**row, "grade": judged}, ensure_ascii=False, default=str) + "\n"
            file.write(line.encode("utf-8", "replace"))
    write_json(
        folder / SUMMARY,
        {
            "file": str(args.file),
            "rows": len(rows),
            "accuracy": accuracy.dump(),
            **_counts(verdicts),
            "policy": policy.dump(),
            "versions": versions(),
        },
    )
