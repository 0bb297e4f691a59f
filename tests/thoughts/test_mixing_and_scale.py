"""Blend rules and scale matching against their formulas."""

from __future__ import annotations

import pytest
import torch

from latentthought.thoughts.mixing import blend, columns, draw_positions
from latentthought.thoughts.scale import ScaleMatcher, root_mean_square


def unrelated(rms: float = 0.3, width: int = 4096):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2, 8, width, generator=generator)
    return vectors / vectors.square().mean(-1, keepdim=True).sqrt() * rms


def test_linear_shrinks_unrelated_vectors_and_variance_preserving_does_not():
    text, state = unrelated()
    assert root_mean_square(blend(text, state, 0.5, "linear")).mean().item() == pytest.approx(
        0.3 * 0.5**0.5, rel=0.02
    )
    for ratio in (0.1, 0.5, 0.9):
        kept = root_mean_square(blend(text, state, ratio, "variance_preserving")).mean().item()
        assert kept == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("rule", ["linear", "variance_preserving"])
def test_ends_are_exact_and_tensors_equal_scalars(rule):
    text, state = unrelated()
    assert torch.equal(blend(text, state, 1.0, rule), state)
    torch.testing.assert_close(blend(text, state, 0.0, rule), text)
    ratios = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 0.1, 0.2, 0.3])
    together = blend(text, state, ratios, rule)
    for row, ratio in enumerate(ratios.tolist()):
        torch.testing.assert_close(together[row], blend(text[row], state[row], ratio, rule))


def test_a_pure_thought_does_not_read_the_placeholder():
    text, state = torch.full((1, 4), float("nan")), torch.ones(1, 4)
    assert torch.equal(blend(text, state, 1.0), state)


def test_a_blend_has_the_dtype_of_the_embedding():
    text, state = unrelated(width=16)
    for ratio in (0.5, 1.0, torch.full((8,), 0.5)):
        assert blend(text.bfloat16(), state, ratio).dtype == torch.bfloat16


def test_bernoulli_draws_whole_positions_at_the_given_rate():
    like = torch.zeros(200, 500)
    drawn = draw_positions(0.3, like, torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    # three standard deviations of a mean of 100,000 draws
    assert drawn.mean().item() == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / drawn.numel()) ** 0.5)
    by_position = draw_positions(torch.tensor([[0.0], [1.0]]), torch.zeros(2, 50))
    assert by_position.tolist() == [[0.0] * 50, [1.0] * 50]
    text, state = unrelated(width=16)
    mixed = blend(text, state, torch.tensor([0.0, 1.0] * 4), "bernoulli")
    assert torch.equal(mixed[0], text[0])
    assert torch.equal(mixed[1], state[1])


def test_columns_slices_only_what_has_columns():
    assert columns(0.5, 1, 3) == 0.5
    ratio = torch.arange(10).view(2, 5)
    assert columns(ratio, 1, 3).tolist() == [[1, 2], [6, 7]]


def test_rms_brings_any_state_to_the_target():
    scale = ScaleMatcher("rms", 64)
    assert scale.measure(torch.full((10, 64), 0.02)) == pytest.approx(0.02)
    states = torch.randn(5, 64) * torch.tensor([1e-3, 1.0, 50.0, 1e3, 1e4])[:, None]
    matched = scale(states)
    torch.testing.assert_close(matched.square().mean(-1).sqrt(), torch.full((5,), 0.02))
    torch.testing.assert_close(torch.cosine_similarity(matched, states), torch.ones(5))
    assert scale(states.half()).dtype == torch.float16
    assert scale(states.half()).isfinite().all(), "squares of 1e4 overflow fp16"
    assert scale(torch.zeros(1, 64)).isfinite().all()


def test_none_returns_the_state_itself():
    states = torch.randn(2, 8)
    assert ScaleMatcher("none", 8)(states) is states


def test_mlp_ends_at_the_target_size_and_learns():
    scale = ScaleMatcher("mlp", 16, 32)
    scale.measure(torch.full((4, 16), 0.5))
    states = torch.randn(100, 16) * 30
    matched = scale(states)
    torch.testing.assert_close(
        matched.square().mean(-1).sqrt(), torch.full((100,), 0.5), atol=1e-3, rtol=1e-3
    )
    matched.sum().backward()
    assert all(parameter.grad is not None for parameter in scale.parameters())
    assert next(tuple(p.shape) for p in scale.parameters()) == (32, 16)


def test_the_target_is_saved_with_the_model():
    assert set(ScaleMatcher("rms", 8).state_dict()) == {"target"}
