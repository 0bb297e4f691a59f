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
    with tied_table.one_gradient(model.base):
        return tied_table.is_stand_in(model.base.get_output_embeddings().weight)


def test_what_a_side_goes_without():
    model = workload.make_model(workload.make_base(QUICK.sizes, torch.device("cpu"), 0))
    assert layers_that_share(model) == 4 * QUICK.sizes.layers
    assert isinstance(feedback.ReservedCache(3), ReservedCache)
    assert few_rows.MOST_ROWS > 0 and stands_in(model)
    with ablation.without(*ablation.MEASURES):
        assert layers_that_share(model) == 0
        assert type(feedback.ReservedCache(3)) is DynamicCache
        assert few_rows.MOST_ROWS == 0 and not stands_in(model)
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
