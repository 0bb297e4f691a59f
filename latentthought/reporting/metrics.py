"""Reading a run's `metrics.jsonl` and turning it into series and tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentthought.errors import DamagedFileError, MissingFileError

FILE_NAME = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """The metric rows of one run, in the order of their steps; `name` is what a legend calls the run."""

    name: str
    rows: tuple[dict[str, Any], ...]

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """Steps and values of the rows that hold a number under `key`."""
        points = [(row["step"], row[key]) for row in self.rows if "step" in row and _is_number(row.get(key))]
        return [float(step) for step, _ in points], [float(value) for _, value in points]

    def keys(self, prefix: str) -> list[str]:
        """Numeric keys that start with `prefix`, in the order in which they first appear."""
        return list(
            dict.fromkeys(
                key
                for row in self.rows
                for key, value in row.items()
                if key.startswith(prefix) and _is_number(value)
            )
        )

    def stages(self) -> list[tuple[float, str]]:
        """The first step of each leg and its stage's name; a stage that is gone back to appears again."""
        starts: list[tuple[float, str]] = []
        for row in self.rows:
            stage = row.get("stage")
            if stage is None or "step" not in row:
                continue
            if not starts or starts[-1][1] != str(stage):
                starts.append((float(row["step"]), str(stage)))
        return starts

    def last(self, key: str) -> float | None:
        """The last number under `key`, or None."""
        values = self.series(key)[1]
        return values[-1] if values else None


def read_metrics(run: str | Path) -> RunMetrics:
    """The metrics of a run folder (or of a metrics file itself).

    Raises `MissingFileError` when there are none and `DamagedFileError` on a bad line. A last line without its newline is
    one that was being written when the run was killed: it is left out.
    """
    path = Path(run)
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        hint = "" if path.exists() else "; no such folder"
        raise MissingFileError(
            f"no {FILE_NAME} in {path}{hint}: give the folder that `latentthought train` wrote"
        )
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{file}: not UTF-8 (byte {error.start})") from None
    lines = text.split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise DamagedFileError(f"{file}, line {number}: not JSON ({error.msg})") from None
        if isinstance(row, dict):
            rows.append(row)
    name = path.name if path.is_dir() else path.parent.name
    return RunMetrics(name or str(path.resolve().name), tuple(rows))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table as CSV, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    temporary.replace(path)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
