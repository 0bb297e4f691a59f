"""Weight gradients of several passes as one product: against autograd's own, and how many products are really made."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.errors import UnsupportedError
from latentthought.model import shared_products
from latentthought.model.shared_products import SharedProducts
from tests.families import VOCABULARY, tiny_base

WIDTH, WIDER = 6, 10
COLUMNS = (4, 1, 1, 3)


@pytest.fixture(autouse=True)
def _weights_count_as_large(monkeypatch):
    monkeypatch.setattr(shared_products, "LEAST_ELEMENTS", {"cpu": 0, "elsewhere": 0})


class Stack(nn.Module):
    """Two layers, run in several passes each of which starts from the last state of the one before."""

    def __init__(self, kind="linear", bias=True):
        super().__init__()
        torch.manual_seed(0)
        if kind == "conv1d":
            self.up, self.down = Conv1D(WIDER, WIDTH), Conv1D(WIDTH, WIDER)
        else:
            self.up, self.down = nn.Linear(WIDTH, WIDER, bias), nn.Linear(WIDER, WIDTH, bias)

    @property
    def base_model(self):
        return self

    def run(self, hidden_BTD, products=None):
        states, start, last = [], 0, None
        for count in COLUMNS:
            columns = hidden_BTD[:, start : start + count].contiguous()
            if last is not None:
                columns = columns + last
            if products is None:
                out = self.down(torch.tanh(self.up(columns)))
            else:
                with products.installed():
                    out = self.down(torch.tanh(self.up(columns)))
            states.append(out)
            last, start = out[:, -1:], start + count
        return torch.cat(states, dim=1)


def hidden(rows=2):
    return torch.randn(rows, sum(COLUMNS), WIDTH, generator=torch.Generator().manual_seed(1))


def gradients(model, **how):
    model.zero_grad()
    given = hidden().requires_grad_()
    model.run(given, **how).pow(2).sum().backward()
    return {"input": given.grad, **{name: one.grad for name, one in model.named_parameters()}}


class Products(TorchDispatchMode):
    """Counts matrix products by the shape of their result."""

    def __init__(self):
        super().__init__()
        self.made = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm_.default):
            self.made[tuple(result.shape)] += 1
        return result


@pytest.mark.parametrize("most", [512, 5, 1])
@pytest.mark.parametrize(("kind", "bias"), [("linear", True), ("linear", False), ("conv1d", True)])
def test_gradients_are_autograds(kind, bias, most, monkeypatch):
    monkeypatch.setattr(shared_products, "MOST_ROWS", most)
    model = Stack(kind, bias)
    plain, shared = gradients(model), gradients(model, products=SharedProducts(model))
    assert plain.keys() == shared.keys()
    for name in plain:
        torch.testing.assert_close(shared[name], plain[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(("recomputed", "expected"), [(False, 2), (True, 3)])
def test_recomputed_passes_leave_fewer_rows_waiting(recomputed, expected, monkeypatch):
    """Passes of 4, 1, 1 and 3 columns and two rows: backward brings 6, 2, 2 and 8 rows."""
    monkeypatch.setattr(shared_products, "MOST_ROWS", 8)
    monkeypatch.setattr(shared_products, "MOST_BESIDE_GRADIENT", 2)
    model = Stack()
    with Products() as counted:
        shared = gradients(model, products=SharedProducts(model, recomputed))
    assert counted.made[tuple(model.up.weight.shape)] == expected
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(shared[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_a_weight_gets_one_product_however_many_passes():
    model = Stack()
    shape = tuple(model.up.weight.shape)
    with Products() as plain:
        gradients(model)
    with Products() as shared:
        gradients(model, products=SharedProducts(model))
    assert plain.made[shape] == len(COLUMNS)
    assert shared.made[shape] == 1


def test_gradients_add_to_those_that_are_there():
    model = Stack()
    once = gradients(model, products=SharedProducts(model))["up.weight"].clone()
    model.run(hidden(), products=SharedProducts(model)).pow(2).sum().backward()
    torch.testing.assert_close(model.up.weight.grad, 2 * once)


def test_a_backward_pass_that_asks_for_less_leaves_nothing_behind():
    model, products = Stack(), None
    expected = gradients(model)
    model.zero_grad()
    products = SharedProducts(model)
    given = hidden().requires_grad_()
    loss = model.run(given, products=products).pow(2).sum()
    (alone,) = torch.autograd.grad(loss, [given], retain_graph=True)
    torch.testing.assert_close(alone, expected["input"])
    loss.backward(retain_graph=True)
    torch.testing.assert_close(model.up.weight.grad, expected["up.weight"])
    loss.backward()  # the same graph a second time
    torch.testing.assert_close(model.up.weight.grad, 2 * expected["up.weight"])


def test_frozen_layers_and_passes_without_gradient_are_left_alone():
    model = Stack()
    model.up.requires_grad_(False)
    products = SharedProducts(model)
    with products.installed():
        assert "forward" not in vars(model.up)
        assert "forward" in vars(model.down)
    assert "forward" not in vars(model.down)
    with torch.no_grad(), products.installed():
        assert "forward" not in vars(model.down)
    with pytest.raises(RuntimeError, match="stop"), products.installed():
        raise RuntimeError("stop")
    assert "forward" not in vars(model.down)


def test_small_weights_are_left_to_autograd(monkeypatch):
    monkeypatch.setattr(shared_products, "LEAST_ELEMENTS", {"cpu": WIDTH * WIDER + 1, "elsewhere": 0})
    model = Stack()
    with SharedProducts(model).installed():
        assert "forward" not in vars(model.up)


def test_half_precision_is_as_close_to_fp32_as_autocast_itself():
    model = Stack()
    exact = gradients(model)
    with torch.autocast("cpu", torch.bfloat16):
        plain = {name: value.clone() for name, value in gradients(model).items()}
        shared = gradients(model, products=SharedProducts(model))
    for name, value in exact.items():
        scale = value.abs().max()
        assert shared[name].dtype == plain[name].dtype == torch.float32
        assert (shared[name] - value).abs().max() <= 1.5 * (plain[name] - value).abs().max() + 1e-3 * scale


def test_layers_that_are_recomputed_by_somebody_else_are_left_alone():
    model = Stack()
    model.up = checkpoint_wrapper(model.up)
    with SharedProducts(model).installed():
        assert "forward" not in vars(model.up._checkpoint_wrapped_module)
        assert "forward" in vars(model.down)


def test_gradients_of_gradients_are_refused():
    model = Stack()
    loss = model.run(hidden().requires_grad_(), products=SharedProducts(model)).pow(2).sum()
    with pytest.raises(UnsupportedError, match="create_graph"):
        torch.autograd.grad(loss, [model.up.weight], create_graph=True)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("feedback", ["sequential", "jacobi", "single_pass"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_makes_one_product_a_weight_and_gradients_as_without(
    family, feedback, checkpointing, monkeypatch
):
    model = LatentThoughtForCausalLM.from_base(tiny_base(family, True, "sdpa"), ThoughtConfig())
    if checkpointing:
        model.gradient_checkpointing_enable()
    ids = torch.randint(3, VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(3))
    thoughts = torch.zeros_like(ids, dtype=torch.bool)
    thoughts[:, 5:9] = True

    def step():
        model.zero_grad()
        with Products() as counted:
            model(ids, None, ids, thoughts, feedback=feedback, jacobi_iterations=2).loss.backward()
        return counted.made, {
            name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None
        }

    weight = next(
        module.weight
        for module in model.base.base_model.modules()
        if type(module) in (nn.Linear, Conv1D) and module.weight.shape[0] != module.weight.shape[1]
    )
    same = sum(
        one.shape == weight.shape
        for name, one in model.named_parameters()
        if name.endswith("weight") and one.dim() == 2
    )
    shared_made, shared = step()
    monkeypatch.setattr(shared_products, "_linear_layers", lambda base: [])
    plain_made, plain = step()
    assert shared_made[tuple(weight.shape)] == same
    assert plain_made[tuple(weight.shape)] >= 2 * same
    assert shared.keys() == plain.keys()
    for name in plain:
        torch.testing.assert_close(shared[name], plain[name], rtol=1e-4, atol=1e-6, msg=name)
