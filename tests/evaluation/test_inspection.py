"""A look inside the thoughts: a prompt against the model's own methods, rows against loops by hand, probes on plants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from latentthought.data.example import Example, ExampleSet
from latentthought.data.sources import SourceConfig, load_examples
from latentthought.errors import ConfigError, UnsupportedError
from latentthought.evaluation.clues import chain_leads
from latentthought.evaluation.inspection.faithfulness import faithfulness
from latentthought.evaluation.inspection.probing import probe, result_of
from latentthought.evaluation.inspection.prompt import Asked, Inspector
from latentthought.evaluation.inspection.rows import AnsweredRow, Asking, find_donors
from latentthought.evaluation.inspection.tables import render_effects, render_probes
from latentthought.evaluation.models import decode
from latentthought.model.inputs import left_padded

THOUGHTS = 2


# ---------------------------------------------------------------------------------------------------------- one prompt
@pytest.fixture
def asked(rows: ExampleSet, encoder: Any) -> list[Asked]:
    return [Asked(row.id, row.question, encoder.prompt_ids(row), ("1", "2"), row.answer) for row in rows]


def test_one_prompt(latent_model: Any, tokenizer: Any, asked: list[Asked]) -> None:
    inspector = Inspector(latent_model, tokenizer, THOUGHTS, draws=3, top_k=4, max_new_tokens=6)
    found = inspector.look(asked[3], asked[4])
    prompt = torch.tensor([asked[3].prompt])
    new = latent_model.generate(prompt, thoughts=THOUGHTS, max_new_tokens=6, do_sample=False)
    ids = new[0, prompt.shape[1] :].tolist()
    assert found.answer == decode(tokenizer, ids).strip()
    think = latent_model.think(prompt, thoughts=THOUGHTS, top_k=4)
    words = think.decoded.words(tokenizer, think.counts)[0]
    for view, expected in zip(found.thoughts, words, strict=True):
        assert [word for word, _ in view.seen.words[-1]] == [word for word, _ in expected]
        assert [chance for _, chance in view.seen.words[-1]] == pytest.approx(
            [c for _, c in expected], abs=1e-5
        )
    state = think.states[0]
    assert found.thoughts[0].cosine is None
    assert found.thoughts[1].cosine == pytest.approx(
        float(torch.cosine_similarity(state[0], state[1], dim=0)), abs=1e-5
    )
    rms = state.square().mean(-1).sqrt() / latent_model.scale.target
    assert [view.rms_ratio for view in found.thoughts] == pytest.approx(rms.tolist(), rel=1e-4)
    kinds = [
        (effect.kind, effect.reach, sum(n for _, n in effect.answers)) for effect in found.thoughts[0].effects
    ]
    assert kinds == [
        ("removed", "direct", 1),
        ("removed", "total", 1),
        ("noised", "direct", 3),
        ("noised", "total", 3),
        ("swapped", "direct", 1),
        ("swapped", "total", 1),
    ]
    # of the last thought nothing follows, so that both effects are the same
    effects = {(effect.kind, effect.reach): effect for effect in found.thoughts[-1].effects}
    for kind in ("removed", "noised", "swapped"):
        assert effects[kind, "direct"].log_prob == pytest.approx(effects[kind, "total"].log_prob, abs=1e-5)
    widths = [len(view.seen.attention[0]) for view in found.thoughts]
    assert widths == [len(asked[3].prompt) + 1, len(asked[3].prompt) + 2], (
        "a thought sees what stands before it"
    )
    assert all(
        sum(row) == pytest.approx(1, abs=1e-5) for view in found.thoughts for row in view.seen.attention
    )
    assert len(found.columns) == len(asked[3].prompt) + 2 + THOUGHTS == len(found.answer_seen.attention[0])
    room = 128 - prompt.shape[1]
    in_words = latent_model.generate(prompt, thoughts=0, max_new_tokens=room, do_sample=False)[
        0, prompt.shape[1] :
    ]
    assert found.in_words == _text(tokenizer, in_words)
    assert (found.steps, found.gold, found.donor) == (("1", "2"), "3", asked[4].question)


def test_what_a_generation_config_does_to_words_is_no_change(
    latent_model: Any, tokenizer: Any, task: Any, asked: list[Asked], stepped: ExampleSet
) -> None:
    """A noise of next to nothing changes no answer, whatever repetitions cost, and the config comes back."""
    inspector = Inspector(latent_model, tokenizer, THOUGHTS, draws=2, noise=1e-6, max_new_tokens=8)
    plain = inspector.look(asked[3])
    latent_model.generation_config.repetition_penalty = 1.7
    try:
        found = inspector.look(asked[3])
        many, _ = run(latent_model, task.replace(groups=[]), tokenizer, stepped, noise=1e-6)
        assert latent_model.generation_config.repetition_penalty == 1.7
    finally:
        latent_model.generation_config.repetition_penalty = None
    assert found.answer == plain.answer
    noised = [effect for view in found.thoughts for effect in view.effects if effect.kind == "noised"]
    assert [effect.kept for effect in noised] == [1.0] * 4
    assert all(effect.flipped.value == 0 for effect in many.effects if effect.kind == "noised")


def test_a_row_that_is_scored_otherwise_than_it_was_written_counts_for_no_flip(
    latent_model: Any, task: Any, tokenizer: Any, stepped: ExampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = Asking.answered

    def otherwise(self: Asking, *arguments: Any) -> list[AnsweredRow]:
        first, *others = answered(self, *arguments)
        return [replace(first, answer=[(token + 1) % 7 + 3 for token in first.answer]), *others]

    monkeypatch.setattr(Asking, "answered", otherwise)
    found, _ = run(latent_model, task.replace(groups=[]), tokenizer, stepped)
    assert any("1 of 10 answers are not what the model says" in remark for remark in found.remarks)
    effect = found.effect(1, "removed", "direct")
    assert (effect.flipped.n, effect.log_prob.n) == (9, 10)


def test_an_answer_under_a_change_is_what_generate_writes(
    latent_model: Any, tokenizer: Any, asked: list[Asked]
) -> None:
    """The last thought removed with all before it is the control `no-thought`; swapping all of one thought is `shuffled`."""
    inspector = Inspector(latent_model, tokenizer, 1, draws=1, max_new_tokens=6)
    found = inspector.look(asked[3], asked[4])
    effects = {(effect.kind, effect.reach): effect for effect in found.thoughts[0].effects}
    ids = torch.tensor([asked[3].prompt])
    none = latent_model.generate(ids, thoughts=1, control="no-thought", max_new_tokens=6, do_sample=False)
    assert effects["removed", "total"].answers[0][0] == _text(tokenizer, none[0, ids.shape[1] :])
    pair = [asked[4].prompt, asked[3].prompt]
    both, mask = left_padded(pair)
    shuffled = latent_model.generate(
        both, mask, thoughts=1, control="shuffled", max_new_tokens=6, do_sample=False
    )
    assert effects["swapped", "total"].answers[0][0] == _text(tokenizer, shuffled[1, both.shape[1] :])


def _text(tokenizer: Any, ids: torch.Tensor) -> str:
    return decode(tokenizer, ids.tolist()).strip()


def test_what_has_no_thoughts_is_refused(latent_model: Any, tokenizer: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"nothing to inspect: .* 0 thoughts, and was trained with 2; .*--thoughts N"
    ):
        Inspector(latent_model, tokenizer, 0)
    latent_model.set_thought(fill="pause")
    with pytest.raises(UnsupportedError, match="pause tokens"):
        Inspector(latent_model, tokenizer, 2)
    with pytest.raises(UnsupportedError, match="plain language model"):
        Inspector(latent_model.base, tokenizer, 2)


# -------------------------------------------------------------------------------------------------------------- probes
def planted(rows: int = 600, width: int = 24, classes: int = 6) -> tuple[torch.Tensor, list[list[str]]]:
    """Thought 2 holds the result of step 1 as a direction of its own, in noise; thought 1 holds nothing."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(classes, (rows,), generator=generator)
    directions = torch.randn(classes, width, generator=generator)
    states = torch.randn(rows, 2, width, generator=generator)
    states[:, 1] += 3 * directions[label]
    other = torch.randint(classes, (rows,), generator=generator)
    return states, [[f"r{a}", f"r{b}"] for a, b in zip(label.tolist(), other.tolist(), strict=True)]


