"""The one gradient of a tied table: autograd's own, made once, for every family, loss and order of backward passes."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.errors import UnsupportedError
from latentthought.model import chunks, tied_table
from latentthought.model.tied_table import is_stand_in, looked_up, one_gradient
from tests.families import FAMILIES, VOCABULARY, tiny_base

WIDTH = 32


def model_of(family: str = "gpt2", tied: bool = True, **changes) -> LatentThoughtForCausalLM:
    return LatentThoughtForCausalLM.from_base(tiny_base(family, tied, **changes), ThoughtConfig())


def batch(columns: int = 14) -> dict[str, torch.Tensor]:
    """Two rows that repeat words, one of them padded (id 0) in front; four thoughts."""
    ids = torch.randint(1, 9, (2, columns), generator=torch.Generator().manual_seed(4))
    mask, thoughts = torch.ones_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    ids[1, :2], mask[1, :2] = 0, 0
    thoughts[:, 5:9] = True
    labels = ids.masked_fill(thoughts | (mask == 0), -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "thought_mask": thoughts}


def gradients(model, loss_of) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss_of(model).backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def assert_as_autograd(model, loss_of, monkeypatch) -> None:
    ours = gradients(model, loss_of)
    with monkeypatch.context() as patch:
        patch.setattr(tied_table, "_tied_weight", lambda table, head: None)
        theirs = gradients(model, loss_of)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunks"])
@pytest.mark.parametrize("feedback", ["sequential", "jacobi", "single_pass"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradients_are_autograds(family, feedback, chunked, monkeypatch) -> None:
    if chunked:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 3 * VOCABULARY * 4)
    given = {**batch(), "feedback": feedback, "mix_ratio": 0.6}
    assert_as_autograd(model_of(family), lambda model: model(**given).loss, monkeypatch)


def test_words_blended_with_thoughts_reach_the_row_of_padding_never(monkeypatch) -> None:
    model = model_of("llama")
    table = model.base.get_input_embeddings()
    assert table.padding_idx == 0

    def lookups_alone(model):
        return model(**batch(), return_states=True).embeddings.square().sum()

    assert_as_autograd(model, lookups_alone, monkeypatch)
    assert not table.weight.grad[0].any() and table.weight.grad[1:9].any()


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda model: model(**batch(), return_states=True).hidden.square().mean(),  # no head
        lambda model: model(**{**batch(), "thought_mask": None}).loss,  # no thoughts
        lambda model: model(**batch()).loss + model(**batch()).loss,  # two stand-ins
        lambda model: model(**batch(), reading={**batch(), "thought_mask": None}).reading.loss,
    ],
    ids=["states alone", "text", "two forwards", "reading"],
)
def test_other_losses(loss_of, monkeypatch) -> None:
    assert_as_autograd(model_of(), loss_of, monkeypatch)


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunks"])
def test_further_backward_passes_through_the_same_graph(chunked, monkeypatch) -> None:
    if chunked:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 3 * VOCABULARY * 4)
    model = model_of()
    weight = model.base.get_output_embeddings().weight
    loss = model(**batch()).loss
    (once,) = torch.autograd.grad(loss, weight, retain_graph=True)
    kept = once.clone()
    with monkeypatch.context() as patch:  # one that breaks off leaves rows behind
        patch.setattr(tied_table._Rows, "add_to", lambda rows, gradient: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            torch.autograd.grad(loss, weight, retain_graph=True)
    (twice,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(twice, kept, rtol=1e-6, atol=1e-7)
    assert torch.equal(once, kept)


class Made(TorchDispatchMode):
    """Counts tensors of some shape that operations make; views are none."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape, self.storages = shape, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and tuple(result.shape) in (self.shape, self.shape[::-1]):
            known = [one.data_ptr() for one in self.storages]
            if result.untyped_storage().data_ptr() not in known:
                self.storages.append(result.untyped_storage())  # kept, so that no address comes twice
        return result


@pytest.mark.parametrize(("chunked", "tied"), [(False, True), (True, True), (False, False)])
def test_a_backward_pass_makes_one_table(chunked, tied, monkeypatch) -> None:
    if chunked:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 3 * VOCABULARY * 4)
    model = model_of(tied=tied)
    weights = {one.data_ptr() for one in (p.untyped_storage() for p in model.parameters())}
    with Made((VOCABULARY, WIDTH)) as made:
        model(**batch()).loss.backward()
    new = [one for one in made.storages if one.data_ptr() not in weights]
    assert len(new) == (1 if tied else 2)


def test_who_gets_no_stand_in() -> None:
    def stands_in(model) -> bool:
        with one_gradient(model.base):
            return is_stand_in(model.base.get_input_embeddings().weight)

    model = model_of()
    assert stands_in(model) and not stands_in(model_of(tied=False))
    with torch.no_grad():
        assert not stands_in(model)
    model.base.get_input_embeddings().scale_grad_by_freq = True
    assert not stands_in(model)
    assert not stands_in(model_of().to(torch.bfloat16)) and stands_in(model_of().double())
    frozen = model_of()
    frozen.requires_grad_(False)
    assert not stands_in(frozen)


def test_the_modules_are_left_as_they_were() -> None:
    model = model_of()
    table = model.base.get_input_embeddings()

    def stop() -> None:
        with one_gradient(model.base):
            with one_gradient(model.base):  # a forward inside a forward
                assert is_stand_in(table.weight)
            assert is_stand_in(table.weight)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    assert table.weight is model.base.get_output_embeddings().weight and table.weight.is_leaf
    ids = torch.arange(4)[None]
    assert torch.equal(looked_up(table, ids), table(ids))


def test_second_derivatives_are_refused() -> None:
    model = model_of()
    embeddings = model(**batch(), return_states=True).embeddings
    with pytest.raises(UnsupportedError, match="create_graph"):
        torch.autograd.grad(embeddings.square().sum(), model.base.transformer.wte.weight, create_graph=True)
