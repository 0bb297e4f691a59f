"""Distances between hidden states, as sums over positions.

Sums and not means: the mean of a step is taken over the valid positions of all its micro-batches and ranks, and a function
that sees one micro-batch cannot know their number. Whoever calls divides by the global count (`total.py`). All arithmetic is
fp32, whatever the model runs in.

Three distances at each position and layer, over its D channels: the mean squared error, 1 - cosine (S1's latent loss), and
smooth L1 (Huber, as CODI, arXiv 2502.21074). States of layers and models differ in size by orders of magnitude, and the outer
layers of a deep model would own a plain squared error. Scale matching divides both sides by the size of the target: here that
of each target vector by itself. CODI divides by the standard deviation of the whole batch, which makes a row's loss depend on
its neighbours and on how a batch is cut into micro-batches; rejected for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ScaleMatch = Literal["none", "rms", "std"]
# the least size of a target that anything is divided by: an all-zero target stays finite
SMALLEST = 1e-6


class Distances(NamedTuple):
    """Sums over positions, fp32.

    total: 0-d, the weighted sum of all kinds, with the gradient. kinds: of each kind that weighs ("mse", "cosine", "smooth_l1"),
    0-d, unweighted, mean over layers. layers: the same kinds, (L,), each layer alone. Both without gradient.
    """

    total: Tensor
    kinds: dict[str, Tensor]
    layers: dict[str, Tensor]


def distances(
    predicted_NLD: Tensor,
    target_NLD: Tensor,
    *,
    mse: float = 1.0,
    cosine: float = 1.0,
    smooth_l1: float = 0.0,
    beta: float = 1.0,
    scale_match: ScaleMatch = "none",
    layer_weights_L: Sequence[float] | None = None,
) -> Distances:
    """`mse` * squared error + `cosine` * (1 - cosine) + `smooth_l1` * smooth L1, mean over layers, sum over positions.

    Args:
        predicted_NLD, target_NLD: states at N positions (0 is fine) and L layers, any float dtype; the target may be on
            another device, and is detached.
        beta: where smooth L1 turns from quadratic, error^2 / (2 beta), to linear, |error| - beta / 2.
        scale_match: divide both sides by the target's RMS, or standard deviation, over its D channels. A squared error is then
            relative to the target's mean square (or variance); the cosine stays as it is.
        layer_weights_L: brought to sum 1; None weighs all layers alike.
    """
    predicted = predicted_NLD.float()
    target = target_NLD.detach().to(predicted.device, torch.float32)
    size_NL1 = _size(target, scale_match)
    matched, matched_target = predicted / size_NL1, target / size_NL1
    shares = _shares(layer_weights_L, predicted.shape[1])
    kinds: dict[str, tuple[float, Callable[[], Tensor]]] = {
        "mse": (mse, lambda: (matched - matched_target).square().mean(-1)),
        "cosine": (cosine, lambda: 1.0 - F.cosine_similarity(predicted, target, dim=-1)),
        "smooth_l1": (
            smooth_l1,
            lambda: F.smooth_l1_loss(matched, matched_target, reduction="none", beta=beta).mean(-1),
        ),
    }
    total = predicted.new_zeros(())
    values, by_layer = {}, {}
    for name, (weight, distance_NL) in kinds.items():
        if weight:
            distance_L = distance_NL().sum(0)
            # no matrix product: autocast would round a sum over thousands of positions
            value = torch.stack([s * d for s, d in zip(shares, distance_L.unbind(), strict=True)]).sum()
            values[name], by_layer[name] = value.detach(), distance_L.detach()
            total = total + weight * value
    return Distances(total, values, by_layer)


def _shares(weights: Sequence[float] | None, layers: int) -> list[float]:
    """What each layer weighs, of 1."""
    given = weights or (1.0,) * layers
    return [weight / sum(given) for weight in given]


def _size(target_NLD: Tensor, scale_match: ScaleMatch) -> Tensor | float:
    if scale_match == "none":
        return 1.0
    centre = target_NLD.mean(-1, keepdim=True) if scale_match == "std" else 0.0
    return (target_NLD - centre).square().mean(-1, keepdim=True).sqrt().clamp_min(SMALLEST)
