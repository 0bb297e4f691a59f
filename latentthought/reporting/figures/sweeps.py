"""A sweep's `table.json`: its points with their accuracies, as far as a figure needs them.

    {"keys": ["objective.0.weight"], "points": [{"name", "overrides": {key: value}, "seeds", "runs": [folder, ...],
     "tasks": {"TASK/CONTROL": {"mean", "low", "high", "per_seed": [...]}}}]}

What else stands in it is passed over. Runs are folders below the table's own. A table of another form says nothing here: the runs
below its folder are then read themselves, which gives the same points with the same intervals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from latentthought.errors import DamagedFileError
from latentthought.reporting.figures.points import Score

TABLE = "table.json"


class SweptPoint(NamedTuple):
    """One point of a sweep. scores: (task, control) -> accuracy over its seeds. runs: folders relative to the table's."""

    name: str
    overrides: dict[str, Any]
    runs: tuple[str, ...]
    scores: dict[tuple[str, str], Score]


def read_table(path: Path) -> list[SweptPoint]:
    """The points of a sweep; none for a table of another form. Raises `DamagedFileError` naming the file and the point."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFileError(f"{path}: not JSON ({error})") from None
    points = table.get("points") if isinstance(table, Mapping) else None
    if not isinstance(points, list):
        raise DamagedFileError(f"{path}: no list of points in it: not the table of a sweep")
    if not any(isinstance(point, Mapping) and "tasks" in point for point in points):
        return []
    return [_point(point, number, path) for number, point in enumerate(points, 1)]


def _point(point: Any, number: int, path: Path) -> SweptPoint:
    try:
        scores = {}
        for name, found in point.get("tasks", {}).items():
            task, _, control = name.rpartition("/")
            mean, low, high = (float(found[end]) for end in ("mean", "low", "high"))
            each = tuple(map(float, found.get("per_seed") or (mean,)))
            scores[(task, control) if task else (control, "none")] = Score(mean, low, high, each=each)
        overrides = dict(point["overrides"])
        name = point.get("name") or " ".join(f"{key}={value}" for key, value in overrides.items())
        return SweptPoint(str(name), overrides, tuple(map(str, point.get("runs", ()))), scores)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFileError(f"{path}, point {number}: not a point of a sweep ({error!r})") from None
