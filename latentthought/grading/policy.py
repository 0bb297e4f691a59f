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


@dataclass(frozen=True, slots=True)
class GradePolicy:
    """How two answers are compared; hashable, so that it can be part of a cache key.

    strict: only `\\boxed` and `\\fbox` count as an answer; without a box the verdict is ungradable.
    precision: significant digits to which a rounded decimal must agree with the exact value (3: 0.333 is 1/3, 0.33 is
        not; 18.01 is never 18). None: numbers must be equal.
    percent: `sign` (50% is 50), `value` (50% is 0.5), or `either`.
    ordered: None (tuples and intervals are ordered, sets and bare lists are not), or one rule for all of them.
    choices: option texts of a multiple-choice question, A first; letter and text then stand for each other.
    units: a unit beside a number may be left out (`18 dollars` is 18); two different units never agree.
    maximum_length: characters beyond which an answer is compared as raw text only.
    """

    strict: bool = False
    precision: int | None = 3
    percent: str = "either"
    ordered: bool | None = None
    choices: tuple[str, ...] = ()
    units: bool = True
    maximum_length: int = 2000

    def __post_init__(self) -> None:
        flags = {"strict": self.strict, "units": self.units}
        problems = [
            f"{name}: true or false (got {flag!r})"
            for name, flag in flags.items()
            if not isinstance(flag, bool)
        ]
        if self.precision is not None and (type(self.precision) is not int or not 1 <= self.precision <= 15):
            problems.append(f"precision: a number of digits from 1 to 15, or null (got {self.precision!r})")
        if self.percent not in PERCENT_RULES:
            problems.append(f"percent: one of {', '.join(PERCENT_RULES)} (got {self.percent!r})")
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
