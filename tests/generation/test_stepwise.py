"""Mixed and hybrid decoding: each equals `forward` on its own output, whatever the search."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessor, TextStreamer

from latentthought.model.policy import ThoughtPolicy, ThoughtSampling
from latentthought.thoughts.mixing import blend
from tests.generation.naive import (
    END,
    MATRIX,
    PLACEHOLDER,
    START,
    TOLERANCE,
    prompts,
    rows_of,
    states,
    thinker,
)

NEW, WIDTH = 12, 9
ASK = {"max_new_tokens": NEW, "return_dict_in_generate": True}
SEARCHES = [
    {},
    {"do_sample": True, "num_return_sequences": 2, "temperature": 1.5, "top_k": 0},
    {"num_beams": 3, "num_return_sequences": 2},
]


class EndLate(LogitsProcessor):
    """No end token among the first four new ones, a likely one afterwards."""

    def __init__(self, boost=4.0):
        self.boost = boost

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, END] += self.boost if input_ids.shape[1] >= WIDTH + 4 else -torch.inf
        return scores


def forward_of(model, sequences, mask, thought_mask, **arguments):
    """`forward` on an output; prompts are repeated, and left-padded as they were."""
    times = len(sequences) // len(mask)
    whole = torch.ones_like(sequences)
    whole[:, : mask.shape[1]] = mask.repeat_interleave(times, 0)
    with torch.no_grad():
        return model(sequences, whole, thought_mask=thought_mask, **arguments)


@pytest.mark.parametrize("search", SEARCHES, ids=["greedy", "sample", "beams"])
@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_mixed_decoding_is_forward_on_its_own_output(case, search):
    model = thinker(case, eos=2, blend="variance_preserving")
    ids, mask = prompts()
    ids[1, -2] = START  # this prompt leaves a segment open
    output = model.generate(
        ids,
        mask,
        mix_ratio=0.6,
        output_logits=True,
        output_scores=True,
        logits_processor=[EndLate()],
        **ASK,
        **search,
    )
    new = output.sequences[:, ids.shape[1] :]
    times = len(new) // 3
    assert (new[torch.arange(len(new)) // times != 1, 0] == START).all()
    assert (output.thought_mask.sum(1) == output.thought_counts).all()
    assert output.thought_counts.min() < NEW - 1
    assert output.thought_counts.max() >= 3
    forward = forward_of(model, output.sequences, mask, output.thought_mask, mix_ratio=0.6)
    torch.testing.assert_close(output.thoughts, forward.thoughts, **TOLERANCE)
    for row, step, logits in chosen_logits(output, new):
        torch.testing.assert_close(logits, forward.logits[row, ids.shape[1] - 1 + step], **TOLERANCE)


def chosen_logits(output, new):
    """(row, step, logits the token was chosen from) for every new token before a row's end."""
    beams = output.get("beam_indices")
    for row in range(len(new)):
        for step in range(new.shape[1]):
            source = row if beams is None else int(beams[row, step])
            if source >= 0 and (beams is not None or not (new[row, :step] == 2).any()):
                yield row, step, output.logits[step][source]


def test_reasoning_ends_at_the_end_token_for_good():
    model = thinker()
    ids, mask = prompts()
    output = model.generate(
        ids, mask, mix_ratio=0.5, logits_processor=[EndLate(9.0)], sequence_bias={(START,): 6.0}, **ASK
    )
    new, reasoning = output.sequences[:, ids.shape[1] :], output.thought_mask[:, ids.shape[1] :]
    for tokens, marked in zip(new.tolist(), reasoning.tolist(), strict=True):
        end = tokens.index(END)
        assert end >= 4
        assert START in tokens[1:end]  # an ordinary token once the reasoning has begun
        assert marked == [0 < place < end for place in range(NEW)]


def test_mixed_decoding_is_a_row_alone_without_cache():
    model = thinker()
    ids, mask = prompts()
    batch = model.generate(ids, mask, mix_ratio=0.4, max_new_tokens=NEW)
    embed = model.base.get_input_embeddings()
    for row, prompt in enumerate(rows_of(ids, mask)):
        embeds, tokens = embed(torch.cat([prompt, torch.tensor([[START]])], dim=1)).detach(), [START]
        while len(tokens) < NEW:
            hidden = states(model, embeds)[0, -1]
            tokens.append(int(model.backbone.head(hidden).argmax()))
            embedded = embed(torch.tensor(tokens[-1]))
            mixed = embedded if END in tokens else blend(embedded, model.scale(hidden), 0.4)
            embeds = torch.cat([embeds, mixed[None, None]], dim=1).detach()
        assert batch[row, ids.shape[1] :].tolist() == tokens


def test_bernoulli_draws_are_returned_and_replayed():
    model = thinker(blend="bernoulli")
    ids, mask = prompts()
    output = model.generate(
        ids, mask, mix_ratio=0.5, thought_sampling=ThoughtSampling(seed=2), output_logits=True, **ASK
    )
    drawn = output.mix_ratio[output.thought_mask]
    assert 0.2 < drawn.mean() < 0.8
    assert set(drawn.tolist()) == {0.0, 1.0}
    forward = forward_of(model, output.sequences, mask, output.thought_mask, mix_ratio=output.mix_ratio)
    torch.testing.assert_close(
        torch.stack(output.logits, 1), forward.logits[:, ids.shape[1] - 1 : -1], **TOLERANCE
    )