@pytest.mark.parametrize("width", [24, 700], ids=["narrow", "wider than rows"])
def test_a_probe_finds_what_was_planted_and_nothing_else(width: int) -> None:
    states, results = planted(width=width)
    found, remark = probe(states, results)
    assert remark == ""
    score = {(one.thought, one.step): one for one in found}
    assert score[2, 1].accuracy.value > 0.97
    chance = [score[1, 1], score[1, 2], score[2, 2]]
    assert all(one.accuracy.low < 1 / 6 + 0.02 and one.accuracy.value < 0.27 for one in chance)
    for one in found:
        assert one.rows == (400, 200) and one.classes == 6 and one.left_out == 0
        assert abs(one.shuffled - 1 / 6) < 0.06
        assert abs(one.majority - 1 / 6) < 0.08
    assert probe(states, results)[0] == found, "the same every time"


def test_a_probe_of_unequal_classes_is_measured_against_the_commonest() -> None:
    states, _ = planted()
    results = [["a"] if row % 10 else ["b"] for row in range(600)]
    one = probe(states, results)[0][0]
    assert one.majority == pytest.approx(0.9, abs=0.03)
    assert one.accuracy.value <= one.majority + 0.03


def test_rare_results_are_left_out_and_nothing_to_tell_apart_is_said() -> None:
    states, results = planted()
    results[:3] = [["only here", "r0"]] * 3
    assert next(one for one in probe(states, results)[0] if one.step == 1).left_out == 3
    assert "no steps" in probe(states, [[] for _ in results])[1]
    assert "look at more rows" in probe(states, [[str(row)] for row in range(600)])[1]
    assert "look at more rows" in probe(states, [["same"] for _ in range(600)])[1]
    ragged = [row[: 1 + number % 2] for number, row in enumerate(results)]
    rows = {one.step: sum(one.rows) + one.left_out for one in probe(states, ragged)[0]}
    assert rows == {1: 600, 2: 300}


