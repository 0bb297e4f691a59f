"""The equality checks of the benchmark of samples: sides agree, and each way of cheating is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import samples, workload
from benchmarks.agreement import Disagreement
from benchmarks.workload import Sizes
from latentthought.model.think import ThoughtRun

CPU = torch.device("cpu")
SIZES = replace(Sizes().quick(), long_new_tokens=4)


@pytest.fixture(scope="module")
def scene():
    base = workload.make_base(SIZES, CPU, seed=0, strength=workload.LIVELY).eval()
    return workload.make_model(base), workload.make_prompt(SIZES, CPU, seed=0)


def test_all_sides_agree(scene):
    found = samples.check(*scene, SIZES)
    positions = SIZES.long_prompt + SIZES.thoughts - 1 + SIZES.samples * SIZES.long_new_tokens
    assert found.pop(samples.FLOOR) == f"same: {positions} positions of all rows"
    assert found == dict.fromkeys(found, "same: 16 of 16 tokens")
    assert len(found) == 5


@pytest.mark.parametrize("side", [samples.OURS, samples.OURS_TEXT])
def test_a_prompt_that_every_sample_reads_is_caught(scene, side, monkeypatch):
    honest = samples.our_output

    def copies(model, prompts, thoughts, new_tokens, num_return_sequences=1, **how):
        if (thoughts == 0) == (side == samples.OURS_TEXT):
            prompts, num_return_sequences = prompts.repeat(num_return_sequences, 1), 1
        return honest(model, prompts, thoughts, new_tokens, num_return_sequences=num_return_sequences, **how)

    monkeypatch.setattr(samples, "our_output", copies)
    with pytest.raises(Disagreement, match=f"{side} runs .* positions of all rows, the floor"):
        samples.check(*scene, SIZES)


def test_other_thoughts_are_caught(scene, monkeypatch):
    honest = samples.our_output

    def one_fewer(model, prompts, thoughts, *rest, **how):
        return honest(model, prompts, max(thoughts - 1, 0), *rest, **how)

    monkeypatch.setattr(samples, "our_output", one_fewer)
    with pytest.raises(Disagreement, match="positions of all rows"):
        samples.check(*scene, SIZES)


def test_rows_that_go_on_from_another_prompt_are_caught(scene, monkeypatch):
    """All samples write the same here, so a wrong row is one whose cache is another's."""
    model, prompt = scene
    honest = samples.tokens_from_cache

    def of_another(model, prompt, *rest, **how):
        return honest(model, prompt.roll(1, 1), *rest, **how)

    monkeypatch.setattr(samples, "tokens_from_cache", of_another)
    with pytest.raises(Disagreement, match=f"{samples.FLOOR}: row 0, new token 0"):
        samples.check(model, prompt, SIZES)


def test_varied_thoughts_of_the_wrong_rows_are_caught(scene, monkeypatch):
    from latentthought.model import controls

    honest = controls.run_thoughts

    def turned(model, prompt, budget, perturb, top_k=0, in_step=False, copies=1):
        run = honest(model, prompt, budget, perturb, top_k, in_step, copies)
        if copies == 1:
            return run
        return ThoughtRun(run.states.roll(1, 0), run.inputs, run.counts, run.cache, run.decoded)

    monkeypatch.setattr(controls, "run_thoughts", turned)
    with pytest.raises(Disagreement, match=f"{samples.VARIED}: thoughts differ"):
        samples.check_varied(*scene, SIZES, 4)


def test_samples_that_think_alike_are_caught(scene, monkeypatch):
    monkeypatch.setattr(samples, "ThoughtSampling", lambda **settings: None)
    with pytest.raises(Disagreement, match="samples think alike"):
        samples.check_varied(*scene, SIZES, 4)
