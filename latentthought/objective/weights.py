"""How much a term weighs: a number, or a schedule over the run or over each stage."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.thoughts.schedule import Schedule

NAME = r"^[a-zA-Z]\w*$"
"""What a term's name may look like: it becomes part of metric and module names."""


class WeightSchedule(Schedule):
    """A weight that moves. over: the whole run, or each stage anew."""

    over: Literal["run", "stage"] = "run"

    @model_validator(mode="after")
    def _says_where_it_goes(self) -> Self:
        if self.kind not in ("constant", "piecewise") and not {"start", "end"} <= self.model_fields_set:
            raise ValueError(f"a weight that moves ({self.kind}) needs start and end")
        return self


class Weighted(Config):
    """The part of a term's settings that every term has.

    weight: what its value is multiplied by. name: what it reports under.
    """

    weight: Annotated[float, Field(ge=0.0)] | WeightSchedule = 1.0
    name: str = Field(pattern=NAME)

    def weight_at(self, run: float, stage: float) -> float:
        """The weight when the shares `run` of the run and `stage` of the stage are done."""
        if isinstance(self.weight, WeightSchedule):
            return self.weight.at(run if self.weight.over == "run" else stage)
        return self.weight
