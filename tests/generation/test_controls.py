"""Controls take the meaning out of thoughts and leave their form; what would be silently wrong is refused."""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig

from latentthought.errors import ConfigError, UnsupportedError, UserError
from latentthought.model.policy import ThoughtPolicy, ThoughtSampling
from tests.generation.naive import (
    END,
    PLACEHOLDER,
    START,
    TOLERANCE,
    naive_decode,
    naive_think,
    prompts,
    rows_of,
    thinker,
)

NEW = 6
ASK = {"max_new_tokens": NEW, "return_dict_in_generate": True, "output_logits": True}


def check_rows(model, output, width, embeds_of_rows):
    for row, embeds in enumerate(embeds_of_rows):
        tokens, scores = naive_decode(model, embeds, NEW)
        assert output.sequences[row, width:].tolist() == tokens
        torch.testing.assert_close(torch.stack([step[row] for step in output.logits]), scores, **TOLERANCE)


def tokens_after(model, prompt, *tokens):
    return model.base.get_input_embeddings()(
        torch.cat([prompt, torch.tensor([tokens], dtype=torch.long)], dim=1)
    ).detach()


@pytest.mark.parametrize("counts", [[2, 2, 2], [3, 0, 1]], ids=["even", "ragged"])
def test_no_thought_keeps_the_delimiters_of_rows_that_would_think(counts):
    model = thinker()
    ids, mask = prompts()
    output = model.generate(ids, mask, thoughts=counts, control="no-thought", **ASK)
    assert output.thought_counts.sum() == 0
    rows = zip(rows_of(ids, mask), counts, strict=True)
    check_rows(
        model,
        output,
        ids.shape[1],
        [tokens_after(model, prompt, *((START, END) if count else ())) for prompt, count in rows],
    )


@pytest.mark.parametrize("counts", [[2, 2, 2], [3, 0, 1]], ids=["even", "ragged"])
@pytest.mark.parametrize("fill", ["latent", "pause"])
def test_pause_puts_the_placeholder_at_thought_positions(counts, fill):
    model = thinker(fill=fill)
    ids, mask = prompts()
    output = model.generate(
        ids, mask, thoughts=counts, control="pause" if fill == "latent" else "none", **ASK
    )
    assert output.thought_counts.tolist() == counts
    between = [(START, *[PLACEHOLDER] * count, END) if count else () for count in counts]
    check_rows(
        model,
        output,
        ids.shape[1],
        [
            tokens_after(model, prompt, *extra)
            for prompt, extra in zip(rows_of(ids, mask), between, strict=True)
        ],
    )


def test_pause_takes_the_counts_that_a_policy_would_have_found():
    model = thinker(("gemma3_text", True, "eager"))
    ids, mask = prompts()
    policy = ThoughtPolicy(kind="settled", threshold=0.9, maximum=6)
    output = model.generate(ids, mask, thoughts=policy, control="pause", **ASK)
    assert output.thought_counts.equal(model.think(ids, mask, thoughts=policy).counts)


@pytest.mark.parametrize("counts", [[2, 2, 2], [3, 0, 1]], ids=["even", "ragged"])
def test_shuffled_feeds_each_row_the_thoughts_of_another(counts):
    model = thinker()
    ids, mask = prompts()
    output = model.generate(ids, mask, thoughts=counts, control="shuffled", **ASK)
    alone = [
        naive_think(model, prompt, count)[1] for prompt, count in zip(rows_of(ids, mask), counts, strict=True)
    ]
    expected = []
    for row, prompt in enumerate(rows_of(ids, mask)):
        fed = alone[row - 1]  # the last row's go to the first
        assert output.thought_counts[row] == len(fed)
        embeds = tokens_after(model, prompt, START) if fed else tokens_after(model, prompt)
        embeds = torch.cat([embeds, *(model.scale(state)[None, None] for state in fed)], dim=1)
        expected.append(
            torch.cat([embeds, tokens_after(model, torch.tensor([[END]]))], dim=1).detach() if fed else embeds
        )
    check_rows(model, output, ids.shape[1], expected)


