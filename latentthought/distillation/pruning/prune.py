"""`prune`: the command's and the library's one way from a model to a smaller one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from latentthought.distillation.pruning.choosing import best, best_groups, kept_blocks, kept_sizes
from latentthought.distillation.pruning.importance import (
    Batch,
    block_influence,
    channel_scores,
    input_squares,
)
from latentthought.distillation.pruning.provenance import record, recorded
from latentthought.distillation.pruning.roles import key_heads
from latentthought.distillation.pruning.settings import DepthPruning, WidthPruning
from latentthought.distillation.pruning.slicing import Kept, all_blocks, cut
from latentthought.errors import ConfigError
from latentthought.model.modeling import LatentThoughtForCausalLM


def prune(
    model: PreTrainedModel,
    depth: DepthPruning | Mapping[str, Any] | None = None,
    width: WidthPruning | Mapping[str, Any] | None = None,
    batches: Iterable[Batch] | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> PreTrainedModel:
    """A smaller model made of parts of `model`, which stays as it is.

    Args:
        model: any causal language model of transformers for depth; for width one whose layers are known, see `pruning.roles`.
            Of a latent-thought model the base is pruned.
        depth, width: what goes; see the settings.
        batches: ids and attention mask (B, T) of data, on the model's device, for rules that measure; rows with thoughts by
            what the base is fed (`importance.fed_rows`). Importance for the width is measured before blocks are taken.
        progress: told of every batch, by what is measured.

    Returns: a plain model of the same family, in which `config.pruning` records where its parts come from.

    Raises: `ConfigError` for settings that do not fit the model, or that need data without any; `UnsupportedError` for
        families whose layers are not known, and for adapters that are not merged.
    """
    depth = DepthPruning.parse(depth, "depth") if isinstance(depth, Mapping) else depth
    width = WidthPruning.parse(width, "width") if isinstance(width, Mapping) else width
    if depth is None and width is None:
        raise ConfigError("prune: give depth, width or both; with neither nothing would go")
    base = model.to_base() if isinstance(model, LatentThoughtForCausalLM) else model
    config = base.config.get_text_config()
    sizes = require_fit(model, depth, width)
    rows = _at_hand(depth, width, batches)
    training = base.training
    base.eval()
    try:
        kept, influence = _chosen(base, depth, width, sizes, rows, progress)
    finally:
        base.train(training)
    smaller = cut(base, kept)
    record(smaller.config.get_text_config(), config, kept, influence)
    return smaller


def require_fit(
    model: PreTrainedModel,
    depth: DepthPruning | None,
    width: WidthPruning | None,
    with_thoughts: bool = False,
) -> dict[str, int]:
    """Refuse what does not fit a model before anything is measured; the sizes of `kept_sizes`. Raises `ConfigError`.

    with_thoughts: what `with_thoughts_of` would refuse too, as far as it does not hang on what is measured.
    """
    base = model.base if isinstance(model, LatentThoughtForCausalLM) else model
    blocks = all_blocks(base)
    if depth is not None:
        # how many can go is the same for any influence
        kept = kept_blocks(depth, len(blocks), torch.zeros(len(blocks)))
        blocks = blocks if depth.needs_data else kept
    config = base.config.get_text_config()
    sizes = {} if width is None else kept_sizes(width, config)
    if with_thoughts and isinstance(model, LatentThoughtForCausalLM):
        _require_thoughts(model, blocks, sizes.get("hidden", config.hidden_size))
    return sizes


def _require_thoughts(original: LatentThoughtForCausalLM, blocks: Sequence[int], width: int) -> None:
    if original.scale.projector is not None and width != original.backbone.width:
        raise ConfigError(
            "width.hidden: thought.scale is mlp, whose weights have the width of the stream; leave hidden out, or prune without "
            "thoughts and train them anew"
        )
    layer = original.thought.layer
    if layer > 0 and layer not in blocks:
        raise ConfigError(
            f"depth: block {layer} is the one whose states are fed back (thought.layer), and it is not among those that stay: "
            f"{', '.join(map(str, blocks))}"
        )


def _at_hand(
    depth: DepthPruning | None, width: WidthPruning | None, batches: Iterable[Batch] | None
) -> Sequence[Batch]:
    asking = [
        name
        for name, rule in (("depth.by: influence", depth), ("width.importance: activation", width))
        if rule is not None and rule.needs_data
    ]
    rows = list(batches or ())
    if asking and not rows:
        raise ConfigError(
            f"{asking[0]} is measured on data, and none is given; without data: depth.by: last, width.importance: magnitude"
        )
    return rows if asking else ()


def _chosen(
    base: PreTrainedModel,
    depth: DepthPruning | None,
    width: WidthPruning | None,
    sizes: Mapping[str, int],
    rows: Sequence[Batch],
    progress: Callable[[str], None],
) -> tuple[Kept, list[float] | None]:
    """What stays, and the influence of every block where it was measured."""
    blocks, found = all_blocks(base), None
    if depth is not None:
        influence = None
        if depth.needs_data:
            influence, _ = block_influence(base, rows, lambda: progress("influence of blocks"))
            found = influence.tolist()
        blocks = kept_blocks(depth, len(blocks), influence)
    if width is None:
        return Kept(blocks), found
    squares = None
    if width.needs_data:
        squares, _ = input_squares(base, rows, lambda: progress("importance of channels"))
    scores = channel_scores(base, squares)
    config = base.config.get_text_config()
    groups = key_heads(config)
    hidden = mlp = heads = None
    if "hidden" in sizes:
        hidden = best(scores[-1, "hidden"], sizes["hidden"])
    if "mlp" in sizes:
        mlp = tuple(best(scores[block - 1, "mlp"], sizes["mlp"]) for block in blocks)
    if "groups" in sizes:
        heads = tuple(best_groups(scores[block - 1, "heads"], groups, sizes["groups"]) for block in blocks)
    return Kept(blocks, hidden, heads, mlp), found


def with_thoughts_of(original: LatentThoughtForCausalLM, pruned: PreTrainedModel) -> LatentThoughtForCausalLM:
    """A pruned model that thinks as the one that it was cut from: same thought tokens, scale, blend and prompt format.

    Raises `ConfigError` where that cannot be: a scale whose weights have another width, a fed-back layer that is gone.
    """
    config = pruned.config.get_text_config()
    thought, blocks = original.thought, recorded(config)[-1]["blocks"]
    _require_thoughts(original, blocks, config.hidden_size)
    if thought.layer > 0:
        thought = thought.replace(layer=blocks.index(thought.layer) + 1)
    model = LatentThoughtForCausalLM.from_base(pruned, thought)
    if model.backbone.width == original.backbone.width:  # else the target is the narrower embedding's own
        model.scale.load_state_dict(original.scale.state_dict())
    model.config.added_token_ids = list(original.config.added_token_ids)
    if (written := getattr(original.config, "prompt_format", None)) is not None:
        model.config.prompt_format = written
    return model
