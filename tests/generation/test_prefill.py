"""A prompt is read once for all of its samples and beams, and what comes out is what reading every copy gives."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from latentthought.model.policy import ThoughtPolicy, ThoughtSampling
from tests.generation.naive import MATRIX, START, TOLERANCE, prompts, thinker

NEW, K = 6, 3
SAMPLED = {"do_sample": True, "temperature": 1.5, "top_k": 0}
SEARCHES = [{**SAMPLED, "num_return_sequences": K}, {"num_beams": K, "num_return_sequences": 2}]


def answered(model, ids, mask, **arguments):
    """What comes of a prompt, and the (rows, columns) of every pass that it took."""
    passes = []

    def note(module, positional, keywords):
        given = keywords.get("inputs_embeds")
        given = keywords.get("input_ids") if given is None else given
        passes.append(tuple((positional[0] if given is None else given).shape[:2]))

    handle = model.base.base_model.register_forward_pre_hook(note, with_kwargs=True)
    torch.manual_seed(4)
    output = model.generate(
        ids, mask, max_new_tokens=NEW, return_dict_in_generate=True, output_logits=True, **arguments
    )
    handle.remove()
    return output, passes


def copied(model, ids, mask, **arguments):
    """The same with K copies of every prompt."""
    return answered(model, ids.repeat_interleave(K, 0), mask.repeat_interleave(K, 0), **arguments)


def require_same(ours, plain, exact=("sequences",), close=("thoughts",)):
    for name in exact:
        assert ours[name].equal(plain[name]), name
    for name in close:
        torch.testing.assert_close(ours[name], plain[name], **TOLERANCE)
    torch.testing.assert_close(torch.stack(ours.logits), torch.stack(plain.logits), **TOLERANCE)


@contextmanager
def every_copy_read(monkeypatch):
    """`generate` as it would be if nothing were shared."""
    with monkeypatch.context() as patch:
        patch.setattr("latentthought.model.arguments.GenerationArguments.shared_by", 1)
        yield


@pytest.mark.parametrize("search", SEARCHES, ids=["samples", "beams"])
@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_text_is_what_the_base_writes_when_it_reads_every_copy(case, search):
    model, (ids, mask) = thinker(case, eos=2), prompts()
    ours, passes = answered(model, ids, mask, thoughts=0, **search)
    torch.manual_seed(4)
    bare = model.base.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=NEW,
        return_dict_in_generate=True,
        output_logits=True,
        **search,
    )
    require_same(ours, bare, close=())
    assert passes[:2] == [(3, ids.shape[1] - 1), (9, 1)]
    assert ours.thought_counts.tolist() == [0] * len(ours.sequences)
    # the same without a dict, and with the prompts where transformers would also find them
    torch.manual_seed(4)
    again = model.generate(inputs=ids, attention_mask=mask, thoughts=0, max_new_tokens=NEW, **search)
    assert again.equal(ours.sequences)


@pytest.mark.parametrize("counts", [[2, 2, 2], [3, 0, 1]], ids=["even", "ragged"])
@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_varied_thoughts_are_those_of_copies_that_each_read_the_prompt(case, counts):
    model, (ids, mask) = thinker(case), prompts()
    sampling = {"thought_sampling": ThoughtSampling(noise=0.3, dropout=0.1, seed=5), **SAMPLED}
    ours, passes = answered(model, ids, mask, thoughts=counts, num_return_sequences=K, **sampling)
    plain, reads = copied(model, ids, mask, thoughts=[c for c in counts for _ in range(K)], **sampling)
    require_same(ours, plain, exact=("sequences", "thought_counts"))
    assert passes == [(3, ids.shape[1] + 1), *reads[1:]]
    assert not ours.thoughts[0].allclose(ours.thoughts[1])


def test_varied_thoughts_under_a_policy_and_with_draws_of_torch():
    model, (ids, mask) = thinker(), prompts()
    for policy in (
        ThoughtPolicy(kind="settled", threshold=0.9, maximum=6, minimum=1),
        ThoughtPolicy(kind="end_probability", threshold=0.02, maximum=4),
    ):
        asked = {"thoughts": policy, "thought_sampling": ThoughtSampling(noise=0.5), **SAMPLED}
        ours, _ = answered(model, ids, mask, num_return_sequences=K, **asked)
        plain, _ = copied(model, ids, mask, **asked)
        require_same(ours, plain, exact=("sequences", "thought_counts"))
    assert ours.thought_counts.unique().numel() > 1


@pytest.mark.parametrize("search", SEARCHES, ids=["samples", "beams"])
@pytest.mark.parametrize(
    "mode", [{"mix_ratio": 0.5}, {"hybrid": True, "thoughts": 2}], ids=["mixed", "hybrid"]
)
@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_thoughts_inside_the_text(case, mode, search, monkeypatch):
    model, (ids, mask) = thinker(case, eos=2), prompts()
    ids[1, -3] = START  # one prompt leaves a segment open, before the column that is read last
    asked = {**mode, **search, "sequence_bias": {(START,): 3.0}}
    ours, passes = answered(model, ids, mask, **asked)
    with every_copy_read(monkeypatch):
        plain, reads = answered(model, ids, mask, **asked)
    require_same(ours, plain, exact=("sequences", "thought_counts"))
    assert passes[:2] == [(3, ids.shape[1] - 1), (9, 1)]
    assert reads == [(9, ids.shape[1]), *passes[2:]]
    assert ours.thought_counts.sum() > 0


@pytest.mark.parametrize("search", SEARCHES, ids=["samples", "beams"])
@pytest.mark.parametrize("control", ["no-thought", "pause", "shuffled"])
@pytest.mark.parametrize("counts", [[2, 2, 2], [3, 0, 1]], ids=["even", "ragged"])
def test_controls_whose_inputs_are_known_beforehand(control, search, counts, monkeypatch):
    model, (ids, mask) = thinker(), prompts()
    ours, passes = answered(model, ids, mask, thoughts=counts, control=control, **search)
    with every_copy_read(monkeypatch):
        plain, reads = answered(model, ids, mask, thoughts=counts, control=control, **search)
    require_same(ours, plain, exact=("sequences", "thought_counts"))
    assert len(passes) == len(reads) + 1
    thinking = len(passes) - NEW - 1  # "shuffled" thinks in earnest first
    width = reads[thinking][1]
    assert passes[thinking : thinking + 2] == [(3, width - 1), (9, 1)]
    assert reads[thinking] == (9, width)


def test_samples_of_prompts_of_one_token_and_without_padding():
    model = thinker()
    for ids in (torch.tensor([[9], [10]]), torch.tensor([[9, 4, 10, 11], [7, 8, 5, 6]])):
        mask = torch.ones_like(ids)
        asked = {"thoughts": 0, **SAMPLED}
        ours, passes = answered(model, ids, mask, num_return_sequences=K, **asked)
        plain, _ = copied(model, ids, mask, **asked)
        require_same(ours, plain, close=())
        assert passes[0] == ((6, 1) if ids.shape[1] == 1 else (2, 3))


@pytest.mark.parametrize(
    "option",
    [
        {"use_cache": False},
        {"output_hidden_states": True},
        {"prefill_chunk_size": 4},
        {"cache_implementation": "static"},
        {"position_ids": torch.arange(9).expand(3, 9)},
        {"token_type_ids": torch.zeros(3, 9, dtype=torch.long)},
    ],
    ids=lambda option: next(iter(option)),
)
def test_options_that_need_every_copy_read_get_it(option):
    model, (ids, mask) = thinker(("gpt2", True, "sdpa")), prompts()
    ours, passes = answered(model, ids, mask, thoughts=0, num_return_sequences=K, **SAMPLED, **option)
    torch.manual_seed(4)
    bare = model.base.generate(
        ids, attention_mask=mask, max_new_tokens=NEW, num_return_sequences=K, **SAMPLED, **option
    )
    assert ours.sequences.equal(bare)
    assert passes[0][0] == 9


def test_ranks_in_step_read_every_copy(monkeypatch):
    monkeypatch.setattr("latentthought.model.arguments.sharded", lambda: True)
    model, (ids, mask) = thinker(), prompts()
    _, passes = answered(model, ids, mask, thoughts=0, num_return_sequences=K, **SAMPLED)
    assert passes[0] == (9, ids.shape[1])


def test_right_padded_text_is_left_to_transformers():
    model, (ids, mask) = thinker(), prompts()
    right, right_mask = ids.flip(1), mask.flip(1)
    ours, passes = answered(model, right, right_mask, thoughts=0, num_return_sequences=K, **SAMPLED)
    torch.manual_seed(4)
    bare = model.base.generate(
        right, attention_mask=right_mask, max_new_tokens=NEW, num_return_sequences=K, **SAMPLED
    )
    assert ours.sequences.equal(bare)
    assert passes[0] == (9, ids.shape[1])
