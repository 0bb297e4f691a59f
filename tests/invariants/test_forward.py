"""The invariants of the forward pass, for every family: each compares against an independent, naive computation."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from tests.families import PAIRWISE, VOCABULARY, WHOLE, tiny_base

MATRIX = [*PAIRWISE, *(pytest.param(case, marks=pytest.mark.full) for case in WHOLE if case not in PAIRWISE)]
THOUGHTS = slice(6, 9)


def model_of(case, **thought) -> LatentThoughtForCausalLM:
    return LatentThoughtForCausalLM.from_base(tiny_base(*case), ThoughtConfig(**thought))


def batch(rows: int = 3, total: int = 12):
    """ids, attention mask (row 1 left-padded by 3, row 2 right-padded by 2), thoughts in columns 6-8 (row 1 has two), labels."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, VOCABULARY, (rows, total), generator=generator)
    mask = torch.ones(rows, total, dtype=torch.long)
    mask[1, :3] = 0
    mask[2, -2:] = 0
    thoughts = torch.zeros(rows, total, dtype=torch.bool)
    thoughts[:, THOUGHTS] = True
    thoughts[1, 6] = False
    labels = ids.clone()
    labels[:, :9] = -100
    labels[2, -2:] = -100
    return ids, mask, thoughts, labels


def naive_states(model, ids, mask, thoughts, ratio) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """One row, no cache, no padding: the whole sequence again for every thought. Hidden (1, T, D) and the fed-in states."""
    kept = mask.bool()
    ids, thoughts = ids[kept][None], thoughts[kept]
    inputs, fed = model.base.get_input_embeddings()(ids), []
    for column in thoughts.nonzero().flatten().tolist():
        state = model.base.base_model(inputs_embeds=inputs[:, :column]).last_hidden_state[:, -1]
        scaled = state * model.scale.target / state.square().mean(-1, keepdim=True).sqrt()
        mixed = (1 - ratio) * inputs[:, column] + ratio * scaled
        inputs = torch.cat([inputs[:, :column], mixed[:, None], inputs[:, column + 1 :]], dim=1)
        fed.append(state[0])
    return model.base.base_model(inputs_embeds=inputs).last_hidden_state, fed


