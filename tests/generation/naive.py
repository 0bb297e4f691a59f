"""What generation has to equal: one row at a time, no cache, no padding, the whole sequence again for every position."""

from __future__ import annotations

import pytest
import torch

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.model.policy import ThoughtPolicy
from tests.families import PAIRWISE, VOCABULARY, WHOLE, tiny_base

MATRIX = [*PAIRWISE, *(pytest.param(case, marks=pytest.mark.full) for case in WHOLE if case not in PAIRWISE)]
START, END, PLACEHOLDER = 5, 6, 7
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


def thinker(case=PAIRWISE[0], eos: int | None = None, **thought) -> LatentThoughtForCausalLM:
    """A tiny model of a family with delimiters and a placeholder; rows run to their full length unless there is an `eos`."""
    settings = {"start_token_id": START, "end_token_id": END, "thought_token_id": PLACEHOLDER, **thought}
    base = tiny_base(*case)
    base.generation_config.eos_token_id, base.generation_config.pad_token_id = eos, 0
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig(**settings))
    model.measure_scale()
    return model


def prompts(rows: int = 3, width: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Random prompts without special tokens, left-padded: row i is i * 3 tokens shorter than the first."""
    ids = torch.randint(8, VOCABULARY, (rows, width), generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(width) >= 3 * torch.arange(rows)[:, None]).long()
    return ids * mask, mask


def rows_of(ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Each row without its padding, (1, T)."""
    return [row[kept.bool()][None] for row, kept in zip(ids, mask, strict=True)]


@torch.no_grad()
def states(model: LatentThoughtForCausalLM, embeds: torch.Tensor) -> torch.Tensor:
    """(1, T, D) fed-back states of a whole sequence of embeddings."""
    return model.base(inputs_embeds=embeds, output_hidden_states=True, use_cache=False).hidden_states[
        model.thought.layer
    ]


@torch.no_grad()
def logits(model: LatentThoughtForCausalLM, embeds: torch.Tensor) -> torch.Tensor:
    """(V,) logits after a whole sequence of embeddings."""
    return model.base(inputs_embeds=embeds, use_cache=False).logits[0, -1]


def naive_think(
    model: LatentThoughtForCausalLM,
    ids: torch.Tensor,
    thoughts: int | ThoughtPolicy,
    change=lambda state: state,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Embeddings (1, T, D) of one prompt, its delimiters and thoughts, and the states (D,) that were fed."""
    embed = model.base.get_input_embeddings()
    opened = torch.cat([embed(ids), embed(torch.tensor([[START]]))], dim=1).detach()
    embeds, fed = opened, []
    while not _done(model, thoughts, embeds, fed):
        fed.append(states(model, embeds)[0, -1])
        embeds = torch.cat([embeds, model.scale(change(fed[-1]))[None, None]], dim=1)
    if not fed:
        return embed(ids).detach(), fed
    return torch.cat([embeds, embed(torch.tensor([[END]]))], dim=1).detach(), fed


def _done(model, thoughts, embeds, fed) -> bool:
    if isinstance(thoughts, int):
        return len(fed) == thoughts
    count = len(fed)
    if count == thoughts.maximum:
        return True
    if count < thoughts.minimum:
        return False
    if thoughts.kind == "end_probability":
        return bool(logits(model, embeds).softmax(-1)[END] > thoughts.bound)
    return count > 0 and bool(
        torch.cosine_similarity(states(model, embeds)[0, -1], fed[-1], dim=0) > thoughts.bound
    )


def naive_decode(
    model: LatentThoughtForCausalLM, embeds: torch.Tensor, length: int
) -> tuple[list[int], torch.Tensor]:
    """`length` greedy tokens after a sequence of embeddings, and their logits (length, V)."""
    tokens, scores = [], []
    for _ in range(length):
        scores.append(logits(model, embeds))
        tokens.append(int(scores[-1].argmax()))
        embeds = torch.cat(
            [embeds, model.base.get_input_embeddings()(torch.tensor([tokens[-1:]]))], dim=1
        ).detach()
    return tokens, torch.stack(scores)
