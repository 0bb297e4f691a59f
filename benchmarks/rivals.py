"""What one would use instead: loops over Hugging Face's own model, and the published Coconut program where its folder is given.

`recomputed_loss`  the definition, without a cache: run everything again for each thought. Slow; the reference for values.
`naive_loss`       what the published program does (arXiv 2412.06769), in our own words: n + 1 forwards, all input embeddings
                   split into single vectors and stacked again for each thought, cache sliced anew, head on every position,
                   thought positions read off the ids on the host.
`cached_loss`      a plain loop by someone who knows the library: one growing cache, but the head on every position unless told to
                   score labelled ones only. With `apart` as CODI's program does (arXiv 2502.21074): each thought in a pass
                   of its own, the last one too, and a projection between state and thought.
`two_pass_loss`    soft mixing as one would write it: a pass over the words without gradient, and one over the blends.
`naive_tokens`     its decoding: one row at a time, the whole prefix again for every token.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from benchmarks.workload import Batch
from latentthought.errors import MissingFileError
from latentthought.model.cache import rebuild_cache

Pairs = list[tuple[Tensor, Tensor]]
NAIVE, PUBLISHED = "naive loop, as published", "published Coconut program"


def unchanged(state: Tensor) -> Tensor:
    """The state itself becomes the thought."""
    return state


def text_loss(base: PreTrainedModel, batch: Batch) -> Tensor:
    """The floor: every position as text in one pass, without a cache, the head on labelled positions only."""
    hidden_BTD = base.base_model(
        batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids, use_cache=False
    ).last_hidden_state
    return _loss_on_labels(base, hidden_BTD, batch.labels)


def plain_text_loss(base: PreTrainedModel, batch: Batch) -> Tensor:
    """Plain fine-tuning as the library does it: the head on every position."""
    return base(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        labels=batch.labels,
        use_cache=False,
    ).loss


def recomputed_loss(
    base: PreTrainedModel, batch: Batch, feed: Callable[[Tensor], Tensor] = unchanged
) -> Tensor:
    """The definition: thought t is the state at t - 1, found by running the whole row again for each thought.

    `feed` is what becomes of a state before it is fed; a test breaks the reference with it.
    """
    inputs_BTD = base.get_input_embeddings()(batch.input_ids)

    def run() -> Tensor:
        return base.base_model(
            inputs_embeds=inputs_BTD,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).last_hidden_state

    for column in range(batch.start, batch.stop):
        thought_B1D = feed(run()[:, column - 1 : column])
        inputs_BTD = torch.cat([inputs_BTD[:, :column], thought_B1D, inputs_BTD[:, column + 1 :]], dim=1)
    return _loss_everywhere(base.get_output_embeddings()(run()), batch.labels)


def cached_loss(
    base: PreTrainedModel,
    batch: Batch,
    project: Callable[[Tensor], Tensor] = unchanged,
    apart: bool = False,
    everywhere: bool = True,
) -> Tensor:
    """One growing cache, a pass a thought, logits of every pass kept.

    Args:
        project: what makes a thought of a state.
        apart: the last thought, too, has a pass of its own.
        everywhere: the head on every position, pass by pass; else once, on the labelled ones.
    """
    inputs_BTD = base.get_input_embeddings()(batch.input_ids)
    model = base if everywhere else base.base_model
    cache, parts, begin, state_BtD = DynamicCache(config=base.config), [], 0, inputs_BTD
    for end in (*range(batch.start, batch.stop + apart), inputs_BTD.shape[1]):
        columns = inputs_BTD[:, begin:end]
        if batch.start <= begin < batch.stop:
            columns = torch.cat([project(state_BtD[:, -1:]), columns[:, 1:]], dim=1)
        output = model(
            inputs_embeds=columns,
            attention_mask=batch.attention_mask[:, :end],
            position_ids=batch.position_ids[:, begin:end],
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=True,
        )
        state_BtD = output.hidden_states[-1]
        parts.append(output.logits if everywhere else state_BtD)
        begin = end
    joined = torch.cat(parts, dim=1)
    return (
        _loss_everywhere(joined, batch.labels) if everywhere else _loss_on_labels(base, joined, batch.labels)
    )


def two_pass_loss(
    base: PreTrainedModel, batch: Batch, ratio: float, scale: Callable[[Tensor], Tensor] = unchanged
) -> Tensor:
    """x_t = (1 - m) E_t + m scale(h_{t-1}) at the mixed columns, h from a pass over the words, without gradient."""

    def run(inputs_BTD: Tensor) -> Tensor:
        return base.base_model(
            inputs_embeds=inputs_BTD,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).last_hidden_state

    words_BTD = base.get_input_embeddings()(batch.input_ids)
    with torch.no_grad():
        states_BSD = scale(run(words_BTD)[:, batch.start - 1 : batch.stop - 1])
    mixed_BSD = (1 - ratio) * words_BTD[:, batch.start : batch.stop] + ratio * states_BSD
    inputs_BTD = torch.cat([words_BTD[:, : batch.start], mixed_BSD, words_BTD[:, batch.stop :]], dim=1)
    return _loss_on_labels(base, run(inputs_BTD), batch.labels)


def naive_loss(base: PreTrainedModel, batch: Batch, thought_id: int) -> Tensor:
    """The published program's way; see the module."""
    logits_BTV, _ = _naive_forward(
        base, batch.input_ids, batch.attention_mask, batch.position_ids, thought_id
    )
    return _loss_everywhere(logits_BTV, batch.labels)


