"""The loss on labelled positions, whole and in chunks, against dense cross-entropy."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from latentthought.model import scoring
from latentthought.model.scoring import IGNORED, next_token_loss

WIDTH, VOCABULARY = 8, 23


@pytest.fixture
def head():
    torch.manual_seed(0)
    return torch.nn.Linear(WIDTH, VOCABULARY)


def batch(rows=3, total=10):
    torch.manual_seed(1)
    labels = torch.randint(0, VOCABULARY, (rows, total))
    labels[:, :4] = IGNORED
    labels[1, 7:] = IGNORED
    return torch.randn(rows, total, WIDTH, requires_grad=True), labels


@pytest.mark.parametrize("chunk", [1 << 26, VOCABULARY * 4, 1], ids=["whole", "chunks", "one-by-one"])
def test_equals_dense_cross_entropy_with_gradients(head, chunk, monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", chunk)
    hidden, labels = batch()
    score = next_token_loss(head, hidden, labels, VOCABULARY, predictions=True)
    score.loss.backward()
    ours = (hidden.grad.clone(), head.weight.grad.clone())
    hidden.grad = head.weight.grad = None
    logits = head(hidden)[:, :-1]
    dense = cross_entropy(logits.reshape(-1, VOCABULARY), labels[:, 1:].reshape(-1))
    dense.backward()
    torch.testing.assert_close(score.loss, dense)
    torch.testing.assert_close(ours[0], hidden.grad)
    torch.testing.assert_close(ours[1], head.weight.grad)
    valid = labels[:, 1:] != IGNORED
    assert torch.equal(score.predictions[:, 1:][valid], logits.argmax(-1)[valid])
    assert (score.predictions[:, 1:][~valid] == IGNORED).all()
    assert (score.predictions[:, 0] == IGNORED).all()


def test_the_head_sees_labelled_positions_only(head):
    seen = []
    hidden, labels = batch()
    next_token_loss(lambda h: seen.append(len(h)) or head(h), hidden, labels, VOCABULARY)
    assert seen == [int((labels[:, 1:] != IGNORED).sum())]


def test_a_given_count_divides_the_sum(head):
    hidden, labels = batch()
    mean = next_token_loss(head, hidden, labels, VOCABULARY).loss
    count = int((labels[:, 1:] != IGNORED).sum())
    shared = next_token_loss(head, hidden, labels, VOCABULARY, items=torch.tensor(2 * count)).loss
    torch.testing.assert_close(shared, mean / 2)


def test_no_label_at_all_gives_zero_and_still_a_graph(head):
    hidden, labels = batch()
    score = next_token_loss(head, hidden, torch.full_like(labels, IGNORED), VOCABULARY)
    score.loss.backward()
    assert score.loss.item() == 0.0
    assert hidden.grad is not None
