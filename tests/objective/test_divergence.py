"""Divergences against their definitions in fp64, in value and gradient, and without ever holding the logits whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from latentthought.model import chunks
from latentthought.objective.divergence import (
    SampledLogits,
    TopLogits,
    cached_divergence,
    kl_divergence,
    sampled_of,
    top_k_of,
)

N, D, D_TEACHER, V = 23, 6, 5, 37
DIRECTIONS = ["forward", "reverse", "js", "skewed", "skewed_reverse"]


def definition(student: Tensor, teacher: Tensor, temperature: float, direction: str, skew: float) -> Tensor:
    """The formulas as published, on whole probabilities."""
    q, p = (student / temperature).softmax(-1), (teacher / temperature).softmax(-1)

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * (a / b).log()).sum()

    m = (p + q) / 2
    values = {
        "forward": lambda: kl(p, q),
        "reverse": lambda: kl(q, p),
        "js": lambda: kl(p, m) / 2 + kl(q, m) / 2,
        "skewed": lambda: kl(p, skew * p + (1 - skew) * q),
        "skewed_reverse": lambda: kl(q, (1 - skew) * p + skew * q),
    }
    return temperature**2 * values[direction]()


class Scene:
    """A student whose head has a bias and 5 padding words, and a teacher with 9, in fp32."""

    def __init__(self, positions: int = N) -> None:
        torch.manual_seed(0)
        self.head, self.teacher_head = nn.Linear(D, V + 5), nn.Linear(D_TEACHER, V + 9)
        self.states = (3 * torch.randn(positions, D)).requires_grad_()
        self.teacher_states = (3 * torch.randn(positions, D_TEACHER)).requires_grad_()

    @property
    def trained(self) -> list[Tensor]:
        return [self.states, *self.head.parameters()]

    def teacher_logits(self) -> Tensor:
        """What the teacher says of the words that both know."""
        return self.teacher_head(self.teacher_states)[:, :V].detach()

    def reference(self, loss) -> tuple[Tensor, ...]:
        """Value and gradients in fp64 of a loss of the student's whole logits."""
        states, weight, bias = (tensor.detach().double().requires_grad_() for tensor in self.trained)
        value = loss((states @ weight.T + bias)[:, :V])
        return (value.detach(), *torch.autograd.grad(value, (states, weight, bias)))

    def found(self, value: Tensor) -> tuple[Tensor, ...]:
        return (value.detach(), *torch.autograd.grad(value, self.trained))


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float = 1e-5) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert (ours.double() - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    """Five chunks of positions, the last of which is short, in blocks of two positions."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 5 * V * 4)
    monkeypatch.setitem(chunks.BLOCK_ELEMENTS, "cpu", 2 * (V + 5))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_values_and_gradients_follow_the_definitions(direction, temperature, recompute) -> None:
    scene = Scene()
    value = kl_divergence(
        scene.head,
        scene.states,
        scene.teacher_head,
        scene.teacher_states,
        vocabulary=V,
        temperature=temperature,
        direction=direction,
        skew=0.3,
        recompute=recompute,
    )
    teacher = scene.teacher_logits().double()
    expected = scene.reference(lambda logits: definition(logits, teacher, temperature, direction, 0.3))
    assert_same(scene.found(value), expected)


def test_one_chunk_is_enough_for_few_positions() -> None:
    scene = Scene()
    value = kl_divergence(scene.head, scene.states, scene.teacher_head, scene.teacher_states, vocabulary=V)
    teacher = scene.teacher_logits().double()
    assert_same(scene.found(value), scene.reference(lambda s: definition(s, teacher, 1.0, "forward", 0.0)))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_equal_distributions_do_not_diverge_and_distant_ones_stay_finite(direction) -> None:
    states = torch.eye(4).mul(1e4).requires_grad_()
    same = kl_divergence(nn.Identity(), states, nn.Identity(), states, vocabulary=4, direction=direction)
    assert abs(same.item()) < 1e-6
    far = kl_divergence(
        nn.Identity(), states, nn.Identity(), states.roll(1, 0), vocabulary=4, direction=direction
    )
    (gradient,) = torch.autograd.grad(far, states)
    assert torch.isfinite(far)
    assert torch.isfinite(gradient).all()


def test_skews_are_bounded_by_the_share_of_the_mixture() -> None:
    """KL(p || s p + ...) is at most -log s, and so is its mirror image: what skewing is for."""
    states = torch.eye(4).mul(1e4)
    for direction in ("skewed", "skewed_reverse"):
        value = kl_divergence(
            nn.Identity(),
            states,
            nn.Identity(),
            states.roll(1, 0),
            vocabulary=4,
            direction=direction,
            skew=0.2,
        )
        assert value.item() / 4 == pytest.approx(-torch.tensor(0.2).log().item(), rel=1e-5)


def test_the_teacher_is_not_trained() -> None:
    scene, recorded = Scene(), []

    def teacher_head(states: Tensor) -> Tensor:
        recorded.append(torch.is_grad_enabled())
        return scene.teacher_head(states)

    value = kl_divergence(scene.head, scene.states, teacher_head, scene.teacher_states, vocabulary=V)
    value.backward()
    assert recorded == [False]
    assert scene.teacher_states.grad is None
    assert all(parameter.grad is None for parameter in scene.teacher_head.parameters())


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_reach_whatever_the_head_is_made_of(recompute) -> None:
    """A tied matrix, rows beside it, and a low-rank update, none of which the head lists as parameters; a frozen matrix too."""
    torch.manual_seed(0)
    tied, rows = torch.randn(V, D, requires_grad=True), torch.randn(2, D, requires_grad=True)
    down, up = torch.randn(2, D, requires_grad=True), torch.randn(V, 2, requires_grad=True)
    frozen = torch.randn(V, D)
    scene = Scene()

    def head(states: Tensor) -> Tensor:
        matrix = torch.cat([tied[:-2], rows]) + up @ down + frozen
        return torch.tanh(states @ matrix.T / 5) * 5

    value = kl_divergence(
        head, scene.states, scene.teacher_head, scene.teacher_states, vocabulary=V, recompute=recompute
    )
    dense = definition(head(scene.states), scene.teacher_logits(), 1.0, "forward", 0.0)
    trained = (scene.states, tied, rows, down, up)
    for ours, theirs in zip(
        torch.autograd.grad(value, trained), torch.autograd.grad(dense, trained), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("recompute", [False, True])
def test_chunks_may_share_a_matrix_that_is_made_before(recompute) -> None:
    scene = Scene()
    down, up = (torch.randn(size).div(3).requires_grad_() for size in ((2, D), (V, 2)))
    matrix = up @ down
    value = kl_divergence(
        lambda states: states @ matrix.T,
        scene.states,
        scene.teacher_head,
        scene.teacher_states,
        vocabulary=V,
        recompute=recompute,
    )
    dense = definition(scene.states @ (up @ down).T, scene.teacher_logits(), 1.0, "forward", 0.0)
    for ours, theirs in zip(
        torch.autograd.grad(value, (down, up)), torch.autograd.grad(dense, (down, up)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_factors_and_repeated_backward_passes_are_kept() -> None:
    scene = Scene()
    value = kl_divergence(scene.head, scene.states, scene.teacher_head, scene.teacher_states, vocabulary=V)
    (once,) = torch.autograd.grad(value, scene.states, retain_graph=True)
    (again,) = torch.autograd.grad(0.25 * value, scene.states, retain_graph=True)
    (value / 3).backward()
    assert torch.equal(again, 0.25 * once)
    torch.testing.assert_close(scene.states.grad, once / 3)


def test_no_positions_give_zero_and_keep_all_parameters_in_the_graph() -> None:
    scene = Scene(positions=0)
    for recompute in (False, True):
        value = kl_divergence(
            scene.head,
            scene.states,
            scene.teacher_head,
            scene.teacher_states,
            vocabulary=V,
            recompute=recompute,
        )
        gradients = torch.autograd.grad(value, scene.trained)
        assert value == 0
        assert all(not gradient.any() for gradient in gradients)


def test_without_gradient_only_the_value_is_made() -> None:
    scene = Scene()
    arguments = (scene.head, scene.states, scene.teacher_head, scene.teacher_states)
    with torch.no_grad():
        value = kl_divergence(*arguments, vocabulary=V)
    assert not value.requires_grad
    assert value == kl_divergence(*arguments, vocabulary=V).detach()


@pytest.mark.parametrize("recompute", [False, True])
def test_half_precision_is_compared_in_fp32(recompute) -> None:
    scene = Scene()
    head, states = scene.head.bfloat16(), scene.states.detach().bfloat16().requires_grad_()
    value = kl_divergence(
        head, states, scene.teacher_head, scene.teacher_states, vocabulary=V, recompute=recompute
    )
    expected = definition(
        head(states).float()[:, :V].double(), scene.teacher_logits().double(), 1.0, "forward", 0.0
    )
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    (ours,), (theirs,) = torch.autograd.grad(value, states), torch.autograd.grad(expected, states)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=2e-2, atol=2e-2)


def test_autocast_casts_the_head_once_for_all_chunks(small_chunks) -> None:
    scene = Scene()
    with torch.autocast("cpu", torch.bfloat16):
        scene.head(scene.states)  # the cast weight is in autocast's cache by now, with its graph
        value = kl_divergence(
            scene.head, scene.states, scene.teacher_head, scene.teacher_states, vocabulary=V
        )
    value.backward()
    teacher = scene.teacher_logits().double()
    _, _, expected, _ = scene.reference(lambda logits: definition(logits, teacher, 1.0, "forward", 0.0))
    assert scene.head.weight.grad.dtype == torch.float32
    torch.testing.assert_close(scene.head.weight.grad.double(), expected, rtol=5e-2, atol=5e-1)


def test_gradients_wait_for_the_loss_scale_in_fp16_and_for_whole_parameters_under_zero3(monkeypatch) -> None:
    states = torch.zeros(2, 3)
    assert not chunks.late_gradients(states)
    assert chunks.late_gradients(states.half())
    with torch.autocast("cpu", torch.float16):
        assert chunks.late_gradients(states)
    monkeypatch.setattr("transformers.integrations.deepspeed.is_deepspeed_zero3_enabled", lambda: True)
    assert chunks.late_gradients(states)


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation made."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("recompute", [False, True])
def test_logits_are_never_whole(recompute) -> None:
    scene = Scene()
    with Largest() as seen:
        kl_divergence(
            scene.head,
            scene.states,
            scene.teacher_head,
            scene.teacher_states,
            vocabulary=V,
            recompute=recompute,
        ).backward()
    head_gradient = (V + 5) * D
    assert seen.elements == max(5 * (V + 9), head_gradient) < N * V


def test_a_head_of_too_few_words_is_named() -> None:
    scene = Scene()
    with pytest.raises(ValueError, match=f"a head gives {V + 5} logits, fewer than the {V + 6} words"):
        kl_divergence(scene.head, scene.states, scene.teacher_head, scene.teacher_states, vocabulary=V + 6)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("recompute", [False, True])
def test_top_words_are_compared_with_the_rest_as_one_word(recompute) -> None:
    scene, k, temperature = Scene(), 4, 2.5
    teacher = scene.teacher_logits()
    cached = top_k_of(teacher, k, temperature)
    value = cached_divergence(
        scene.head, scene.states, cached, vocabulary=V, temperature=temperature, recompute=recompute
    )
    ids = teacher.topk(k, dim=-1).indices

    def lumped(logits: Tensor) -> Tensor:
        probabilities = (logits / temperature).softmax(-1)
        best = probabilities.gather(-1, ids)
        return torch.cat([best, 1 - best.sum(-1, keepdim=True)], -1)

    def loss(logits: Tensor) -> Tensor:
        p, q = lumped(teacher.double()), lumped(logits)
        return temperature**2 * (p * (p / q).log()).sum()

    assert_same(scene.found(value), scene.reference(loss))
    whole = definition(scene.head(scene.states)[:, :V], teacher, temperature, "forward", 0.0)
    assert 0 < value < whole, "lumping words together can only hide a difference"


def test_all_words_are_the_whole_divergence() -> None:
    scene = Scene()
    teacher = scene.teacher_logits()
    cached = top_k_of(teacher, V)
    assert cached.ids.dtype == torch.int32
    value = cached_divergence(scene.head, scene.states, cached, vocabulary=V)
    expected = scene.reference(lambda s: definition(s, teacher.double(), 1.0, "forward", 0.0))
    assert_same(scene.found(value), expected)


def test_the_mass_of_the_tail_keeps_its_digits() -> None:
    logits = torch.tensor([[30.0, 1.0, 0.0, -1.0]])
    cached = top_k_of(logits, 1)
    rest = logits.double()[0, 1:].logsumexp(0) - logits.double()[0].logsumexp(0)
    assert cached.tail.item() == pytest.approx(rest.item(), rel=1e-6)
    assert top_k_of(logits, 2, temperature=4.0).log_probs[0].exp().sum() + top_k_of(
        logits, 2, temperature=4.0
    ).tail.exp() == pytest.approx(1.0)


def test_drawn_words_estimate_the_divergence_without_bias() -> None:
    scene, temperature, draws = Scene(), 2.0, 4000
    teacher = scene.teacher_logits()
    generator = torch.Generator().manual_seed(1)
    cached = sampled_of(teacher, draws, temperature, generator)
    value = cached_divergence(scene.head, scene.states, cached, vocabulary=V, temperature=temperature)
    found = scene.found(value)
    expected = scene.reference(lambda s: definition(s, teacher.double(), temperature, "forward", 0.0))
    # the spread of a mean over `draws` words, from the words themselves
    log_q = (scene.head(scene.states)[:, :V] / temperature).log_softmax(-1).gather(-1, cached.ids.long())
    spread = temperature**2 * (log_q.var(-1) / draws).sum().sqrt().item()
    assert abs(found[0].item() - expected[0].item()) < 4 * spread
    assert spread < 0.05 * expected[0].item()
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        cosine = torch.cosine_similarity(ours.double().flatten(), theirs.flatten(), dim=0)
        assert cosine > 0.99


def test_drawn_words_by_hand() -> None:
    """Two words, drawn as [0, 0, 1]: -(2 log q0 + log q1) / 3 - H."""
    logits = torch.tensor([[1.0, -1.0]])
    cached = SampledLogits(torch.tensor([[0, 0, 1]], dtype=torch.int32), torch.tensor([0.5]))
    log_q = logits.log_softmax(-1)[0]
    value = cached_divergence(nn.Identity(), logits, cached, vocabulary=2)
    assert value.item() == pytest.approx(-(2 * log_q[0] + log_q[1]).item() / 3 - 0.5, rel=1e-6)


def test_drawn_words_follow_their_generator_and_know_their_entropy() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 200.0, 0.0, 0.0]])
    first, second = (sampled_of(logits, 8, 1.0, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.ids, second.ids)
    assert first.ids.dtype == torch.int32
    assert first.ids[1].tolist() == [1] * 8
    torch.testing.assert_close(first.entropy, torch.tensor([4.0, 1.0]).log())


def test_what_is_cached_moves_between_devices() -> None:
    moved = TopLogits(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1)).to("meta", non_blocking=True)
    assert all(tensor.is_meta for tensor in moved.tensors)
    assert SampledLogits(torch.zeros(1, 2), torch.zeros(1)).to("meta").entropy.is_meta
