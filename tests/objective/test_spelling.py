"""The auxiliary decoder's loss against a naive reference: one row, one step, one pass at a time."""

from __future__ import annotations

import copy
import random
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.data.collation import collate
from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import Encoded
from latentthought.errors import ConfigError
from latentthought.objective.alignment import Reading
from latentthought.objective.spelling import (
    Speller,
    SpellingTerm,
    collate_spelling,
    latent_steps,
    spelling_loss,
)
from latentthought.thoughts.layout import ThoughtTokens
from tests.families import PAIRWISE, VOCABULARY, tiny_base

END = 2
TOKENS = ThoughtTokens(start_id=3, end_id=4, thought_id=5)
ROWS = [
    Encoded("a", [10, 11, 12], [[20, 21], [22, 23, 24], [25]], [30, END]),
    Encoded("b", [10, 11, 12, 13, 14], [[26], [27, 28]], [31, 32, END]),
    Encoded("c", [15], [[29, 20]], [33, END]),
]


def readings(stage, **settings):
    settings = {
        "method": "latent",
        "max_latent_steps": 2,
        "thoughts_per_step": 2,
        "each": {"steps": 1},
    } | settings
    curriculum = Curriculum.parse(settings)
    rows = [curriculum.layout(row, stage, random.Random(0), TOKENS) for row in ROWS]
    return [Reading(row, encoded) for row, encoded in zip(rows, ROWS, strict=True)], curriculum.columns(stage)


def student(case=PAIRWISE[0], **thought):
    model = LatentThoughtForCausalLM.from_base(tiny_base(*case), ThoughtConfig(**thought))
    model.attach("spell", Speller(tiny_base("llama", seed=7), 32))
    return model


def run(model, read, columns, end_id=END, **arguments):
    """The batch as training makes it: summed loss and count."""
    batch = collate([reading.row for reading in read], 0, columns)
    spelling = collate_spelling(read, batch["before"], end_id)
    given = {key: batch[key] for key in ("input_ids", "attention_mask", "thought_mask", "position_ids")}
    output = model(
        **given,
        **arguments,
        thought_columns=batch["thought_columns"],
        return_logits=False,
        score=lambda inside, output: spelling_loss(inside, output, spelling, "spell"),
    )
    return output.value, spelling


def naive(model, read, wanted, end_id=END):
    """wanted: for each row the token ids that each group of its thoughts has to spell."""
    decoder, total = model.companions["spell"].decoder, torch.zeros(())
    for reading, steps in zip(read, wanted, strict=True):
        row = reading.row
        ids, thought = torch.tensor([row.ids]), torch.tensor([row.thought])
        if not steps:
            continue
        fed = model(ids, thought_mask=thought, return_logits=False).thoughts[0]
        for k, tokens in enumerate(steps):
            labels = torch.tensor([*tokens, *([] if end_id is None else [end_id])])
            thoughts = fed[k * row.per_step : (k + 1) * row.per_step]
            thoughts = thoughts * model.scale.target / thoughts.square().mean(-1, keepdim=True).sqrt()
            words = decoder.get_input_embeddings()(labels[:-1])
            logits = decoder(inputs_embeds=torch.cat([thoughts, words])[None]).logits[0]
            total = total + cross_entropy(logits[len(thoughts) - 1 :], labels, reduction="sum")
    return total


# by stage: the steps that thoughts stand for; row c has one step, and at stage 2 two thoughts that only fill it up
SPELLED = {
    0: [[], [], []],
    1: [[[20, 21]], [[26]], [[29, 20]]],
    2: [[[20, 21], [22, 23, 24]], [[26], [27, 28]], [[29, 20]]],
    3: [
        [[20, 21], [22, 23, 24, 25]],
        [[26], [27, 28]],
        [[29, 20]],
    ],  # step 3 of row a is dropped: nothing else says it
}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_which_step_is_spelled_from_which_columns(stage):
    read, _ = readings(stage, drop_rest=True)
    for reading, wanted in zip(read, SPELLED[stage], strict=True):
        found = latent_steps(reading)
        assert [tokens for _, tokens in found] == wanted
        first = len(reading.encoded.prompt) + 1  # the start delimiter
        assert [column for column, _ in found] == [first + 2 * k for k in range(len(wanted))]
        assert all(reading.row.thought[column + j] for column, _ in found for j in range(2))


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("end_id", [END, None])
def test_the_loss_is_that_of_every_step_by_itself(stage, end_id):
    model = student()
    read, columns = readings(stage, drop_rest=True)
    loss, spelling = run(model, read, columns, end_id)
    torch.testing.assert_close(loss, naive(model, read, SPELLED[stage], end_id), atol=1e-4, rtol=1e-5)
    tokens = sum(len(step) + (end_id is not None) for row in SPELLED[stage] for step in row)
    assert int(spelling.count) == tokens == int((spelling.labels_MS >= 0).sum())


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_every_family_can_be_copied_and_spells_like_itself(case):
    model = LatentThoughtForCausalLM.from_base(tiny_base(*case))
    model.attach("spell", Speller.build(SpellingTerm(term="spell"), model, None))
    read, columns = readings(2)
    loss, _ = run(model, read, columns)
    torch.testing.assert_close(loss, naive(model, read, SPELLED[2]), atol=1e-4, rtol=1e-5)
    copied = model.companions["spell"].decoder
    assert all(torch.equal(value, copied.state_dict()[key]) for key, value in model.base.state_dict().items())
    assert not {p.data_ptr() for p in copied.parameters()} & {p.data_ptr() for p in model.base.parameters()}


