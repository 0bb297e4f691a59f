"""How a number moves over training: the mix ratio (the progressive scheduler of S1), the weight of a term of the objective.

A schedule is a pure function of the position inside its stage, so that a resumed run, another rank or a prefetched batch
asks the same question and gets the same number. It holds no counter; the trainer gives step and stage length.
Rejected: a mutable scheduler object with `.step()`, which a prefetching data loader and a resume both get wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from latentthought.config import Config

Kind = Literal["constant", "linear", "cosine", "exponential", "sigmoid", "piecewise"]


class Schedule(Config):
    """A value as a function of progress p in [0, 1].

    kind:
        constant     end
        linear       start + (end - start) p
        cosine       start + (end - start) (1 - cos(pi p)) / 2
        exponential  start + (end - start) (e^{s p} - 1) / (e^s - 1), slow at first for s > 0
        sigmoid      start + (end - start) (f(p) - f(0)) / (f(1) - f(0)),  f(p) = 1 / (1 + e^{-s (p - 1/2)})
        piecewise    straight lines through `points`, each (p, value); constant outside them
    All of them hit `start` at p = 0 and `end` at p = 1 exactly.
    """

    kind: Kind = "constant"
    start: float = Field(0.0, ge=0.0)
    end: float = Field(1.0, ge=0.0)
    steepness: float = Field(5.0, gt=0.0, le=50.0)
    points: tuple[tuple[float, float], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _lists_are_points(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("points"), list):
            # what a validator of this kind hands on counts as Python data, where strict mode takes no list for a tuple
            points = tuple(tuple(point) if isinstance(point, list) else point for point in value["points"])
            return {**value, "points": points}
        return value

    @model_validator(mode="after")
    def _points_fit_kind(self) -> Self:
        if (self.kind == "piecewise") != bool(self.points):
            raise ValueError("points go with kind piecewise, and only with it")
        places = [place for place, _ in self.points]
        if places != sorted(set(places)) or any(not 0 <= place <= 1 for place in places):
            raise ValueError(f"points need increasing places within 0..1, got {places}")
        if any(value < 0 for _, value in self.points):
            raise ValueError("the value of every point is 0 or more")
        return self

    def at(self, progress: float) -> float:
        """Value at progress p; values outside [0, 1] are clipped."""
        p = min(max(progress, 0.0), 1.0)
        if self.kind == "piecewise":
            return self._between_points(p)
        share = _SHAPES[self.kind](p, self.steepness)
        # the ends are exact whatever rounding does between them
        return self.end if share == 1.0 else self.start + (self.end - self.start) * share

    def _between_points(self, p: float) -> float:
        (left, value), *rest = self.points
        if p <= left:
            return value
        for right, next_value in rest:
            if p <= right:
                return value + (next_value - value) * (p - left) / (right - left)
            left, value = right, next_value
        return value


class MixSchedule(Schedule):
    """Mix ratio m over a stage, or over a number of steps; see `Schedule`. In YAML a bare number is a constant.

    steps: when given, p = step / steps, clipped at 1; otherwise p runs over the stage.
    """

    start: float = Field(0.0, ge=0.0, le=1.0)
    end: float = Field(1.0, ge=0.0, le=1.0)
    steps: int | None = Field(None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _number_is_constant(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return {"kind": "constant", "start": float(value), "end": float(value)}
        return value

    @model_validator(mode="after")
    def _ratios(self) -> Self:
        if any(not 0 <= ratio <= 1 for _, ratio in self.points):
            raise ValueError("the mix ratio of every point lies within 0..1")
        return self

    @classmethod
    def constant(cls, ratio: float) -> MixSchedule:
        """The schedule that is `ratio` everywhere."""
        return cls(kind="constant", start=ratio, end=ratio)

    def ratio(self, step: int, stage_steps: int) -> float:
        """Mix ratio at 0-based `step` of a stage of `stage_steps` steps: the first step is p = 0, the last p = 1."""
        span = self.steps if self.steps is not None else stage_steps - 1
        return self.at(step / span if span > 0 else 1.0)


def _sigmoid(p: float, s: float) -> float:
    def f(x: float) -> float:
        return 1.0 / (1.0 + math.exp(-s * (x - 0.5)))

    return (f(p) - f(0.0)) / (f(1.0) - f(0.0))


_SHAPES = {
    "constant": lambda p, s: 1.0,
    "linear": lambda p, s: p,
    "cosine": lambda p, s: (1.0 - math.cos(math.pi * p)) / 2.0,
    "exponential": lambda p, s: math.expm1(s * p) / math.expm1(s),
    "sigmoid": _sigmoid,
}
