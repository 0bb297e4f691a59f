"""The one gradient of a tied table: autograd's own, made once, for every family, loss and order of backward passes."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.errors import UnsupportedError
from latentthought.model import chunks, sharding, tied_table
from latentthought.model.tied_table import TiedTable
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
        patch.setattr(TiedTable, "of", lambda base: None)
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


@pytest.mark.parametrize(("dtype", "scaled"), [(torch.bfloat16, False), (torch.float16, True)])
def test_under_autocast_and_added_up(dtype, scaled, monkeypatch) -> None:
    def step(model):
        with torch.autocast("cpu", dtype):
            loss = model(**batch()).loss
        return loss * (1024 if scaled else 1)

    assert_as_autograd(model_of("qwen3"), lambda model: step(model) + step(model), monkeypatch)


def test_recomputed_passes(monkeypatch) -> None:
    model = model_of()
    model.gradient_checkpointing_enable()
    assert_as_autograd(model, lambda model: model(**batch()).loss, monkeypatch)


def test_the_row_of_padding_learns_from_the_head_alone(monkeypatch) -> None:
    model = model_of("llama")
    table = model.base.get_input_embeddings()
    assert table.padding_idx == 0

    def lookups_alone(model):
        return model(**{**batch(), "labels": None}, score=lambda _, output: output.thoughts.sum()).value

    assert_as_autograd(model, lookups_alone, monkeypatch)
    assert not table.weight.grad[0].any() and table.weight.grad[1:9].any()


def test_others_see_the_parameter() -> None:
    """What is done to the weight beside table and head has its own gradient, and theirs is whole in the middle of a forward."""
    model, seen = model_of(), {}
    weight = model.base.get_output_embeddings().weight
    factor = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(2))

    def score(model, output):
        head = model.get_output_embeddings()
        assert head.weight is weight and model.get_input_embeddings().weight is weight
        (seen["gradient"],) = torch.autograd.grad(output.loss, weight, retain_graph=True)
        return (head.weight * factor).sum() + head.weight.sum()

    output = model(**batch(), score=score)
    found = seen["gradient"].clone()
    (beside,) = torch.autograd.grad(output.value, weight, retain_graph=True)
    torch.testing.assert_close(beside, factor + 1)
    output.loss.backward()
    torch.testing.assert_close(weight.grad, found, rtol=1e-6, atol=1e-7)


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
        patch.setattr(tied_table._LookedUp, "add_to", lambda rows, gradient: 1 / 0)
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
        return TiedTable.of(model.base) is not None

    model = model_of()
    assert stands_in(model) and not stands_in(model_of(tied=False))
    with torch.no_grad():
        assert not stands_in(model)
    with sharding.supposed_sharded():
        assert not stands_in(model)
    model.base.get_input_embeddings().scale_grad_by_freq = True
    assert not stands_in(model)
    assert not stands_in(model_of().to(torch.bfloat16)) and stands_in(model_of().double())
    frozen = model_of()
    frozen.requires_grad_(False)
    assert not stands_in(frozen)


def test_many_rows_are_added_in_one_order() -> None:
    """The same bits each time, with several threads and rows that meet."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        ids = torch.randint(0, 40, (4096,), generator=torch.Generator().manual_seed(0))
        rows = torch.randn(4096, 64, generator=torch.Generator().manual_seed(1))
        found = []
        for _ in range(20):
            looked_up, total = tied_table._LookedUp(), torch.zeros(40, 64)
            looked_up.add(ids, rows)
            looked_up.add_to(total)
            found.append(total)
        assert all(torch.equal(one, found[0]) for one in found)
    finally:
        torch.set_num_threads(threads)


def test_the_modules_are_left_as_they_were() -> None:
    model = model_of()
    table = model.base.get_input_embeddings()

    def stop(model, output):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model(**batch(), score=stop)
    assert "weight" not in vars(table) and "weight" not in vars(model.base.get_output_embeddings())
    ids = torch.arange(4)[None]
    assert type(model.backbone.embed(ids, with_head=True).grad_fn).__name__ == "EmbeddingBackward0"


def test_second_derivatives_are_refused() -> None:
    model = model_of()
    loss = model(**batch(), feedback="jacobi").loss
    with pytest.raises(UnsupportedError, match="create_graph"):
        torch.autograd.grad(loss, model.base.transformer.wte.weight, create_graph=True)
