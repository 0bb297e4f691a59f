"""Distances between hidden states, as sums over masked positions.

Sums and not means: the mean of a step is taken over the valid positions of all its micro-batches and ranks, and a function
that sees one micro-batch cannot know their number. Whoever calls divides by the global count (`total.py`). Positions are
masked by multiplication, not gathered, so that nothing waits for the device to count them; a position costs D
multiplications, which is nothing beside the forward that made it. All arithmetic is float32, whatever the model runs in.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hidden_distances(
    predicted_BTD: Tensor, target_BTD: Tensor, mask_BT: Tensor, relative: bool = False
) -> tuple[Tensor, Tensor]:
    """Summed squared error and summed cosine distance over the positions of a mask.

    predicted_BTD, target_BTD: any float dtype; the target is detached here.
    mask_BT: bool; positions outside it count for nothing, NaN included.
    relative: divide each position's squared error by the target's mean square, which makes it independent of the width of
        the space (embeddings of RMS 0.02 otherwise give errors near 4e-4, next to a cosine distance near 1).
    Returns two 0-d float32 tensors: the sum over positions of mean_D (p - t)^2, and of 1 - cos(p, t) (S1's latent loss).
    """
    keep_BT1 = mask_BT.unsqueeze(-1)
    predicted = torch.where(keep_BT1, predicted_BTD.float(), 0.0)
    target = torch.where(keep_BT1, target_BTD.detach().float(), 0.0)
    squared_BT = (predicted - target).square().mean(-1)
    if relative:
        squared_BT = squared_BT / target.square().mean(-1).clamp_min(1e-12)
    # eps keeps the gradient of an all-zero (masked) position finite
    cosine_BT = F.cosine_similarity(predicted, target, dim=-1, eps=1e-8)
    zero = squared_BT.new_zeros(())
    return (
        torch.where(mask_BT, squared_BT, zero).sum(),
        torch.where(mask_BT, 1.0 - cosine_BT, zero).sum(),
    )
