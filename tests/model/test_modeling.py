"""What the forward refuses, reports and leaves to the base."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.errors import ConfigError, UnsupportedError
from tests.families import VOCABULARY, tiny_base


@pytest.fixture
def model():
    return LatentThoughtForCausalLM.from_base(tiny_base("llama"))


@pytest.fixture
def ids():
    return torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))


def thoughts_at(ids, *columns):
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, list(columns)] = True
    return mask


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"feedback": "sequentiel"}, "Did you mean sequential"),
        ({"jacobi_iterations": 0, "feedback": "jacobi"}, "jacobi_iterations: must be 1 or more"),
        ({"backprop_thoughts": -1}, "backprop_thoughts: must be 0 or more"),
        ({"thought_states": torch.zeros(2, 9, 32)}, "single_pass"),
        ({"thought_columns": (5, 6)}, "outside thought_columns"),
        ({"thought_columns": (4, 20)}, "within the 9 columns"),
        ({"thought_columns": (6, 4)}, "within the 9 columns"),
        (
            {"thought_states": torch.zeros(2, 2, 32), "feedback": "single_pass"},
            r"\(2, 9, 32\), not \(2, 2, 32\)",
        ),
        ({"mix_ratio": 1.5}, "from 0 to 1"),
        ({"mix_ratio": torch.ones(2, 3)}, "does not broadcast"),
        ({"use_cache": True}, "think"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused(model, ids, arguments, word):
    with pytest.raises(ConfigError, match=word):
        model(ids, thought_mask=thoughts_at(ids, 4, 5), **arguments)


def test_a_thought_needs_a_state_before_it(model, ids):
    with pytest.raises(ConfigError, match="column 0"):
        model(ids, thought_mask=thoughts_at(ids, 0))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with pytest.raises(ConfigError, match="first position"):
        model(ids, mask, thought_mask=thoughts_at(ids, 4))


def test_states_are_refused_where_the_base_runs_alone(model, ids):
    for arguments in (
        {"return_states": True, "use_cache": True},
        {"text_states": True, "output_attentions": True},
    ):
        with pytest.raises(ConfigError, match="return_states and text_states"):
            model(ids, **arguments)


@pytest.mark.parametrize("shape", [(), (9,), (1, 9), (2, 1), (2, 9)], ids=str)
@pytest.mark.parametrize("feedback", ["sequential", "jacobi"])
def test_a_mix_ratio_of_any_shape_serves_the_whole_batch(model, ids, shape, feedback):
    arguments = {"thought_mask": thoughts_at(ids, 4, 6), "feedback": feedback}
    expected = model(ids, mix_ratio=0.25, **arguments).logits
    torch.testing.assert_close(model(ids, mix_ratio=torch.full(shape, 0.25), **arguments).logits, expected)


def test_each_position_has_its_own_mix_ratio(model, ids):
    ratio = torch.tensor([[0.2], [0.9]])
    both = model(ids, thought_mask=thoughts_at(ids, 4, 5), mix_ratio=ratio).logits
    for row, own in enumerate((0.2, 0.9)):
        alone = model(ids[row : row + 1], thought_mask=thoughts_at(ids[:1], 4, 5), mix_ratio=own).logits
        torch.testing.assert_close(both[row], alone[0], atol=1e-5, rtol=1e-5)


def test_as_a_tuple_the_output_begins_with_loss_and_logits(model, ids):
    mask = thoughts_at(ids, 4)
    output = model(ids, labels=ids, thought_mask=mask, return_logits=True)
    assert list(output)[:3] == ["loss", "logits", "thoughts"]
    assert output[0] is output["loss"] is output.loss
    assert model(ids, thought_mask=mask)[0].shape == (2, 9, VOCABULARY)


def test_where_nothing_thinks_there_are_no_thoughts(model, ids):
    for arguments in (
        {"thought_mask": thoughts_at(ids)},
        {"thought_mask": thoughts_at(ids, 4), "mix_ratio": 0.0},
    ):
        output = model(ids, **arguments)
        assert output.thoughts.shape == (2, 0, 32)
        assert output.thought_counts.tolist() == [0, 0]
        assert torch.equal(output.logits, model(ids).logits)
    assert model(ids).thoughts is None


def test_the_loss_is_the_same_with_a_cache_beside_it(model, ids):
    plain = model(ids, labels=ids, num_items_in_batch=5, return_predictions=True)
    cached = model(ids, labels=ids, num_items_in_batch=5, return_predictions=True, use_cache=True)
    torch.testing.assert_close(cached.loss, plain.loss)
    assert torch.equal(cached.predictions, plain.predictions)
    assert cached.logits is None
    assert model(ids, labels=ids, use_cache=True, return_logits=True).logits.shape == (2, 9, VOCABULARY)


def test_a_misspelt_argument_is_an_error_and_not_swallowed(model, ids):
    with pytest.raises(TypeError, match="tought_mask"):
        model(ids, tought_mask=None)


def test_logits_to_keep(model, ids):
    whole = model(ids, thought_mask=thoughts_at(ids, 4)).logits
    torch.testing.assert_close(
        model(ids, thought_mask=thoughts_at(ids, 4), logits_to_keep=2).logits, whole[:, -2:]
    )
    picked = torch.tensor([1, 5])
    torch.testing.assert_close(
        model(ids, thought_mask=thoughts_at(ids, 4), logits_to_keep=picked).logits, whole[:, picked]
    )


def test_monitor_reports_size_and_direction_of_the_thoughts(model, ids):
    mask = thoughts_at(ids, 4, 5)
    output = model(ids, thought_mask=mask)
    embedding_rms = model.get_input_embeddings().weight.square().mean(-1).sqrt().mean()
    ratio = output.thoughts.square().mean(-1).sqrt().mean() / embedding_rms
    cosine = torch.cosine_similarity(
        output.thoughts, model.get_input_embeddings()(ids[:, 4:6]), dim=-1
    ).mean()
    torch.testing.assert_close(output.monitor["rms_ratio"], ratio)
    torch.testing.assert_close(output.monitor["cosine"], cosine)


def test_the_gap_is_the_distance_to_the_states_of_the_scored_pass(model, ids):
    mask = thoughts_at(ids, 4, 5, 6)
    assert model(ids, thought_mask=mask, mix_ratio=0.5).monitor["gap"] < 1e-5
    drifted = model(ids, thought_mask=mask, mix_ratio=0.5, feedback="single_pass", return_states=True)
    scored = drifted.hidden[:, 3:6]
    expected = (scored - drifted.thoughts).norm(dim=-1) / drifted.thoughts.norm(dim=-1)
    torch.testing.assert_close(drifted.monitor["gap"], expected.mean())
    assert drifted.monitor["gap"] > 0.01


def test_scaled_states_have_the_embedding_rms(model, ids):
    output = model(ids, thought_mask=thoughts_at(ids, 4), return_states=True)
    rms = output.scaled.square().mean(-1).sqrt()
    torch.testing.assert_close(rms, model.scale.target.expand(rms.shape))
    torch.testing.assert_close(output.embeddings, model.get_input_embeddings()(ids))


def test_bernoulli_makes_every_position_text_or_thought(ids):
    model = LatentThoughtForCausalLM.from_base(tiny_base("llama"), ThoughtConfig(blend="bernoulli"))
    mask = thoughts_at(ids, 3, 4, 5, 6)
    torch.manual_seed(0)
    drawn = model(ids, thought_mask=mask, mix_ratio=0.5).logits
    torch.manual_seed(0)
    latent = torch.rand(ids.shape) < 0.5
    expected = model(ids, thought_mask=mask & latent, mix_ratio=1.0).logits
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=1e-5)


def test_plain_text_gives_what_the_base_gives(model, ids):
    ours = model(ids, use_cache=True, output_hidden_states=True)
    base = model.base(ids, use_cache=True, output_hidden_states=True)
    assert torch.equal(ours.logits, base.logits)
    assert len(ours.hidden_states) == len(base.hidden_states)
    assert ours.past_key_values.get_seq_length() == ids.shape[1]


@pytest.mark.parametrize(
    ("family", "extra"),
    [
        ("gemma2", {"final_logit_softcapping": 3.0, "head_dim": 8, "attn_logit_softcapping": 5.0}),
        ("cohere", {"logit_scale": 0.25}),
        ("granite", {"logits_scaling": 4.0}),
    ],
)
def test_output_transforms_of_other_families_are_applied(family, extra, ids):
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings, **extra)).eval()
    model = LatentThoughtForCausalLM.from_base(base)
    torch.testing.assert_close(model(ids).logits, base(ids).logits)


def test_thought_settings_can_change_but_not_those_with_weights(model):
    model.set_thought(thoughts=4, thought_token_id=7)
    assert model.config.thought_config.thoughts == model.thought.thoughts == 4
    with pytest.raises(ConfigError, match="carries weights"):
        model.set_thought(scale="mlp")
    model.gradient_checkpointing_enable()
    model.set_thought(thoughts=2)
    assert model.is_gradient_checkpointing


def test_transformers_switch_for_recomputing_passes(model):
    model.activation_checkpointing_enable(
        activation_checkpointing_kwargs=None, every_n_layers=1, offload=False
    )
    assert model.is_activation_checkpointing
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.base.modules())
    model.activation_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    with pytest.raises(UnsupportedError, match="every_n_layers"):
        model.activation_checkpointing_enable(every_n_layers=2)


def test_the_vocabulary_is_known_where_weights_are_spread_over_ranks(model):
    weight = model.get_input_embeddings().weight
    weight.ds_shape, weight.data = weight.shape, torch.empty(0)  # as DeepSpeed leaves them under ZeRO-3
    assert (model.backbone.vocabulary, model.backbone.width) == (VOCABULARY, 32)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_transformers_own_trainer_trains_it_alike_in_one_batch_or_many(family, tmp_path):
    from transformers import Trainer, TrainingArguments

    rows = torch.randint(3, VOCABULARY, (4, 9), generator=torch.Generator().manual_seed(1))
    data = [
        {
            "input_ids": row,
            "labels": row.where(torch.arange(9) > 4 + place % 3, -100),
            "thought_mask": torch.arange(9) == 4,
        }
        for place, row in enumerate(rows)
    ]

    def trained(batch):
        model = LatentThoughtForCausalLM.from_base(
            tiny_base(
                family,
                **({"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0} if family == "gpt2" else {}),
            )
        )
        arguments = TrainingArguments(
            str(tmp_path / str(batch)),
            use_cpu=True,
            max_steps=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=4 // batch,
            optim="sgd",
            learning_rate=0.1,
            remove_unused_columns=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        Trainer(model, arguments, train_dataset=data).train()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    torch.testing.assert_close(trained(1), trained(4), atol=1e-6, rtol=1e-5)


def test_half_precision_runs_forward_and_backward(ids):
    base = tiny_base("llama").to(torch.bfloat16)
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig(scale="mlp"))
    output = model(ids, labels=ids, thought_mask=thoughts_at(ids, 4, 5), mix_ratio=0.5)
    output.loss.backward()
    assert output.loss.isfinite()
    assert output.thoughts.dtype == torch.bfloat16
