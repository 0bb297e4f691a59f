"""Terms, masks, counts and detached targets of the objective."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from latentthought.errors import ConfigError
from latentthought.objective.total import Objective
from latentthought.thoughts.layout import IGNORED, Region

P, S, A = int(Region.PROMPT), int(Region.STEP), int(Region.ANSWER)


def make_batch() -> dict[str, torch.Tensor]:
    regions = torch.tensor([[P, P, S, S, A], [P, S, S, A, 0]])
    labels = torch.where((regions == S) | (regions == A), torch.arange(5).expand(2, 5), IGNORED)
    return {"regions": regions, "labels": labels}


def make_output(width: int = 3) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(2, 5, width, generator=generator)  # noqa: E731
    return SimpleNamespace(
        loss=torch.tensor(2.0),
        reading=None,
        scaled=draw().requires_grad_(),
        hidden=draw().requires_grad_(),
        embeddings=draw().requires_grad_(),
        text_states=draw(),
    )


def test_next_embedding_compares_the_state_before_with_the_token() -> None:
    objective = Objective([{"term": "hidden", "target": "next_embedding", "mse": 2.0, "cosine": 0.5}])
    batch, output = make_batch(), make_output()
    counts = objective.counts(batch)
    assert counts.tolist() == [4, 6]  # four step positions, six labels
    value = objective(None, output, batch, counts)
    places = [(0, 2), (0, 3), (1, 1), (1, 2)]
    predicted = torch.stack([output.scaled[b, t - 1] for b, t in places])
    target = torch.stack([output.embeddings[b, t] for b, t in places])
    mse = (predicted - target).square().mean()
    cosine = (1 - torch.cosine_similarity(predicted, target, dim=-1)).mean()
    assert torch.allclose(value.total, 2.0 * mse + 0.5 * cosine)
    assert torch.allclose(value.parts["hidden_mse"], mse)
    assert torch.allclose(value.parts["hidden_cosine"], cosine)
    value.total.backward()
    assert output.embeddings.grad is None, "the target is detached"
    assert output.scaled.grad[0, 1].abs().sum() > 0
    assert output.scaled.grad[0, 3].abs().sum() == 0, "the state before an answer token has no latent target"


def test_text_states_compare_position_by_position() -> None:
    objective = Objective([{"term": "hidden", "target": "text_states", "cosine": 0.0}])
    assert objective.forward_options == {"return_states": True, "text_states": True}
    batch, output = make_batch(), make_output()
    value = objective(None, output, batch, objective.counts(batch))
    mask = batch["regions"] == S
    assert torch.allclose(value.total, (output.hidden - output.text_states)[mask].square().mean())


def test_pure_thoughts_have_no_target() -> None:
    batch = make_batch()
    batch["regions"] = torch.where(batch["regions"] == S, int(Region.THOUGHT), batch["regions"])
    batch["labels"] = torch.where(batch["regions"] == int(Region.THOUGHT), IGNORED, batch["labels"])
    objective = Objective([{"term": "ce"}, {"term": "hidden"}])
    counts = objective.counts(batch)
    assert counts.tolist() == [2, 0, 2]
    assert objective(None, make_output(), batch, counts).parts["hidden"] == 0


def test_terms_are_weighted_and_reported_unweighted() -> None:
    objective = Objective([{"term": "ce", "weight": 0.5}, {"term": "hidden", "weight": 0.1}])
    batch, output = make_batch(), make_output()
    value = objective(None, output, batch, objective.counts(batch))
    assert value.parts["ce"] == 2.0
    assert torch.allclose(value.total, 0.5 * value.parts["ce"] + 0.1 * value.parts["hidden"])


def test_shares_of_micro_batches_add_up() -> None:
    objective = Objective([{"term": "hidden"}])
    batch, output = make_batch(), make_output()
    whole = objective(None, output, batch, objective.counts(batch)).total
    halves = []
    for row in range(2):
        part = {key: tensor[row : row + 1] for key, tensor in make_batch().items()}
        share = SimpleNamespace(
            **{k: v[row : row + 1] if v is not None and v.dim() else v for k, v in vars(output).items()}
        )
        halves.append((part, share))
    counts = sum(objective.counts(part) for part, _ in halves)
    assert torch.allclose(whole, sum(objective(None, share, part, counts).total for part, share in halves))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([{"term": "hidden"}, {"term": "hidden", "target": "text_states"}], "under the name 'hidden'"),
        ([{"term": "ce", "weight": 0.0}], "no term has a weight"),
        ([{"term": "cee"}], "unknown term 'cee'"),
        ([{"term": "hidden", "cosin": 1.0}], "cosine"),
    ],
)
def test_bad_objectives_are_refused(terms: list[dict], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Objective(terms)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([{"term": "hidden"}, {"term": "ce", "name": "hidden_mse"}], "under the name 'hidden_mse'"),
        ([{"term": "hidden", "name": "items"}], "cannot be called 'items'"),
        ([{"term": "hidden", "target": "teacher"}], "nothing is known of one"),
    ],
)
def test_names_that_clash_and_a_teacher_that_is_not_there(terms: list[dict], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Objective(terms)