def test_shuffled_never_takes_a_copy_of_the_same_prompt():
    model = thinker()
    ids, mask = prompts(rows=2)
    ask = {
        "thoughts": 2,
        "num_return_sequences": 3,
        "thought_sampling": ThoughtSampling(noise=1e-6, seed=0),
        **ASK,
    }
    own, other = model.generate(ids, mask, **ask), model.generate(ids, mask, control="shuffled", **ask)
    torch.testing.assert_close(other.thoughts[:3, 0], own.thoughts[3:, 0])
    torch.testing.assert_close(other.thoughts[3:, 0], own.thoughts[:3, 0])
    with pytest.raises(UserError, match="at least two prompts"):
        model.generate(ids[:1], thoughts=2, control="shuffled")


def test_noised_thoughts_are_noised_alike_every_time():
    model = thinker()
    ids, mask = prompts()
    output = model.generate(ids, mask, thoughts=3, control="noised", **ASK)
    assert output.thoughts.equal(model.generate(ids, mask, thoughts=3, control="noised", **ASK).thoughts)
    clean = model.think(ids, mask, thoughts=3).states
    slightly = model.generate(ids, mask, thoughts=3, control="noised", control_noise=0.01, **ASK).thoughts
    assert output.thoughts[:, 0].equal(clean[:, 0])
    assert (slightly - clean)[:, 1:].norm() < 0.1 * (output.thoughts - clean)[:, 1:].norm()


@pytest.mark.parametrize("control", ["noised", "pause", "no-thought"])
def test_controls_in_hybrid_text(control):
    model = thinker()
    ids, mask = prompts()
    ids[:, -1] = START
    output = model.generate(ids, mask, hybrid=True, thoughts=2, control=control, **ASK)
    new = output.raw_sequences[:, ids.shape[1] :]
    if control == "no-thought":
        assert (new[:, 0] == END).all()
    else:
        assert (new[:, :3] == torch.tensor([PLACEHOLDER, PLACEHOLDER, END])).all()
    if control == "pause":
        plain = model.base(
            output.raw_sequences, attention_mask=torch.cat([mask, torch.ones_like(new)], dim=1)
        ).logits
        torch.testing.assert_close(
            torch.stack(output.logits, 1), plain[:, ids.shape[1] - 1 : -1], **TOLERANCE
        )


