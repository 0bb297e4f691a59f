"""lm-evaluation-harness: our model class against lm-eval's own `hf` and against forward passes made by hand."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.utils import ModelOutput

from latentthought import LatentThoughtForCausalLM
from latentthought.errors import ConfigError, UnsupportedError
from latentthought.evaluation.harness.arguments import GenerationRequest
from latentthought.evaluation.harness.likelihood import LikelihoodScorer, Pair
from latentthought.evaluation.stopping import UntilStrings
from latentthought.model.policy import ThoughtPolicy
from tests.families import PAIRWISE, VOCABULARY
from tests.generation.naive import thinker

pytest.importorskip("lm_eval", reason="needs lm-eval: pip install 'latentthought[eval]'")
# what lm-eval and the libraries below it use is not in our hands
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

QUESTIONS = ["1 + 1 + 7", "1 + 1 + 1 + 1 + 5", "0", "1 + 8", "1 + 1 + 1 + 6"]


def requests(*arguments: tuple) -> list[Any]:
    """What lm-eval hands to a model: objects with `args`."""
    return [SimpleNamespace(args=item) for item in arguments]


def by_hand(
    model: LatentThoughtForCausalLM, context: list[int], continuation: list[int], thoughts: int
) -> tuple[float, bool]:
    """The definition: one row, no padding, no cache; thoughts between the delimiters, then the scored tokens."""
    thought = model.thought
    before = [*context, thought.start_token_id] if thoughts else context
    after = [thought.end_token_id] if thoughts else []
    ids = torch.tensor([[*before, *[thought.thought_token_id] * thoughts, *after, *continuation]])
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[0, len(before) : len(before) + thoughts] = True
    with torch.no_grad():
        logits = model(ids, thought_mask=mask).logits[0, -len(continuation) - 1 : -1]
    targets = torch.tensor(continuation)
    log = logits.log_softmax(-1).gather(1, targets[:, None]).sum()
    return float(log), bool((logits.argmax(-1) == targets).all())


def pairs_of(tokenizer: Any) -> list[Pair]:
    """Contexts of several lengths; several continuations of each, of one to four tokens, two of them alike but for the last."""
    texts = ["### 1", "### 2", "7", "1 + 1", "###"]
    contexts = [tokenizer(question + "\n")["input_ids"] for question in QUESTIONS]
    endings = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return [Pair(tuple(context), tuple(ending)) for context in contexts for ending in endings]


@pytest.mark.parametrize("thoughts", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_log_likelihood_is_that_of_a_forward_pass_by_hand(latent_model, tokenizer, thoughts, size) -> None:
    pairs = pairs_of(tokenizer)
    # every token after one context: one of them is the greedy one, and their probabilities sum to one
    vocabulary = range(latent_model.backbone.vocabulary)
    pairs += [Pair(pairs[0].context, (token,)) for token in vocabulary]
    scorer = LikelihoodScorer(latent_model, thoughts, 128, size)
    found = {
        place: made for places, many in scorer.score(pairs) for place, made in zip(places, many, strict=True)
    }
    assert sorted(found) == list(range(len(pairs)))
    for place, (context, continuation) in enumerate(pairs):
        log, greedy = by_hand(latent_model, list(context), list(continuation), thoughts)
        assert found[place].log_probability == pytest.approx(log, abs=1e-5, rel=1e-6)
        assert found[place].greedy == greedy
    every = [found[place] for place in range(len(pairs) - len(vocabulary), len(pairs))]
    assert sum(made.greedy for made in every) == 1
    assert sum(math.exp(made.log_probability) for made in every) == pytest.approx(1)


@pytest.mark.parametrize("case", PAIRWISE)
def test_log_likelihoods_in_every_family(case) -> None:
    """Padding, learnt positions and sliding windows included; contexts of 1 to 13 tokens."""
    model = thinker(case)
    drawn = torch.Generator().manual_seed(7)
    lengths = [(13, 3), (13, 1), (4, 2), (1, 5), (9, 4)]
    ids = [tuple(torch.randint(8, VOCABULARY, (n + m,), generator=drawn).tolist()) for n, m in lengths]
    pairs = [Pair(row[:n], row[n:]) for row, (n, _) in zip(ids, lengths, strict=True)]
    for thoughts in (0, 3):
        found = dict(_flat(LikelihoodScorer(model, thoughts, 64, 5).score(pairs)))
        for place, (context, continuation) in enumerate(pairs):
            log, _ = by_hand(model, list(context), list(continuation), thoughts)
            assert found[place].log_probability == pytest.approx(log, abs=2e-5)


def test_an_adaptive_count_is_that_of_think(latent_model, tokenizer) -> None:
    """`auto`: every row is scored after as many thoughts as `think` finds for it, whoever is beside it."""
    settled = ThoughtPolicy(kind="settled", maximum=6, threshold=0.5)
    pairs = pairs_of(tokenizer)[::5]
    counts = [
        int(latent_model.think(torch.tensor([pair.context]), thoughts=settled).counts) for pair in pairs
    ]
    assert len(set(counts)) > 1
    found = dict(_flat(LikelihoodScorer(latent_model, settled, 128, 8).score(pairs)))
    for place, ((context, continuation), count) in enumerate(zip(pairs, counts, strict=True)):
        log, _ = by_hand(latent_model, list(context), list(continuation), count)
        assert found[place].log_probability == pytest.approx(log, abs=1e-5)


def test_rows_share_passes_and_thoughts(latent_model, tokenizer, monkeypatch) -> None:
    """25 pairs of 5 contexts: 5 rows think, and the two endings that differ in their last token are one row."""
    thinking, scoring = [], []
    run = latent_model.backbone.run

    def counted(embeds, mask, positions, cache=None, input_ids=None):
        (thinking if embeds is not None and len(thinking) < 3 else scoring).append(len(positions))
        return run(embeds, mask, positions, cache, input_ids)

    monkeypatch.setattr(latent_model.backbone, "run", counted)
    list(LikelihoodScorer(latent_model, 3, 128, 100).score(pairs_of(tokenizer)))
    assert thinking == [5, 5, 5]
    assert scoring == [20]


def test_a_batch_that_does_not_fit_is_halved(latent_model, tokenizer, monkeypatch) -> None:
    pairs = pairs_of(tokenizer)
    expected = dict(_flat(LikelihoodScorer(latent_model, 0, 128, 100).score(pairs)))
    run, sizes = latent_model.backbone.run, []

    def cramped(embeds, mask, positions, cache=None, input_ids=None):
        sizes.append(len(input_ids))
        if len(input_ids) > 6:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return run(embeds, mask, positions, cache, input_ids)

    monkeypatch.setattr(latent_model.backbone, "run", cramped)
    found = dict(_flat(LikelihoodScorer(latent_model, 0, 128, 16).score(pairs)))
    assert sizes == [16, 8, 4, 4, 4, 4, 4]
    assert found.keys() == expected.keys()
    assert all(
        made.log_probability == pytest.approx(expected[place].log_probability, abs=1e-5)
        for place, made in found.items()
    )


def _flat(batches):
    return [item for places, made in batches for item in zip(places, made, strict=True)]


def test_a_context_loses_its_beginning_where_thoughts_leave_no_room(latent_model, tokenizer) -> None:
    context, continuation = pairs_of(tokenizer)[6]
    scorer = LikelihoodScorer(latent_model, 2, 4 + len(continuation) - 1 + 3, 8)
    ((_, (found,)),) = scorer.score([Pair(context, continuation)])
    log, _ = by_hand(latent_model, list(context[-3:]), list(continuation), 2)
    assert found.log_probability == pytest.approx(log, abs=1e-5)
    with pytest.raises(
        ConfigError, match=r"continuation of 4 tokens does not fit into a context of 7, 4 of them"
    ):
        list(LikelihoodScorer(latent_model, 2, 7, 8).score([Pair((1, 2), (3, 4, 5, 6))]))


@pytest.mark.parametrize("control", ["no-thought", "pause"])
def test_controls_apply_to_log_likelihoods(latent_model, tokenizer, control) -> None:
    context, continuation = pairs_of(tokenizer)[1]
    ((_, (found,)),) = LikelihoodScorer(latent_model, 3, 128, 8, control).score([Pair(context, continuation)])
    thought = latent_model.thought
    inside = [] if control == "no-thought" else [thought.thought_token_id] * 3
    given = [*context, thought.start_token_id, *inside, thought.end_token_id]
    log, _ = by_hand(latent_model, given, list(continuation), 0)
    assert found.log_probability == pytest.approx(log, abs=1e-5)
    with pytest.raises(UnsupportedError, match="allowed: none, no-thought, pause"):
        LikelihoodScorer(latent_model, 3, 128, 8, "shuffled")


def test_without_thoughts_the_numbers_are_those_of_hf(latent_model, tokenizer) -> None:
    """lm-eval's own class on the plain model inside, and ours on the same plain model: all three requests."""
    from lm_eval.models.huggingface import HFLM

    from latentthought.evaluation.harness import LatentThoughtLM

    base = latent_model.to_base()
    theirs = HFLM(base, tokenizer=tokenizer, device="cpu", batch_size=3, max_length=24)
    ours = LatentThoughtLM(base, tokenizer=tokenizer, batch_size=3, max_length=24)
    long = " + ".join(["1"] * 40)  # several windows, and a context that has to be cut
    asked = [(q + "\n", e) for q in [*QUESTIONS, long] for e in ("### 1", "### 2", " 7 + 1", "9")]
    asked += [("", "1 + 1"), ("1 +  ", "1")]
    for found, wanted in zip(
        ours.loglikelihood(requests(*asked), disable_tqdm=True),
        theirs.loglikelihood(requests(*asked), disable_tqdm=True),
        strict=True,
    ):
        assert found[0] == pytest.approx(wanted[0], abs=1e-5, rel=1e-6)
        assert found[1] == wanted[1]
    texts = [(long,), ("1 + 1",), (long + " + 7",)]
    assert ours.loglikelihood_rolling(requests(*texts), disable_tqdm=True) == pytest.approx(
        theirs.loglikelihood_rolling(requests(*texts), disable_tqdm=True), abs=1e-5, rel=1e-6
    )
    plain = {"until": [], "max_gen_toks": 6, "do_sample": False}
    prompts = [(q + "\n", plain) for q in [*QUESTIONS, long]]
    written = theirs.generate_until(requests(*prompts), disable_tqdm=True)
    assert ours.generate_until(requests(*prompts), disable_tqdm=True) == written
    middle = next(text[len(text) // 2] for text in written if len(text) > 2 and text[len(text) // 2].strip())
    stopped = [(q, {**plain, "until": [middle]}) for q, _ in prompts]
    assert ours.generate_until(requests(*stopped), disable_tqdm=True) == theirs.generate_until(
        requests(*stopped), disable_tqdm=True
    )


def test_rolling_windows_may_think(wrapped, latent_model, tokenizer) -> None:
    text = "1 + 1 + 1 + 6"
    ids = tokenizer(text)["input_ids"]
    prefix = wrapped.prefix_token_id
    (plain,) = wrapped.loglikelihood_rolling(requests((text,)), disable_tqdm=True)
    assert plain == pytest.approx(by_hand(latent_model, [prefix], ids, 0)[0], abs=1e-5)
    wrapped.rolling_thoughts = 2
    (thinking,) = wrapped.loglikelihood_rolling(requests((text,)), disable_tqdm=True)
    assert thinking == pytest.approx(by_hand(latent_model, [prefix], ids, 2)[0], abs=1e-5)


def test_with_thoughts_the_context_keeps_its_end(wrapped, latent_model, tokenizer) -> None:
    """lm-eval moves the line break behind the question into the answer; thoughts come after it, as in training."""
    question = QUESTIONS[0] + "\n"
    context = tokenizer(question)["input_ids"]
    answer = tokenizer("### 9", add_special_tokens=False)["input_ids"]
    assert wrapped._encode_pair(question, "### 9") == (context, answer)
    ((found, _),) = wrapped.loglikelihood(requests((question, "### 9")), disable_tqdm=True)
    assert found == pytest.approx(by_hand(latent_model, context, answer, 2)[0], abs=1e-5)
    wrapped.thoughts = 0
    assert wrapped._encode_pair(question, "### 9")[0] == context[: len(tokenizer(QUESTIONS[0])["input_ids"])]


def test_answers_come_in_order_and_reach_the_cache(wrapped) -> None:
    class Hook:
        kept: dict[str, Any] = {}

        def add_partial(self, kind: str, arguments: Any, result: Any) -> None:
            self.kept[json.dumps([kind, list(arguments)])] = result

    wrapped.set_cache_hook(Hook())
    settings = [{"until": [], "max_gen_toks": 4}, {"until": ["1"], "max_gen_toks": 5, "thoughts": 0}]
    asked = requests(*[(q + "\n", settings[i % 2]) for i, q in enumerate(QUESTIONS)])
    texts = wrapped.generate_until(asked, disable_tqdm=True)
    alone = [wrapped.generate_until([item], disable_tqdm=True)[0] for item in asked]
    assert texts == alone
    assert all("1" not in text for text in texts[1::2])
    for item, text in zip(asked, texts, strict=True):
        assert Hook.kept[json.dumps(["generate_until", list(item.args)])] == text
    pairs = requests((QUESTIONS[1] + "\n", "1"), (QUESTIONS[0] + "\n", "7 + 1"))
    found = wrapped.loglikelihood(pairs, disable_tqdm=True)
    for item, made in zip(pairs, found, strict=True):
        assert Hook.kept[json.dumps(["loglikelihood", list(item.args)])] == made


def test_mixed_decoding_stops_after_its_reasoning_only(wrapped, latent_model, tokenizer) -> None:
    """What stands before the end-of-thought token is no answer: it is left out, and stop strings in it count for nothing."""
    end, (one,), (two,) = (
        latent_model.thought.end_token_id,
        *(tokenizer(t, add_special_tokens=False)["input_ids"] for t in "17"),
    )
    written = [one, two, end, two, one, two, two]

    class Fixed:
        """Writes the same ids whatever the prompt, by transformers' rules for stopping."""

        def __getattr__(self, name: str) -> Any:
            return getattr(latent_model, name)

        def generate(self, input_ids, stopping_criteria=(), **_: Any) -> Any:
            for token in written:
                input_ids = torch.cat([input_ids, torch.full_like(input_ids[:, :1], token)], dim=1)
                if any(bool(stop(input_ids, None).all()) for stop in stopping_criteria):
                    break
            return ModelOutput(sequences=input_ids)

    wrapped.model, wrapped.mix_ratio, wrapped.thoughts = Fixed(), 0.5, 0
    asked = requests(("1 + 1", {"until": ["1"], "max_gen_toks": 9}), ("1", {"max_gen_toks": 9}))
    assert wrapped.generate_until(asked, disable_tqdm=True) == ["7", "7177"]


def test_stop_strings_are_met_across_tokens_and_row_by_row(tokenizer) -> None:
    stop = UntilStrings(tokenizer, ["+ 1"], width=2)
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("+ 1 1 + 1", "+ 1 1 + 0")]
    assert len(rows[0]) == len(rows[1])
    ids = torch.tensor(rows)
    assert stop(ids[:, :4], None).tolist() == [False, False]  # what meets it stands in the prompt
    assert stop(ids, None).tolist() == [True, False]
    (end,) = tokenizer("#", add_special_tokens=False)["input_ids"]
    opened = UntilStrings(tokenizer, ["1"], width=0, opened_by=end)
    text = torch.tensor([tokenizer("1 # 1", add_special_tokens=False)["input_ids"]])
    assert not opened(text[:, :1], None).item()
    assert not opened(text[:, :3], None).item()
    assert opened(text, None).item()


@pytest.mark.parametrize(
    ("given", "temperature", "tokens"),
    [
        ({}, None, 256),
        ({"temperature": 0.0, "max_new_tokens": 7}, None, 7),
        ({"temperature": 0.6}, 0.6, 256),
        ({"do_sample": False, "temperature": 0.6}, None, 256),
        ({"do_sample": True, "max_gen_toks": 3, "max_tokens": 9}, 1.0, 3),
    ],
)
def test_generation_settings(given: dict, temperature: float | None, tokens: int) -> None:
    read = GenerationRequest.read({"until": "a", "top_p": 0.9, **given}, 256)
    assert (read.temperature, read.max_new_tokens, read.until) == (temperature, tokens, ("a",))
    assert read.options == {"top_p": 0.9}
    assert read.cut("xyaza") == "xy"


def test_bad_arguments_are_one_line(latent_model, tokenizer) -> None:
    from latentthought.evaluation.harness import LatentThoughtLM

    with pytest.raises(ConfigError, match=r"unknown model argument 'thought'.*thoughts"):
        LatentThoughtLM(latent_model, tokenizer=tokenizer, thought=3)
    with pytest.raises(ConfigError, match=r"batch_size: a number of rows from 1, or auto \(got 'many'\)"):
        LatentThoughtLM(latent_model, tokenizer=tokenizer, batch_size="many")
    for wrong, near in (("shufled", "Did you mean shuffled"), ("all", "Known: no-thought, noised, none")):
        with pytest.raises(ConfigError, match=rf"unknown control '{wrong}'\..*{near}") as refused:
            LatentThoughtLM("never/opened", control=wrong)
        assert "mean all" not in str(refused.value)
    with pytest.raises(ConfigError, match="no chat template"):
        LatentThoughtLM(latent_model, tokenizer=tokenizer).apply_chat_template(
            [{"role": "user", "content": "a"}]
        )
    with pytest.raises(ConfigError, match="pretrained="):
        LatentThoughtLM.create_from_arg_obj({"thoughts": 3})
    model = LatentThoughtLM.create_from_arg_obj(
        {"pretrained": latent_model, "tokenizer": tokenizer, "max_length": 20, "batch_size": 2},
        {"batch_size": 5, "device": "cuda:0", "max_batch_size": None},
    )
    assert (model.batch_size, model.device.type) == (2, "cpu")
    with pytest.raises(ConfigError, match="17 new tokens and 4 for thoughts leave no room"):
        model.generate_until(requests(("1", {"max_gen_toks": 17})), disable_tqdm=True)


def test_chat_templates(wrapped, tokenizer, monkeypatch) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}A:<go>{% endif %}"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    turns = [{"role": "user", "content": "1 + 1"}]
    assert wrapped.apply_chat_template(turns) == "user: 1 + 1\nA:<go>"
    wrapped.model.config.prompt_format = {"chat": True, "chat_drop": "<go>"}
    assert wrapped.apply_chat_template(turns) == "user: 1 + 1\nA:"
    assert wrapped.chat_template(True) == template
    assert isinstance(wrapped.tokenizer_name, str)
