"""What a cache holds of one example, in memory."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class TopKRecord:
    """The k likeliest tokens at the Q positions that predict something.

    keys (Q, 2) int32: piece and index of the predicted token within it (objective/alignment.py, rule `predictions`);
    ids (Q, k) int32; log_probs (Q, k) float32 at the spec's temperature; tail (Q,) float32: log of the mass of all others.
    """

    keys: Tensor
    ids: Tensor
    log_probs: Tensor
    tail: Tensor


@dataclass(frozen=True, eq=False)
class SampledRecord:
    """n tokens drawn from the teacher's distribution at each of Q positions.

    keys (Q, 2) int32 as in `TopKRecord`; ids (Q, n) int32; entropy (Q,) float32: of the distribution drawn from, in nats.
    """

    keys: Tensor
    ids: Tensor
    entropy: Tensor


LogitsRecord = TopKRecord | SampledRecord


@dataclass(frozen=True, eq=False)
class Record:
    """The teacher's states for the example `id`.

    keys (P, 3) int32: number of the rule in `CacheSpec.rules`, and the site's piece and end (objective/alignment.py);
    states (P, L, D) float32: one row a site, one column a layer of `CacheSpec.layers`. P may be 0. digest: of the example's
    text (`fingerprints.example_digest`), "" where nobody has said.
    """

    id: str
    keys: Tensor
    states: Tensor
    logits: LogitsRecord | None = None
    digest: str = ""
