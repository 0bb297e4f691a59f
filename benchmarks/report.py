"""From measurements to JSON, one Markdown table, and the marked block of docs/performance.md. No figure is typed by hand."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

from benchmarks.settings import Settings
from benchmarks.timing import Side, Timing
from latentthought.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
# with so much of a core in use by others, or this spread, figures are marked as disturbed
BUSY = 0.5
SPREAD = 0.1


@dataclass(frozen=True)
class Floor:
    """What the work costs at least: arithmetic operations (a multiply-add is two) and bytes moved."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Row:
    """One side: median seconds, spread (half the quartile distance over the median), time over the floor's, units a second."""

    side: str
    role: str
    seconds: tuple[float, ...]
    median: float
    spread: float
    ratio: float
    rate: float
    unit: str
    peak_bytes: int | None
    result: str
    note: str

    @classmethod
    def of(
        cls,
        sides: Sequence[Side],
        timings: Mapping[str, Timing],
        agreement: Mapping[str, str],
        unit: str,
        units: int,
    ) -> list[Row]:
        """Rows in the order of `sides`; `units` is what one run of a side produces, unless it says otherwise. Ratios refer to the
        one side of role "floor", or to the one a side names."""
        (floor,) = (side.name for side in sides if side.role == "floor")
        return [
            cls(
                side.name,
                side.role,
                timing.seconds,
                timing.median,
                timing.spread,
                timing.ratio(timings[side.over or floor]),
                yields / timing.median,
                name,
                timing.peak_bytes,
                agreement[side.name],
                side.note,
            )
            for side in sides
            for timing, (yields, name) in ((timings[side.name], side.units or (units, unit)),)
        ]


@dataclass(frozen=True)
class Target:
    """A figure that was promised. `sense` is "<=" or ">="; a `value` of None was not measured, and `why` says why not."""

    side: str
    what: str
    value: float | None
    sense: str
    limit: float
    why: str = ""

    @classmethod
    def at_most(cls, side: str, what: str, value: float | None, limit: float, why: str = "") -> Target:
        return cls(side, what, value, "<=", limit, why)

    @classmethod
    def at_least(cls, side: str, what: str, value: float | None, limit: float, why: str = "") -> Target:
        return cls(side, what, value, ">=", limit, why)

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.limit if self.sense == "<=" else self.value >= self.limit

    @property
    def wanted(self) -> str:
        return f"{'at most' if self.sense == '<=' else 'at least'} {self.limit:g}"

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: f"skipped: {self.why}"}[self.met]

    def __str__(self) -> str:
        measured = "" if self.value is None else f" {self.value:.3f}"
        return f"{self.side}: {self.what}{measured}, wanted {self.wanted}: {self.verdict}"


@dataclass(frozen=True)
class Report:
    """One benchmark. Without `rows` where it could not run at all, and `skipped` says why."""

    name: str
    title: str
    floor: Floor
    rows: list[Row]
    skipped: dict[str, str] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    @property
    def floor_row(self) -> Row | None:
        """The side that all others are divided by."""
        return next((row for row in self.rows if row.role == "floor"), None)


def circumstances(command: str, settings: Settings) -> dict[str, Any]:
    """Where and when the figures arise; called before measuring, so that the cores in use are in others' use."""
    # not the load average, which remembers for minutes what has ended before
    busy = psutil.cpu_percent(0.1 if settings.quick else 1.0) / 100 * (psutil.cpu_count() or 1)
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "machine": machine(settings.device),
        "threads": settings.threads,
        "dtype": str(settings.dtype).removeprefix("torch."),
        "model": settings.model,
        "sizes": dataclasses.asdict(settings.sizes),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "quick": settings.quick,
        "load_before": busy,
        "disturbed": busy > BUSY,
    }


def as_json(where: Mapping[str, Any], reports: Sequence[Any]) -> dict[str, Any]:
    """Everything, rounds included."""
    benchmarks = []
    for report in reports:
        entry = dataclasses.asdict(report)
        entry.pop("files", None)  # which hold the same, laid out
        for target, found in zip(report.targets, entry["targets"], strict=True):
            found["met"] = target.met
        benchmarks.append(entry)
    return {"version": 1, **where, "benchmarks": benchmarks}


def as_markdown(where: Mapping[str, Any], reports: Sequence[Report]) -> str:
    """One table for all benchmarks, with what is needed to repeat it."""
    sizes = where["sizes"]
    lines = [
        f"`{where['command']}`",
        "",
        f"{where['date']}, commit {where['commit']}; {where['machine']}, {where['threads']} threads, {where['dtype']}; "
        f"torch {where['torch']}, transformers {where['transformers']}; GPT-2 architecture with {sizes['layers']} layers, width "
        f"{sizes['width']}, vocabulary {sizes['vocabulary']}, random weights, no dropout.",
    ]
    if where["quick"]:
        lines += [
            "",
            "Tiny sizes: shows that all sides run and agree; the times mean nothing and are not judged.",
        ]
    elif where["disturbed"]:
        load = f"{where['load_before']:.1f}"
        lines += [
            "",
            f"**The machine was busy with other work (cores in use: {load}): times and ratios are not to be relied on.**",
        ]
    lines += [
        "",
        "| benchmark | side | median | ± | time / floor | rate | peak memory | result |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for report in reports:
        for row in report.rows:
            name = f"**{row.side}**" if row.role == "ours" else row.side
            side = name + (f" ({row.note})" if row.note else "")
            spread = f"{row.spread:.0%}" + (" (unsteady)" if row.spread > SPREAD else "")
            memory = "" if row.peak_bytes is None else _mebibytes(row.peak_bytes)
            lines.append(
                f"| {report.name} | {side} | {_seconds(row.median)} | {spread} | {row.ratio:.2f} | {row.rate:,.0f} {row.unit} "
                f"| {memory} | {row.result} |"
            )
        lines += [
            f"| {report.name} | {side} | skipped: {reason} | | | | | |"
            for side, reason in report.skipped.items()
        ]
    lines.append("")
    for report in reports:
        if (floor := report.floor_row) is None:
            continue
        seconds = floor.median
        operations, moved = report.floor.operations / 1e9, report.floor.bytes / 1e9
        lines.append(
            f"- {report.name}: {report.title}. Floor: {operations:,.1f} GFLOP, {moved:,.2f} GB; "
            f"its side ran at {operations / seconds:,.1f} GFLOP/s and {moved / seconds:,.2f} GB/s."
        )
        if where["quick"]:
            continue
        if floor.spread > SPREAD:
            lines.append(
                f"  - **The floor itself varied by ±{floor.spread:.0%} from round to round: ratios are not to be relied on.**"
            )
        lines += [f"  - {target}" for target in report.targets]
    return "\n".join(lines) + "\n"


def write_block(path: Path, name: str, content: str) -> None:
    """Replace what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in `path`; the rest stays as it is."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = path.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ConfigError(f"{path}: needs one line {begin} and, below it, one line {end}")
    head, tail = text.split(begin)[0], text.split(end)[1]
    write_whole(path, f"{head}{begin}\n{content.strip()}\n{end}{tail}")


def write_whole(path: Path, text: str) -> None:
    """A file, whole or as it was; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size >= 10 * 2**20 else f"{size / 2**20:.2f} MiB"


def machine(device: torch.device) -> str:
    """What it is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
        )
    except OSError:
        found = None
    return f"{found[1] if found else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
