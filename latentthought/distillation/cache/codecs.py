"""Numbers of a shard: float32 states to fewer bytes, and back.

States of language models have a few channels that are hundreds of times larger than the others. One scale a position (as is
usual for activations) spends int8's 127 steps on those, at 60 % error on all other channels; so int8 has one scale a channel.
fp8 (e4m3) has a wide range of its own: a channel scale brings all channels to one size and a scale a position fits that into
the range, which leaves the rounding of its three mantissa bits, about 2.6 % of the value.

Channel scales are taken over a whole shard, whose rows the plan alone decides: the same bytes however the work was split.
Bytes of a position: 4 LD (fp32), 2 LD (bf16), LD + 4 L (fp8), LD (int8).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from latentthought.distillation.cache.spec import Codec

STORED = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn, "int8": torch.int8}
CHANNEL_SCALED = ("fp8", "int8")
_E4M3_MAX, _INT8_MAX = 448.0, 127.0


def channel_scales(codec: Codec, rows: Iterable[Tensor], layers: int, width: int) -> Tensor | None:
    """(L, D) float32 scales over all positions of all rows (P, L, D), or None where the codec has none."""
    if codec not in CHANNEL_SCALED:
        return None
    largest_LD = torch.zeros(layers, width)
    for states_PLD in rows:
        if len(states_PLD):
            largest_LD = torch.maximum(largest_LD, states_PLD.abs().amax(0))
    return _divisor(largest_LD / (_INT8_MAX if codec == "int8" else 1.0))


def encode(codec: Codec, states_PLD: Tensor, channel_LD: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """float32 states as the codec's numbers (P, L, D), and its (P, L) float32 scales of positions (fp8 only)."""
    if channel_LD is None:
        return states_PLD.to(STORED[codec]), None
    scaled_PLD = states_PLD / channel_LD
    if codec == "int8":
        return scaled_PLD.round_().clamp_(-_INT8_MAX, _INT8_MAX).to(torch.int8), None
    token_PL = _divisor(scaled_PLD.abs().amax(-1) / _E4M3_MAX)
    scaled_PLD /= token_PL[..., None]
    return scaled_PLD.clamp_(-_E4M3_MAX, _E4M3_MAX).to(torch.float8_e4m3fn), token_PL


def decode(codec: Codec, values_PLD: Tensor, channel_LD: Tensor | None, token_PL: Tensor | None) -> Tensor:
    """The float32 states (P, L, D) that `encode` kept."""
    if codec == "fp8":
        assert channel_LD is not None and token_PL is not None
        states_PLD = e4m3_as_half(values_PLD).to(torch.float32)
        return states_PLD.mul_((256.0 * token_PL)[..., None]).mul_(channel_LD)
    states_PLD = values_PLD.to(torch.float32)
    return states_PLD if channel_LD is None else states_PLD.mul_(channel_LD)


def e4m3_as_half(values: Tensor) -> Tensor:
    """e4m3 numbers over 256 as float16, exactly, for all that are finite.

    Several times as fast on a CPU as `values.float()`, which converts one at a time: the bits of an e4m3 number, moved to the
    places of a half, are that number over 2^8 (the biases of the exponents differ by 8), subnormals included. Widening to 16
    bits copies the sign, into bit 14 after the shift: it is masked off there.
    """
    wide = values.view(torch.int8).to(torch.int16)
    wide <<= 7
    wide &= ~0x4000
    return wide.view(torch.float16)


def _divisor(scale: Tensor) -> Tensor:
    """Scales to divide by: 1 for channels or positions that are zero, or so small that they may count as zero."""
    return torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
