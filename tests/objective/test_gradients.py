"""The gradient norm of a term against gradients taken one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latentthought.objective.divergence import kl_divergence
from latentthought.objective.gradients import gradient_norms


def test_norms_of_known_gradients() -> None:
    a, b = torch.tensor([3.0, 0.0], requires_grad=True), torch.tensor(1.0, requires_grad=True)
    frozen = torch.tensor(1.0)
    terms = {
        "both": 3 * a.sum() + 4 * b,  # (3, 3, 4)
        "one": a.square().sum(),  # (6, 0)
        "constant": torch.tensor(5.0),
        "elsewhere": torch.ones((), requires_grad=True) * 2,
    }
    norms = gradient_norms(terms, [a, b, frozen])
    expected = {"both": 34**0.5, "one": 6.0, "constant": 0.0, "elsewhere": 0.0}
    assert {name: norm.item() for name, norm in norms.items()} == pytest.approx(expected)
    assert all(norm.dtype == torch.float32 for norm in norms.values())
    assert a.grad is None
    assert b.grad is None


def test_the_backward_pass_is_still_to_come() -> None:
    torch.manual_seed(0)
    model, head, teacher = nn.Linear(4, 3), nn.Linear(3, 9), nn.Linear(4, 9)
    inputs = torch.randn(6, 4)
    terms = {
        "ce": nn.functional.cross_entropy(head(model(inputs)), torch.arange(6)),
        "kl": kl_divergence(head, model(inputs), teacher, inputs, vocabulary=9),
    }
    trained = [*model.parameters(), *head.parameters()]
    norms = gradient_norms({name: 0.5 * term for name, term in terms.items()}, trained)
    for name, term in terms.items():
        for parameter in trained:
            parameter.grad = None
        (0.5 * term).backward()
        flat = torch.cat([parameter.grad.flatten() for parameter in trained])
        assert norms[name].item() == pytest.approx(flat.norm().item(), rel=1e-5)


def test_half_precision_does_not_overflow() -> None:
    parameter = torch.full((4,), 1.0, dtype=torch.float16, requires_grad=True)
    norms = gradient_norms({"large": (parameter * 60000).sum()}, [parameter])
    assert norms["large"].item() == pytest.approx(120000.0)
