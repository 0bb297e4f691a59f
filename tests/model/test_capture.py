"""States of chosen layers, and the terms that are scored inside the forward."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.errors import ConfigError
from tests.families import PAIRWISE, VOCABULARY, tiny_base

THOUGHTS = slice(5, 8)
KINDS = ("sequential", "jacobi", "single_pass")


def model_of(case, **thought):
    return LatentThoughtForCausalLM.from_base(tiny_base(*case), ThoughtConfig(**thought))


def batch(rows=3, total=12):
    """ids, attention mask (row 1 left-padded by 2, row 2 right-padded by 2), thoughts in columns 5-7 (row 1 has two)."""
    ids = torch.randint(3, VOCABULARY, (rows, total), generator=torch.Generator().manual_seed(5))
    mask = torch.ones(rows, total, dtype=torch.long)
    mask[1, :2], mask[2, -2:] = 0, 0
    thoughts = torch.zeros(rows, total, dtype=torch.bool)
    thoughts[:, THOUGHTS] = True
    thoughts[1, 5] = False
    return ids, mask, thoughts


def layers_of(model):
    return tuple(range(-1, model.config.get_text_config().num_hidden_layers + 1))


class Embedded(torch.nn.Module):
    """Records what goes into the base, so that the reference can run the same inputs in one uncached pass."""

    def __init__(self, base):
        super().__init__()
        self.seen, self.whole = [], None
        base.base_model.register_forward_pre_hook(self.keep, with_kwargs=True)

    def keep(self, _module, _arguments, keywords):
        self.seen.append(keywords["inputs_embeds"])

    def joined(self, kind, start, total):
        # sequential: every pass in a row; jacobi and single_pass: the prefix (with text behind it) and the last pass
        parts = self.seen if kind == "sequential" else [self.seen[0][:, :start], self.seen[-1]]
        whole = torch.cat([part[:, :total] for part in parts], dim=1)
        assert whole.shape[1] == total
        return whole


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_captured_states_are_those_of_one_uncached_pass(case, kind):
    model = model_of(case)
    ids, mask, thoughts = batch()
    layers = layers_of(model)
    embedded = Embedded(model.base)
    with torch.no_grad():
        output = model(
            ids,
            mask,
            thought_mask=thoughts,
            mix_ratio=0.7,
            feedback=kind,
            capture=layers,
            return_states=True,
            text_states=True,
        )
        if kind == "sequential":  # the pass for text_states is no part of the row
            del embedded.seen[1]
        inputs = embedded.joined(kind, THOUGHTS.start, ids.shape[1])
        reference = model.base(
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp_min(0),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
    kept = mask.bool()
    assert sorted(output.captured) == list(layers)
    for layer in layers[1:-1]:
        torch.testing.assert_close(output.captured[layer][kept], reference[layer][kept], atol=1e-5, rtol=1e-5)
    assert torch.equal(output.captured[-1], output.hidden)
    torch.testing.assert_close(output.captured[-1][kept], reference[-1][kept], atol=1e-5, rtol=1e-5)
    norm = final_norm(model.base)
    torch.testing.assert_close(norm(output.captured[layers[-1]]), output.captured[-1])
    assert not torch.allclose(output.captured[layers[-1]], output.captured[-1])


def final_norm(base):
    decoder = base.base_model
    return decoder.ln_f if hasattr(decoder, "ln_f") else decoder.norm


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_plain_text_and_single_pass_with_given_states(case):
    model = model_of(case)
    ids, mask, thoughts = batch()
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    text = model(ids, mask, position_ids=positions, capture=(0, 1))
    reference = model.base(ids, attention_mask=mask, position_ids=positions, output_hidden_states=True)
    for layer in (0, 1):
        assert torch.equal(text.captured[layer], reference.hidden_states[layer])
    states = torch.randn(*ids.shape, 32, generator=torch.Generator().manual_seed(1))
    given = model(
        ids, mask, thought_mask=thoughts, feedback="single_pass", thought_states=states, capture=(1,)
    )
    scaled = model.scale(states)[:, THOUGHTS.start - 1 : THOUGHTS.stop - 1]
    inputs = model.get_input_embeddings()(ids).clone()
    inputs[:, THOUGHTS] = torch.where(thoughts[:, THOUGHTS, None], scaled, inputs[:, THOUGHTS])
    expected = model.base(
        inputs_embeds=inputs, attention_mask=mask, position_ids=positions, output_hidden_states=True
    )
    torch.testing.assert_close(
        given.captured[1][mask.bool()], expected.hidden_states[1][mask.bool()], atol=1e-5, rtol=1e-5
    )


def loss_and_gradients(model, **arguments):
    """A loss over every captured layer; the values, and all gradients as one vector."""
    output = model(**arguments, capture=layers_of(model))
    weights = torch.randn(output.captured[-1].shape, generator=torch.Generator().manual_seed(9))
    loss = sum((place + 1) * (state * weights).sum() for place, state in enumerate(output.captured.values()))
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return {layer: state.detach() for layer, state in output.captured.items()}, gradient


@pytest.mark.parametrize("kind", [*KINDS, "text"])
@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_recomputing_passes_changes_neither_states_nor_gradients(case, kind):
    # text: a pass without cache, which the base recomputes layer by layer; the others as whole passes
    model = model_of(case).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ids, mask, thoughts = batch()
    arguments = {"input_ids": ids, "attention_mask": mask, "return_logits": False}
    if kind != "text":
        arguments |= {"thought_mask": thoughts, "feedback": kind, "mix_ratio": 0.7}
    states, gradient = loss_and_gradients(model, **arguments)
    model.gradient_checkpointing_enable()
    again, recomputed = loss_and_gradients(model, **arguments)
    for layer, state in states.items():
        assert torch.equal(again[layer], state)
    torch.testing.assert_close(recomputed, gradient, atol=1e-5, rtol=1e-5)
    assert gradient.abs().sum() > 0


def test_the_hooks_are_gone_when_the_pass_is_over():
    model = model_of(PAIRWISE[0]).train()
    model.gradient_checkpointing_enable()
    untouched = [len(block._forward_hooks) for block in tiny_base("llama").model.layers]
    ids, mask, thoughts = batch()
    for arguments in ({}, {"thought_mask": thoughts}):
        output = model(ids, mask, **arguments, capture=(0, 1, 2))
        kept = dict(output.captured)
        sum(state.sum() for state in kept.values()).backward()
        assert all(output.captured[layer] is state for layer, state in kept.items())
        assert [len(block._forward_hooks) for block in model.base.model.layers] == untouched
        assert not model.base.model.layers[0]._forward_pre_hooks


@pytest.mark.parametrize("layer", [0, 1])
def test_only_what_is_asked_for_is_captured_and_the_fed_layer(layer):
    model = model_of(PAIRWISE[0], layer=layer)
    ids, mask, thoughts = batch()
    output = model(ids, mask, thought_mask=thoughts, capture=(2,), return_states=True)
    assert sorted(output.captured) == [-1, layer, 2]
    assert torch.equal(output.captured[layer], output.hidden)
    assert model(ids, mask, thought_mask=thoughts).captured is None


@pytest.mark.parametrize("layer", [3, -2])
def test_a_layer_out_of_range_names_the_models_range(layer):
    with pytest.raises(ConfigError, match=rf"layer {layer} is out of range: the model has blocks 1 to 2"):
        model_of(PAIRWISE[0])(batch()[0], capture=(layer,))


def test_capture_does_not_go_with_a_cache():
    with pytest.raises(ConfigError, match="capture, score and reading"):
        model_of(PAIRWISE[0])(batch()[0], capture=(1,), use_cache=True)


def test_scoring_sees_everything_inside_the_forward():
    model = model_of(PAIRWISE[0])
    ids, mask, thoughts = batch()
    labels = ids.masked_fill(thoughts | (mask == 0), -100)
    seen = {}

    def score(scored, output):
        assert scored is model
        seen.update(loss=output.loss, states=dict(output.captured), reading=output.reading)
        return {"value": output.captured[1].sum() + output.reading.loss}

    output = model(
        ids,
        mask,
        labels,
        thought_mask=thoughts,
        capture=(1,),
        score=score,
        reading={"input_ids": ids[:, :7], "labels": ids[:, :7]},
    )
    assert sorted(seen["states"]) == sorted(seen["reading"].captured) == [-1, 1]
    assert seen["loss"] is output.loss
    assert seen["reading"].logits is None
    expected = cross_entropy(model.base(ids[:, :7]).logits[:, :-1].flatten(0, 1), ids[:, 1:7].flatten())
    torch.testing.assert_close(seen["reading"].loss, expected)
    torch.testing.assert_close(
        seen["reading"].captured[1], model.base(ids[:, :7], output_hidden_states=True).hidden_states[1]
    )
    torch.testing.assert_close(output.value["value"], seen["states"][1].sum() + expected)
    # mixed precision would copy them to float32 on the way out
    assert output.captured is None
    assert output.reading is None
    output.value["value"].backward()
    assert model.base.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0


def test_a_score_needs_no_capture():
    model = model_of(PAIRWISE[0])
    assert model(batch()[0], score=lambda _, output: sorted(output.captured)).value == [-1]
    reading = model(batch()[0], capture=(2,), reading={"input_ids": batch()[0][:, :4]}).reading
    assert reading.captured[2].shape == (3, 4, 32)


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_enough_jacobi_iterations_capture_what_sequential_does(case):
    model = model_of(case)
    ids, mask, thoughts = batch()
    arguments = {
        "attention_mask": mask,
        "thought_mask": thoughts,
        "mix_ratio": 0.7,
        "capture": layers_of(model),
    }
    exact = model(ids, **arguments).captured
    other = model(ids, **arguments, feedback="jacobi").captured
    for layer, state in exact.items():
        torch.testing.assert_close(other[layer][mask.bool()], state[mask.bool()], atol=1e-4, rtol=1e-4)
