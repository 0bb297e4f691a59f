"""The head's gradient, added up in place: the same as autograd's, whatever the head is made of, and never held twice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import peak_bytes
from latentthought.errors import UnsupportedError
from latentthought.model import chunks, head_gradient
from latentthought.model.chunks import chunks_of, summed_over_logits
from latentthought.model.head_gradient import ProductsInPlace, leaves_of, makes_no_use_of

N, D, V = 11, 6, 17


@pytest.fixture(autouse=True)
def _torchs_own_products(monkeypatch):
    """DeepSpeed, once ZeRO-3 has been used in a process, leaves a product of its own in their place."""
    monkeypatch.setattr(F, "linear", torch._C._nn.linear)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch) -> None:
    """Three chunks of positions in blocks of two, and the parts of a product three words long."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4 * V * 4)
    monkeypatch.setitem(chunks.BLOCK_ELEMENTS, "cpu", 2 * V)
    monkeypatch.setattr(head_gradient, "PART_ELEMENTS", 3 * D)


@pytest.fixture
def targets() -> Tensor:
    return torch.randint(0, V, (N,), generator=torch.Generator().manual_seed(1))


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def in_chunks(head, states: Tensor, targets: Tensor, recompute: bool | None = None) -> Tensor:
    def score(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, reduction="sum")

    return summed_over_logits(
        head, states, lambda rows: (targets[rows],), score, chunks_of(states, V), recompute=recompute
    )


def whole(head, states: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(head(states).float(), targets, reduction="sum")


def assert_same_gradients(head, leaves: list[Tensor], targets: Tensor, **tolerance: float) -> None:
    """Of the states, which come first, and of all else."""
    found = torch.autograd.grad(in_chunks(head, leaves[0], targets), leaves)
    expected = torch.autograd.grad(whole(head, leaves[0], targets), leaves)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, **(tolerance or {"rtol": 1e-5, "atol": 1e-6}))


@pytest.mark.parametrize("bias", [True, False])
def test_a_plain_head(targets, bias) -> None:
    head = nn.Linear(D, V, bias=bias)
    assert_same_gradients(head, [drawn(N, D), *head.parameters()], targets)


def test_a_matrix_that_is_also_used_in_other_ways(targets) -> None:
    """Twice as it is, once as a product with itself: what is added up here and what autograd adds make one sum."""
    matrix = drawn(V, D)

    def head(states: Tensor) -> Tensor:
        once = F.linear(states, matrix)
        return once + F.linear(2 * states, matrix).tanh() + states @ matrix.T + matrix.square().sum(1)

    assert_same_gradients(head, [drawn(N, D), matrix], targets)


def test_what_surrounds_the_product(targets) -> None:
    """A low-rank update of a frozen matrix, and a soft cap, whose backward pass needs its own output."""
    frozen, down, up = drawn(V, D).detach(), drawn(2, D, seed=2), drawn(V, 2, seed=3)

    def head(states: Tensor) -> Tensor:
        return torch.tanh(F.linear(states, frozen) + F.linear(F.linear(states, down), up))

    assert_same_gradients(head, [drawn(N, D), down, up], targets)


def test_a_matrix_made_of_others_is_left_to_autograd(targets) -> None:
    rows, new = drawn(V - 2, D), drawn(2, D, seed=2)
    assert_same_gradients(
        lambda states: F.linear(states, torch.cat([rows, new])), [drawn(N, D), rows, new], targets
    )


