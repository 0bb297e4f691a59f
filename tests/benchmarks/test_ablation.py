"""What the sides of the ablation go without, they really go without; and one that computes something else is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache

from benchmarks import ablation, workload
from benchmarks.agreement import Disagreement
from benchmarks.settings import Settings
from latentthought.model import feedback, few_rows, shared_products, tied_table
from latentthought.model.cache import ReservedCache

QUICK = Settings(sizes=workload.Sizes().quick(), quick=True, rounds=1, silent=True)


@pytest.fixture(autouse=True)
def _weights_count_as_large(monkeypatch):
    monkeypatch.setattr(shared_products, "LEAST_ELEMENTS", {"cpu": 0, "elsewhere": 0})


def layers_that_share(model):
    with shared_products.SharedProducts(model.base).installed():
        return sum("forward" in vars(module) for module in model.base.modules())


def stands_in(model):
    return tied_table.TiedTable.of(model.base) is not None


def by_another_kernel(monkeypatch):
    """Whether a product of few rows is one of blocks."""
    called = []
    with monkeypatch.context() as patch:
        patch.setattr(few_rows, "_in_blocks_of_outputs", lambda *args: called.append(args))
        few_rows.linear(torch.zeros(4, 16), torch.zeros(16, 16))
    return bool(called)


def test_what_a_side_goes_without(monkeypatch):
    model = workload.make_model(workload.make_base(QUICK.sizes, torch.device("cpu"), 0))
    assert layers_that_share(model) == 4 * QUICK.sizes.layers
    assert isinstance(feedback.ReservedCache(3), ReservedCache)
    assert by_another_kernel(monkeypatch) and stands_in(model)
    with ablation.without(*ablation.MEASURES):
        assert layers_that_share(model) == 0
        assert type(feedback.ReservedCache(3)) is DynamicCache
        assert not by_another_kernel(monkeypatch) and not stands_in(model)
        assert feedback.FeedbackPasses._prefix_and_text is ablation._apart
    assert layers_that_share(model) == 4 * QUICK.sizes.layers


def test_all_sides_agree_and_one_that_does_not_is_named(monkeypatch):
    report = ablation.run(QUICK)
    assert [row.role for row in report.rows].count("rival") == 6
    assert all(row.result.startswith("same") for row in report.rows[1:])
    whole = shared_products._Rows.take

    def halved(rows):
        return tuple(part if part is None else part / 2 for part in whole(rows))

    monkeypatch.setattr(shared_products._Rows, "take", halved)
    with pytest.raises(Disagreement, match="a product a pass and weight"):
        ablation.run(replace(QUICK, seed=1))
