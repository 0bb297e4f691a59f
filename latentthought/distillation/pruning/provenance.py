"""Where the parts of a pruned model come from, kept in its own config so that it travels with the weights wherever they go.

`config.pruning` is a list, one entry a pruning, the latest last: `depth` and `width` of the model that was cut, the `blocks`
that stayed (from 1) and the `hidden` channels (from 0), None for all, and the `influence` of every block of it where that was
measured. A student's layer map and projectors read it against whichever of the models in its line is the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from latentthought.distillation.pruning.slicing import Kept
from latentthought.errors import DamagedFileError

KEY = "pruning"


class Cut(TypedDict):
    """One pruning; see the module."""

    depth: int
    width: int
    blocks: list[int]
    hidden: list[int] | None
    influence: list[float] | None


def recorded(config: Any) -> list[Cut]:
    """The prunings that a config tells of, none for a model that was never pruned. Raises `DamagedFileError`."""
    found = getattr(config, KEY, None) or []
    try:
        return [
            Cut(
                depth=int(one["depth"]),
                width=int(one["width"]),
                blocks=[int(block) for block in one["blocks"]],
                hidden=None if one["hidden"] is None else [int(channel) for channel in one["hidden"]],
                influence=None if one.get("influence") is None else [float(i) for i in one["influence"]],
            )
            for one in found
        ]
    except (TypeError, KeyError, ValueError) as error:
        raise DamagedFileError(f"config.json: {KEY!r} is not the record of a pruning: {error!r}") from None


def record(config: Any, before: Any, kept: Kept, influence: Sequence[float] | None = None) -> None:
    """Add a pruning to a pruned model's config; before: the config of the model that was cut."""
    cut = Cut(
        depth=before.num_hidden_layers,
        width=before.hidden_size,
        blocks=list(kept.blocks),
        hidden=None if kept.hidden is None else list(kept.hidden),
        influence=None if influence is None else [round(value, 6) for value in influence],
    )
    setattr(config, KEY, [*recorded(before), cut])


def blocks_in(config: Any, depth: int) -> tuple[int, ...] | None:
    """The blocks (from 1) of a model of so many in its line that a pruned model's blocks were; None without such a model."""
    blocks = tuple(range(1, config.num_hidden_layers + 1))
    for cut in reversed(recorded(config)):
        blocks = tuple(cut["blocks"][block - 1] for block in blocks)
        if cut["depth"] == depth:
            return blocks
    return None


def channels_in(config: Any, width: int) -> tuple[int, ...] | None:
    """The same for the channels of the stream (from 0)."""
    channels = tuple(range(config.hidden_size))
    for cut in reversed(recorded(config)):
        if cut["hidden"] is not None:
            channels = tuple(cut["hidden"][channel] for channel in channels)
        if cut["width"] == width:
            return channels
    return None