@pytest.mark.parametrize("bias", [True, False])
def test_autocast(targets, bias) -> None:
    """Products in bf16, sums in fp32: nearer to the truth than autograd, which rounds the whole gradient."""
    head = nn.Linear(D, V, bias=bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_gradients(head, [drawn(N, D), *head.parameters()], targets, rtol=2e-2, atol=1e-2)


def test_a_head_in_bf16(targets) -> None:
    head = nn.Linear(D, V).bfloat16()
    states = drawn(N, D).detach().bfloat16().requires_grad_()
    assert_same_gradients(head, [states, *head.parameters()], targets, rtol=5e-2, atol=5e-2)


def test_a_table_that_is_embedding_and_head(targets) -> None:
    table = drawn(V, D)
    found, expected = (
        torch.autograd.grad(loss(lambda h: F.linear(h, table), table[targets].tanh(), targets), table)[0]
        for loss in (in_chunks, whole)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_terms_that_share_a_head_and_steps_that_add_up(targets) -> None:
    """Two terms of different weight, two micro-batches: the second finds a gradient there."""
    head, states = nn.Linear(D, V), drawn(N, D)
    for _ in range(2):
        value = 0.3 * in_chunks(head, states, targets) + 2 * in_chunks(head, states.tanh(), targets.flip(0))
        value.backward()
    expected = 0.3 * whole(head, states, targets) + 2 * whole(head, states.tanh(), targets.flip(0))
    for leaf, theirs in zip(
        (states, head.weight, head.bias),
        torch.autograd.grad(expected, (states, head.weight, head.bias)),
        strict=True,
    ):
        torch.testing.assert_close(leaf.grad, 2 * theirs, rtol=1e-5, atol=1e-5)


def test_a_graph_that_is_kept_may_be_used_again_and_then_is_spent(targets) -> None:
    head, states = nn.Linear(D, V), drawn(N, D)
    value = in_chunks(head, states, targets)
    (expected,) = torch.autograd.grad(whole(head, states, targets), head.weight)
    value.backward(retain_graph=True)
    kept = head.weight.grad
    (again,) = torch.autograd.grad(0.5 * value, head.weight, retain_graph=True)
    torch.testing.assert_close(again, 0.5 * expected, rtol=1e-5, atol=1e-6)
    head.weight.grad = None
    (3 * value).backward()
    torch.testing.assert_close(kept, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.weight.grad, 3 * expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="a second time"):
        value.backward()


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_of_gradients_are_refused(targets, recompute) -> None:
    """They would be missing from a sum without a word."""
    value = in_chunks(nn.Linear(D, V), states := drawn(N, D), targets, recompute=recompute)
    with pytest.raises(UnsupportedError, match="create_graph"):
        torch.autograd.grad(value, states, create_graph=True)


def test_under_ddp_the_gradient_reaches_its_bucket(targets) -> None:
    """One process, whose buckets are the gradients, as `gradient_as_bucket_view` has it, and two micro-batches."""
    from torch.nn.parallel import DistributedDataParallel

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(D, D), nn.Linear(D, V)

        def forward(self, states: Tensor, loss) -> Tensor:
            return loss(self.head, self.body(states), targets)

    torch.manual_seed(0)
    model, states = Model(), drawn(N, D)
    expected = torch.autograd.grad(model(states, whole), list(model.parameters()))
    # other tests of the process may have left a group of their own
    own = not torch.distributed.is_initialized()
    if own:
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        spread = DistributedDataParallel(model, gradient_as_bucket_view=True)
        for _ in range(2):
            spread(states, in_chunks).backward()
    finally:
        if own:
            torch.distributed.destroy_process_group()
    for parameter, theirs in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_gradient_is_never_held_twice(monkeypatch, dtype, autocast) -> None:
    """In value and backward pass; autocast's copy of the matrix is there for a while, but not in the backward pass."""
    rows, words, width = 32, 2000, 256
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4 * words * 4)
    monkeypatch.setattr(head_gradient, "PART_ELEMENTS", 20 * width)
    head = nn.Linear(width, words, bias=False, dtype=dtype)
    states, targets = (
        drawn(rows, width).detach().to(dtype).requires_grad_(),
        torch.zeros(rows, dtype=torch.long),
    )

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = in_chunks(head, states, targets)
        value.backward()

    step()
    head.weight.grad = states.grad = None
    extra = peak_bytes(step, torch.device("cpu")) - head.weight.nbytes - states.nbytes
    cast = head.weight.nbytes / 2 if autocast and dtype == torch.float32 else 0
    assert extra - cast < 0.3 * head.weight.nbytes


def test_the_place_of_logits_is_free_where_their_own_product_is_all_that_made_them() -> None:
    matrix, states = drawn(V, D), drawn(N, D)
    with ProductsInPlace():
        plain = F.linear(states, matrix)
        capped = torch.tanh(F.linear(states, matrix))
    assert makes_no_use_of(plain)
    assert not makes_no_use_of(capped)
    assert not makes_no_use_of(F.linear(states, matrix))
    assert set(leaves_of(capped)) == {matrix, states}
