"""Reading the columns that make thoughts: words by block, and attention, against whole passes without a cache."""

from __future__ import annotations

import pytest
import torch

from latentthought.errors import UnsupportedError
from latentthought.model.lens import final_norm, read_columns
from tests.generation.naive import MATRIX, TOLERANCE, naive_think, prompts, rows_of, thinker

TOP = 5


def row_of_thoughts(case, thoughts=3):
    model = thinker(case)
    prompt = rows_of(*prompts())[0]
    embeds, fed = naive_think(model, prompt, thoughts)
    return model, prompt, embeds, fed


def norm_of(base):
    return base.transformer.ln_f if hasattr(base, "transformer") else base.model.norm


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_words_are_the_heads_of_normed_block_states_and_the_last_are_the_models_own(case):
    model, prompt, embeds, fed = row_of_thoughts(case)
    first = prompt.shape[1]  # the start delimiter makes the first thought
    columns = read_columns(model, embeds, first, TOP)
    whole = model.base(inputs_embeds=embeds, output_hidden_states=True, use_cache=False)
    blocks = model.backbone.blocks
    assert len(columns.words) == blocks
    for block, words in enumerate(columns.words, 1):
        if block == blocks:
            logits = whole.logits
        else:
            logits = model.base.get_output_embeddings()(norm_of(model.base)(whole.hidden_states[block]))
        expected = logits[:, first:].softmax(-1).topk(TOP)
        assert words.ids.equal(expected.indices)
        torch.testing.assert_close(words.probabilities, expected.values, **TOLERANCE)
    thought = model.think(prompt, thoughts=len(fed), top_k=TOP).decoded
    assert columns.words[-1].ids[:, : len(fed)].equal(thought.ids)
    torch.testing.assert_close(
        columns.words[-1].probabilities[:, : len(fed)], thought.probabilities, **TOLERANCE
    )


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_attention_is_that_of_an_eager_pass_over_everything(case):
    model, prompt, embeds, _ = row_of_thoughts(case)
    before = model.base.config._attn_implementation
    attention = read_columns(model, embeds, prompt.shape[1], TOP).attention
    assert model.base.config._attn_implementation == before
    eager = thinker((*case[:2], "eager"))
    eager.load_state_dict(model.state_dict())
    with torch.no_grad():
        whole = eager.base(inputs_embeds=embeds, output_attentions=True, use_cache=False).attentions
    expected = torch.stack([layer[0].mean(0)[prompt.shape[1] :] for layer in whole])
    torch.testing.assert_close(attention, expected, **TOLERANCE)
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:2]))


def test_a_row_of_one_column_before_the_thoughts():
    model = thinker(start_token_id=None)
    ids = torch.tensor([[9]])
    embeds = model.backbone.embed(ids)
    columns = read_columns(model, embeds, 0, TOP)
    expected = model.base(ids).logits.softmax(-1).topk(TOP)
    assert columns.words[-1].ids.equal(expected.indices)
    torch.testing.assert_close(columns.attention, torch.ones(model.backbone.blocks, 1, 1))


def test_a_model_without_a_final_norm_is_refused():
    model = thinker()
    state = torch.randn(1, 2, model.backbone.width)
    with pytest.raises(UnsupportedError, match="found no norm"):
        final_norm(model.base, state, torch.randn_like(state))
