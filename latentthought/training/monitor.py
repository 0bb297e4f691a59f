"""What a run reports: means gathered on the device, and the file they are written to.

Values stay on the device until a line is due, then all of them come over in one copy: a host that waits for the
device at every step costs more than a small model's step. Sums are float64, so a resumed run, which gets its half-filled
window back from the checkpoint, writes the same numbers.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentthought.errors import LatentThoughtError
from latentthought.training.folder import gone

METRICS_FILE = "metrics.jsonl"
CLOCKED = frozenset({"tokens_per_second", "seconds"})
"""Keys of its lines that a clock gave, and that no second run repeats."""

Reduce = Callable[[Tensor], Tensor]


class RunningMeans:
    """Weighted means by name, as sums and weights that may live on the device."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        self._sums: dict[str, list[Tensor | float]] = {}

    def add(self, name: str, value: Tensor | float, weight: Tensor | float = 1.0) -> None:
        """Add to the sum and the weight of a mean. (A share of a mean is added with weight 0 after the first.)"""
        if isinstance(value, Tensor):
            value = value.detach().double()
        entry = self._sums.setdefault(name, [0.0, 0.0])
        entry[0] = entry[0] + value
        entry[1] = entry[1] + weight

    def sums(self, reduce: Reduce | None = None) -> dict[str, tuple[float, float]]:
        """Sum and weight of every name, over all ranks when `reduce` adds up a vector over them. One wait for the device."""
        if not self._sums:
            return {}
        flat = [
            torch.as_tensor(x, dtype=torch.float64).to(self._device)
            for entry in self._sums.values()
            for x in entry
        ]
        vector = torch.stack(flat)
        numbers = (vector if reduce is None else reduce(vector)).tolist()
        return {name: (numbers[2 * i], numbers[2 * i + 1]) for i, name in enumerate(self._sums)}

    def copy(self) -> RunningMeans:
        """The same sums, which what is added from now on leaves as they are."""
        same = RunningMeans(self._device)
        same._sums = {name: list(entry) for name, entry in self._sums.items()}
        return same

    def clear(self) -> None:
        self._sums.clear()

    def restore(self, sums: Mapping[str, tuple[float, float]]) -> None:
        """Go on from the sums of a checkpoint."""
        self._sums = {name: [float(value), float(weight)] for name, (value, weight) in sums.items()}


def means_of(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Means of those sums that have a weight."""
    return {name: value / weight for name, (value, weight) in sums.items() if weight}


class Throughput:
    """Tokens and seconds of wall time since the last reading."""

    def __init__(self) -> None:
        self._tokens: Tensor | float = 0.0
        self._since = time.perf_counter()

    def add(self, tokens: Tensor) -> None:
        self._tokens = self._tokens + tokens

    def elapsed(self) -> float:
        """Seconds since the last call of `read`."""
        return max(0.0, time.perf_counter() - self._since)

    def read(self) -> tuple[float, float]:
        """Tokens of this process per second since the last call, and these seconds; 0 where the clock has not gone forward."""
        now = time.perf_counter()
        seconds = max(0.0, now - self._since)
        rate = float(self._tokens) / seconds if seconds else 0.0
        self._tokens, self._since = 0.0, now
        return rate, seconds


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, appended and flushed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; numbers that JSON has no word for become null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(clean) + "\n")
        except FileNotFoundError:
            raise LatentThoughtError(gone(self.path.parent)) from None

    def truncate(self, step: int, lasting: Callable[[dict[str, Any]], bool] = lambda row: False) -> None:
        """Drop the rows beyond a step, and a line that was being written when the run was killed. lasting: rows that stay."""
        if not self.path.exists():
            return
        kept = [row for row in self.rows() if row["step"] <= step or lasting(row)]
        temporary = self.path.with_name(self.path.name + ".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def last(self) -> dict[str, Any]:
        """The last row, or an empty one."""
        return (self.rows() or [{}])[-1]

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows; a line that was being written when the run was killed is none."""
        if not self.path.exists():
            return []
        # what is no UTF-8 is no JSON either
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        return [row for line in lines if (row := _row(line))]


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else {}
