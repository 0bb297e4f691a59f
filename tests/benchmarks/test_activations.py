"""The benchmark of activations: what counts as saved, and each side that computes something else is caught."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks import activations, rivals, workload
from benchmarks.activations import LONG, LOOP, RECOMPUTED, SHORT, TEXT, Taken, check, sides_of, targets_of
from benchmarks.agreement import Disagreement
from benchmarks.settings import Settings
from benchmarks.timing import allocated_by, saved_bytes
from benchmarks.train_step import OURS, our_loss
from benchmarks.workload import Sizes

CPU = torch.device("cpu")
SETTINGS = Settings(sizes=Sizes().quick(), quick=True, silent=True)


@pytest.fixture(scope="module", params=[SHORT, LONG])
def scene(request):
    sizes = SETTINGS.sizes if request.param == SHORT else activations.long_sizes(SETTINGS)
    base = workload.make_base(sizes, CPU, seed=0)
    return base, workload.make_batch(sizes, CPU, seed=0), request.param == LONG


def test_what_is_saved_is_counted_once_without_parameters():
    """exp keeps its output, a product both factors; a view keeps the whole of its storage, and a dropped graph nothing."""
    weight = torch.ones(256, requires_grad=True)

    def loss():
        (weight.exp() * weight).sum()  # its graph is gone at once
        grown = weight.exp()  # 1 KiB, kept by exp and by both products
        return (grown * weight).sum() + (grown[:8] * grown[8:16]).sum()

    assert saved_bytes(loss, [weight]) == 1024
    assert saved_bytes(loss, []) == 2048

    def kept():
        return weight.exp().sum()

    # and nothing else is left of it than what autograd keeps and the sum itself, in the allocator's steps of 64 bytes
    assert saved_bytes(kept, [weight]) == 1024
    assert 1024 < allocated_by(kept, CPU).held <= 1024 + 64


def test_nothing_is_held_of_a_forward_without_gradient():
    def forward():
        with torch.no_grad():
            return torch.ones(1 << 18).exp().sum()

    taken = allocated_by(forward, CPU)
    assert taken.held <= 64 < 2 << 20 <= taken.peak


def test_the_long_shape():
    sizes = activations.long_sizes(Settings())
    assert (sizes.batch, sizes.first_thought, sizes.thoughts) == (4, 64, 64)
    assert sizes.sequence - sizes.first_thought - sizes.thoughts == 64


def test_the_sides_agree(scene):
    base, batch, looped = scene
    found = check(base, batch, sides_of(base, batch), looped)
    assert found.pop(LOOP) == "the reference" if looped else found[LOOP].startswith("same: loss")
    assert all(line.startswith("same: loss") for line in found.values())


@pytest.mark.parametrize("side", [TEXT, OURS, RECOMPUTED, LOOP])
def test_a_side_that_computes_something_else_fails(scene, side):
    base, batch, looped = scene
    one_less = replace(batch, stop=batch.stop - 1)
    wrong = {
        TEXT: partial(rivals.cached_loss, base, batch),
        OURS: partial(our_loss, workload.make_model(base), one_less),
        # no gradient through the first thought: the loss is right
        RECOMPUTED: partial(
            our_loss, workload.make_model(base), batch, backprop_thoughts=batch.stop - batch.start - 1
        ),
        LOOP: partial(rivals.cached_loss, base, one_less, everywhere=False),
    }
    # where the loop is what the others are held against, they are named
    blamed = f"{OURS}: loss .*, {LOOP}" if looped and side == LOOP else side
    with pytest.raises(Disagreement, match=blamed.replace("(", r"\(").replace(")", r"\)")):
        check(base, batch, sides_of(base, batch) | {side: wrong[side]}, looped)


def test_recomputing_keeps_next_to_nothing_and_a_concatenated_cache_a_lot():
    """In closed form: each of S + 1 passes keeps its own copy of all keys and values before it."""
    sizes = replace(SETTINGS.sizes, thoughts=12, sequence=34)
    base = workload.make_base(sizes, CPU, seed=0)
    batch = workload.make_batch(sizes, CPU, seed=0)
    sides = sides_of(base, batch)
    text, loop = (saved_bytes(sides[name], base.parameters()) for name in (TEXT, LOOP))
    columns = sum(range(sizes.first_thought + 1, sizes.first_thought + sizes.thoughts)) + sizes.sequence
    copies = 8 * sizes.layers * sizes.width * sizes.batch * columns
    # keys and values of the last pass, and their text in one pass, are a few per cent of that
    assert loop - text == pytest.approx(copies, rel=0.1)
    assert allocated_by(sides[RECOMPUTED], CPU).held < allocated_by(sides[LOOP], CPU).held / 2


def test_promises_without_figures_are_skipped():
    found = {
        TEXT: Taken(100, 100, 100),
        OURS: Taken(111, 115, 115),
        RECOMPUTED: Taken(70, None, 20),
    }
    assert [target.verdict for target in targets_of(SHORT, found)] == ["MISSED", "met"]
    assert [target.verdict for target in targets_of(LONG, found)] == ["met"]
    assert [target.verdict for target in targets_of(LONG, {}, "no room")] == ["skipped: no room"]


def test_a_shape_without_room_is_skipped(monkeypatch):
    monkeypatch.setattr(activations, "shortage", lambda needed, device: "needs more")
    found = activations.run(SETTINGS)
    assert found.skipped == {SHORT: "needs more", LONG: "needs more"}
    assert [target.verdict for target in found.targets] == 3 * ["skipped: needs more"]
