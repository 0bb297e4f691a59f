"""Projectors: from the student's width to the teacher's, trained with the student and thrown away after it.

    {kind: linear, shared: false, learning_rate: 1e-3}

`none`         the states as they are; both widths have to be equal.
`linear`       W h + b.
`linear_relu`  relu(W h + b), as S3 does; what it gives has no negative part, so it can only reach a part of the target.
`mlp`          W2 gelu(W1 h + b1) + b2.

Between a student and the teacher that it was pruned from (`layers: provenance`) a linear map begins by putting every channel of
the stream back to where it was, and gives zero for those that are gone (of a linear_relu the relu comes after that); else, and
for an mlp, weights begin at random.

One for each pair of layers, or one for all of them (`shared`). They are companions of the student (`model.companions`), so that
every engine trains them, exports leave them out, and LoRA, attached before them, never sees them. The matrices of all pairs are
small beside one block of the student, so pairs are projected one after another, by ordinary linear layers.
Rejected: one (L, D, D') parameter and a batched product (no quantiser, engine or initialiser knows it for a linear layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from latentthought.config import Config
from latentthought.errors import ConfigError


class ProjectorConfig(Config):
    """The key `projector` of a term that compares hidden states; in YAML also the bare kind.

    kind: see this module. shared: one for all pairs of layers. bias: of its linear layers. width: inner width of the mlp; None is
    the teacher's. learning_rate: its own; None is the run's.
    """

    kind: Literal["none", "linear", "linear_relu", "mlp"] = "none"
    shared: bool = False
    bias: bool = True
    width: int | None = Field(None, gt=0)
    learning_rate: float | None = Field(None, gt=0.0)

    @model_validator(mode="before")
    @classmethod
    def _bare_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> ProjectorConfig:
        if self.width is not None and self.kind != "mlp":
            raise ValueError(f"width is the inner width of kind mlp, not of {self.kind}")
        if self.learning_rate is not None and self.kind == "none":
            raise ValueError("learning_rate: kind none has nothing to learn")
        return self


class Projectors(nn.Module):
    """One projector for each pair of layers, or one for all.

    Args:
        config: which. student_width, teacher_width: D and D' of the states.
        pairs: (student's layer, teacher's layer) of each place along L.
        where: the settings' path in the recipe, for errors.
        channels: which of the teacher's channels each of the student's was; None for a student of other origin.

    Raises ConfigError for kind none between different widths.
    """

    def __init__(
        self,
        config: ProjectorConfig,
        student_width: int,
        teacher_width: int,
        pairs: Sequence[tuple[int, int]],
        where: str = "projector",
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if config.kind == "none" and student_width != teacher_width:
            raise ConfigError(
                f"{where}.kind: none, and the student's states are {student_width} wide, the teacher's {teacher_width}; "
                "allowed between different widths: linear, linear_relu, mlp"
            )
        self.config, self.widths = config, (student_width, teacher_width)
        self.pairs = tuple((student, teacher) for student, teacher in pairs)
        count = 0 if config.kind == "none" else 1 if config.shared else len(self.pairs)
        self.maps = nn.ModuleList(_map(config, student_width, teacher_width) for _ in range(count))
        if channels is not None and config.kind != "mlp":
            for linear in self.modules():
                if isinstance(linear, nn.Linear):
                    _put_back(linear, channels)

    @property
    def description(self) -> dict[str, Any]:
        """What fixes its shape and meaning; see `model.companions`."""
        student, teacher = self.widths
        return {
            "kind": self.config.kind,
            "student_width": student,
            "teacher_width": teacher,
            "inner_width": (self.config.width or teacher) if self.config.kind == "mlp" else None,
            "bias": self.config.bias,
            "shared": self.config.shared,
            "pairs": [list(pair) for pair in self.pairs],
        }

    def forward(self, states_NLD: Tensor) -> Tensor:
        """(N, L, D) -> (N, L, D'); N may be 0, and the weights still are in the graph (DDP waits for each of them)."""
        if not self.maps:
            return states_NLD
        # outside autocast a bf16 student's states meet float32 projectors
        states_NLD = states_NLD.to(next(self.parameters()).dtype)
        if self.config.shared:
            return self.maps[0](states_NLD)
        return torch.stack([map(states_NLD[:, place]) for place, map in enumerate(self.maps)], dim=1)


@torch.no_grad()
def _put_back(linear: nn.Linear, channels: Sequence[int]) -> None:
    """Output channels[i] becomes input i, the others 0."""
    linear.weight.zero_()
    linear.weight[torch.tensor(channels), torch.arange(len(channels))] = 1.0
    if linear.bias is not None:
        linear.bias.zero_()


def _map(config: ProjectorConfig, student_width: int, teacher_width: int) -> nn.Sequential:
    if config.kind == "mlp":
        inner = config.width or teacher_width
        return nn.Sequential(
            nn.Linear(student_width, inner, config.bias),
            nn.GELU(),
            nn.Linear(inner, teacher_width, config.bias),
        )
    linear = nn.Linear(student_width, teacher_width, config.bias)
    return nn.Sequential(linear, nn.ReLU()) if config.kind == "linear_relu" else nn.Sequential(linear)
