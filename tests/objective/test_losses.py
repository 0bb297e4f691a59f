"""Distances between hidden states against their formulas, written out for one position and layer at a time."""

from __future__ import annotations

import math

import pytest
import torch

from latentthought.objective.losses import distances

N, L, D = 5, 3, 7
KINDS = ("mse", "cosine", "smooth_l1")


def states(seed: int) -> torch.Tensor:
    # layers of very different size, as a model's are
    sizes = torch.tensor([0.02, 1.0, 30.0])[:, None]
    return sizes * torch.randn(N, L, D, generator=torch.Generator().manual_seed(seed))


def by_hand(predicted: list[float], target: list[float], kind: str, beta: float, size: float) -> float:
    errors = [(p - t) / size for p, t in zip(predicted, target, strict=True)]
    if kind == "mse":
        return sum(error**2 for error in errors) / D
    if kind == "smooth_l1":
        return sum(e**2 / (2 * beta) if abs(e) < beta else abs(e) - beta / 2 for e in errors) / D
    dot = sum(p * t for p, t in zip(predicted, target, strict=True))
    return 1 - dot / math.hypot(*predicted) / math.hypot(*target)


def size_by_hand(target: list[float], scale_match: str) -> float:
    mean = sum(target) / D if scale_match == "std" else 0.0
    return 1.0 if scale_match == "none" else math.sqrt(sum((t - mean) ** 2 for t in target) / D)


@pytest.mark.parametrize("scale_match", ["none", "rms", "std"])
@pytest.mark.parametrize("layer_weights", [None, (1.0, 0.0, 3.0)])
def test_each_kind_follows_its_formula(scale_match, layer_weights) -> None:
    predicted, target = states(0), states(1)
    shares = [w / 4 for w in layer_weights] if layer_weights else [1 / 3] * 3
    found = distances(
        predicted,
        target,
        mse=2.0,
        cosine=0.5,
        smooth_l1=0.25,
        beta=0.7,
        scale_match=scale_match,
        layer_weights_L=layer_weights,
    )
    for kind in KINDS:
        layers = [
            sum(
                by_hand(p.tolist(), t.tolist(), kind, 0.7, size_by_hand(t.tolist(), scale_match))
                for p, t in zip(predicted[:, layer], target[:, layer], strict=True)
            )
            for layer in range(L)
        ]
        assert found.layers[kind].tolist() == pytest.approx(layers, rel=1e-5)
        mean = sum(share * value for share, value in zip(shares, layers, strict=True))
        assert found.kinds[kind].item() == pytest.approx(mean, rel=1e-5)
    weighted = 2.0 * found.kinds["mse"] + 0.5 * found.kinds["cosine"] + 0.25 * found.kinds["smooth_l1"]
    assert found.total.item() == pytest.approx(weighted.item(), rel=1e-6)


def test_what_weighs_nothing_is_left_out() -> None:
    found = distances(states(0), states(1), mse=0.0, cosine=1.0)
    assert list(found.kinds) == list(found.layers) == ["cosine"]
    assert found.total == found.kinds["cosine"]


@pytest.mark.parametrize("scale_match", ["rms", "std"])
def test_matched_distances_do_not_depend_on_the_unit(scale_match) -> None:
    weights = {"mse": 1.0, "cosine": 1.0, "smooth_l1": 1.0, "scale_match": scale_match}
    one = distances(states(0), states(1), **weights).total
    assert distances(1000 * states(0), 1000 * states(1), **weights).total.item() == pytest.approx(
        one.item(), rel=1e-5
    )


@pytest.mark.parametrize("scale_match", ["none", "rms", "std"])
def test_micro_batches_add_up(scale_match) -> None:
    predicted, target = states(0), states(1)
    whole = distances(predicted, target, smooth_l1=1.0, scale_match=scale_match).total
    parts = [
        distances(p, t, smooth_l1=1.0, scale_match=scale_match).total
        for p, t in zip(predicted.split([1, 4]), target.split([1, 4]), strict=True)
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)


def test_only_the_prediction_learns_and_half_precision_is_compared_in_fp32() -> None:
    predicted, target = states(0).bfloat16().requires_grad_(), states(1).bfloat16().requires_grad_()
    found = distances(predicted, target, smooth_l1=1.0)
    found.total.backward()
    assert target.grad is None
    assert predicted.grad.dtype == torch.bfloat16
    assert not found.kinds["mse"].requires_grad
    assert not found.layers["mse"].requires_grad
    expected = distances(predicted.detach().float(), target.detach().float(), smooth_l1=1.0)
    assert torch.equal(found.total, expected.total)


def test_the_gradient_of_a_squared_error() -> None:
    predicted, target = states(0).requires_grad_(), states(1)
    distances(predicted, target, cosine=0.0, scale_match="rms").total.backward()
    expected = 2 * (predicted.detach() - target) / target.square().mean(-1, keepdim=True) / D / L
    torch.testing.assert_close(predicted.grad, expected)


def test_no_positions_and_empty_states_are_finite() -> None:
    nothing = torch.zeros(0, L, D, requires_grad=True)
    found = distances(nothing, torch.zeros(0, L, D), smooth_l1=1.0, scale_match="std")
    found.total.backward()
    assert found.total == 0
    silent = torch.zeros(N, L, D, requires_grad=True)
    for scale_match in ("none", "rms", "std"):
        found = distances(silent, torch.zeros(N, L, D), smooth_l1=1.0, scale_match=scale_match)
        found.total.backward()
        assert found.total.item() == pytest.approx(N, rel=1e-6), "an all-zero vector has no direction"
        assert torch.isfinite(silent.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_does_not_round_the_sum(dtype: torch.dtype) -> None:
    """320,000 positions with an error of 1 each: the sum is beyond fp16, and beyond what bf16 can count."""
    predicted, target = torch.ones(320_001, 1, 2), torch.zeros(320_001, 1, 2)
    with torch.autocast("cpu", dtype=dtype):
        found = distances(predicted, target, mse=1.0, cosine=0.0, layer_weights_L=[3.0])
    assert found.total.dtype == torch.float32
    assert found.total == 320_001
    assert found.kinds["mse"] == 320_001
