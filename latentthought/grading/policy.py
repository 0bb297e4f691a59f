"""What counts as the same answer: the choices a grader has to make, in one frozen object.

A dataclass and not a `Config`: grading is to be importable alone, fast, and without pydantic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latentthought.errors import ConfigError, nearest

PERCENT_RULES = ("either", "sign", "value")
SYMBOLIC_STAGES = ("own", "math-verify", "none")
WRITTEN = "written"


@dataclass(frozen=True, slots=True)
class GradePolicy:
    """How two answers are compared; hashable, so that it can be part of a cache key.

    strict: only `\\boxed` and `\\fbox` count as an answer; without a box the verdict is ungradable.
    precision: when a decimal stands for another number. `written`: where it is that number correctly rounded, to three
        significant digits or more (0.333 is 1/3; 0.33 is not, 0.4571 is not 0.4567, and 18.01 never 18). A count of digits:
        where the two agree to so many (3: 0.4571 is 0.4567). A tolerance below 1: where they differ relatively by no more
        (0.01: one percent). None: numbers must be equal.
    simplified: an answer must be as simple as it can be written (2/4, sqrt(8) and 2+3 do not count).
    symbolic: who compares algebra: `own` (the parser and algebra here), `math-verify` (asked last, in a killable process,
        about what `own` calls different; an extra), or `none` (text, numbers and lists only).
    percent: `sign` (50% is 50), `value` (50% is 0.5), or `either`.
    ordered: None (tuples and intervals are ordered, sets and bare lists are not), or one rule for all of them.
    choices: option texts of a multiple-choice question, A first (or letter -> text); letter and text then stand for each
        other.
    units: a unit beside a number may be left out (`18 dollars` is 18); two different units never agree.
    maximum_length: characters beyond which an answer is compared as raw text only.
    """

    strict: bool = False
    precision: str | int | float | None = WRITTEN
    percent: str = "either"
    ordered: bool | None = None
    simplified: bool = False
    symbolic: str = "own"
    choices: tuple[str, ...] = ()
    units: bool = True
    maximum_length: int = 2000

    def __post_init__(self) -> None:
        if isinstance(self.choices, Mapping):
            object.__setattr__(self, "choices", tuple(text for _, text in sorted(self.choices.items())))
        flags = {"strict": self.strict, "units": self.units, "simplified": self.simplified}
        problems = [
            f"{name}: true or false (got {flag!r})"
            for name, flag in flags.items()
            if not isinstance(flag, bool)
        ]
        digits = type(self.precision) is int and 1 <= self.precision <= 15
        tolerance = type(self.precision) is float and 0 < self.precision < 1
        if not (self.precision in (None, WRITTEN) or digits or tolerance):
            problems.append(
                "precision: written (a decimal is the other number rounded), a number of digits from 1 to 15, a relative "
                f"tolerance between 0 and 1, or null (got {self.precision!r})"
            )
        if self.percent not in PERCENT_RULES:
            problems.append(f"percent: one of {', '.join(PERCENT_RULES)} (got {self.percent!r})")
        if self.symbolic not in SYMBOLIC_STAGES:
            problems.append(f"symbolic: one of {', '.join(SYMBOLIC_STAGES)} (got {self.symbolic!r})")
        if self.ordered not in (None, True, False):
            problems.append(f"ordered: true, false or null (got {self.ordered!r})")
        if type(self.maximum_length) is not int or self.maximum_length < 1:
            problems.append(f"maximum_length: a positive number of characters (got {self.maximum_length!r})")
        if isinstance(self.choices, str) or not all(isinstance(choice, str) for choice in self.choices):
            problems.append(f"choices: a list of option texts (got {self.choices!r})")
        if problems:
            raise ConfigError("grading policy: " + "; ".join(problems))
        object.__setattr__(self, "choices", tuple(self.choices))

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> GradePolicy:
        """From plain values of a task file; an unknown key names its nearest match."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                close = nearest(str(key), known)
                hint = f" did you mean {close[0]}?" if close else ""
                raise ConfigError(f"grading policy: unknown key {key!r};{hint} allowed: {', '.join(known)}")
        return cls(**values)

    def dump(self) -> dict[str, Any]:
        """Plain values that `parse` reads back."""
        return {**dataclasses.asdict(self), "choices": list(self.choices)}

    def replace(self, **changes: Any) -> GradePolicy:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)
