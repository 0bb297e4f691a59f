"""Rates of work as `python -m benchmarks growth --write-docs` measured them, with where, when and how far.

They lie beside this module as JSON, so that a benchmark can write them and a person can read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latentthought.training.calibration import Probes, carried_over
from latentthought.training.cost import Rates, Work
from latentthought.training.hollow_step import StepShape

FILE = Path(__file__).with_name("measured.json")
# what a measured range is of, as a person reads it
_AXES = {
    "thoughts": ("{:,.0f} thoughts", 1.0),
    "batch": ("{:,.0f} rows at once", 1.0),
    "sequence": ("rows of {:,.0f} positions", 1.0),
    "parameters": ("a model of {:,.3g} M parameters", 1e6),
}


@dataclass(frozen=True)
class Measured:
    """rates, in float32; probes of the same machine, to carry them over to another. most: the largest step that was measured,
    by axis. median_error, worst_error: of the rates over the steps that they were fitted to, relative."""

    rates: Rates
    probes: Probes
    machine: str
    threads: int
    date: str
    most: Mapping[str, float]
    median_error: float
    worst_error: float

    def here(self, probes: Probes) -> Rates:
        """The rates of a machine whose probes are these."""
        return carried_over(self.rates, self.probes, probes)

    def beyond(self, shape: StepShape, parameters: int) -> list[str]:
        """What of a step is larger than anything that was measured, in words."""
        asked = {
            "thoughts": shape.thoughts,
            "batch": shape.rows,
            "sequence": shape.positions,
            "parameters": parameters,
        }
        return [
            words.format(asked[axis] / unit)
            for axis, (words, unit) in _AXES.items()
            if asked[axis] > self.most[axis]
        ]

    def text(self) -> str:
        """As the file holds it."""
        values = asdict(self)
        values["rates"] = values["rates"]["costs"]
        return json.dumps({"version": 1, **values}, indent=2) + "\n"


def parsed(text: str) -> Measured:
    """What `Measured.text` wrote."""
    values: dict[str, Any] = json.loads(text)
    assert values.pop("version") == 1, "a file of another release"
    return Measured(
        **{**values, "rates": Rates(Work(**values["rates"])), "probes": Probes(**values["probes"])}
    )


def measured() -> Measured:
    """The rates that come with the package."""
    return parsed(FILE.read_text(encoding="utf-8"))
