"""Pure thoughts: `generate` against a naive loop and against `forward`, in every family."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from latentthought import LatentThoughtForCausalLM
from latentthought.model.policy import ThoughtPolicy, ThoughtSampling
from tests.families import tiny_base
from tests.generation.naive import (
    END,
    MATRIX,
    PLACEHOLDER,
    START,
    TOLERANCE,
    naive_decode,
    naive_think,
    prompts,
    rows_of,
    thinker,
)

NEW = 7
ASK = {"max_new_tokens": NEW, "return_dict_in_generate": True}


@pytest.mark.parametrize("case", MATRIX, ids=str)
@pytest.mark.parametrize("counts", [[3, 3, 3], [3, 0, 1]], ids=["even", "ragged"])
def test_a_padded_cached_batch_is_each_row_alone_without_cache(case, counts):
    model = thinker(case)
    ids, mask = prompts()
    output = model.generate(ids, mask, thoughts=counts, output_logits=True, **ASK)
    assert output.thought_counts.tolist() == counts
    assert output.sequences[:, : ids.shape[1]].equal(ids)
    for row, (prompt, count) in enumerate(zip(rows_of(ids, mask), counts, strict=True)):
        embeds, fed = naive_think(model, prompt, count)
        tokens, scores = naive_decode(model, embeds, NEW)
        assert output.sequences[row, ids.shape[1] :].tolist() == tokens
        torch.testing.assert_close(torch.stack([step[row] for step in output.logits]), scores, **TOLERANCE)
        expected = torch.zeros_like(output.thoughts[row])
        if fed:
            expected[:count] = torch.stack(fed)
        torch.testing.assert_close(output.thoughts[row], expected, **TOLERANCE)


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_thoughts_of_generate_are_thoughts_of_forward(case):
    model = thinker(case)
    ids, mask = prompts()
    output = model.generate(ids, mask, thoughts=3, output_logits=True, **ASK)
    extra = torch.tensor([START, PLACEHOLDER, PLACEHOLDER, PLACEHOLDER, END]).expand(3, -1)
    whole = torch.cat([ids, extra, output.sequences[:, ids.shape[1] :]], dim=1)
    whole_mask = torch.cat([mask, torch.ones_like(whole[:, ids.shape[1] :])], dim=1)
    thought_mask = torch.zeros_like(whole, dtype=torch.bool)
    thought_mask[:, ids.shape[1] + 1 : ids.shape[1] + 4] = True
    with torch.no_grad():
        forward = model(whole, whole_mask, thought_mask=thought_mask, mix_ratio=1.0)
    torch.testing.assert_close(output.thoughts, forward.thoughts, **TOLERANCE)
    torch.testing.assert_close(
        torch.stack(output.logits, dim=1), forward.logits[:, -NEW - 1 : -1], **TOLERANCE
    )


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_beams_are_each_row_alone_without_cache(case):
    model = thinker(case, eos=2)
    ids, mask = prompts()
    ask = {"num_beams": 3, "num_return_sequences": 2, "output_scores": True, **ASK}
    output = model.generate(ids, mask, thoughts=[2, 0, 3], **ask)
    assert output.thoughts.shape[0] == output.sequences.shape[0] == 6
    for row, (prompt, count) in enumerate(zip(rows_of(ids, mask), (2, 0, 3), strict=True)):
        embeds, _ = naive_think(model, prompt, count)
        alone = model.base.generate(inputs_embeds=embeds, **ask)
        ours, length = output.sequences[2 * row : 2 * row + 2, ids.shape[1] :], alone.sequences.shape[1]
        assert ours[:, :length].equal(alone.sequences)
        assert (ours[:, length:] == 0).all()
        torch.testing.assert_close(
            output.sequences_scores[2 * row : 2 * row + 2], alone.sequences_scores, **TOLERANCE
        )


@pytest.mark.parametrize(
    "extra",
    [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}, {"max_length": 12}],
    ids=str,
)
def test_no_thoughts_is_the_bare_model_bit_for_bit(extra):
    model = thinker(eos=2)
    ids, mask = prompts()
    ask = {
        "return_dict_in_generate": True,
        "output_logits": True,
        "max_new_tokens": None if extra.get("max_length") else NEW,
        **extra,
    }
    torch.manual_seed(0)
    ours = model.generate(ids, mask, thoughts=0, mix_ratio=0.0, **ask)
    torch.manual_seed(0)
    bare = model.base.generate(ids, attention_mask=mask, **ask)
    assert ours.sequences.equal(bare.sequences)
    if extra.keys() & {"num_beams", "num_return_sequences"}:  # which share the reading of their prompt
        torch.testing.assert_close(torch.stack(ours.logits), torch.stack(bare.logits), **TOLERANCE)
    else:
        assert all(a.equal(b) for a, b in zip(ours.logits, bare.logits, strict=True))
    assert ours.thoughts.shape[1] == 0
    assert ours.thought_counts.sum() == 0
    assert model.generate(ids, mask, thoughts=[0, 0, 0], max_new_tokens=3).equal(
        model.base.generate(ids, attention_mask=mask, max_new_tokens=3)
    )


@pytest.mark.parametrize("layer", [1, 2])
def test_another_layer_is_fed_back(layer):
    model = thinker(layer=layer)
    ids, mask = prompts()
    output = model.generate(ids, mask, thoughts=2, **ASK)
    for row, prompt in enumerate(rows_of(ids, mask)):
        embeds, fed = naive_think(model, prompt, 2)
        torch.testing.assert_close(output.thoughts[row], torch.stack(fed), **TOLERANCE)
        assert output.sequences[row, ids.shape[1] :].tolist() == naive_decode(model, embeds, NEW)[0]


def test_sampling_draws_from_the_same_distribution_as_the_base_model():
    model = thinker()
    ids, mask = prompts(rows=1)
    embeds, _ = naive_think(model, ids, 2)
    torch.manual_seed(1)
    ours = model.generate(
        ids,
        mask,
        thoughts=2,
        do_sample=True,
        temperature=1.3,
        top_k=20,
        num_return_sequences=4,
        max_new_tokens=NEW,
    )
    torch.manual_seed(1)
    bare = model.base.generate(
        inputs_embeds=embeds,
        do_sample=True,
        temperature=1.3,
        top_k=20,
        num_return_sequences=4,
        max_new_tokens=NEW,
    )
    assert ours[:, ids.shape[1] :].equal(bare)


def test_models_without_delimiters_or_with_one():
    ids, mask = prompts()
    for tokens in (
        {"start_token_id": None, "end_token_id": None},
        {"end_token_id": None},
        {"start_token_id": None},
    ):
        model = thinker(**tokens)
        batch = model.generate(ids, mask, thoughts=[2, 0, 4], max_new_tokens=NEW)
        for row, (prompt, count) in enumerate(zip(rows_of(ids, mask), (2, 0, 4), strict=True)):
            assert batch[row, ids.shape[1] :].equal(
                model.generate(prompt, thoughts=count, max_new_tokens=NEW)[0, prompt.shape[1] :]
            )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_wrapped_without_a_tokenizer_thinks_right_after_the_prompt(family):
    model = LatentThoughtForCausalLM.from_base(tiny_base(family))
    model.generation_config.eos_token_id = None
    ids, _ = prompts()
    for thoughts in (3, torch.tensor([3, 3, 3]), [3, 3, 3], ThoughtPolicy(maximum=3)):
        output = model.generate(ids, torch.ones_like(ids), thoughts=thoughts, output_logits=True, **ASK)
        new = output.sequences[:, ids.shape[1] :]
        whole = torch.cat([ids, torch.zeros_like(ids[:, :3]), new], dim=1)
        thought_mask = torch.zeros_like(whole, dtype=torch.bool)
        thought_mask[:, ids.shape[1] : ids.shape[1] + 3] = True
        with torch.no_grad():
            forward = model(whole, thought_mask=thought_mask)
        torch.testing.assert_close(output.thoughts, forward.thoughts, **TOLERANCE)
        torch.testing.assert_close(
            torch.stack(output.logits, dim=1), forward.logits[:, -NEW - 1 : -1], **TOLERANCE
        )
    ragged = model.generate(ids, torch.ones_like(ids), thoughts=torch.tensor([2, 0, 1]), **ASK)
    assert ragged.thought_counts.tolist() == [2, 0, 1]


def test_right_padding_is_shifted_and_one_token_prompts_work():
    model = thinker()
    ids, mask = prompts()
    right, right_mask = torch.zeros_like(ids), mask.flip(1)
    for row, prompt in enumerate(rows_of(ids, mask)):
        right[row, : prompt.shape[1]] = prompt
    assert model.generate(right, right_mask, thoughts=2, max_new_tokens=3).equal(
        model.generate(ids, mask, thoughts=2, max_new_tokens=3)
    )
    short = torch.tensor([[9], [10]])
    ragged = model.generate(short, thoughts=[1, 0], max_new_tokens=3)
    assert ragged[1].equal(model.base.generate(short[1:], max_new_tokens=3)[0])


def test_the_mask_is_inferred_from_padding_as_transformers_does():
    model = thinker()
    ids, mask = prompts()
    assert model.generate(ids, thoughts=2, max_new_tokens=3).equal(
        model.generate(ids, mask, thoughts=2, max_new_tokens=3)
    )
    model.generation_config.bos_token_id = 1
    assert model.generate(thoughts=1, max_new_tokens=2).equal(
        model.generate(torch.tensor([[1]]), thoughts=1, max_new_tokens=2)
    )


def test_think_can_be_continued_by_hand():
    model = thinker()
    ids, mask = prompts()
    for counts in (3, [3, 0, 1]):
        thought = model.think(ids, mask, thoughts=counts)
        rest = thought.inputs_embeds[:, thought.cache.get_seq_length() :]
        assert rest.shape[1] == 2
        assert isinstance(thought.cache, DynamicCache)
        continued = model.base(
            inputs_embeds=rest,
            attention_mask=thought.attention_mask,
            position_ids=thought.position_ids[:, -2:],
            past_key_values=thought.cache,
        ).logits[:, -1]
        output = model.generate(ids, mask, thoughts=counts, output_logits=True, **ASK)
        torch.testing.assert_close(continued, output.logits[0], **TOLERANCE)
        assert thought.states.equal(output.thoughts)


def test_the_configured_number_of_thoughts_is_the_default():
    model = thinker(thoughts=2)
    ids, mask = prompts()
    assert model.generate(ids, mask, **ASK).thought_counts.tolist() == [2, 2, 2]
    assert model.think(ids, mask).counts.tolist() == [2, 2, 2]
    assert thinker().think(ids, mask).counts.tolist() == [6, 6, 6], (
        "asked to think, without a number from anywhere"
    )
    assert (
        thinker()
        .generate(ids, mask, max_new_tokens=3)
        .equal(thinker().base.generate(ids, attention_mask=mask, max_new_tokens=3))
    )


@pytest.mark.parametrize("given", ["keyword", "config"])
def test_lengths_and_penalties_count_from_the_prompt(given):
    model = thinker()
    ids, mask = prompts()
    config = type(model.generation_config)(max_length=12, pad_token_id=0)
    ask = {"max_length": 12} if given == "keyword" else {"generation_config": config}
    assert model.generate(ids, mask, thoughts=[3, 0, 1], **ask).shape == (3, 12)
    assert config.max_length == 12
    assert config.max_new_tokens is None
    penalty = {"repetition_penalty": 1.7, "max_new_tokens": NEW}
    batch = model.generate(ids, mask, thoughts=[3, 0, 1], **penalty)
    for row, (prompt, count) in enumerate(zip(rows_of(ids, mask), (3, 0, 1), strict=True)):
        assert batch[row, ids.shape[1] :].equal(
            model.generate(prompt, thoughts=count, **penalty)[0, prompt.shape[1] :]
        )


def test_decoded_thoughts_are_what_the_head_says():
    model = thinker()
    ids, mask = prompts()
    thought = model.think(ids, mask, thoughts=[3, 0, 1], top_k=4)
    expected = model.backbone.head(thought.states[0]).softmax(-1).topk(4)
    torch.testing.assert_close(thought.decoded.probabilities[0], expected.values)
    assert thought.decoded.ids[0].equal(expected.indices)

    class Tokenizer:
        def decode(self, ids):
            return f"<{ids[0]}>"

    expected = expected.values.detach(), expected.indices
    words = thought.decoded.words(Tokenizer(), thought.counts)
    assert [len(row) for row in words] == [3, 0, 1]
    assert words[0][0][0] == (f"<{int(expected[1][0, 0])}>", pytest.approx(float(expected[0][0, 0])))


@pytest.mark.parametrize(
    ("policy", "counts"),
    [
        (ThoughtPolicy(kind="end_probability", threshold=0.02, maximum=5), [5, 1, 5]),
        (ThoughtPolicy(kind="end_probability", threshold=0.011, maximum=5, minimum=0), [5, 1, 0]),
        (ThoughtPolicy(kind="settled", threshold=0.93, maximum=6), [6, 2, 6]),
        (ThoughtPolicy(kind="settled", threshold=0.9, maximum=6, minimum=3), [4, 3, 5]),
        (ThoughtPolicy(kind="settled", threshold=0.4, maximum=6), [1, 1, 1]),
        (ThoughtPolicy(kind="settled", threshold=1.0, maximum=3), [3, 3, 3]),
        (ThoughtPolicy(maximum=2), [2, 2, 2]),
    ],
    ids=str,
)
@pytest.mark.parametrize("in_step", [False, True])
def test_policies_stop_each_row_where_it_would_stop_alone(policy, counts, in_step, monkeypatch):
    monkeypatch.setattr("latentthought.model.arguments.sharded", lambda: in_step)
    model = thinker(("gemma3_text", True, "eager"))
    ids, mask = prompts()
    output = model.generate(ids, mask, thoughts=policy, output_logits=True, **ASK)
    assert output.thought_counts.tolist() == counts
    for row, prompt in enumerate(rows_of(ids, mask)):
        embeds, fed = naive_think(model, prompt, policy.maximum if policy.kind == "fixed" else policy)
        assert len(fed) == counts[row]
        tokens, scores = naive_decode(model, embeds, NEW)
        assert output.sequences[row, ids.shape[1] :].tolist() == tokens
        torch.testing.assert_close(torch.stack([step[row] for step in output.logits]), scores, **TOLERANCE)


@pytest.mark.parametrize(
    "mode",
    [{"thoughts": [3, 0, 1]}, {"mix_ratio": 0.5}, {"hybrid": True, "thoughts": 2}],
    ids=["latent", "mixed", "hybrid"],
)
def test_a_peft_wrapper_generates_alike(mode):
    peft = pytest.importorskip("peft")
    model, (ids, mask) = thinker(), prompts()
    expected = model.generate(ids, mask, max_new_tokens=NEW, **mode)
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    ).eval()
    assert adapted.generate(input_ids=ids, attention_mask=mask, max_new_tokens=NEW, **mode).equal(expected)


def test_auto_stops_by_the_end_token_or_by_settling():
    ids, mask = prompts()
    for model, policy in (
        (thinker(thoughts=2), ThoughtPolicy(kind="end_probability", maximum=4)),
        (thinker(end_token_id=None), ThoughtPolicy(kind="settled", maximum=12)),
    ):
        auto = model.think(ids, mask, thoughts="auto")
        assert auto.states.equal(model.think(ids, mask, thoughts=policy).states)
        assert auto.counts.max() >= 4


def test_thought_sampling_is_seeded_and_gives_diverse_samples():
    model = thinker()
    ids, mask = prompts(rows=2)
    for sampling in (ThoughtSampling(noise=0.5, seed=3), ThoughtSampling(dropout=0.4, seed=3)):
        ask = {"thoughts": 3, "thought_sampling": sampling, "num_return_sequences": 3, **ASK}
        first, second = model.generate(ids, mask, **ask), model.generate(ids, mask, **ask)
        assert first.thoughts.equal(second.thoughts)
        assert first.sequences.shape == (6, ids.shape[1] + NEW)
        assert first.thoughts[0, 0].equal(
            first.thoughts[1, 0]
        )  # nothing has been varied before the first thought
        assert not first.thoughts[0, 1].allclose(first.thoughts[1, 1])
    torch.manual_seed(0)
    free = model.think(ids, mask, thoughts=3, thought_sampling=ThoughtSampling(noise=0.1))
    assert not free.states.allclose(model.think(ids, mask, thoughts=3).states)


def test_noise_has_the_relative_size_that_was_asked_for():
    from latentthought.model.policy import Perturbation
    from latentthought.thoughts.scale import root_mean_square

    scaled = torch.randn(50, 400) * torch.rand(50, 1)
    noise = Perturbation(ThoughtSampling(noise=0.3, seed=0), scaled.device)(scaled) - scaled
    assert (root_mean_square(noise) / root_mean_square(scaled)).mean() == pytest.approx(0.3, rel=0.02)
