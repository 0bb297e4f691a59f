"""Which combinations of strategy, precision, student and teacher are tested, and the table of them in docs/combinations.md.

A test that has trained some of them calls `trained`; `pytest --full --write-combinations` then writes the table from those that
passed. What a recipe of the combination is refused for is asked of the recipe itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

STRATEGIES = ("ddp", "fsdp2", "zero1", "zero2", "zero3")
PRECISIONS = ("fp32", "bf16", "fp16", "fp8")
STUDENTS = ("full", "lora")
TEACHERS = ("alone", "live", "sharded", "cached")
TABLE = Path(__file__).parents[2] / "docs" / "combinations.md"
PROPERTY = "combination"

_HEAD = """# Tested combinations

Written by the tests themselves: `make test-full ARGS="--write-combinations tests/training"`, {when}.
Each number is that of the processes that trained the combination on a CPU (gloo), compared with one process: losses to 1e-5 in
fp32, up to the rounding in bf16 and fp8 (emulated by torchao; transformer-engine is tested against a stand-in only and
**unverified**). `refused`: the recipe says so before anything is made. A dot: nobody has tried it here. GPUs are still to be run.

`alone`: no teacher; `live`: one that reads along, whole on every process; `sharded`: in shares; `cached`: its states from disk.

"""


class Combination(NamedTuple):
    """One cell. processes: how many trained it."""

    strategy: str
    precision: str
    student: str
    teacher: str
    processes: int


def trained(record_property: Callable[[str, object], None], combinations: Iterable[Combination]) -> None:
    """Write down that a test has trained these and found them right; it counts if the test passes."""
    for combination in combinations:
        record_property(PROPERTY, list(combination))


def refusal(strategy: str, precision: str, student: str, teacher: str) -> bool:
    """Whether a recipe of this combination is refused."""
    from latentthought.errors import ConfigError
    from latentthought.recipe import load_recipe
    from latentthought.training.float8 import check_float8
    from latentthought.training.strategy import check_strategy

    changes = [f"engine.strategy={strategy}", f"engine.precision={precision}", "engine.device=auto"]
    changes += ["model.lora={r: 4}"] if student == "lora" else []
    if teacher != "alone":
        changes += ["teacher={model: somewhere}", "objective=[{term: ce}, {term: kl}]"]
    changes += ["teacher.sharded=true"] if teacher == "sharded" else []
    changes += ["teacher.cache={path: states}"] if teacher == "cached" else []
    try:
        recipe = load_recipe("quickstart", changes)
        check_strategy(recipe)
        check_float8(recipe)
    except ConfigError:
        return True
    return False


def write_table(passed: Iterable[Any], when: str) -> None:
    """Write the table of what passed."""
    found: dict[tuple[str, ...], set[int]] = {}
    for entry in passed:
        *cell, processes = entry
        found.setdefault(tuple(cell), set()).add(processes)
    columns = list(itertools.product(STUDENTS, TEACHERS))
    lines = ["| | | " + " | ".join(f"{student}, {teacher}" for student, teacher in columns) + " |"]
    lines.append("| --- | --- |" + " --- |" * len(columns))
    for precision, strategy in itertools.product(PRECISIONS, STRATEGIES):
        cells = [_cell(found, (strategy, precision, *column)) for column in columns]
        lines.append(f"| {precision} | {strategy} | " + " | ".join(cells) + " |")
    TABLE.write_text(_HEAD.format(when=when) + "\n".join(lines) + "\n", encoding="utf-8")


def _cell(found: dict[tuple[str, ...], set[int]], cell: tuple[str, ...]) -> str:
    refused = refusal(*cell)
    assert not (refused and cell in found), f"{cell} was trained, and is refused"
    if refused:
        return "refused"
    return ", ".join(map(str, sorted(found[cell]))) if cell in found else "·"