@pytest.mark.parametrize(
    ("step", "result"),
    [
        ("c", "c"),
        ("<<48/2=24>>", "24"),
        ("He sold 48/2 = 24 clips.", "24 clips"),
        ("Every rompus is a wumpus.", "wumpus"),
        ("so x = $5.", "5"),
        ("", ""),
    ],
)
def test_the_result_of_a_step(step: str, result: str) -> None:
    assert result_of(step) == result


# ----------------------------------------------------------------------------------------------------------- data sets
@pytest.fixture
def stepped(rows: ExampleSet) -> ExampleSet:
    """The sums with two steps each; the first step has three different results."""
    made = [
        Example(row.id, row.question, (f"r{place % 3}", f"s{place}"), row.answer)
        for place, row in enumerate(rows)
    ]
    return ExampleSet(made, origin="sums")


def run(model: Any, task: Any, tokenizer: Any, rows: ExampleSet, **more: Any) -> Any:
    return faithfulness(model, task, tokenizer=tokenizer, data=rows, draws=2, progress=False, **more)


def test_effects_are_those_of_rows_one_by_one(
    latent_model: Any, task: Any, tokenizer: Any, stepped: ExampleSet
) -> None:
    task = task.replace(groups=[])
    found, shown = run(latent_model, task, tokenizer, stepped)
    again, _ = run(latent_model, task, tokenizer, stepped, batch_size=3)
    assert (found.thoughts, found.rows, found.unfit, found.per_step) == (2, 10, 0, 1)
    for one, other in zip(found.effects, again.effects, strict=True):
        assert (one.thought, one.kind, one.reach) == (other.thought, other.kind, other.reach)
        assert one.log_prob.value == pytest.approx(other.log_prob.value, abs=1e-4)
        assert one.flipped == other.flipped
    kinds = {(effect.kind, effect.thought): effect.log_prob.n for effect in found.effects}
    # s0 ... s9 are all different, so that the second thought has no other of the same result
    assert kinds == {
        **{(kind, thought): 10 for kind in ("removed", "noised", "swapped") for thought in (1, 2)},
        ("alike", 1): 10,
    }
    lost, flips = zip(
        *(removed_by_hand(latent_model, tokenizer, task, row, 0) for row in stepped), strict=True
    )
    effect = found.effect(1, "removed", "direct")
    assert effect.log_prob.value == pytest.approx(sum(lost) / 10, abs=1e-4)
    assert effect.flipped.value == sum(flips) / 10
    assert effect.log_prob.low <= effect.log_prob.value <= effect.log_prob.high
    assert [one.id for one in shown] == [row.id for row in list(stepped)[:3]]
    assert "look at more rows" in found.remarks[0], "ten rows are too few for probes"
    assert render_probes(found) is None
    assert render_effects(found).row_count == 2


