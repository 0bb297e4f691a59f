"""How far the student's next-token distributions are from a teacher's, as sums over positions.

Distributions are softened by a temperature T, and every value is multiplied by T^2, so that gradients keep their size when T
changes (Hinton et al., arXiv 1503.02531, section 2). With p the teacher's distribution and q the student's:

    forward          KL(p || q)                                              arXiv 1503.02531
    reverse          KL(q || p)                                              MiniLLM, arXiv 2306.08543
    js               KL(p || m) / 2 + KL(q || m) / 2, m = (p + q) / 2        GKD, arXiv 2306.13649, at beta = 1/2
    skewed           KL(p || s p + (1 - s) q), s = `skew`                    DistiLLM, arXiv 2402.03898
    skewed_reverse   KL(q || (1 - s) p + s q)                                the same

Only the first `vocabulary` logits of either side count: models of one vocabulary are padded to different widths, and padding
would take mass. Neither side's logits are ever held whole (`model/chunks.py`).

Two forms need no teacher at hand, only what was kept of it. The k most probable words, and the mass of all others as one word
more: exact for those words, and never above the true divergence. n words drawn from p: noisy, but right on average, in value
and in gradient. Rejected: k words made to sum to 1, which is neither (at T = 4, 128 words hold 3 % of the mass).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from latentthought.model.chunks import Head, Score, chunks_of, summed_over_logits

Direction = Literal["forward", "reverse", "js", "skewed", "skewed_reverse"]


def kl_divergence(
    student_head: Head,
    student_ND: Tensor,
    teacher_head: Head,
    teacher_ND: Tensor,
    *,
    vocabulary: int,
    temperature: float = 1.0,
    direction: Direction = "forward",
    skew: float = 0.1,
    recompute: bool | None = None,
) -> Tensor:
    """Divergence from a teacher, summed over N positions and times T^2: 0-d fp32.

    Args:
        student_head, teacher_head: (n, D) -> (n, V) logits, each of its own width; see `summed_over_logits`, also for
            `recompute`. The teacher's is called without gradient, on the teacher's device.
        student_ND, teacher_ND: the states that the heads take, of the same N positions.
        vocabulary: the words that are compared, at most as many as either head knows.

    Raises: ValueError, when a head knows fewer words than `vocabulary`.
    """
    measure = _MEASURES[direction]
    if direction in ("skewed", "skewed_reverse"):
        measure = partial(measure, skew=skew)

    def targets(rows: slice) -> tuple[Tensor]:
        return (teacher_head(teacher_ND[rows]).to(student_ND.device),)

    def score(student_nV: Tensor, teacher_nV: Tensor) -> Tensor:
        return measure(
            _log_softmax(student_nV, vocabulary, temperature),
            _log_softmax(teacher_nV.to(student_nV.dtype), vocabulary, temperature),
        )

    chunks = chunks_of(student_ND, vocabulary)
    return temperature**2 * summed_over_logits(
        student_head, student_ND, targets, score, chunks, recompute=recompute
    )


@dataclass(frozen=True)
class TopLogits:
    """The k most probable words of N distributions: ids and log-probabilities (N, k), log of the mass of all others (N,)."""

    ids: Tensor
    log_probs: Tensor
    tail: Tensor

    def to(self, *where: Any, **options: Any) -> TopLogits:
        """The same on a device."""
        return TopLogits(*(tensor.to(*where, **options) for tensor in self.tensors))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.ids, self.log_probs, self.tail


@dataclass(frozen=True)
class SampledLogits:
    """n words drawn from each of N distributions, with replacement: ids (N, n), and the distributions' entropy (N,) in nats."""

    ids: Tensor
    entropy: Tensor

    def to(self, *where: Any, **options: Any) -> SampledLogits:
        """The same on a device."""
        return SampledLogits(*(tensor.to(*where, **options) for tensor in self.tensors))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.ids, self.entropy


CachedLogits = TopLogits | SampledLogits


def cached_divergence(
    student_head: Head,
    student_ND: Tensor,
    cached: CachedLogits,
    *,
    vocabulary: int,
    temperature: float = 1.0,
    recompute: bool | None = None,
) -> Tensor:
    """Forward divergence from what was kept of a teacher, softened by the same T; else as `kl_divergence`.

    Of `TopLogits`: the KL of distributions over k + 1 words, the last of which is the tail. Of `SampledLogits`: an unbiased
    estimate of the KL, which may come out negative.
    """
    score: Score = _from_top if isinstance(cached, TopLogits) else _from_sampled
    return temperature**2 * summed_over_logits(
        student_head,
        student_ND,
        lambda rows: tuple(tensor[rows] for tensor in cached.tensors),
        partial(score, vocabulary=vocabulary, temperature=temperature),
        chunks_of(student_ND, vocabulary),
        recompute=recompute,
    )


