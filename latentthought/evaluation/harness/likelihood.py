"""Log-likelihoods after thoughts: context, start delimiter, thoughts, end delimiter, and then the text that is scored.

The thoughts are those that `generate` would have before its first word: of the same context, as many, made in the same way.
A row without thoughts is scored as any causal language model scores it: no delimiters either, one pass.

Rows are sorted by length, longest first, so that a batch that does not fit fails at once (evaluation/backoff.py). The answers
of a multiple choice share their context, so a batch thinks once a context and copies the cache; rows that differ in their last
token only (A, B, C, D) share the pass as well. The head runs on scored positions alone, in chunks.
Rejected: `forward` with a thought mask (exact too, and what the tests compare with: it would think once a row).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentthought.errors import ConfigError, UnsupportedError
from latentthought.evaluation.backoff import Backoff
from latentthought.evaluation.models import positions_taken
from latentthought.model.backbone import positions_of
from latentthought.model.chunks import positions_at_once
from latentthought.model.controls import controlled_thoughts
from latentthought.model.policy import Perturbation, ThoughtSampling, read_thoughts
from latentthought.model.think import Prompt

# what a log-likelihood can be asked under: the others depend on chance or on the batch
CONTROLS = ("none", "no-thought", "pause")


class Pair(NamedTuple):
    """Token ids: what is given, and what is scored. Neither is empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class Likelihood(NamedTuple):
    """Natural log-probability of a continuation, and whether greedy decoding would have written it."""

    log_probability: float
    greedy: bool


class Row(NamedTuple):
    """One row of a batch: a context and the scored tokens that are fed, which are all but the last."""

    context: tuple[int, ...]
    fed: tuple[int, ...]