REFUSED = {
    "assistant_model": "model",
    "prompt_lookup_num_tokens": 2,
    "cache_implementation": "static",
    "prefill_chunk_size": 4,
    "past_key_values": "cache",
    "inputs_embeds": torch.zeros(1),
    "position_ids": torch.zeros(1),
    "token_healing": True,
    "guidance_scale": 1.5,
    "encoder_repetition_penalty": 1.2,
    "encoder_no_repeat_ngram_size": 2,
    "penalty_alpha": 0.6,
    "dola_layers": "high",
    "custom_generate": "someone/something",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(
    "mode",
    [{"thoughts": 2}, {"mix_ratio": 0.5}, {"hybrid": True, "thoughts": 2}],
    ids=["latent", "mixed", "hybrid"],
)
def test_what_would_be_silently_wrong_is_refused(name, mode):
    model = thinker()
    with pytest.raises(UnsupportedError, match=name):
        model.generate(prompts(rows=1)[0], **mode, **{name: REFUSED[name]})


def test_refusals_look_into_a_generation_config():
    model = thinker()
    ids, _ = prompts(rows=1)
    with pytest.raises(UnsupportedError, match="prompt_lookup_num_tokens"):
        model.generate(ids, thoughts=2, generation_config=GenerationConfig(prompt_lookup_num_tokens=3))
    bare = model.base.generate(ids, prompt_lookup_num_tokens=2, max_new_tokens=4)
    assert model.generate(ids, thoughts=0, prompt_lookup_num_tokens=2, max_new_tokens=4).equal(bare)


@pytest.mark.parametrize(
    "mode", [{"thoughts": 2}, {"mix_ratio": 0.5}, {"hybrid": True, "thoughts": 2}, {"thoughts": 0}], ids=str
)
def test_misspelt_arguments_are_errors_as_in_transformers(mode):
    with pytest.raises(ValueError, match="max_new_token"):
        thinker().generate(prompts(rows=1)[0], max_new_token=3, **mode)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"thoughts": -1}, ConfigError, "0 or more, not -1"),
        ({"thoughts": 2.5}, ConfigError, "not 2.5"),
        ({"thoughts": True}, ConfigError, "not True"),
        ({"thoughts": [1, 2]}, ConfigError, "2 counts for 3 rows"),
        ({"thoughts": torch.ones(3)}, ConfigError, "float32"),
        ({"thoughts": "many"}, ConfigError, "'many'"),
        ({"control": "shufled", "thoughts": 2}, ConfigError, "Did you mean shuffled"),
        ({"control": "noised", "thoughts": 0}, ConfigError, "needs thoughts"),
        ({"hybrid": True}, ConfigError, "how long a segment is"),
        ({"mix_ratio": 1.5}, ConfigError, "from 0 to 1"),
        ({"mix_ratio": 0.5, "thoughts": 2}, UnsupportedError, "neither"),
        ({"mix_ratio": 0.5, "hybrid": True, "thoughts": 2}, UnsupportedError, "neither"),
        ({"mix_ratio": 0.5, "control": "pause"}, UnsupportedError, "pause"),
        ({"mix_ratio": 0.5, "use_cache": False}, UnsupportedError, "use_cache"),
        ({"mix_ratio": 0.5, "output_attentions": True}, UnsupportedError, "output_attentions"),
        ({"hybrid": True, "thoughts": 2, "control": "shuffled"}, UnsupportedError, "shuffled"),
        ({"hybrid": True, "thoughts": 2, "streamer": "any"}, UnsupportedError, "single row"),
        ({"thoughts": 2, "max_length": 5}, ConfigError, "no room"),
        ({"thoughts": 2, "attention_mask": torch.zeros(3, 9)}, ConfigError, "no token"),
        ({"thoughts": 2, "attention_mask": torch.ones(3, 8)}, ConfigError, "does not fit"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments, error, says):
    with pytest.raises(error, match=says):
        thinker().generate(prompts()[0], **arguments)


def test_models_that_cannot_say_so():
    ids, mask = prompts()
    with pytest.raises(ConfigError, match="end_token_id"):
        thinker(start_token_id=None).generate(ids, mask, hybrid=True, thoughts=1)
    with pytest.raises(ConfigError, match="end token"):
        thinker(end_token_id=None).generate(ids, mask, thoughts=ThoughtPolicy(kind="end_probability"))
    with pytest.raises(ConfigError, match="placeholder"):
        thinker(thought_token_id=None).generate(ids, mask, thoughts=1, control="pause")
    with pytest.raises(UnsupportedError, match="shuffled"):
        thinker(fill="pause").generate(ids, mask, thoughts=1, control="shuffled")
    with pytest.raises(UnsupportedError, match="settled"):
        thinker(fill="pause").generate(ids, mask, thoughts=ThoughtPolicy(kind="settled"))
    with pytest.raises(UnsupportedError, match="bernoulli"):
        thinker(blend="bernoulli").generate(ids, mask, mix_ratio=0.5, num_beams=2)


def test_policies_check_themselves():
    with pytest.raises(ValueError, match="above maximum"):
        ThoughtPolicy(kind="settled", minimum=5, maximum=3)
    with pytest.raises(ValueError, match="no threshold"):
        ThoughtPolicy(threshold=0.3)
    with pytest.raises(ConfigError, match="did you mean settled"):
        ThoughtPolicy.parse({"kind": "setled"})
