"""A balanced term weighs a multiple of another one's running size, by means of whole steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latentthought.errors import ConfigError
from latentthought.objective.balance import DECAY, MOST, Balances, balance_factor
from latentthought.objective.terms import as_term
from latentthought.objective.total import Objective
from tests.objective.test_objective import make_batch, make_output

TERMS = [{"term": "ce"}, {"term": "hidden", "weight": 0.5, "cosine": 0.0, "balance": "ce"}]


class Model:
    """What a balance needs of one."""

    def __init__(self) -> None:
        self.companions: dict[str, nn.Module] = {}

    def attach(self, name: str, module: nn.Module) -> None:
        self.companions[name] = module


def test_the_weight_is_a_multiple_of_the_running_ratio() -> None:
    model, objective = Model(), Objective(TERMS)
    balances = Balances(model, objective.terms)
    batch, output = make_batch(), make_output()
    counts = objective.counts(batch)
    value = objective(model, output, batch, counts)
    assert value.weighted["hidden"] == 0 and value.total == output.loss, (
        "nothing is known before the first step"
    )
    own = other = 0.0
    for step, (mine, theirs) in enumerate([(4.0, 2.0), (1.0, 3.0), (2.0, 2.0)]):
        # in two micro-batches, the shares of which add up to the step's mean, on two processes
        for part in (0.25, 0.125):
            balances.add({"hidden": torch.tensor(part * mine), "ce": torch.tensor(part * theirs)})
        balances.end_step(lambda sums: sums * 8 / 3)
        keep = DECAY if step else 0.0
        own, other = keep * own + (1 - keep) * mine, keep * other + (1 - keep) * theirs
        value = objective(model, output, batch, counts)
        assert float(value.weighted["hidden"].detach()) == pytest.approx(
            0.5 * other / own * float(value.parts["hidden"]), rel=1e-5
        )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_a_step_that_says_nothing_is_passed_over(bad: float) -> None:
    model = Model()
    balances = Balances(model, Objective(TERMS).terms)
    for own in (2.0, bad):
        balances.add({"hidden": torch.tensor(own), "ce": torch.tensor(1.0)})
        balances.end_step(lambda sums: sums)
    balances.end_step(lambda sums: sums)
    # a step that the run left out, and one in which the other term had nothing to look at
    balances.add({"hidden": torch.tensor(1e4), "ce": torch.tensor(1.0)})
    balances.end_step(None)
    balances.add({"hidden": torch.tensor(2.0), "ce": torch.tensor(0.0)})
    balances.end_step(lambda sums: sums)
    assert float(model.companions["hidden_balance"].factor) == pytest.approx(0.5)


def test_the_other_term_has_to_be_there() -> None:
    with pytest.raises(ConfigError, match=r"hidden\.balance: unknown term 'kll'.*Did you mean kl"):
        Objective([{"term": "kl"}, {"term": "hidden", "balance": "kll"}])
    with pytest.raises(ConfigError, match="unknown term 'hidden'"):
        Objective([{"term": "ce"}, {"term": "hidden", "balance": "hidden"}])
    assert as_term(TERMS[1]).balance == "ce"


def test_a_loop_without_balances_is_told_what_keeps_them() -> None:
    with pytest.raises(
        ConfigError, match=r"hidden\.balance: this model keeps no running means.*Balances\(model"
    ):
        balance_factor(Model(), "hidden")


def test_a_term_of_no_size_is_not_blown_up() -> None:
    model = Model()
    balances = Balances(model, Objective(TERMS).terms)
    balances.add({"hidden": torch.tensor(1e-14), "ce": torch.tensor(2.0)})
    balances.end_step(lambda sums: sums)
    assert float(model.companions["hidden_balance"].factor) == pytest.approx(MOST)
