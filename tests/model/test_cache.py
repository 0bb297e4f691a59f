"""A cache reserved at its length, against the joined cache of transformers: values, gradients, and the memory it takes."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from transformers import DynamicCache

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.model import backbone, feedback
from latentthought.model.cache import ReservedCache, fork_cache
from tests.families import PAIRWISE, VOCABULARY, tiny_base

ROWS, HEADS, SIZE = 2, 3, 4
COLUMNS = (5, 1, 1, 3)


def columns(gradient=True):
    torch.manual_seed(2)
    return [
        [torch.randn(ROWS, HEADS, count, SIZE, requires_grad=gradient) for _ in range(3)] for count in COLUMNS
    ]


def attend(cache, parts):
    """Each pass's queries over all columns so far; what a pass finds enters the next pass's values, as thoughts do."""
    found, carried = [], 0.0
    for queries, keys, values in parts:
        all_keys, all_values = cache.update(keys, values + carried, 0)
        out = F.scaled_dot_product_attention(queries, all_keys, all_values)
        found.append(out)
        carried = out[:, :, -1:]
    return torch.cat(found, dim=2)


def gradients(cache, parts):
    for part in parts:
        for tensor in part:
            tensor.grad = None
    attend(cache, parts).pow(2).sum().backward()
    return [tensor.grad.clone() for part in parts for tensor in part]


@pytest.mark.parametrize("reserved", [sum(COLUMNS), sum(COLUMNS) + 7, 2], ids=["exact", "ample", "too-short"])
def test_values_and_gradients_are_those_of_a_joined_cache(reserved):
    parts = columns()
    torch.testing.assert_close(
        attend(ReservedCache(reserved), parts), attend(DynamicCache(), parts), rtol=0, atol=0
    )
    for ours, theirs in zip(
        gradients(ReservedCache(reserved), parts), gradients(DynamicCache(), parts), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_same_graph_can_be_run_backward_twice_and_in_part():
    parts = columns()
    expected = gradients(DynamicCache(), parts)
    for part in parts:
        for tensor in part:
            tensor.grad = None
    loss = attend(ReservedCache(sum(COLUMNS)), parts).pow(2).sum()
    (last,) = torch.autograd.grad(loss, [parts[-1][1]], retain_graph=True)
    torch.testing.assert_close(last, expected[-2])
    loss.backward(retain_graph=True)
    loss.backward()
    for tensor, wanted in zip([tensor for part in parts for tensor in part], expected, strict=True):
        torch.testing.assert_close(tensor.grad, 2 * wanted)


def saved_bytes(cache, parts):
    """Bytes of the storages that wait for backward, beside the inputs."""
    seen = {}

    def keep(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for queries, keys, values in parts:
            F.scaled_dot_product_attention(queries, *cache.update(keys, values, 0))
    inputs = {tensor.untyped_storage().data_ptr() for part in parts for tensor in part}
    return sum(size for place, size in seen.items() if place not in inputs)


def test_passes_share_one_copy_of_the_columns():
    parts = columns()
    column = 2 * ROWS * HEADS * SIZE * 4  # keys and values in fp32
    ours, joined = saved_bytes(ReservedCache(sum(COLUMNS)), parts), saved_bytes(DynamicCache(), parts)
    # what both keep beside the columns: outputs and their normalisers
    beside = ROWS * HEADS * sum(COLUMNS) * (SIZE + 1) * 4
    assert ours == column * sum(COLUMNS) + beside
    assert joined == column * (5 + 6 + 7 + 10) + beside


@pytest.mark.parametrize("change", ["crop", "repeat", "reorder", "fork"])
def test_a_cache_that_was_changed_goes_on_from_what_it_holds(change):
    def run(cache):
        with torch.no_grad():  # a changed cache is joined once, and has room again for what comes later
            parts = columns(gradient=False)
            attend(cache, parts[:2])
            if change == "crop":
                cache.crop(-2)
            elif change == "repeat":
                cache.batch_repeat_interleave(2)
                parts = [[tensor.repeat_interleave(2, 0) for tensor in part] for part in parts]
            elif change == "reorder":
                cache.reorder_cache(torch.tensor([1, 0]))
            else:
                attend(fork_cache(cache), parts[3:])  # leaves the cache as it was
            return attend(cache, [*parts[2:], *parts[2:]]), cache.get_seq_length()

    ours, length = run(ReservedCache(sum(COLUMNS)))
    theirs, expected = run(DynamicCache())
    assert length == expected
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_cropped_cache_keeps_its_gradient():
    def run(cache):
        parts = columns()
        attend(cache, parts[:1])
        cache.crop(-2)
        attend(cache, parts[1:]).pow(2).sum().backward()
        return parts[0][1].grad

    torch.testing.assert_close(run(ReservedCache(20)), run(DynamicCache()))


def test_a_cache_that_was_reset_takes_another_batch():
    with torch.no_grad():
        cache, (first, *_) = ReservedCache(sum(COLUMNS)), columns(gradient=False)
        attend(cache, [first])
        cache.reset()
        assert cache.get_seq_length() == 0
        more = [tensor.repeat(2, 1, 1, 1) for tensor in first]
        torch.testing.assert_close(attend(cache, [more]), attend(DynamicCache(), [more]), rtol=0, atol=0)


def test_room_that_was_left_is_let_go():
    with torch.no_grad():
        cache, parts = ReservedCache(sum(COLUMNS)), columns(gradient=False)
        attend(cache, parts[:2])
        left = weakref.ref(cache.rooms[0])
        cache.batch_repeat_interleave(2)
        attend(cache, [[tensor.repeat_interleave(2, 0) for tensor in part] for part in parts[2:]])
        assert left() is None


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_a_forward_without_backward_leaves_nothing(checkpointing):
    model = LatentThoughtForCausalLM.from_base(tiny_base(*PAIRWISE[0]), ThoughtConfig()).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    ids = torch.randint(3, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(4))
    thoughts = torch.zeros_like(ids, dtype=torch.bool)
    thoughts[:, 5:8] = True

    def alive():
        gc.collect()
        return sum(isinstance(one, torch.Tensor) for one in gc.get_objects())

    model(ids, None, ids, thoughts)
    before = alive()
    for _ in range(3):
        model(ids, None, ids, thoughts)
    assert alive() == before


@pytest.mark.parametrize("kind", ["jacobi", "single_pass"])
def test_one_thought_crops_nothing(kind, monkeypatch):
    """Releases of transformers differ in what `crop(0)` does; it is not called."""
    monkeypatch.setattr(DynamicCache, "crop", lambda cache, count: pytest.fail(f"crop({count})"))
    model = LatentThoughtForCausalLM.from_base(tiny_base(*PAIRWISE[0]), ThoughtConfig())
    ids = torch.randint(3, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(4))
    thoughts = torch.zeros_like(ids, dtype=torch.bool)
    thoughts[:, 5] = True
    exact = model(ids, None, ids, thoughts).loss
    torch.testing.assert_close(model(ids, None, ids, thoughts, feedback=kind).loss, exact)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_sequential_passes_are_those_over_a_joined_cache(case, checkpointing, monkeypatch):
    model = LatentThoughtForCausalLM.from_base(tiny_base(*case), ThoughtConfig())
    if checkpointing:
        model.gradient_checkpointing_enable()
        monkeypatch.setattr(backbone, "PIECE_COLUMNS", 2)  # passes come in pieces
    ids = torch.randint(3, VOCABULARY, (3, 14), generator=torch.Generator().manual_seed(4))
    mask, thoughts = torch.ones_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    mask[1, :2] = 0
    thoughts[:, 5:9] = True
    labels = ids.masked_fill(thoughts, -100)
    labels[1, :3] = -100  # what padding sees of other padding depends on the pass

    def step():
        model.zero_grad()
        output = model(ids, mask, labels, thoughts)
        output.loss.backward()
        return output.loss.detach(), {
            name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None
        }

    loss, ours = step()
    monkeypatch.setattr(feedback, "ReservedCache", lambda columns: DynamicCache())
    model.gradient_checkpointing_disable()
    expected, theirs = step()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6, msg=name)
