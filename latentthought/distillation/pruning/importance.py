"""How much each part of a model matters, measured on data or read off its weights.

    blocks     1 - cosine of the state before and after a block, mean over positions (block influence, arXiv 2403.03853)
    mlp        of a channel: the mean square of what it gives to the layer that leads out, times the squared norm of the weights
               that take it there; by magnitude that norm alone, times that of the weights that lead in
    heads      of a group: the same, without the weights that lead in, summed over the channels of its query heads
    hidden     of a channel of the stream: its share of the squares that the norms hand to a layer, summed over all layers; by
               magnitude of the squared weights that read it

Each is one forward over the data, without gradient, with hooks that add up sums in fp64: nothing of a position is kept. Rows with
thoughts are given by their input embeddings (`fed_rows`): one causal pass over these has the very states of all the passes that
made them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from latentthought.distillation.pruning.roles import axes_of, blocks_prefix
from latentthought.model.backbone import positions_of
from latentthought.model.capture import blocks_of
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.thoughts.mixing import blend

# a batch of rows: ids (B, T) or what the base is fed (B, T, D), and attention mask (B, T)
Batch = tuple[Tensor, Tensor]
_ARGUMENTS = (
    "input_ids",
    "attention_mask",
    "position_ids",
    "mix_ratio",
    "feedback",
    "jacobi_iterations",
    "thought_columns",
)


@torch.no_grad()
def fed_rows(model: LatentThoughtForCausalLM, batch: Mapping[str, Any]) -> Batch:
    """What the base is fed on rows with thoughts: (B, T, D), and their mask.

    batch: of `data.collation.Collator`.
    """
    mask, thought_mask = batch["attention_mask"], batch["thought_mask"]
    if not bool(thought_mask.any()) or batch["mix_ratio"] == 0:
        return batch["input_ids"], mask
    output = model(
        **{name: batch[name] for name in _ARGUMENTS},
        thought_mask=thought_mask,
        return_states=True,
        return_logits=False,
    )
    fed = output.embeddings.clone()
    slots = torch.arange(output.thoughts.shape[1], device=fed.device)
    # both in the order of rows, and within a row of its thoughts
    fed_in = model.scale(output.thoughts[slots < output.thought_counts[:, None]])
    rule = "linear" if model.thought.blend == "bernoulli" else model.thought.blend
    fed[thought_mask] = blend(fed[thought_mask], fed_in, batch["mix_ratio"], rule)
    return fed, mask


def _read(model: PreTrainedModel, rows: Tensor, mask: Tensor) -> None:
    name = "inputs_embeds" if rows.is_floating_point() else "input_ids"
    takes = signature(model.forward).parameters
    positions = {"position_ids": positions_of(mask)} if "position_ids" in takes else {}
    last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    model(**{name: rows}, attention_mask=mask, use_cache=False, **positions, **last)


class _Mean:
    """A running sum over positions."""

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """(N, ...) of N positions."""
        self.total = self.total + values.double().sum(0).cpu()


@torch.no_grad()
def block_influence(
    model: PreTrainedModel, batches: Iterable[Batch], progress: Callable[[], None] = lambda: None
) -> tuple[Tensor, int]:
    """((L,) influence of each block, positions that it is the mean of)."""
    blocks = blocks_of(model)
    means = [_Mean() for _ in blocks]
    positions = 0
    for rows, mask in batches:
        kept = mask.bool()

        def add(number: int, before: Tensor, after: Tensor, kept: Tensor = kept) -> None:
            cosine = F.cosine_similarity(before[kept].float(), after[kept].float(), dim=-1)
            means[number].add(1 - cosine)

        with _around(blocks, add):
            _read(model, rows, mask)
        positions += int(kept.sum())
        progress()
    return torch.stack([torch.as_tensor(mean.total) for mean in means]) / max(1, positions), positions


@contextmanager
def _around(blocks: nn.ModuleList, add: Callable[[int, Tensor, Tensor], None]) -> Iterator[None]:
    """Calls add(block, its input, its output) as each block has run."""

    def hook(number: int) -> Callable[..., None]:
        def keep(_block: nn.Module, arguments: tuple, keywords: Mapping[str, Any], output: Any) -> None:
            before = arguments[0] if arguments else keywords["hidden_states"]
            add(number, before, output[0] if isinstance(output, tuple) else output)

        return keep

    with ExitStack() as hooks:
        for number, block in enumerate(blocks):
            hooks.callback(block.register_forward_hook(hook(number), with_kwargs=True).remove)
        yield


@torch.no_grad()
def input_squares(
    model: PreTrainedModel, batches: Iterable[Batch], progress: Callable[[], None] = lambda: None
) -> tuple[dict[str, Tensor], int]:
    """(mean square of each input channel of every layer of the blocks, by the layer's name; positions that it is of)."""
    layers = dict(_layers(model))
    means = {name: _Mean() for name in layers}
    positions = 0
    for rows, mask in batches:
        kept = mask.bool()

        def add(name: str, given: Tensor, kept: Tensor = kept) -> None:
            means[name].add(given[kept].double().square())

        with ExitStack() as hooks:
            for name, layer in layers.items():

                def keep(_layer: nn.Module, arguments: tuple, name: str = name) -> None:
                    add(name, arguments[0])

                hooks.callback(layer.register_forward_pre_hook(keep).remove)
            _read(model, rows, mask)
        positions += int(kept.sum())
        progress()
    return {name: torch.as_tensor(mean.total) / max(1, positions) for name, mean in means.items()}, positions


def channel_scores(
    model: PreTrainedModel, squares: Mapping[str, Tensor] | None
) -> dict[tuple[int, str], Tensor]:
    """(block from 0, or -1 for the stream; axis) -> a score a channel, larger for what matters more.

    squares: of `input_squares`, or None to go by the weights alone.
    """
    axes, prefix = axes_of(model), blocks_prefix(model)
    scores: dict[tuple[int, str], Tensor] = {}
    for name, layer in _layers(model):
        number = int(name.removeprefix(prefix).partition(".")[0])
        weight_IO = _inputs_first(layer).detach().double().cpu()
        outward = weight_IO.square().sum(1)
        reach = outward if squares is None else outward * squares[name]
        (axis,) = axes[f"{name}.weight"][0 if isinstance(layer, Conv1D) else 1]
        if axis == "hidden":
            # layers differ in how large their inputs are; each has one voice
            share = reach if squares is None else squares[name]
            scores[-1, "hidden"] = scores.get((-1, "hidden"), 0.0) + share / share.sum()
        else:
            scores[number, axis] = reach
    if squares is None:
        _times_inward(model, axes, prefix, scores)
    return scores


def _times_inward(
    model: PreTrainedModel, axes: Mapping[str, Any], prefix: str, scores: dict[tuple[int, str], Tensor]
) -> None:
    """By magnitude an MLP channel counts with the weights that lead to it too."""
    inward: dict[int, Tensor] = {}
    for name, layer in _layers(model):
        outputs = axes[f"{name}.weight"][1 if isinstance(layer, Conv1D) else 0]
        if set(outputs) == {"mlp"}:
            squares = _inputs_first(layer).detach().double().cpu().square().sum(0)
            number = int(name.removeprefix(prefix).partition(".")[0])
            inward[number] = inward.get(number, 0.0) + squares.view(len(outputs), -1).sum(0)
    for number, squares in inward.items():
        scores[number, "mlp"] = scores[number, "mlp"] * squares


def _layers(model: PreTrainedModel) -> Iterator[tuple[str, nn.Linear | Conv1D]]:
    inside = {id(module) for block in blocks_of(model) for module in block.modules()}
    for name, module in model.named_modules():
        if id(module) in inside and isinstance(module, (nn.Linear, Conv1D)):
            yield name, module


def _inputs_first(layer: nn.Linear | Conv1D) -> Tensor:
    """The weight as (in, out)."""
    return layer.weight if isinstance(layer, Conv1D) else cast(Tensor, layer.weight).t()