def top_k_of(logits_NV: Tensor, k: int, temperature: float = 1.0) -> TopLogits:
    """What `cached_divergence` needs of a teacher's logits; ids int32, the rest fp32. k at most V."""
    log_probs_NV = _log_softmax(logits_NV.float(), logits_NV.shape[-1], temperature)
    best = log_probs_NV.topk(k, dim=-1)
    return TopLogits(best.indices.int(), best.values, _log_tail(log_probs_NV, best.indices))


def sampled_of(
    logits_NV: Tensor, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
) -> SampledLogits:
    """n words from each distribution; ids int32, entropy fp32. `generator` is on the device of the logits."""
    log_probs_NV = _log_softmax(logits_NV.float(), logits_NV.shape[-1], temperature)
    probabilities_NV = log_probs_NV.exp()
    ids_Nn = torch.multinomial(probabilities_NV, n, replacement=True, generator=generator)
    return SampledLogits(ids_Nn.int(), -torch.xlogy(probabilities_NV, probabilities_NV).sum(-1))


def _log_softmax(logits: Tensor, vocabulary: int, temperature: float) -> Tensor:
    width = logits.shape[-1]
    if width < vocabulary:
        raise ValueError(f"a head gives {width} logits, fewer than the {vocabulary} words to compare")
    if width > vocabulary:
        logits = logits[..., :vocabulary]
    return F.log_softmax(logits if temperature == 1.0 else logits / temperature, dim=-1)


# Measures: log q and log p, (n, V) each, to the sum over n; the gradient is log q's.


def _forward(log_q: Tensor, log_p: Tensor) -> Tensor:
    return F.kl_div(log_q, log_p, reduction="sum", log_target=True)


def _reverse(log_q: Tensor, log_p: Tensor) -> Tensor:
    return F.kl_div(log_p, log_q, reduction="sum", log_target=True)


def _jensen_shannon(log_q: Tensor, log_p: Tensor) -> Tensor:
    log_m = torch.logaddexp(log_q, log_p) - math.log(2)
    return (_forward(log_m, log_p) + _forward(log_m, log_q)) / 2


def _skewed(log_q: Tensor, log_p: Tensor, skew: float) -> Tensor:
    return _forward(torch.logaddexp(log_p + math.log(skew), log_q + math.log1p(-skew)), log_p)


def _skewed_reverse(log_q: Tensor, log_p: Tensor, skew: float) -> Tensor:
    return _forward(torch.logaddexp(log_p + math.log1p(-skew), log_q + math.log(skew)), log_q)


_MEASURES: dict[Direction, Callable[..., Tensor]] = {
    "forward": _forward,
    "reverse": _reverse,
    "js": _jensen_shannon,
    "skewed": _skewed,
    "skewed_reverse": _skewed_reverse,
}


def _from_top(
    logits_nV: Tensor,
    ids_nk: Tensor,
    log_p_nk: Tensor,
    log_tail_n: Tensor,
    vocabulary: int,
    temperature: float,
) -> Tensor:
    log_q_nV = _log_softmax(logits_nV, vocabulary, temperature)
    ids_nk = ids_nk.long()
    top = _forward(log_q_nV.gather(-1, ids_nk), log_p_nk.to(log_q_nV.dtype))
    log_tail_n = log_tail_n.to(log_q_nV.dtype)
    return top + _forward(_log_tail(log_q_nV, ids_nk), log_tail_n)


def _log_tail(log_probs_NV: Tensor, ids_Nk: Tensor) -> Tensor:
    """Log of the mass outside the given words. Summed over the others: 1 - (their mass) would lose all digits of a small one."""
    # finite, so that a tail of no words has a (vanishing) mass and no NaN in its gradient
    nothing = torch.finfo(log_probs_NV.dtype).min / 2
    return log_probs_NV.scatter(-1, ids_Nk, nothing).logsumexp(-1)


def _from_sampled(
    logits_nV: Tensor, ids_nn: Tensor, entropy_n: Tensor, vocabulary: int, temperature: float
) -> Tensor:
    log_q_nV = _log_softmax(logits_nV, vocabulary, temperature)
    cross_entropy_n = -log_q_nV.gather(-1, ids_nn.long()).mean(-1)
    return (cross_entropy_n - entropy_n).sum()
