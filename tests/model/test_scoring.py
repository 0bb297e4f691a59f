"""The loss on labelled positions, whole and in chunks, against dense cross-entropy."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from latentthought.model import chunks, scoring
from latentthought.model.scoring import IGNORED, next_token_loss

WIDTH, VOCABULARY = 8, 23
WHOLE, FOUR, ONE = 1 << 26, VOCABULARY * 4 * 4, 1


@pytest.fixture
def head():
    torch.manual_seed(0)
    return torch.nn.Linear(WIDTH, VOCABULARY)


@pytest.fixture
def chunk_bytes(request, monkeypatch):
    """Logits held at once on either way through; blocks of three positions."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", request.param)
    monkeypatch.setattr(scoring, "RECOMPUTED_BYTES", request.param)
    monkeypatch.setitem(chunks.BLOCK_ELEMENTS, "cpu", 3 * VOCABULARY)


in_chunks = pytest.mark.parametrize(
    "chunk_bytes", [WHOLE, FOUR, ONE], ids=["whole", "chunks", "one-by-one"], indirect=True
)


def batch(dtype=torch.float32, rows=3, total=10):
    torch.manual_seed(1)
    labels = torch.randint(0, VOCABULARY, (rows, total))
    labels[:, :4] = IGNORED
    labels[1, 7:] = IGNORED
    return torch.randn(rows, total, WIDTH, dtype=dtype, requires_grad=True), labels


def dense(head, hidden, labels, **options):
    logits = head(hidden)[:, :-1]
    return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), **options), logits.argmax(-1)


@in_chunks
@pytest.mark.usefixtures("chunk_bytes")
@pytest.mark.parametrize("late", [False, True], ids=["in one pass", "recomputed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_dense_cross_entropy_with_gradients(head, dtype, late, monkeypatch):
    monkeypatch.setattr("transformers.integrations.deepspeed.is_deepspeed_zero3_enabled", lambda: late)
    head = head.to(dtype)
    hidden, labels = batch(dtype)
    trained = [hidden, *head.parameters()]
    score = next_token_loss(head, hidden, labels, VOCABULARY, predictions=True)
    expected, best = dense(head, hidden, labels)
    tolerance = {"rtol": 1e-13, "atol": 1e-14} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(score.loss, expected, **tolerance)
    for ours, theirs in zip(
        torch.autograd.grad(score.loss, trained), torch.autograd.grad(expected, trained), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **tolerance)
    valid = labels[:, 1:] != IGNORED
    assert torch.equal(score.predictions[:, 1:][valid], best[valid])
    assert (score.predictions[:, 1:][~valid] == IGNORED).all()
    assert (score.predictions[:, 0] == IGNORED).all()


@in_chunks
@pytest.mark.usefixtures("chunk_bytes")
def test_the_head_sees_each_labelled_position_once_and_no_other(head):
    seen = []
    hidden, labels = batch()
    score = next_token_loss(lambda h: seen.append(len(h)) or head(h), hidden, labels, VOCABULARY)
    score.loss.backward()
    assert sum(seen) == int((labels[:, 1:] != IGNORED).sum())


@pytest.mark.parametrize("chunk_bytes", [FOUR], indirect=True)
@pytest.mark.usefixtures("chunk_bytes")
def test_where_gradients_come_late_a_chunk_is_run_twice_and_larger(head, monkeypatch):
    monkeypatch.setattr("transformers.integrations.deepspeed.is_deepspeed_zero3_enabled", lambda: True)
    monkeypatch.setattr(scoring, "RECOMPUTED_BYTES", 2 * FOUR)
    seen = []
    hidden, labels = batch()
    score = next_token_loss(lambda h: seen.append(len(h)) or head(h), hidden, labels, VOCABULARY)
    score.loss.backward()
    assert seen == [8, 7, 7, 8]


@in_chunks
@pytest.mark.usefixtures("chunk_bytes")
@pytest.mark.parametrize("items", [30, torch.tensor(30)], ids=["number", "tensor"])
def test_a_given_count_divides_the_sum(head, items):
    hidden, labels = batch()
    shared = next_token_loss(head, hidden, labels, VOCABULARY, items=items).loss
    expected = dense(head, hidden, labels, reduction="sum")[0] / 30
    torch.testing.assert_close(shared, expected)
    (ours,), (theirs,) = (torch.autograd.grad(loss, head.weight) for loss in (shared, expected))
    torch.testing.assert_close(ours, theirs)


@in_chunks
@pytest.mark.usefixtures("chunk_bytes")
def test_no_label_at_all_gives_zero_and_still_a_graph(head):
    hidden, labels = batch()
    score = next_token_loss(
        head, hidden, torch.full_like(labels, IGNORED), VOCABULARY, items=5, predictions=True
    )
    score.loss.backward()
    assert score.loss.item() == 0.0
    assert not hidden.grad.any()
    assert (score.predictions == IGNORED).all()


@in_chunks
@pytest.mark.usefixtures("chunk_bytes")
def test_without_gradient_only_the_value_is_made(head):
    hidden, labels = batch()
    with torch.no_grad():
        score = next_token_loss(head, hidden, labels, VOCABULARY, predictions=True)
    expected, best = dense(head, hidden, labels)
    torch.testing.assert_close(score.loss, expected.detach())
    valid = labels[:, 1:] != IGNORED
    assert torch.equal(score.predictions[:, 1:][valid], best[valid])


@in_chunks
@pytest.mark.usefixtures("chunk_bytes")
def test_logits_in_half_precision_are_scored_in_fp32(head):
    hidden, labels = batch()
    trained = [hidden, *head.parameters()]
    with torch.autocast("cpu", torch.bfloat16):
        loss = next_token_loss(head, hidden, labels, VOCABULARY).loss
        logits = head(hidden)[:, :-1].flatten(0, 1)
    expected = cross_entropy(logits.float(), labels[:, 1:].flatten())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(loss, trained), torch.autograd.grad(expected, trained), strict=True
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=2e-3)