@torch.no_grad()
def removed_by_hand(model: Any, tokenizer: Any, task: Any, row: Example, thought: int) -> tuple[float, bool]:
    """Change of the log probability of the model's own answer, and whether the answer changes, in whole passes."""
    from latentthought.data.encoding import Encoder

    encoder = Encoder(tokenizer, task.format_for(model), spans=False)
    prompt = torch.tensor([encoder.prompt_ids(row)])
    new = model.generate(prompt, thoughts=2, max_new_tokens=task.max_new_tokens, do_sample=False)[
        0, prompt.shape[1] :
    ]
    answer = new.tolist()
    if tokenizer.eos_token_id in answer:
        answer = answer[: answer.index(tokenizer.eos_token_id) + 1]
    states = model.think(prompt, thoughts=2).states[0]
    embed = model.backbone.embed
    start, end = (
        torch.tensor([[token]]) for token in (model.thought.start_token_id, model.thought.end_token_id)
    )

    def log_probs(fed: torch.Tensor) -> torch.Tensor:
        parts = [
            embed(prompt),
            embed(start),
            model.scale(fed)[None],
            embed(end),
            embed(torch.tensor([answer])),
        ]
        logits = model.base(inputs_embeds=torch.cat(parts, dim=1), use_cache=False).logits
        return logits[0, -len(answer) - 1 : -1].log_softmax(-1)

    whole, less = log_probs(states), log_probs(torch.cat([states[:thought], states[thought + 1 :]]))
    place = torch.arange(len(answer))
    change = (less[place, answer] - whole[place, answer]).sum()
    return float(change), less.argmax(-1).tolist() != answer


def test_rows_without_steps_are_swapped_with_the_next(
    latent_model: Any, task: Any, tokenizer: Any, rows: ExampleSet
) -> None:
    found, _ = run(latent_model, task, tokenizer, rows)
    assert found.per_step is None
    assert not found.probes
    assert len(found.remarks) == 2 and "no steps" in found.remarks[0]
    assert {effect.kind for effect in found.effects} == {"removed", "noised", "swapped"}


def test_donors_have_another_result_or_the_same() -> None:
    results = ["a", "b", "a", "b", "c"]
    rows = [
        AnsweredRow(place, Example(str(place), f"q{place}", (), ""), [1], [1], True, (result,))
        for place, result in enumerate(results)
    ]
    donors = find_donors(rows, [0, None, 5])
    assert donors[:, 0, 0].tolist() == [1, 2, 3, 4, 0]
    assert donors[:, 1, 0].tolist() == [2, 3, 0, 1, -1]
    for unknown in (1, 2):
        assert donors[:, 0, unknown].tolist() == [1, 2, 3, 4, 0]
        assert donors[:, 1, unknown].tolist() == [-1] * 5


def test_where_another_result_leads_in_a_rows_own_table() -> None:
    row = next(iter(load_examples(SourceConfig(source="hops", split="test", limit=1))))
    for step, symbol in enumerate(row.steps):
        assert chain_leads(row, step, symbol) == row.answer, "its own results lead to its own answer"
    example = Example("x", "a b b c c d d a ? a", ("b", "c"), "c")
    assert chain_leads(example, 0, "c") == "d"
    assert chain_leads(example, 1, "a") == "a"
    assert chain_leads(example, 0, "z") is None