def gradients(model) -> torch.Tensor:
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return flat


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_sequential_equals_the_naive_loop_row_by_row(case):
    # cached = uncached, batch = single row, padded = unpadded, at once: the reference has no cache, batch or padding
    model = model_of(case)
    ids, mask, thoughts, _labels = batch()
    output = model(ids, mask, thought_mask=thoughts, mix_ratio=0.7, return_states=True, return_logits=True)
    for row in range(len(ids)):
        hidden, fed = naive_states(model, ids[row], mask[row], thoughts[row], 0.7)
        kept = mask[row].bool()
        torch.testing.assert_close(output.hidden[row][kept], hidden[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            output.logits[row][kept], model.base.get_output_embeddings()(hidden)[0], atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(output.thoughts[row, : len(fed)], torch.stack(fed), atol=1e-5, rtol=1e-5)
        assert not output.thoughts[row, len(fed) :].any()
    assert output.thought_counts.tolist() == [3, 2, 3]


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_ratio_zero_is_the_bare_model_bit_for_bit(case):
    base = tiny_base(*case)
    ids, mask, thoughts, _ = batch()
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    bare = base(ids, attention_mask=mask, position_ids=positions).logits
    bare_unpadded = base(ids).logits
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig())
    assert torch.equal(
        model(ids, mask, thought_mask=thoughts, mix_ratio=0.0, position_ids=positions).logits, bare
    )
    assert torch.equal(model(ids, thought_mask=thoughts, mix_ratio=0.0).logits, bare_unpadded)
    by_tensor = model(ids, mask, thought_mask=thoughts, mix_ratio=torch.zeros(ids.shape)).logits
    torch.testing.assert_close(by_tensor[mask.bool()], bare[mask.bool()], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_loss_is_the_mean_cross_entropy_of_the_labels(case):
    model = model_of(case)
    ids, mask, thoughts, labels = batch()
    output = model(ids, mask, labels=labels, thought_mask=thoughts, return_logits=True)
    expected = cross_entropy(output.logits[:, :-1].reshape(-1, VOCABULARY), labels[:, 1:].reshape(-1))
    torch.testing.assert_close(output.loss, expected)
    assert model(ids, mask, labels=labels, thought_mask=thoughts).logits is None


@pytest.mark.parametrize("iterations", [3, 5])
@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_jacobi_with_enough_iterations_is_sequential(case, iterations):
    model = model_of(case)
    ids, mask, thoughts, labels = batch()
    arguments = {"attention_mask": mask, "labels": labels, "thought_mask": thoughts, "return_logits": True}
    exact = model(ids, **arguments)
    exact.loss.backward()
    exact_gradient = gradients(model)
    other = model(ids, **arguments, feedback="jacobi", jacobi_iterations=iterations)
    other.loss.backward()
    torch.testing.assert_close(other.logits[mask.bool()], exact.logits[mask.bool()], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other.thoughts, exact.thoughts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients(model), exact_gradient, atol=1e-5, rtol=1e-4)


def test_jacobi_with_too_few_iterations_is_not():
    model = model_of(PAIRWISE[0])
    ids, mask, thoughts, _ = batch()
    exact = model(ids, mask, thought_mask=thoughts).logits
    short = model(ids, mask, thought_mask=thoughts, feedback="jacobi", jacobi_iterations=1).logits
    assert (exact - short).abs().max() > 0.1


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_recomputing_passes_changes_neither_loss_nor_gradient(case):
    model = model_of(case).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ids, mask, thoughts, labels = batch()
    jacobi = {"feedback": "jacobi", "jacobi_iterations": 3}
    for arguments in (
        {"thought_mask": thoughts},
        {"thought_mask": thoughts, "feedback": "single_pass"},
        {"thought_mask": thoughts, **jacobi},
        {"thought_mask": thoughts, **jacobi, "gradient_iterations": 1},
        {},
    ):
        model.gradient_checkpointing_disable()
        plain = model(ids, mask, labels=labels, **arguments)
        plain.loss.backward()
        expected = gradients(model)
        model.gradient_checkpointing_enable()
        again = model(ids, mask, labels=labels, **arguments)
        again.loss.backward()
        torch.testing.assert_close(again.loss, plain.loss, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(gradients(model), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_no_gradient_from_the_future_and_some_to_the_prompt(case):
    model = model_of(case)
    ids, _, thoughts, _ = batch()
    embeddings = model.backbone.embed(ids).detach().requires_grad_()
    output = model(inputs_embeds=embeddings, thought_mask=thoughts)
    output.logits[0, 7].sum().backward()
    reached = embeddings.grad[0].abs().amax(-1)
    assert not reached[8:].any(), "a later position changed an earlier logit"
    assert not embeddings.grad[1:].any(), "another row changed this one"
    assert reached[:6].all(), "the prompt is not reached through the thoughts"
    assert not reached[6:8].any(), "the placeholder under a pure thought was read"


def test_the_prompt_is_reached_through_the_feedback_alone():
    # with the fed-back states cut off, the only way left is attention; the difference is the path through the thoughts
    model = model_of(PAIRWISE[0])
    ids, mask, thoughts, labels = batch()

    def prompt_gradient(**options):
        embeddings = model.backbone.embed(ids).detach().requires_grad_()
        model(
            inputs_embeds=embeddings, attention_mask=mask, labels=labels, thought_mask=thoughts, **options
        ).loss.backward()
        return embeddings.grad[:, :6]

    whole, cut, all_three = (
        prompt_gradient(),
        prompt_gradient(backprop_thoughts=0),
        prompt_gradient(backprop_thoughts=3),
    )
    torch.testing.assert_close(all_three, whole)
    assert (whole - cut).abs().max() > 1e-4
    assert (prompt_gradient(backprop_thoughts=1) - cut).abs().max() > 1e-5


@pytest.mark.parametrize("blend", ["linear", "variance_preserving", "bernoulli"])
def test_single_pass_feeds_the_states_of_the_text_pass(blend):
    model = model_of(PAIRWISE[1], blend=blend)
    ids, mask, thoughts, _labels = batch()
    torch.manual_seed(3)
    output = model(ids, mask, thought_mask=thoughts, mix_ratio=0.4, feedback="single_pass", text_states=True)
    text = model(ids, mask, return_states=True).hidden
    torch.testing.assert_close(output.text_states[mask.bool()], text[mask.bool()], atol=1e-5, rtol=1e-5)
    torch.manual_seed(3)
    given = model(
        ids, mask, thought_mask=thoughts, mix_ratio=0.4, feedback="single_pass", thought_states=text
    )
    torch.testing.assert_close(output.logits[mask.bool()], given.logits[mask.bool()], atol=1e-5, rtol=1e-5)


def test_single_pass_given_the_exact_states_is_sequential():
    model = model_of(PAIRWISE[2])
    ids, mask, thoughts, _ = batch()
    exact = model(ids, mask, thought_mask=thoughts, mix_ratio=0.6, return_states=True)
    again = model(
        ids, mask, thought_mask=thoughts, mix_ratio=0.6, feedback="single_pass", thought_states=exact.hidden
    )
    torch.testing.assert_close(again.logits[mask.bool()], exact.logits[mask.bool()], atol=1e-5, rtol=1e-5)


def test_given_thought_columns_change_nothing_but_the_slots():
    model = model_of(PAIRWISE[0])
    ids, mask, thoughts, labels = batch()
    found = model(ids, mask, labels=labels, thought_mask=thoughts)
    given = model(ids, mask, labels=labels, thought_mask=thoughts, thought_columns=(5, 9))
    torch.testing.assert_close(given.loss, found.loss, atol=1e-6, rtol=1e-6)
    assert given.thoughts.shape[1] == 4
    torch.testing.assert_close(given.thoughts[:, :3], found.thoughts, atol=1e-5, rtol=1e-5)
    assert given.thought_counts.tolist() == found.thought_counts.tolist()


def test_thoughts_need_not_be_neighbours():
    model = model_of(PAIRWISE[0])
    ids, mask, _, _ = batch()
    thoughts = torch.zeros_like(ids, dtype=torch.bool)
    thoughts[0, [4, 7, 8]] = True
    thoughts[1, [5, 10]] = True
    output = model(ids, mask, thought_mask=thoughts, return_states=True)
    jacobi = model(ids, mask, thought_mask=thoughts, feedback="jacobi")
    for row in range(2):
        hidden, fed = naive_states(model, ids[row], mask[row], thoughts[row], 1.0)
        torch.testing.assert_close(output.hidden[row][mask[row].bool()], hidden[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(output.thoughts[row, : len(fed)], torch.stack(fed), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(jacobi.logits[mask.bool()], output.logits[mask.bool()], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_another_layer_is_fed_back(layer):
    model = model_of(PAIRWISE[0], layer=layer, scale="none")
    ids, _, thoughts, _ = batch()
    output = model(ids, thought_mask=thoughts, return_states=True)
    first = model.base(ids[:, :6], output_hidden_states=True).hidden_states[layer][:, -1]
    row_with_first_thought = [0, 2]
    torch.testing.assert_close(
        output.thoughts[row_with_first_thought, 0], first[row_with_first_thought], atol=1e-5, rtol=1e-5
    )
