"""Projectors against the formulas written out."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import gelu

from latentthought.errors import ConfigError
from latentthought.objective.projectors import ProjectorConfig, Projectors

PAIRS = ((1, 2), (2, 4), (-1, -1))


def made(kind, student=6, teacher=10, pairs=PAIRS, **settings):
    torch.manual_seed(0)
    return Projectors(ProjectorConfig(kind=kind, **settings), student, teacher, pairs)


def states(count=5, width=6):
    return torch.randn(count, len(PAIRS), width, generator=torch.Generator().manual_seed(1))


def written_out(kind, weights, x):
    if kind == "mlp":
        first, b1, second, b2 = weights
        return gelu(x @ first.T + b1) @ second.T + b2
    matrix, bias = weights
    y = x @ matrix.T + bias
    return y.clamp_min(0) if kind == "linear_relu" else y


@pytest.mark.parametrize("kind", ["linear", "linear_relu", "mlp"])
@pytest.mark.parametrize("shared", [False, True])
def test_each_kind_is_its_formula(kind, shared):
    projectors = made(kind, shared=shared)
    assert len(projectors.maps) == (1 if shared else 3)
    out = projectors(states())
    assert out.shape == (5, 3, 10)
    for place in range(3):
        weights = list(projectors.maps[0 if shared else place].parameters())
        torch.testing.assert_close(out[:, place], written_out(kind, weights, states()[:, place]))


def test_sizes_of_the_layers():
    assert sum(p.numel() for p in made("mlp", width=7).parameters()) == 3 * (6 * 7 + 7 + 7 * 10 + 10)
    assert sum(p.numel() for p in made("mlp").parameters()) == 3 * (6 * 10 + 10 + 10 * 10 + 10)
    assert sum(p.numel() for p in made("linear", bias=False, shared=True).parameters()) == 60


def test_none_hands_the_states_on():
    projectors = made("none", teacher=6)
    assert not list(projectors.parameters())
    assert projectors(states()) is not None
    assert torch.equal(projectors(states()), states())


def test_none_between_different_widths_names_both_and_the_setting():
    with pytest.raises(
        ConfigError, match=r"objective\.feature\.projector\.kind: none, .* 6 wide, the teacher's 10"
    ):
        Projectors(ProjectorConfig(), 6, 10, PAIRS, "objective.feature.projector")


@pytest.mark.parametrize("kind", ["linear", "linear_relu", "mlp"])
def test_without_positions_every_weight_is_in_the_graph(kind):
    projectors = made(kind)
    out = projectors(states(0))
    assert out.shape == (0, 3, 10)
    out.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in projectors.parameters())


def test_half_precision_states_meet_float32_projectors():
    projectors = made("linear")
    assert projectors(states().bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert projectors(states().bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"kind": "linaer"}, "did you mean linear"),
        ({"kind": "linear", "width": 8}, "inner width of kind mlp"),
        ({"learning_rate": 1e-3}, "kind none has nothing to learn"),
        ({"kind": "mlp", "width": 0}, "greater than 0"),
    ],
    ids=["kind", "width", "rate", "size"],
)
def test_bad_settings(settings, word):
    with pytest.raises(ConfigError, match=word):
        ProjectorConfig.parse(settings, "projector")


@pytest.mark.parametrize("kind", ["linear", "linear_relu"])
def test_between_a_pruned_student_and_its_teacher_channels_go_back_to_where_they_were(kind: str) -> None:
    channels = [1, 4, 5, 8, 9, 2]
    made = Projectors(ProjectorConfig(kind=kind), 6, 10, PAIRS, channels=channels)
    states_NLD = torch.rand(7, len(PAIRS), 6)
    expected = torch.zeros(7, len(PAIRS), 10)
    for place, channel in enumerate(channels):
        expected[..., channel] = states_NLD[..., place]
    assert torch.equal(made(states_NLD), expected)
    made(states_NLD).square().sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())