def test_uniform_draws_and_rows_without_padding_thoughts():
    read, columns = readings(2, each={"steps": 1, "uniform_prob": 1.0}, pad_to_max=False)
    assert {reading.row.first_step for reading in read} != {2}
    wanted = [
        [list(step) for step in reading.encoded.steps[: min(reading.row.first_step, 2)]] for reading in read
    ]
    for reading, steps in zip(read, wanted, strict=True):
        if steps and reading.row.first_step > 2:
            steps[-1] += reading.encoded.steps[2]
    model = student()
    torch.testing.assert_close(run(model, read, columns)[0], naive(model, read, wanted), atol=1e-4, rtol=1e-5)


def test_the_state_spelled_is_the_one_that_is_fed():
    # an inner layer's, through the projection of the scale
    model = student(layer=1, scale="mlp")
    read, columns = readings(2)
    seen = {}
    model.companions["spell"].register_forward_pre_hook(lambda _, given: seen.update(states=given[0]))
    batch = collate([reading.row for reading in read], 0, columns)
    run(model, read, columns)
    fed = model(
        batch["input_ids"],
        batch["attention_mask"],
        thought_mask=batch["thought_mask"],
        position_ids=batch["position_ids"],
    ).thoughts
    expected = model.scale(fed)
    torch.testing.assert_close(seen["states"][0], expected[0, :2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen["states"][1], expected[0, 2:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen["states"][4], expected[2, :2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("feedback", ["sequential", "jacobi", "single_pass"])
def test_gradient_reaches_the_student_and_the_decoder(feedback):
    model = student()
    read, columns = readings(2)
    loss, _ = run(model, read, columns, feedback=feedback)
    loss.backward()
    assert model.base.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.any() for p in model.companions["spell"].parameters())


def test_without_latent_steps_the_decoder_runs_for_nothing():
    model = student(PAIRWISE[4])
    model.companions["spell"] = Speller(tiny_base("mistral", tied=False, seed=3), 32)
    for method in ({}, {"method": "pause"}):
        read, columns = readings(0 if not method else 2, **method)
        loss, spelling = run(model, read, columns)
        assert int(spelling.count) == 0
        loss.backward()
        assert loss == 0
        own = list(model.companions["spell"].parameters())
        assert all(p.grad is not None and not p.grad.any() for p in own)
        model.zero_grad()


def test_a_decoder_from_nothing_has_a_bridge_of_its_own():
    model = LatentThoughtForCausalLM.from_base(tiny_base("llama"))
    term = SpellingTerm.parse({"term": "spell", "decoder": {"layers": 1, "width": 16, "heads": 2}})
    vocabulary = SimpleNamespace(pad_token_id=0, bos_token_id=1, eos_token_id=END)

    class Tokenizer(SimpleNamespace):
        def __len__(self):
            return VOCABULARY

    speller = Speller.build(term, model, Tokenizer(**vars(vocabulary)))
    assert speller.description == {
        "kind": "speller",
        "decoder": "scratch",
        "architecture": "llama",
        "layers": 1,
        "width": 16,
        "student_width": 32,
        "vocabulary": VOCABULARY,
    }
    model.attach("spell", speller)
    read, columns = readings(2)
    run(model, read, columns)[0].backward()
    assert speller.bridge.weight.grad.any()


@pytest.mark.parametrize("tied", [True, False])
def test_the_copy_of_a_student_with_adapters_is_the_bare_base(tied):
    from peft import LoraConfig, get_peft_model

    model = LatentThoughtForCausalLM.from_base(tiny_base("llama", tied))
    before = copy.deepcopy(model.base).state_dict()
    rows = {"embed_tokens": [5]} if tied else {"embed_tokens": [5], "lm_head": [5]}
    wrapped = get_peft_model(
        model,
        LoraConfig(
            r=2, target_modules=["q_proj", "v_proj"], trainable_token_indices=rows, init_lora_weights=False
        ),
    )
    decoder = Speller.build(SpellingTerm(term="spell"), wrapped.get_base_model(), None).decoder
    assert decoder.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in decoder.state_dict().items())
    assert all(parameter.requires_grad for parameter in decoder.parameters())
    assert (decoder.lm_head.weight is decoder.model.embed_tokens.weight) == tied
    assert [name for name, _ in wrapped.named_parameters() if "lora" in name], "the student lost its adapters"


def test_a_quantised_base_is_not_copied():
    model = LatentThoughtForCausalLM.from_base(tiny_base("llama"))
    head = model.base.model.layers[0].mlp.up_proj
    head.weight = torch.nn.Parameter(head.weight.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(
        ConfigError, match=r"objective\.spell\.decoder: copy, and the base's weights are quantised"
    ):
        Speller.build(SpellingTerm(term="spell"), model, None)


def test_bad_settings():
    with pytest.raises(ConfigError, match="copy"):
        SpellingTerm.parse({"term": "spell", "decoder": "copie"})
    with pytest.raises(ConfigError, match="divide"):
        SpellingTerm.parse({"term": "spell", "decoder": {"width": 30, "heads": 4}})
