"""Products of few rows: the same as F.linear's whatever the number of rows, the shape of the weight and how it lies."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from latentthought.model import few_rows


def drawn(*size: int, seed: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("across", [True, False], ids=["across", "along"])
@pytest.mark.parametrize(("outputs", "inputs"), [(32, 96), (96, 64), (48, 32), (17, 13), (1, 48)])
@pytest.mark.parametrize("rows", [0, 1, 4, 8, 9, 64, 65])
def test_the_product_is_the_same(rows, outputs, inputs, across, biased) -> None:
    given = drawn(rows, inputs, seed=0)
    weight = drawn(inputs, outputs, seed=1).t() if across else drawn(outputs, inputs, seed=1)
    bias = drawn(outputs, seed=2) if biased else None
    exact = F.linear(given.double(), weight.double(), None if bias is None else bias.double())
    found = few_rows.linear(given, weight, bias)
    assert found.shape == (rows, outputs) and found.is_contiguous()
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "across", "expected"),
    [
        (8, False, "_in_blocks_of_outputs"),
        (8, True, "_in_blocks_of_inputs"),
        (9, False, "oneDNN"),
        (9, True, "usual"),
        (64, False, "oneDNN"),
        (65, False, "usual"),
    ],
)
def test_which_kernel_takes_it(rows, across, expected, monkeypatch) -> None:
    called = []
    for name in ("_in_blocks_of_outputs", "_in_blocks_of_inputs"):
        monkeypatch.setattr(few_rows, name, lambda *args, name=name: called.append(name))
    monkeypatch.setattr(few_rows.F, "linear", lambda *args: called.append("usual"))
    few_rows.linear(drawn(rows, 96, seed=0), torch.zeros(96, 96).t() if across else torch.zeros(96, 96))
    assert called == ([] if expected == "oneDNN" else [expected])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_go_the_usual_way(dtype) -> None:
    given, weight = drawn(4, 96, seed=0).to(dtype), drawn(32, 96, seed=1).to(dtype)
    assert torch.equal(few_rows.linear(given, weight), F.linear(given, weight))