def _naive_forward(
    base: PreTrainedModel, ids: Tensor, mask: Tensor, positions: Tensor, thought_id: int
) -> tuple[Tensor, Tensor]:
    """Logits (B, T, V) and the final input embeddings (B, T, D); every row has its thoughts somewhere."""
    found = (ids == thought_id).nonzero()
    thoughts = [
        [int(place[1].item()) for place in found if place[0].item() == row] for row in range(len(ids))
    ]
    inputs_BTD = base.get_input_embeddings()(ids)
    begin, end = 0, int(found[:, 1].min().item())
    logits: list[Tensor] = []
    cached: Pairs = []
    most = max(len(row) for row in thoughts)
    for number in range(most + 1):
        sliced = [(keys[:, :, :begin], values[:, :, :begin]) for keys, values in cached]
        output = base(
            inputs_embeds=inputs_BTD[:, begin:end],
            attention_mask=mask[:, :end],
            position_ids=positions[:, begin:end],
            past_key_values=rebuild_cache([tensor for pair in sliced for tensor in pair]),
            use_cache=True,
            output_hidden_states=True,
        )
        logits.append(output.logits)
        if number == most:
            break
        cached = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
        vectors = [
            [inputs_BTD[row, column] for column in range(inputs_BTD.shape[1])] for row in range(len(ids))
        ]
        for row, columns in enumerate(thoughts):
            if number < len(columns):
                vectors[row][columns[number]] = output.hidden_states[-1][row, columns[number] - 1 - begin]
        inputs_BTD = torch.stack([torch.stack(row) for row in vectors])
        begin, end = end, ids.shape[1] if number + 1 == most else end + 1
    return torch.cat(logits, dim=1), inputs_BTD


@torch.no_grad()
def naive_tokens(
    base: PreTrainedModel, prompt: Tensor, thought_id: int, thoughts: int, new_tokens: int
) -> tuple[Tensor, Tensor]:
    """Greedy tokens (N,) after one prompt (T,), the published program's way, and by how much each led the next best (N,)."""
    ids = torch.cat([prompt, prompt.new_full((thoughts,), thought_id)])[None]
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    logits_1TV, inputs_1TD = _naive_forward(base, ids, torch.ones_like(ids), positions, thought_id)
    tokens, gaps = [], []
    while True:
        best = logits_1TV[0, -1].float().topk(2)
        tokens.append(int(best.indices[0].item()))
        gaps.append(float((best.values[0] - best.values[1]).item()))
        if len(tokens) == new_tokens:
            return torch.tensor(tokens), torch.tensor(gaps)
        token = torch.tensor([[tokens[-1]]], device=ids.device)
        inputs_1TD = torch.cat([inputs_1TD, base.get_input_embeddings()(token)], dim=1)
        # no mask, no positions and a cache that is made and thrown away, as published
        logits_1TV = base(inputs_embeds=inputs_1TD).logits


