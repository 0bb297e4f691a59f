"""The input of a reasoning position: x_t = blend(E_t, scale(h_{t-1}), m_t), and nothing else.

`linear`               (1 - m) E + m s. Two unrelated vectors of equal RMS shrink to 0.71 of it at m = 0.5.
`variance_preserving`  the same divided by sqrt((1 - m)^2 + m^2), which keeps the RMS of unrelated vectors of equal size.
`bernoulli`            each position is wholly text or wholly latent, latent with probability m. The draw is made once for
                       a forward (`draw_positions`), so that every Jacobi update and the scored pass see the same positions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

BlendRule = Literal["linear", "variance_preserving", "bernoulli"]
MixRatio = float | Tensor


def blend(embedding: Tensor, state: Tensor, ratio: MixRatio, rule: BlendRule = "linear") -> Tensor:
    """Mix a token's embedding with a scaled hidden state.

    Args:
        embedding: (..., D). state: (..., D), already scaled. ratio: a float, or (...) broadcast over D.
        rule: see the module; for "bernoulli" the ratio has been drawn to 0 or 1 already, where linear is exact.

    Returns: (..., D) in the embedding's dtype.
    """
    state = state.to(embedding.dtype)
    if isinstance(ratio, Tensor):
        latent = ratio.to(embedding.dtype).unsqueeze(-1)
        text = 1 - latent
        norm = (text.square() + latent.square()).sqrt() if rule == "variance_preserving" else 1.0
        return (text * embedding + latent * state) / norm
    if ratio == 1.0:  # not (1 - 1) * E: an infinite or NaN placeholder row must not leak into a pure thought
        return state
    share = 1.0 / ((1.0 - ratio) ** 2 + ratio**2) ** 0.5 if rule == "variance_preserving" else 1.0
    return (1.0 - ratio) * share * embedding + ratio * share * state


def draw_positions(ratio: MixRatio, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Bernoulli draw of latent positions: (B, T) floats, 1 with probability `ratio`; `like` gives shape and device."""
    shape_BT = like.shape
    probability = (
        ratio.expand(shape_BT)
        if isinstance(ratio, Tensor)
        else torch.full(shape_BT, float(ratio), device=like.device)
    )
    return torch.rand(shape_BT, device=like.device, generator=generator).lt(probability).float()


def columns(ratio: MixRatio, start: int, stop: int) -> MixRatio:
    """The part of a mix ratio that belongs to columns [start, stop): scalars serve all, (B, T) tensors are sliced."""
    return ratio[:, start:stop] if isinstance(ratio, Tensor) and ratio.dim() == 2 else ratio