@dataclass(frozen=True)
class LikelihoodScorer:
    """Scores pairs of token ids with a LatentThought model.

    thoughts: as in `model.generate`; None is what the model was trained with, 0 is plain text. control: none, no-thought, pause.
    max_length: positions of the model; contexts lose their beginning where a pair does not fit.
    batch_size: rows at once to begin with. pad_id: written at padding, never attended to by a row.
    """

    model: Any
    thoughts: Any
    max_length: int
    batch_size: int
    control: str = "none"
    pad_id: int = 0

    def __post_init__(self) -> None:
        if self.control not in CONTROLS:
            raise UnsupportedError(
                f"control {self.control!r}: a log-likelihood is a row's own, without chance; allowed: {', '.join(CONTROLS)}"
            )

    @property
    def overhead(self) -> int:
        """Positions that thoughts and delimiters take at most; 0 means plain text."""
        return positions_taken(self.model, self.thoughts)

    def score(self, pairs: Sequence[Pair]) -> Iterator[tuple[list[int], list[Likelihood]]]:
        """Batch by batch, the places of pairs in `pairs` and their likelihoods; every pair comes once, longest first.

        Raises ConfigError for a continuation that does not fit even after one token of context.
        """
        members: dict[Row, list[int]] = {}
        fitted = [self._fit(pair) for pair in pairs]
        for place, pair in enumerate(fitted):
            members.setdefault(Row(pair.context, pair.continuation[:-1]), []).append(place)
        if self.overhead:  # rows of one context side by side
            rows = sorted(members, key=lambda row: (-len(row.context), row.context, -len(row.fed)))
        else:
            rows = sorted(members, key=lambda row: (-_length(row), row))
        for batch, (final, starts) in Backoff(self.batch_size).run(rows, self._states, _length):
            places = [place for row in batch for place in members[row]]
            owners = [index for index, row in enumerate(batch) for _ in members[row]]
            yield places, self._read_off(final, starts, owners, [fitted[p].continuation for p in places])

    def _fit(self, pair: Pair) -> Pair:
        """The pair with as much of its context as there is room for; the last scored token is never fed."""
        room = self.max_length + 1 - self.overhead - len(pair.continuation)
        if room < 1:
            raise ConfigError(
                f"a continuation of {len(pair.continuation)} tokens does not fit into a context of {self.max_length}"
                + (f", {self.overhead} of them for thoughts" if self.overhead else "")
            )
        return Pair(pair.context[-room:], pair.continuation)

    @torch.no_grad()
    def _states(self, rows: Sequence[Row]) -> tuple[Tensor, list[int]]:
        """Final states (B, T, D) of the rows, and for each the column that predicts its first scored token."""
        if not self.overhead:
            width = max(len(row.context) + len(row.fed) for row in rows)
            ids = self._padded([(*row.context, *row.fed) for row in rows], width, left=False)
            # padding on the right is never seen by what stands before it, so there is no mask
            return self.model.backbone.run(None, None, None, None, ids).final, [
                len(row.context) - 1 for row in rows
            ]
        contexts = list(dict.fromkeys(row.context for row in rows))
        width = max(map(len, contexts))
        ids = self._padded(contexts, width, left=True)
        lengths = torch.tensor([len(context) for context in contexts], device=ids.device)
        mask = (torch.arange(width, device=ids.device) >= width - lengths[:, None]).long()
        trained = self.model.thought
        budget = read_thoughts(
            self.thoughts, len(contexts), trained.thoughts, trained.end_token_id is not None
        )
        still = Perturbation(ThoughtSampling(), ids.device)
        thought = controlled_thoughts(self.model, Prompt.read(ids, mask), budget, self.control, still)
        known = {context: index for index, context in enumerate(contexts)}
        owner = torch.tensor([known[row.context] for row in rows], device=ids.device)
        fed = self._padded([row.fed for row in rows], max(len(row.fed) for row in rows), left=False)
        mask = torch.cat([thought.attention_mask[owner], torch.ones_like(fed)], dim=1)
        embeds = torch.cat([thought.inputs_embeds[owner], self.model.backbone.embed(fed)], dim=1)
        cached = thought.cache.get_seq_length()
        if cached and len(contexts) < len(rows):
            thought.cache.batch_select_indices(owner)
        final = self.model.backbone.run(
            embeds[:, cached:],
            None if bool(mask.all()) else mask,
            positions_of(mask)[:, cached:],
            thought.cache if cached else None,
        ).final
        return final, [thought.inputs_embeds.shape[1] - 1 - cached] * len(rows)

    def _padded(self, rows: Sequence[Sequence[int]], width: int, *, left: bool) -> Tensor:
        filled = []
        for row in rows:
            padding = [self.pad_id] * (width - len(row))
            filled.append([*padding, *row] if left else [*row, *padding])
        return torch.tensor(filled, dtype=torch.long, device=self.model.device)

    @torch.no_grad()
    def _read_off(
        self, final: Tensor, starts: list[int], owners: list[int], targets: list[tuple[int, ...]]
    ) -> list[Likelihood]:
        """Likelihoods of target ids: those of pair i begin to be predicted at column starts[owner] of row owners[i]."""
        device = final.device
        lengths = torch.tensor([len(ids) for ids in targets], device=device)
        pair_Q = torch.repeat_interleave(torch.arange(len(targets), device=device), lengths)
        target_Q = torch.tensor([token for ids in targets for token in ids], device=device)
        row_Q = torch.tensor(owners, device=device)[pair_Q]
        steps = [step for ids in targets for step in range(len(ids))]
        column_Q = torch.tensor(starts, device=device)[row_Q] + torch.tensor(steps, device=device)
        # pairs that share a row ask about the same positions: the head runs once on each
        place_N, query_Q = torch.unique(row_Q * final.shape[1] + column_Q, return_inverse=True)
        hidden_ND = final.flatten(0, 1)[place_N]
        log_Q = torch.empty(len(target_Q), device=device)
        greedy_Q = torch.empty(len(target_Q), dtype=torch.bool, device=device)
        chunk = positions_at_once(hidden_ND, self.model.backbone.vocabulary)
        for start in range(0, len(place_N), chunk):
            logits_nV = self.model.backbone.head(hidden_ND[start : start + chunk]).float()
            here = (query_Q >= start) & (query_Q < start + chunk)
            query, target = query_Q[here] - start, target_Q[here]
            log_Q[here] = logits_nV.log_softmax(-1)[query, target]
            greedy_Q[here] = logits_nV.argmax(-1)[query] == target
        bounds = [0, *lengths.cumsum(0).tolist()]
        logs, greedy = log_Q.tolist(), greedy_Q.tolist()
        return [
            Likelihood(sum(logs[start:stop]), all(greedy[start:stop])) for start, stop in pairwise(bounds)
        ]


def _length(row: Row) -> int:
    return len(row.context) + len(row.fed)
