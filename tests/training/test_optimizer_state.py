"""What an optimizer remembers, written by name and read back: the next step is the one that would have been."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Adafactor

from latentthought.errors import DamagedFileError
from latentthought.training.optimizer_state import FILE, clear_optimizer, load_optimizer, save_optimizer

Make = Callable[[nn.Module], torch.optim.Optimizer]
MAKERS: dict[str, Make] = {
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.1, fused=True),
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    # of a row of weights it keeps a state of one number, which is no count
    "adafactor": lambda model: Adafactor(
        model.parameters(), lr=0.1, relative_step=False, scale_parameter=False
    ),
}


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()


@pytest.mark.parametrize("name", MAKERS)
def test_the_next_step_is_the_one_that_would_have_been(name: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 3), nn.Linear(3, 1))
    optimizer = MAKERS[name](model)
    step(model, optimizer, 1)
    step(model, optimizer, 2)
    save_optimizer(model, optimizer, tmp_path)
    other = copy.deepcopy(model)
    fresh = MAKERS[name](other)
    load_optimizer(other, fresh, tmp_path)
    for each, its in ((model, optimizer), (other, fresh)):
        step(each, its, 3)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_cleared_optimizer_begins_anew() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    optimizer = MAKERS["adamw"](model)
    step(model, optimizer, 1)
    clear_optimizer(optimizer)
    assert not optimizer.state


def test_states_of_another_model_are_refused(tmp_path: Path) -> None:
    model = nn.Linear(4, 4)
    save_file({"elsewhere:exp_avg": torch.zeros(4)}, tmp_path / FILE, {"numbers": "{}"})
    with pytest.raises(DamagedFileError, match="states of elsewhere, which the model does not train"):
        load_optimizer(model, MAKERS["adamw"](model), tmp_path)
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(DamagedFileError, match="unreadable states of the optimizer"):
        load_optimizer(model, MAKERS["adamw"](model), tmp_path)