class PublishedProgram:
    """The published Coconut program, imported from a folder that the user names and run as it is.

    It passes caches as lists of (keys, values), which transformers 5 neither takes nor gives. Where it fails for that, the base
    model is handed to it inside `_OldCaches`, which converts caches, without a copy, and does nothing else. `note` says so.

    Args:
        folder: holds coconut.py of github.com/facebookresearch/coconut.
        base: the model; shared, not copied.
        thought_id: the id at thought positions.
    """

    def __init__(self, folder: Path, base: PreTrainedModel, thought_id: int):
        self._class = _import_file(folder / "coconut.py").Coconut
        self._thought_id = thought_id
        self._program = self._make(base)
        self.note = "unmodified"
        try:
            self._try(base)
        except Exception as error:
            self._program = self._make(_OldCaches(base))
            self.note = f"through a shim for its list caches (alone: {type(error).__name__})"

    def loss(self, batch: Batch) -> Tensor:
        return self._program(batch.input_ids, batch.attention_mask, batch.labels, batch.position_ids).loss

    @torch.no_grad()
    def tokens(self, prompt: Tensor, thoughts: int, new_tokens: int) -> Tensor:
        """Greedy tokens (N,) after one prompt (T,)."""
        ids = torch.cat([prompt, prompt.new_full((thoughts,), self._thought_id)])[None]
        produced = self._program.generate(ids, torch.ones_like(ids), max_new_tokens=new_tokens)
        return produced[0, ids.shape[1] :]

    def _make(self, base: nn.Module) -> Any:
        # no token is -1, so no answer ends early
        return self._class(base, self._thought_id, start_latent_id=-1, end_latent_id=-1, eos_token_id=-1)

    @torch.no_grad()
    def _try(self, base: PreTrainedModel) -> None:
        ids = torch.tensor([[0, self._thought_id, self._thought_id, 1]], device=base.device)
        self._program(ids, torch.ones_like(ids), ids, torch.arange(4, device=base.device)[None])


class _OldCaches(nn.Module):
    """A base model that takes and gives caches as lists of (keys, values)."""

    def __init__(self, base: PreTrainedModel):
        super().__init__()
        self.base = base

    def get_input_embeddings(self) -> nn.Module:
        return self.base.get_input_embeddings()

    def forward(self, past_key_values: Pairs | None = None, **arguments: Any) -> SimpleNamespace:
        cache = (
            None if past_key_values is None else rebuild_cache([t for pair in past_key_values for t in pair])
        )
        output = self.base(past_key_values=cache, **arguments)
        pairs = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
        return SimpleNamespace(
            logits=output.logits, hidden_states=output.hidden_states, past_key_values=pairs
        )


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise MissingFileError(
            f"--coconut: no coconut.py in {path.parent}; give the folder of the published program"
        )
    spec = importlib.util.spec_from_file_location("published_coconut", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _loss_everywhere(logits_BTV: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits_BTV[:, :-1].reshape(-1, logits_BTV.shape[-1]), labels[:, 1:].reshape(-1))


def _loss_on_labels(base: PreTrainedModel, hidden_BTD: Tensor, labels: Tensor) -> Tensor:
    targets = labels[:, 1:]
    scored = targets != -100
    return F.cross_entropy(base.get_output_embeddings()(hidden_BTD[:, :-1][scored]), targets[scored])
