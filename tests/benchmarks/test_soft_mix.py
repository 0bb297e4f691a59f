"""The benchmark of soft mixing: what it labels, and each way to mix something else is caught."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmarks import rivals, soft_mix, workload
from benchmarks.agreement import Disagreement
from benchmarks.settings import Settings
from benchmarks.soft_mix import LOOP, OURS, RATIO, check, sizes_of
from benchmarks.workload import Sizes

CPU = torch.device("cpu")
DIFFERS = "(loss .*, |the gradient of .* from )"
SETTINGS = Settings(sizes=Sizes().quick(), quick=True, silent=True)


@pytest.fixture(scope="module")
def scene():
    sizes = sizes_of(SETTINGS)
    model = workload.make_model(workload.make_base(sizes, CPU, seed=0), scale="rms")
    model.measure_scale()
    return model, workload.make_batch(sizes, CPU, seed=0)


def test_what_is_mixed_and_labelled():
    """64 prompt, 512 reasoning, 64 answer positions; reasoning positions keep their words, and all but the prompt is labelled."""
    sizes = sizes_of(Settings())
    assert (sizes.batch, sizes.first_thought, sizes.scored) == (1, 64, 576)
    batch = workload.make_batch(sizes, CPU, seed=0)
    assert (batch.start, batch.stop, batch.input_ids.shape) == (64, 576, (1, 640))
    assert torch.equal(batch.labels[:, 64:], batch.input_ids[:, 64:])
    assert not (batch.labels[:, :64] != -100).any()
    assert not (batch.input_ids == workload.placeholder(sizes)).any()


def test_the_sides_agree(scene):
    found = check(*scene)
    assert found[OURS].startswith("same: loss") and found[OURS].endswith("; at m = 0 the plain step")
    assert found[LOOP] == "the reference"


@pytest.mark.parametrize(
    "changes",
    [
        {"mix_ratio": 0.51},
        {"feedback": "jacobi", "jacobi_iterations": 2, "gradient_iterations": 0},
        {"feedback": "jacobi", "jacobi_iterations": 1},  # the same states, with gradient through them
    ],
    ids=["another ratio", "two updates", "gradient through the update"],
)
def test_a_side_that_mixes_something_else_fails(scene, monkeypatch, changes):
    def wrong(model, batch, ratio):
        given = {"feedback": "single_pass", "mix_ratio": ratio}
        return soft_mix.our_loss(model, batch, **given | (changes if ratio is RATIO else {}))

    monkeypatch.setattr(soft_mix, "mixed_loss", wrong)
    with pytest.raises(Disagreement, match=f"^{OURS}: {DIFFERS}{LOOP}"):
        check(*scene)


def test_a_zero_that_is_not_plain_text_fails(scene, monkeypatch):
    honest = soft_mix.mixed_loss

    def wrong(model, batch, ratio):
        return honest(model, batch, ratio if ratio is RATIO else ratio + 0.01)

    monkeypatch.setattr(soft_mix, "mixed_loss", wrong)
    with pytest.raises(Disagreement, match=f"^{OURS}, at m = 0: {DIFFERS}plain fine-tuning"):
        check(*scene)


@pytest.mark.parametrize(
    "wrong",
    [lambda states: 1.01 * states, lambda states: states.roll(1, 1), lambda states: states.roll(1, 2)],
    ids=["another size", "the state before", "other channels"],
)
def test_a_loop_that_mixes_something_else_fails(scene, monkeypatch, wrong):
    honest = soft_mix.matched
    monkeypatch.setattr(soft_mix, "matched", lambda model, states: wrong(honest(model, states)))
    with pytest.raises(Disagreement, match=f"^{OURS}: {DIFFERS}{LOOP}"):
        check(*scene)


def test_the_plain_step_is_checked(scene, monkeypatch):
    model, batch = scene
    monkeypatch.setattr(rivals, "text_loss", partial(rivals.two_pass_loss, ratio=RATIO))
    with pytest.raises(Disagreement, match=f"^{soft_mix.FLOOR}: {DIFFERS}plain fine-tuning"):
        check(model, batch)
