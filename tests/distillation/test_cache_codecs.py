"""Numbers of a shard: what each codec loses, with channels hundreds of times larger than the others planted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentthought.distillation.cache.codecs import channel_scales, decode, e4m3_as_half, encode

OUTLIERS = {3: 300.0, 17: 3000.0, 40: 1e4}


def planted(positions: int = 600, layers: int = 3, width: int = 64) -> Tensor:
    """Unit normal states with outlier channels, and a first position (an attention sink) whose outliers are 50 times larger."""
    states_PLD = torch.randn(positions, layers, width, generator=torch.Generator().manual_seed(1))
    for channel, size in OUTLIERS.items():
        states_PLD[..., channel] *= size
        states_PLD[0, :, channel] *= 50
    return states_PLD


def round_trip(codec, states_PLD: Tensor) -> Tensor:
    _, layers, width = states_PLD.shape
    channel_LD = channel_scales(codec, [states_PLD], layers, width)
    values, token_PL = encode(codec, states_PLD, channel_LD)
    return decode(codec, values, channel_LD, token_PL)


def relative_error(found: Tensor, wanted: Tensor, ordinary: bool) -> float:
    """|difference| / |wanted|, over the ordinary channels or over the planted ones, without the sink."""
    chosen = torch.tensor([(channel not in OUTLIERS) == ordinary for channel in range(wanted.shape[-1])])
    found, wanted = found[1:, :, chosen], wanted[1:, :, chosen]
    return ((found - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize(("codec", "bound"), [("fp32", 0.0), ("bf16", 0.0025), ("fp8", 0.03), ("int8", 0.01)])
def test_errors_on_ordinary_channels(codec, bound):
    states_PLD = planted()
    assert relative_error(round_trip(codec, states_PLD), states_PLD, ordinary=True) <= bound


@pytest.mark.parametrize(("codec", "bound"), [("bf16", 0.0025), ("fp8", 0.03)])
def test_errors_on_outlier_channels(codec, bound):
    states_PLD = planted()
    assert relative_error(round_trip(codec, states_PLD), states_PLD, ordinary=False) <= bound


def test_int8_is_off_by_half_a_step_of_its_channel_at_most():
    states_PLD = planted()
    step_LD = states_PLD.abs().amax(0) / 127
    assert ((round_trip("int8", states_PLD) - states_PLD).abs() <= 0.5001 * step_LD).all()


def test_one_scale_a_position_would_not_do_for_int8():
    """Why channels have scales: the same 127 steps over all channels of a position lose the ordinary ones."""
    states_PLD = planted()
    step_PL = states_PLD.abs().amax(-1, keepdim=True) / 127
    assert relative_error((states_PLD / step_PL).round() * step_PL, states_PLD, ordinary=True) > 0.5


def test_fp8_is_the_nearest_number_that_e4m3_has():
    """Against torch's own conversion, in float64 scales."""
    states_PLD = planted(50)
    channel_LD = states_PLD.abs().amax(0).double()
    scaled = states_PLD.double() / channel_LD
    token_PL = scaled.abs().amax(-1, keepdim=True) / 448
    wanted = (scaled / token_PL).float().to(torch.float8_e4m3fn).double() * token_PL * channel_LD
    differs = (round_trip("fp8", states_PLD).double() - wanted).abs() > 1e-6 * wanted.abs()
    assert (
        differs.double().mean() < 1e-3
    )  # a value between two numbers may be rounded the other way in float32


def test_e4m3_bits_are_read_as_torch_reads_them():
    codes = torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn)
    wanted = codes.float()
    finite = wanted.isfinite()
    assert finite.sum() == 254
    assert torch.equal(256 * e4m3_as_half(codes).float()[finite], wanted[finite])


@pytest.mark.parametrize("codec", ["fp8", "int8"])
@pytest.mark.parametrize("value", [0.0, 1e-42, 3e38])
def test_dead_and_extreme_channels(codec, value):
    """A channel that is always zero, nearly zero or nearly too large gives finite numbers."""
    states_PLD = planted(5)
    states_PLD[..., 0] = value
    found = round_trip(codec, states_PLD)
    assert found.isfinite().all()
    assert torch.allclose(found[..., 0], states_PLD[..., 0], rtol=0.07, atol=1e-30)


@pytest.mark.parametrize("codec", ["fp8", "int8"])
def test_scales_are_over_all_rows_of_a_shard(codec):
    """Rows are quantised alike however they were gathered; an empty row counts for nothing."""
    states_PLD = planted(60)
    whole = channel_scales(codec, [states_PLD], 3, 64)
    parts = channel_scales(codec, [states_PLD[:7], states_PLD[7:7], states_PLD[7:]], 3, 64)
    assert whole is not None and parts is not None
    assert torch.equal(whole, parts)
    values, tokens = encode(codec, states_PLD, whole)
    part, part_tokens = encode(codec, states_PLD[7:20], parts)
    assert torch.equal(values[7:20].view(torch.uint8), part.view(torch.uint8))
    if tokens is not None and part_tokens is not None:
        assert torch.equal(tokens[7:20], part_tokens)
