"""From settings and scores to what stays."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from latentthought.distillation.pruning.roles import head_size, key_heads, mlp_size
from latentthought.distillation.pruning.settings import DepthPruning, WidthPruning
from latentthought.errors import ConfigError


def kept_blocks(depth: DepthPruning, blocks: int, influence: Tensor | None) -> tuple[int, ...]:
    """The blocks that stay, from 1. Raises `ConfigError` for blocks that are not there, and for fewer than one left."""
    for name in ("drop", "keep"):
        for block in getattr(depth, name) or ():
            if block > blocks:
                raise ConfigError(f"depth.{name}: no block {block}; the model has blocks 1 to {blocks}")
    if depth.keep is not None:
        return tuple(sorted(depth.keep))
    gone = set(depth.drop or _least(depth, blocks, influence))
    if len(gone) >= blocks:
        raise ConfigError(f"depth: all {blocks} blocks would go; at least one has to stay")
    return tuple(block for block in range(1, blocks + 1) if block not in gone)


def _least(depth: DepthPruning, blocks: int, influence: Tensor | None) -> list[int]:
    count = depth.remove if isinstance(depth.remove, int) else int(depth.remove * blocks + 0.5)  # type: ignore[operator]
    if count == 0:
        raise ConfigError(
            f"depth.remove: {depth.remove} of {blocks} blocks rounds to none; {0.5 / blocks:.2g} or more, or a number, takes one"
        )
    free = range(1 + depth.protect_first, blocks + 1 - depth.protect_last)
    if count > len(free) or count >= blocks:
        most = min(len(free), blocks - 1)
        kept = (
            f" with {depth.protect_first} first and {depth.protect_last} last ones protected"
            if len(free) < blocks
            else ""
        )
        raise ConfigError(f"depth.remove: {count} of {blocks} blocks{kept}; at most {most} can go")
    if depth.by == "last":
        return list(free)[len(free) - count :]
    assert influence is not None
    return sorted(free, key=lambda block: (float(influence[block - 1]), block))[:count]


def kept_sizes(width: WidthPruning, config: Any) -> dict[str, int]:
    """Channels of the MLP, groups of heads and channels of the stream that stay, for those that are cut.

    Raises `ConfigError` naming the nearest size that works.
    """
    sizes = {}
    if width.mlp is not None:
        sizes["mlp"] = _size("width.mlp", width.mlp, mlp_size(config), width.multiple_of)
    groups = key_heads(config)
    queries = config.num_attention_heads // groups
    if width.heads is not None:
        heads = _size("width.heads", width.heads, config.num_attention_heads, queries)
        if heads % queries:
            raise ConfigError(
                f"width.heads: {heads} query heads do not divide into groups of {queries} that share a key head; "
                f"{_near(heads, queries, config.num_attention_heads)} would"
            )
        sizes["groups"] = heads // queries
    if width.hidden is not None:
        sizes["hidden"] = _size("width.hidden", width.hidden, config.hidden_size, width.multiple_of)
    _check_bound(sizes, config)
    return sizes


def _check_bound(sizes: dict[str, int], config: Any) -> None:
    """GPT-2's heads share out the stream among themselves: both are cut, or neither."""
    if config.model_type != "gpt2" or not ({"groups", "hidden"} & sizes.keys()):
        return
    each = head_size(config)
    if "groups" not in sizes and "hidden" in sizes:
        if sizes["hidden"] % each:
            raise ConfigError(
                f"width.hidden: {sizes['hidden']} is no multiple of {each}, the channels of a head, and heads share out GPT-2's "
                f"stream; {_near(sizes['hidden'], each, config.hidden_size)} would do"
            )
        sizes["groups"] = sizes["hidden"] // each
    sizes.setdefault("hidden", sizes["groups"] * each)
    if sizes["hidden"] != sizes["groups"] * each:
        raise ConfigError(
            f"width: {sizes['groups']} heads of {each} channels make a stream of {sizes['groups'] * each} in GPT-2, "
            f"not {sizes['hidden']}; give one of heads and hidden"
        )


def _size(where: str, given: int | float, whole: int, multiple: int) -> int:
    if isinstance(given, float):
        step = multiple if whole % multiple == 0 else 1
        if not (size := int(given * whole / step + 1e-9) * step):
            raise ConfigError(
                f"{where}: {given} of {whole} rounds down to none (multiple_of {step}); {step / whole:.2g} is the least"
            )
        return size
    if given > whole:
        raise ConfigError(
            f"{where}: {given}, and the model has {whole}; give a size up to that, or a share below 1"
        )
    return given


def _near(size: int, step: int, most: int) -> str:
    below, above = size // step * step, -(-size // step) * step
    return " or ".join(str(one) for one in (below, above) if 0 < one <= most)


def best(scores: Tensor, count: int) -> tuple[int, ...]:
    """The `count` highest of (N,) scores, in ascending order; of equal ones the first."""
    order = sorted(range(len(scores)), key=lambda index: (-float(scores[index]), index))
    return tuple(sorted(order[:count]))


def best_groups(scores: Tensor, groups: int, count: int) -> tuple[int, ...]:
    """Of (N,) scores of all channels of query heads, the best `count` of `groups` equal parts by their sums."""
    return best(scores.view(groups, -1).sum(1), count)
