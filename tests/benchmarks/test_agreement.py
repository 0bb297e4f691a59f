"""The equality checks of the benchmarks are real: sides agree, and each way of cheating that we could think of is caught."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks import generate, rivals, train_step, workload
from benchmarks.agreement import (
    Disagreement,
    counted,
    require_same_step,
    require_same_tokens,
    require_same_work,
    step_of,
)
from benchmarks.workload import Sizes

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[False, True], ids=["full", "padded"])
def scene(request):
    sizes = replace(Sizes().quick(), padded=request.param)
    base = workload.make_base(sizes, CPU, seed=0)
    return sizes, base, workload.make_model(base), workload.make_batch(sizes, CPU, seed=0)


def sides(scene):
    sizes, base, model, batch = scene
    return {
        "floor": ("floor", partial(rivals.text_loss, base, batch), ""),
        "ours": ("ours", partial(train_step.our_loss, model, batch, feedback="sequential"), ""),
        "cached": ("rival", partial(rivals.cached_loss, base, batch), ""),
        "codi": ("rival", partial(rivals.cached_loss, base, batch, apart=True), ""),
        "labels": ("rival", partial(rivals.cached_loss, base, batch, everywhere=False), ""),
        "naive": ("rival", partial(rivals.naive_loss, base, batch, workload.placeholder(sizes)), ""),
        "text": ("text", partial(rivals.plain_text_loss, base, batch), ""),
        "jacobi": (
            "approximate",
            partial(train_step.our_loss, model, batch, feedback="jacobi", jacobi_iterations=2),
            "",
        ),
    }


def test_all_sides_agree(scene):
    _, base, model, batch = scene
    found = train_step.check(base, model, batch, sides(scene))
    assert found["jacobi"] == "differs by design"
    assert all(line.startswith("same: loss") for name, line in found.items() if name != "jacobi")


def wrong_losses(scene):
    _, base, model, batch = scene
    return {
        "no thoughts": partial(rivals.plain_text_loss, base, batch),
        "two jacobi iterations": partial(
            train_step.our_loss, model, batch, feedback="jacobi", jacobi_iterations=2
        ),
        "single pass": partial(train_step.our_loss, model, batch, feedback="single_pass"),
        "one thought too few": partial(rivals.recomputed_loss, base, replace(batch, stop=batch.stop - 1)),
        "no gradient through thoughts": partial(
            rivals.recomputed_loss, base, batch, lambda state: state.detach()
        ),
        "no gradient through the first thought": partial(
            train_step.our_loss, model, batch, backprop_thoughts=5
        ),
        "codi's loop with projected thoughts": partial(
            rivals.cached_loss, base, batch, lambda state: 1.01 * state, apart=True
        ),
        "codi's loop without the last thought": partial(
            rivals.cached_loss, base, replace(batch, stop=batch.stop - 1), apart=True
        ),
        "thoughts 1 % too large": partial(rivals.recomputed_loss, base, batch, lambda state: 1.01 * state),
        "another label": partial(
            rivals.recomputed_loss, base, replace(batch, labels=batch.labels.roll(1, 0))
        ),
    }


@pytest.mark.parametrize(
    "broken", wrong_losses((None, None, None, workload.make_batch(Sizes().quick(), CPU, 0)))
)
def test_a_side_that_computes_something_else_fails(scene, broken):
    _, base, model, batch = scene
    with pytest.raises(Disagreement, match="candidate"):
        train_step.check(
            base, model, batch, sides(scene) | {"candidate": ("rival", wrong_losses(scene)[broken], "")}
        )


def test_codis_loop_with_its_projection(scene):
    """An MLP between state and thought, as CODI has it, trained along: our model with `scale="mlp"` does the same."""
    _, base, _, batch = scene
    model = workload.make_model(base, scale="mlp")
    model.measure_scale()
    ours = step_of(partial(train_step.our_loss, model, batch), model)
    loop = partial(rivals.cached_loss, base, batch, apart=True)
    require_same_step("codi", step_of(partial(loop, project=model.scale), model), ours)
    assert any(name.startswith("scale.projector") for name in ours.gradients)
    with pytest.raises(Disagreement, match=r"^codi: loss .*, ours "):
        require_same_step("codi", step_of(loop, model), ours, against="ours")


def test_only_the_gradient_differs(scene):
    _, base, model, batch = scene
    exact = step_of(partial(rivals.recomputed_loss, base, batch), model)
    cut = step_of(wrong_losses(scene)["no gradient through thoughts"], model)
    assert cut.loss == exact.loss
    with pytest.raises(Disagreement, match=r"^cut: the gradient of base.* from a whole one "):
        require_same_step("cut", cut, exact, against="a whole one")


def test_a_loss_that_is_no_number_fails(scene):
    _, base, model, batch = scene
    exact = step_of(partial(rivals.recomputed_loss, base, batch), model)
    with pytest.raises(Disagreement, match="loss nan"):
        require_same_step("nan", replace(exact, loss=float("nan")), exact)


def test_a_floor_of_fewer_positions_fails(scene):
    _, base, model, batch = scene
    shorter = replace(
        batch,
        **{
            name: getattr(batch, name)[:, 1:]
            for name in ("input_ids", "attention_mask", "labels", "position_ids")
        },
    )
    with pytest.raises(Disagreement, match=r"^floor: "):
        train_step.check(
            base,
            model,
            batch,
            sides(scene)
            | {"floor": ("floor", partial(rivals.plain_text_loss, base, shorter), "")}
            | {"text": ("text", partial(rivals.plain_text_loss, base, batch), "")},
        )


@pytest.fixture(scope="module")
def decoding():
    sizes = Sizes().quick()
    base = workload.make_base(sizes, CPU, seed=0, strength=workload.LIVELY).eval()
    return sizes, workload.make_model(base), workload.make_prompts(sizes, CPU, seed=0)


def test_generation_agrees(decoding):
    sizes, model, prompts = decoding
    found = generate.check(model, prompts, sizes, None)
    assert found["latentthought generate"] == "same: 16 of 16 tokens"
    assert found["base generate, thoughts as tokens"] == "same: 14 passes, 25 positions a row"


def test_generation_with_other_thoughts_fails(decoding, monkeypatch):
    sizes, model, prompts = decoding
    honest = generate.our_tokens

    def one_too_few(model, prompts, thoughts, new_tokens):
        return honest(model, prompts, thoughts - 1, new_tokens)

    monkeypatch.setattr(generate, "our_tokens", one_too_few)
    with pytest.raises(Disagreement, match="positions a row, the floor"):
        generate.check(model, prompts, sizes, None)
    monkeypatch.setattr(generate, "require_same_work", lambda *arguments: None)
    with pytest.raises(Disagreement, match="passes, the floor"):
        generate.check(model, prompts, sizes, None)

    def of_other_prompts(model, prompts, thoughts, new_tokens):
        return honest(model, prompts.roll(1, 0), thoughts, new_tokens)

    monkeypatch.setattr(generate, "our_tokens", of_other_prompts)
    with pytest.raises(Disagreement, match="row 0, new token 0"):
        generate.check(model, prompts, sizes, None)


def test_steps_are_compared(decoding, monkeypatch):
    sizes, model, prompts = decoding
    found = generate.check_steps(model, prompts[:, :1], sizes.thoughts)
    assert found[generate.DECODE] == "16 passes"
    assert found[generate.THOUGHT].startswith("same: 16 passes, states")
    honest = generate.our_states
    with monkeypatch.context() as patch:
        patch.setattr(generate, "our_states", lambda *given: 1.01 * honest(*given))
        with pytest.raises(Disagreement, match=r"thought step: thought 0 is 1\.0e-02 off that of a loop"):
            generate.check_steps(model, prompts[:, :1], sizes.thoughts)
    with monkeypatch.context() as patch:
        patch.setattr(generate, "our_states", lambda model, first, steps: honest(model, first, steps - 1))
        with pytest.raises(Disagreement, match="thought step runs 15 positions a row, the floor 16"):
            generate.check_steps(model, prompts[:, :1], sizes.thoughts)


def test_near_ties_end_a_row_and_too_many_of_them_fail():
    reference = torch.tensor([[5, 6, 7, 8]])
    gaps = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    assert require_same_tokens("x", torch.tensor([[5, 6, 9, 9]]), reference, gaps) == "same: 2 of 4 tokens"
    with pytest.raises(Disagreement, match="near-ties left only 0"):
        require_same_tokens("x", reference, reference, torch.zeros(1, 4))


def test_work_is_counted(scene):
    sizes, base, _, batch = scene
    with torch.no_grad(), counted(base.base_model) as text:
        rivals.text_loss(base, batch)
    with torch.no_grad(), counted(base.base_model) as cached:
        rivals.cached_loss(base, batch)
    assert (text.passes, text.positions) == (1, sizes.sequence)
    assert (cached.passes, cached.positions) == (sizes.thoughts + 1, sizes.sequence)
    require_same_work("cached", cached, text)
    cached.positions -= 1
    with pytest.raises(Disagreement, match="27 positions a row, the floor 28"):
        require_same_work("cached", cached, text)


def test_the_published_program_needs_its_file(tmp_path, scene):
    with pytest.raises(FileNotFoundError, match=r"no coconut\.py"):
        rivals.PublishedProgram(tmp_path, scene[1], 0)
