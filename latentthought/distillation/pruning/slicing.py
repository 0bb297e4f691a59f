"""A smaller model made from parts of a larger one: which blocks and channels stay, to a plain Hugging Face model.

The new model is built from the new sizes and given slices of the old weights, so that whatever else a module keeps (its number
among the blocks, buffers of rotations) is right by construction, and every slice is checked against the shape that it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from latentthought.distillation.pruning.roles import (
    Axes,
    Axis,
    axes_of,
    blocks_prefix,
    head_size,
    key_heads,
    mlp_size,
)
from latentthought.model.capture import block_count


@dataclass(frozen=True)
class Kept:
    """What stays of a model: blocks from 1, in order; and from 0 the channels of the stream, the groups of heads (a key head and
    its query heads) and the channels of the MLP, of each kept block. None: all of them."""

    blocks: tuple[int, ...]
    hidden: tuple[int, ...] | None = None
    groups: tuple[tuple[int, ...], ...] | None = None
    mlp: tuple[tuple[int, ...], ...] | None = None


def cut(model: PreTrainedModel, kept: Kept) -> PreTrainedModel:
    """The model that is left, with weights of its own; `model` stays as it is."""
    smaller = _empty(model, _config_of(model, kept))
    weights = model.state_dict()
    axes = axes_of(model) if kept.hidden or kept.groups or kept.mlp else {}
    prefix = blocks_prefix(model)
    found = {}
    for name in smaller.state_dict():
        number, source = _source(prefix, kept, name)
        found[name] = _sliced(model, kept, number, weights[source], axes.get(source, ()))
    smaller.load_state_dict(found, strict=True)
    smaller.tie_weights()
    smaller.generation_config = deepcopy(model.generation_config)
    return smaller.train(model.training)


def _empty(model: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    smaller: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, dtype=model.dtype, attn_implementation=model.config._attn_implementation
    )
    return smaller.to(model.device)


def _config_of(model: PreTrainedModel, kept: Kept) -> PreTrainedConfig:
    config = deepcopy(model.config)
    text = config.get_text_config()
    changes: dict[str, Any] = {"num_hidden_layers": len(kept.blocks)}
    if (kinds := getattr(text, "layer_types", None)) is not None:
        changes["layer_types"] = [kinds[block - 1] for block in kept.blocks]
    if kept.hidden is not None:
        changes["hidden_size"] = len(kept.hidden)
    if kept.groups is not None:
        groups, a_group = len(kept.groups[0]), _queries(text)
        changes["num_attention_heads"] = groups * a_group
        if getattr(text, "num_key_value_heads", None) is not None:
            changes["num_key_value_heads"] = groups
    if kept.mlp is not None or hasattr(text, "n_inner"):
        # GPT-2's own None means four times a width that may be another one now
        size = mlp_size(text) if kept.mlp is None else len(kept.mlp[0])
        changes["n_inner" if hasattr(text, "n_inner") else "intermediate_size"] = size
    if hasattr(text, "head_dim") or text.model_type != "gpt2":
        changes["head_dim"] = head_size(text)
    for name, value in changes.items():
        setattr(text, name, value)
    return config


def _queries(config: Any) -> int:
    """Query heads of a group."""
    return config.num_attention_heads // key_heads(config)


def _sliced(model: PreTrainedModel, kept: Kept, number: int, tensor: Tensor, axes: Axes) -> Tensor:
    """The part of a weight or buffer that stays; number: its block's place among the kept ones."""
    for dimension, parts in enumerate(axes):
        if (index := _index(model, kept, number, parts)) is not None:
            tensor = tensor.index_select(dimension, index.to(tensor.device))
    return tensor.clone()


def _source(prefix: str, kept: Kept, name: str) -> tuple[int, str]:
    """(place among the kept blocks or -1, the name in the larger model) of what the smaller one calls `name`."""
    if not name.startswith(prefix):
        return -1, name
    number, _, rest = name[len(prefix) :].partition(".")
    return int(number), f"{prefix}{kept.blocks[int(number)] - 1}.{rest}"


def _index(model: PreTrainedModel, kept: Kept, number: int, parts: Sequence[Axis]) -> Tensor | None:
    """Which elements of a dimension stay, or None for all."""
    config = model.config.get_text_config()
    size, a_group = head_size(config), _queries(config)
    pieces, start, whole = [], 0, True
    for axis in parts:
        total, index = _channels(kept, number, axis, size, a_group, config)
        whole = whole and index is None
        pieces.append(start + (torch.arange(total) if index is None else index))
        start += total
    return None if whole else torch.cat(pieces)


def _channels(
    kept: Kept, number: int, axis: Axis, size: int, a_group: int, config: Any
) -> tuple[int, Tensor | None]:
    """(elements of an axis, those that stay or None for all)."""
    heads = config.num_attention_heads
    if axis == "hidden":
        return config.hidden_size, None if kept.hidden is None else torch.tensor(kept.hidden)
    if axis == "mlp":
        return mlp_size(config), None if kept.mlp is None else torch.tensor(kept.mlp[number])
    each = size * (a_group if axis == "heads" else 1)
    total = heads * size if axis == "heads" else heads // a_group * size
    if kept.groups is None:
        return total, None
    return total, torch.cat([torch.arange(group * each, (group + 1) * each) for group in kept.groups[number]])


def all_blocks(model: PreTrainedModel) -> tuple[int, ...]:
    """1 to L."""
    return tuple(range(1, block_count(model) + 1))
