"""How much of a model is taken away, and by what rule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from latentthought.config import Config

Blocks = tuple[Annotated[int, Field(ge=1)], ...]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Size = Annotated[int, Field(ge=1)]


def _checked(given: object) -> object:
    """A count or a share, or one message instead of one for each of the two."""
    if given is None or isinstance(given, str):  # what is no number is told by its type
        return given
    count = isinstance(given, int) and not isinstance(given, bool) and given >= 1
    if count or (isinstance(given, float) and 0 < given < 1):
        return given
    raise ValueError("expected a whole number of at least 1, or a share between 0 and 1")


class DepthPruning(Config):
    """Which blocks go. Blocks count from 1. Exactly one of drop, keep and remove.

    drop, keep: the blocks themselves. remove: how many, or what share of the depth (a share that is no whole number of blocks is
    rounded, halves up).
    by: what `remove` takes. `influence`: the blocks that turn their input the least, 1 - cosine of a position's state before and
        after, on average over data (block influence of ShortGPT, arXiv 2403.03853). `last`: the last ones, but for the very last
        `protect_last`.
    protect_first, protect_last: so many blocks of either end stay, whatever their influence.
    """

    drop: Blocks | None = Field(None, min_length=1)
    keep: Blocks | None = Field(None, min_length=1)
    remove: Size | Share | None = None
    by: Literal["influence", "last"] = "influence"
    protect_first: Annotated[int, Field(ge=0)] = 0
    protect_last: Annotated[int, Field(ge=0)] = 0

    @field_validator("remove", mode="before")
    @classmethod
    def _amount(cls, given: object) -> object:
        return _checked(given)

    @model_validator(mode="after")
    def _says_one_thing(self) -> DepthPruning:
        given = [name for name in ("drop", "keep", "remove") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of drop, keep and remove, not {' and '.join(given) or 'none'}")
        for name in ("drop", "keep"):
            blocks = getattr(self, name)
            if blocks is not None and len(set(blocks)) != len(blocks):
                twice = next(block for block in blocks if blocks.count(block) > 1)
                raise ValueError(f"{name}: block {twice} is named twice")
        return self

    @property
    def needs_data(self) -> bool:
        """Whether the rule measures anything."""
        return self.remove is not None and self.by == "influence"


class WidthPruning(Config):
    """What stays of each block's inside. A whole number is a size, a fraction below 1 a share of the model's own.

    mlp: channels of every MLP. heads: query heads of every attention, whole groups with their key and value head.
    hidden: the width of the stream that all blocks read and write, the same channels everywhere.
    importance: `activation`: how large a channel gets on data (after Minitron, arXiv 2407.14679). `magnitude`: how large its
        weights are, which needs no data.
    multiple_of: shares are rounded down to a multiple of it, as kernels like them, where the model's own size is one too.
    """

    mlp: Size | Share | None = None
    heads: Size | Share | None = None
    hidden: Size | Share | None = None
    importance: Literal["activation", "magnitude"] = "activation"
    multiple_of: Size = 8

    @field_validator("mlp", "heads", "hidden", mode="before")
    @classmethod
    def _amount(cls, given: object) -> object:
        return _checked(given)

    @model_validator(mode="after")
    def _takes_something(self) -> WidthPruning:
        if self.mlp is None and self.heads is None and self.hidden is None:
            raise ValueError("give at least one of mlp, heads and hidden")
        return self

    @property
    def needs_data(self) -> bool:
        """Whether the rule measures anything."""
        return self.importance == "activation"


class PruningConfig(Config):
    """The key `model.pruning`: how the folder that `model.base` names is made, which `latentthought prune RECIPE` does.

    model: what is pruned, a folder, a run or a hub name. depth, width: what of it goes; see their classes.
    rows: of the recipe's training rows, as its last stage lays them out, that rules which measure look at.
    """

    model: str
    depth: DepthPruning | None = None
    width: WidthPruning | None = None
    rows: Size = 256

    @model_validator(mode="after")
    def _takes_something(self) -> PruningConfig:
        if self.depth is None and self.width is None:
            raise ValueError("give depth, width or both; with neither nothing would go")
        return self
