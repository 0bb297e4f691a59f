"""Pruned models against models cut by hand: whole blocks, channels of the MLP, groups of heads, channels of the stream."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from latentthought import LatentThoughtForCausalLM, ThoughtConfig, prune
from latentthought.data.encoding import Encoder
from latentthought.distillation.guidance import attach_companions, guide
from latentthought.distillation.pruning import roles
from latentthought.distillation.pruning.importance import block_influence, channel_scores, input_squares
from latentthought.distillation.pruning.provenance import blocks_in, channels_in, recorded
from latentthought.distillation.pruning.prune import require_fit, with_thoughts_of
from latentthought.distillation.pruning.settings import DepthPruning, WidthPruning
from latentthought.distillation.pruning.slicing import Kept, cut
from latentthought.distillation.pupil import Pupil
from latentthought.distillation.teacher import TeacherConfig
from latentthought.errors import ConfigError, DamagedFileError, UnsupportedError
from latentthought.model.capture import blocks_of
from latentthought.objective.terms import as_term
from tests.distillation.taught import FORMAT, LATENT, examples
from tests.distillation.taught import tokenizer as taught_tokenizer
from tests.families import FAMILIES, VOCABULARY, tiny_base

FIVE = {"num_hidden_layers": 5}


def model_of(family: str, **changes):
    deep = {"n_layer": 5} if family == "gpt2" else FIVE
    if family == "gemma3_text":
        deep = {**FIVE, "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"]}
    return tiny_base(family, **{**deep, **changes})


def rows(batch: int = 3, columns: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, VOCABULARY, (batch, columns), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(ids)
    ids[1, :2], mask[1, :2] = 0, 0
    return ids, mask


@torch.no_grad()
def logits(model) -> torch.Tensor:
    ids, mask = rows()
    return model(input_ids=ids, attention_mask=mask, use_cache=False).logits[mask.bool()]


def assert_same(pruned, by_hand) -> None:
    torch.testing.assert_close(logits(pruned), logits(by_hand), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_that_stay_are_those_of_the_model_without_the_others(family) -> None:
    model = model_of(family)
    pruned = prune(model, depth={"drop": [4, 2]})
    by_hand = copy.deepcopy(model)
    blocks = blocks_of(by_hand)
    for number in (3, 1):
        del blocks[number]
    assert pruned.config.get_text_config().num_hidden_layers == 3 and len(blocks_of(model)) == 5
    if family == "gemma3_text":  # its blocks are of two kinds, and each keeps its own
        assert pruned.config.layer_types == ["sliding_attention", "sliding_attention", "sliding_attention"]
        by_hand.config.layer_types = pruned.config.layer_types
    by_hand.config.get_text_config().num_hidden_layers = 3
    assert_same(pruned, by_hand)


@pytest.mark.parametrize("family", FAMILIES)
def test_channels_and_heads_that_go_are_those_that_lead_nowhere(family) -> None:
    """A channel whose way out is zero may as well not be there."""
    model = model_of(family)
    config = model.config.get_text_config()
    groups, size = roles.key_heads(config), roles.head_size(config)
    each = size * config.num_attention_heads // groups
    channels = roles.mlp_size(config)
    mlp = tuple(tuple(range(number % 3, channels, 2)) for number in range(5))
    mlp = tuple(kept[: min(map(len, mlp))] for kept in mlp)
    heads = tuple((number % groups,) for number in range(5))
    if family == "gpt2":  # whose heads share out the stream
        pruned = cut(model, Kept((1, 2, 3, 4, 5), mlp=mlp))
    else:
        pruned = cut(model, Kept((1, 2, 3, 4, 5), groups=heads, mlp=mlp))
    if family == "olmo2":  # its query norm is over all heads, so fewer heads are another norm
        pruned = cut(model, Kept((1, 2, 3, 4, 5), mlp=mlp))
    by_hand = copy.deepcopy(model)
    axes = roles.axes_of(by_hand)
    for name, parameter in by_hand.named_parameters():
        for dimension, parts in enumerate(axes[name]):
            if len(parts) != 1 or parameter.dim() != 2 or parts[0] not in ("mlp", "heads"):
                continue
            if axes[name][1 - dimension] != ("hidden",) or not name.endswith(
                ("o_proj.weight", "down_proj.weight", "c_proj.weight")
            ):
                continue
            number = int(name.split(".layers.")[-1].split(".h.")[-1].split(".")[0])
            if parts[0] == "mlp":
                stays = torch.tensor(mlp[number])
            elif family in ("gpt2", "olmo2"):
                continue
            else:
                stays = torch.cat([torch.arange(g * each, (g + 1) * each) for g in heads[number]])
            goes = torch.ones(parameter.shape[dimension], dtype=torch.bool)
            goes[stays] = False
            with torch.no_grad():
                parameter.index_fill_(dimension, goes.nonzero().flatten(), 0.0)
    assert roles.mlp_size(pruned.config.get_text_config()) == len(mlp[0])
    torch.testing.assert_close(logits(pruned), logits(by_hand), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "phi3"])
def test_a_narrower_stream_is_one_whose_other_channels_are_zero(family) -> None:
    """With D' of D channels in use the mean square of D is D'/D of that of D', which a factor on every norm makes up for."""
    model = model_of(family, rms_norm_eps=1e-30)
    kept = tuple(range(0, 32, 2))
    gone = torch.tensor([channel for channel in range(32) if channel not in kept])
    by_hand = copy.deepcopy(model)
    with torch.no_grad():
        by_hand.get_input_embeddings().weight[:, gone] = 0
        for name, parameter in by_hand.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter[gone] = 0
            elif "norm" in name and len(parameter) == 32:
                parameter *= (16 / 32) ** 0.5
    assert_same(cut(model, Kept((1, 2, 3, 4, 5), hidden=kept)), by_hand)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pruned_folder_loads_in_plain_transformers(family, tied, tmp_path) -> None:
    model = model_of(family, tied=tied)
    width = {"mlp": 0.5, "heads": 0.5, "hidden": 16, "importance": "magnitude", "multiple_of": 4}
    pruned = prune(model, depth={"remove": 2, "by": "last", "protect_last": 1}, width=width)
    pruned.save_pretrained(tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert read.config.get_text_config().hidden_size == 16
    assert blocks_in(read.config.get_text_config(), 5) == (1, 2, 5)
    assert_same(read, pruned)
    with torch.no_grad():
        ids, mask = rows()
        assert pruned.generate(ids, attention_mask=mask, max_new_tokens=3, do_sample=False).shape == (3, 14)
    assert sum(p.numel() for p in read.parameters()) < 0.6 * sum(p.numel() for p in model.parameters())


def test_influence_is_how_far_a_block_turns_its_input() -> None:
    model = model_of("llama")
    ids, mask = rows()
    influence, positions = block_influence(model, [(ids, mask), (ids[:1], mask[:1])])
    assert positions == int(mask.sum() + mask[0].sum())
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    for block in range(1, 5):  # the fifth's is after the final norm there
        turned = 1 - F.cosine_similarity(states[block - 1], states[block], dim=-1)
        sums = turned[mask.bool()].sum() + turned[0].sum()
        assert float(influence[block - 1]) == pytest.approx(float(sums / positions), rel=1e-5)


def test_importance_of_channels_by_hand() -> None:
    model = model_of("llama")
    ids, mask = rows()
    squares, _ = input_squares(model, [(ids, mask)])
    scores = channel_scores(model, squares)
    given = {}
    mlp, attention = model.model.layers[2].mlp, model.model.layers[2].self_attn
    hooks = [
        mlp.register_forward_pre_hook(lambda _, arguments: given.update(mlp=arguments[0])),
        attention.o_proj.register_forward_pre_hook(lambda _, arguments: given.update(heads=arguments[0])),
    ]
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
        inner = (mlp.act_fn(mlp.gate_proj(given["mlp"])) * mlp.up_proj(given["mlp"]))[mask.bool()]
        heads = given["heads"][mask.bool()]
    for hook in hooks:
        hook.remove()
    reach = inner.square().mean(0) * mlp.down_proj.weight.square().sum(0)
    torch.testing.assert_close(scores[2, "mlp"].float(), reach, rtol=1e-4, atol=1e-9)
    reach = heads.square().mean(0) * attention.o_proj.weight.square().sum(0)
    torch.testing.assert_close(scores[2, "heads"].float(), reach, rtol=1e-4, atol=1e-9)
    weights = channel_scores(model, None)
    product = sum(one.weight.square().sum(1) for one in (mlp.gate_proj, mlp.up_proj))
    torch.testing.assert_close(
        weights[2, "mlp"].float(), product * mlp.down_proj.weight.square().sum(0), rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_what_matters_stays(family) -> None:
    """Planted: half of the MLP's channels and one group of heads do nothing, a block does nothing, half of the stream is idle."""
    model = model_of(family)
    blocks, axes = blocks_of(model), roles.axes_of(model)
    config = model.config.get_text_config()
    idle = set(range(1, roles.mlp_size(config), 2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for dimension, parts in enumerate(axes[name]):
                if parts == ("mlp",) and parameter.dim() == 2 and axes[name][1 - dimension] == ("hidden",):
                    parameter.index_fill_(dimension, torch.tensor(sorted(idle)), 0.0)
        for name, parameter in blocks[3].named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "c_proj.weight", "c_proj.bias")):
                parameter.zero_()
    batches = [rows()]
    kept = prune(model, depth={"remove": 1}, batches=batches)
    assert blocks_in(kept.config.get_text_config(), 5) == (1, 2, 3, 5)
    before = logits(model)
    torch.testing.assert_close(logits(kept), before, rtol=1e-5, atol=1e-5)
    half = prune(model, width={"mlp": roles.mlp_size(config) // 2}, batches=batches)
    torch.testing.assert_close(logits(half), before, rtol=1e-5, atol=1e-5)


def test_of_a_thinking_model_the_base_is_pruned() -> None:
    model = LatentThoughtForCausalLM.from_base(model_of("llama"), ThoughtConfig())
    pruned = prune(model, depth={"drop": [2]})
    assert type(pruned) is type(model.base)
    assert_same(pruned, prune(model.base, depth={"drop": [2]}))


def test_provenance_goes_back_through_every_pruning() -> None:
    model = model_of("llama")
    once = prune(model, depth={"keep": [1, 3, 4, 5]}, width={"hidden": 24, "importance": "magnitude"})
    twice = prune(once, depth={"drop": [2]}, width={"hidden": 16, "importance": "magnitude"})
    config = twice.config
    assert blocks_in(config, 5) == (1, 4, 5) and blocks_in(config, 4) == (1, 3, 4)
    assert blocks_in(config, 7) is None and recorded(model.config) == []
    first, second = (one["hidden"] for one in recorded(config))
    assert channels_in(config, 32) == tuple(first[channel] for channel in second)
    assert channels_in(config, 24) == tuple(second) and channels_in(config, 20) is None
    config.pruning = [{"depth": 3}]
    with pytest.raises(DamagedFileError, match="pruning"):
        recorded(config)


@pytest.mark.parametrize("asked", [{"hidden": 0.5}, {"heads": 0.5}])
def test_an_mlp_whose_size_follows_the_width_keeps_its_own(asked) -> None:
    """GPT-2's `n_inner: None` is four times the width, of which there is less now."""
    model = model_of("gpt2", n_inner=None)
    size = 4 * model.config.n_embd
    pruned = prune(model, width={**asked, "importance": "magnitude", "multiple_of": 1})
    assert pruned.config.n_embd < model.config.n_embd
    assert {block.mlp.c_fc.weight.shape[1] for block in blocks_of(pruned)} == {size}


@pytest.mark.parametrize(
    ("family", "asked", "message"),
    [
        ("llama", {"depth": {"drop": []}}, "drop"),
        ("llama", {"depth": {"keep": []}}, "keep"),
        ("llama", {"depth": {"remove": 0.05, "by": "last"}}, "0.05 of 5 blocks rounds to none; 0.1 or more"),
        ("llama", {"depth": {"drop": [6]}}, "no block 6; the model has blocks 1 to 5"),
        ("llama", {"depth": {"drop": [1, 2, 3, 4, 5]}}, "at least one has to stay"),
        ("llama", {"depth": {"remove": 5, "by": "last"}}, "at most 4 can go"),
        ("llama", {"depth": {"remove": 3, "by": "last", "protect_first": 2, "protect_last": 1}}, "at most 2"),
        ("llama", {"depth": {"remove": 1}}, "is measured on data"),
        ("llama", {"width": {"mlp": 8}}, "is measured on data"),
        ("llama", {"depth": {"drop": [1], "keep": [2]}}, "give one of drop, keep and remove"),
        ("llama", {"depth": {"drop": [1, 1]}}, "block 1 is named twice"),
        ("llama", {}, "give depth, width or both"),
        ("llama", {"width": {"multiple_of": 4}}, "at least one of mlp, heads and hidden"),
        ("llama", {"width": {"heads": 3, "importance": "magnitude"}}, "2 or 4 would"),
        ("llama", {"width": {"mlp": 64, "importance": "magnitude"}}, "64, and the model has 48"),
        ("llama", {"width": {"mlpp": 64}}, "mlpp"),
        ("gpt2", {"width": {"hidden": 20, "importance": "magnitude"}}, "16 or 24 would do"),
        (
            "gpt2",
            {"width": {"hidden": 16, "heads": 3, "importance": "magnitude"}},
            "give one of heads and hidden",
        ),
    ],
)
def test_what_does_not_fit_is_one_message(family, asked, message) -> None:
    with pytest.raises(ConfigError, match=message):
        prune(model_of(family), **asked)


def test_a_family_that_is_not_known_can_lose_blocks_but_no_width() -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(
        "gpt_neox",
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(UnsupportedError, match="query_key_value"):
        prune(model, width={"mlp": 0.5, "importance": "magnitude"})
    assert len(blocks_of(prune(model, depth={"drop": [2]}))) == 2


def test_a_pruned_student_is_compared_with_the_blocks_that_it_was_made_from() -> None:
    """The layer map and the projectors read the student's own record, through two prunings."""
    given, tokenizer = examples(), taught_tokenizer()
    scratch = {"architecture": "llama", "layers": 5, "width": 48, "heads": 4, "initializer_range": 0.1}
    config = TeacherConfig.parse({"scratch": scratch}, "teacher")
    whole = model_of("llama", hidden_size=48, vocab_size=len(tokenizer))
    once = prune(whole, depth={"drop": [2]})
    student = prune(once, depth={"drop": [2]}, width={"hidden": 24, "importance": "magnitude"})
    model = LatentThoughtForCausalLM.from_base(student, ThoughtConfig(), tokenizer)
    settings = {"target": "teacher", "alignment": "answer", "layers": "provenance", "projector": "linear"}
    terms = (as_term({"term": "hidden", **settings}),)
    pupil = Pupil(
        model=model,
        tokenizer=tokenizer,
        examples=given,
        rows=Encoder(tokenizer, FORMAT).encode_all(given),
        format=FORMAT,
        curriculum=LATENT,
    )
    guidance = guide(terms, config, pupil)
    assert guidance.objective.layer_pairs["hidden"] == ((1, 1), (2, 4), (-1, -1))
    attach_companions(model, guidance, tokenizer)
    channels = channels_in(student.config, 48)
    weight = model.companions["hidden"].maps[0][0].weight
    assert channels is not None and torch.equal(weight.argmax(0), torch.tensor(channels))
    assert torch.equal(weight.sum(0), torch.ones(24))
    # a student of other origin has no such record
    other = LatentThoughtForCausalLM.from_base(
        model_of("llama", vocab_size=len(tokenizer)), ThoughtConfig(), tokenizer
    )
    with pytest.raises(ConfigError, match="none are recorded"):
        guide(terms, config, replace(pupil, model=other))


@pytest.mark.parametrize(
    ("thought", "rules", "message"),
    [
        (
            {"layer": 3},
            {"depth": {"drop": [3]}},
            "block 3 is the one whose states are fed back .* stay: 1, 2, 4, 5",
        ),
        (
            {"scale": "mlp"},
            {"width": {"hidden": 0.5, "importance": "magnitude"}},
            "width.hidden: thought.scale is mlp",
        ),
    ],
)
def test_thoughts_that_would_be_lost_are_refused_before_anything_is_measured(thought, rules, message) -> None:
    model = LatentThoughtForCausalLM.from_base(model_of("llama"), ThoughtConfig(**thought))
    depth = DepthPruning.parse(rules["depth"], "depth") if "depth" in rules else None
    width = WidthPruning.parse(rules["width"], "width") if "width" in rules else None
    require_fit(model, depth, width)
    with pytest.raises(ConfigError, match=message):
        require_fit(model, depth, width, with_thoughts=True)
    with pytest.raises(ConfigError, match=message):
        with_thoughts_of(model, prune(model, **rules))


def test_which_block_goes_by_influence_is_known_only_afterwards() -> None:
    model = LatentThoughtForCausalLM.from_base(model_of("llama"), ThoughtConfig(layer=1))
    require_fit(model, DepthPruning(remove=1), None, with_thoughts=True)
    model = LatentThoughtForCausalLM.from_base(model_of("llama"), ThoughtConfig(layer=3))
    assert with_thoughts_of(model, prune(model, depth={"drop": [2]})).thought.layer == 2