@pytest.mark.parametrize("search", SEARCHES, ids=["greedy", "sample", "beams"])
@pytest.mark.parametrize("start", [None, START])
def test_without_an_end_token_the_reasoning_lasts_as_long_as_the_text(start, search):
    model = thinker(start_token_id=start, end_token_id=None, thought_token_id=None)
    ids, mask = prompts()
    output = model.generate(ids, mask, mix_ratio=0.6, output_logits=True, output_scores=True, **ASK, **search)
    new = output.sequences[:, ids.shape[1] :]
    opened = 0 if start is None else 1
    assert (output.thought_counts == NEW - opened).all()
    forward = forward_of(model, output.sequences, mask, output.thought_mask, mix_ratio=0.6)
    torch.testing.assert_close(output.thoughts, forward.thoughts, **TOLERANCE)
    for row, step, logits in chosen_logits(output, new):
        torch.testing.assert_close(logits, forward.logits[row, ids.shape[1] - 1 + step], **TOLERANCE)


def test_mixed_decoding_without_a_start_token_and_by_default():
    model = thinker(start_token_id=None, mix_ratio=0.7)
    ids, mask = prompts()
    output = model.generate(ids, mask, output_logits=True, **ASK)  # what the model was trained with
    assert output.thought_counts.min() > 0
    forward = forward_of(model, output.sequences, mask, output.thought_mask, mix_ratio=0.7)
    torch.testing.assert_close(
        torch.stack(output.logits, 1), forward.logits[:, ids.shape[1] - 1 : -1], **TOLERANCE
    )
    plain = model.generate(ids, mask, thoughts=0, max_new_tokens=NEW)
    assert plain.equal(model.base.generate(ids, attention_mask=mask, max_new_tokens=NEW))
    assert plain.equal(model.generate(ids, mask, mix_ratio=0.0, max_new_tokens=NEW))


@pytest.mark.parametrize("search", SEARCHES, ids=["greedy", "sample", "beams"])
@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_hybrid_is_forward_on_its_own_output(case, search):
    model = thinker(case, eos=2)
    ids, mask = prompts()
    ids[0, -1] = START  # thinks at once
    output = model.generate(
        ids,
        mask,
        hybrid=True,
        thoughts=[2, 3, 1],
        output_logits=True,
        output_scores=True,
        sequence_bias={(START,): 3.0},
        **ASK,
        **search,
    )
    raw, width = output.raw_sequences, ids.shape[1]
    thought_mask = raw == PLACEHOLDER
    assert thought_mask.sum(1).equal(output.thought_counts)
    assert output.thought_counts[: len(raw) // 3].min() >= 2
    assert not (output.sequences == PLACEHOLDER).any()
    for stripped, row, times in zip(output.sequences, raw, output.thought_counts, strict=True):
        kept = row[row != PLACEHOLDER]
        assert stripped[: len(kept)].equal(kept)
        assert (stripped[len(kept) :] == 0).all()
        assert len(kept) == len(row) - times
    forward = forward_of(model, raw, mask, thought_mask, mix_ratio=1.0)
    torch.testing.assert_close(output.thoughts, forward.thoughts, **TOLERANCE)
    for row, step, logits in chosen_logits(output, raw[:, width:]):
        torch.testing.assert_close(logits, forward.logits[row, width - 1 + step], **TOLERANCE)


@pytest.mark.parametrize("placeholder", [PLACEHOLDER, None])
@pytest.mark.parametrize(
    "policy",
    [
        ThoughtPolicy(kind="settled", threshold=0.93, maximum=5),
        ThoughtPolicy(kind="end_probability", threshold=0.02, maximum=5),
    ],
    ids=lambda policy: policy.kind,
)
def test_hybrid_segments_end_where_thinking_would(policy, placeholder):
    model = thinker(("gemma3_text", True, "eager"), thought_token_id=placeholder)
    ids, mask = prompts()
    opened = torch.cat([ids, torch.full((3, 1), START)], dim=1)
    output = model.generate(
        opened, torch.cat([mask, mask[:, :1] * 0 + 1], dim=1), hybrid=True, thoughts=policy, **ASK
    )
    thought = model.think(ids, mask, thoughts=policy)
    for row, count in enumerate(thought.counts.tolist()):
        inside = output.raw_sequences[row, opened.shape[1] :].tolist()
        assert inside.index(END) == count
        assert output.sequences[row, opened.shape[1]] == END
        torch.testing.assert_close(output.thoughts[row, :count], thought.states[row, :count], **TOLERANCE)


def test_hybrid_text_without_a_segment_is_plain_text():
    model = thinker()
    ids, mask = prompts()
    ask = {"suppress_tokens": [START, PLACEHOLDER], "max_new_tokens": NEW}
    assert model.generate(ids, mask, hybrid=True, thoughts=3, **ask).equal(
        model.base.generate(ids, attention_mask=mask, **ask)
    )


class Recorder(TextStreamer):
    """Keeps ids instead of printing text."""

    def __init__(self):
        self.ids, self.ended = [], False

    def put(self, value):
        self.ids.extend(value.reshape(-1).tolist())

    def end(self):
        self.ended = True


@pytest.mark.parametrize(
    "mode",
    [{"thoughts": 3}, {"mix_ratio": 0.5}, {"hybrid": True, "thoughts": 2}, {"thoughts": 0}],
    ids=["latent", "mixed", "hybrid", "text"],
)
def test_streams_give_what_is_returned(mode):
    model = thinker()
    ids, _ = prompts(rows=1)
    ids[0, -1] = START
    streamer = Recorder()
    output = model.generate(ids, max_new_tokens=NEW, streamer=streamer, **mode)
    assert streamer.ids == output[0].tolist()
    assert streamer.ended
