"""Pairs of student and teacher positions, against a reference that decodes token by token and compares what has been read."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentthought.data.collation import Collator
from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import Encoder, FormatConfig
from latentthought.data.example import Example
from latentthought.data.fitting import fit_rows
from latentthought.data.tokenizer import TokenizerConfig, train_tokenizer
from latentthought.errors import ConfigError
from latentthought.objective.alignment import ANSWER, PROMPT, Reading, Sites, align, keys_of, sites
from latentthought.objective.places import Places
from latentthought.thoughts.layout import ThoughtTokens

EXAMPLE = Example("r1", "Tim has 12 + 345 nuts?", ("12 + 345 = 357", "357 + 1000 = 1357", "so 1357"), "1357")
TOKENS = ThoughtTokens(start_id=0, end_id=1, thought_id=2)
STUDENT = FormatConfig()
TEACHER = FormatConfig(
    prompt="Question: {question}\nReason.\n", step="Step: {step}. ", answer="\\boxed{{{answer}}}"
)
_TEXT = "Question: Tim has nuts?\nReason. Step: . so + = \\boxed{{}} ### éßx日本語 0 1 2 3 4 5 6 7 8 9"
_NUMBERS = " ".join(["12 345 357 1000 1357"] * 50)


@pytest.fixture(scope="module")
def digits():
    """One token a digit."""
    return train_tokenizer(TokenizerConfig(), [_TEXT, _NUMBERS])


@pytest.fixture(scope="module")
def numbers():
    """One token a number, with the space before it."""
    return train_tokenizer(TokenizerConfig(kind="bytes", vocab_size=400), [_TEXT, *[_NUMBERS] * 20])


def read(tokenizer, example=EXAMPLE, form=STUDENT, stage: int = 0, method="text", max_length=None, **values):
    curriculum = Curriculum.parse({"method": method, "each": {"steps": 1}, **values})
    encoded = Encoder(tokenizer, form).encode(example)
    fitted = fit_rows([encoded], max_length, "truncate_steps").rows[0]
    return Reading(curriculum.layout(fitted, stage, random.Random(0), TOKENS), fitted)


def pairs(student: Reading, teacher: Reading, rule: str) -> list[tuple[int, int]]:
    """Last positions of the pairs (student, teacher)."""
    mine, theirs = sites(student, rule), sites(teacher, rule)
    chosen, partners = align(mine.keys_N, theirs.keys_N)
    ends = [(side.at(places).stops_N - 1).tolist() for side, places in ((mine, chosen), (theirs, partners))]
    return list(zip(*ends, strict=True))


def texts_read(tokenizer, ids: list[int], start: int = 0) -> dict[str, int]:
    """What has been read of a piece's own words, which begin at `start`, and at which token: by decoding, token by token.

    Tokens that end inside a character are left out, and the end token.
    """
    found = {}
    for count in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:count], skip_special_tokens=True)[start:]
        if text and not text.endswith("\ufffd") and ids[count - 1] != tokenizer.eos_token_id:
            found[text] = count - 1
    return found


def common(left: dict[str, int], right: dict[str, int], left_start: int, right_start: int):
    return sorted((left_start + left[text], right_start + right[text]) for text in left if text in right)


def step_starts(reading: Reading) -> list[int]:
    """Where each step in words starts in the row, by searching its ids."""
    starts, place = [], 0
    for step in reading.encoded.steps[reading.row.first_step :]:
        while reading.row.ids[place : place + len(step)] != step or reading.row.regions[place] != 4:
            place += 1
        starts.append(place)
        place += len(step)
    return starts


# --- two tokenizers, two templates ------------------------------------------------------------------------------------


def test_reasoning_pairs_words_read_alike_whatever_the_digits(digits, numbers):
    student, teacher = read(digits), read(numbers, form=TEACHER)
    expected = []
    starts = zip(step_starts(student), step_starts(teacher), strict=True)
    for number, (mine, theirs) in enumerate(starts):
        left = texts_read(digits, student.encoded.steps[number])
        right = texts_read(numbers, teacher.encoded.steps[number], start=len("Step: "))
        expected += common(left, right, mine, theirs)
    assert pairs(student, teacher, "reasoning") == expected
    # "12 + 345 = 357": the student has 1|2|+|3|4|5|=|..., the teacher 12| +| 345| =| 357: ends of words only
    ids, other = student.encoded.steps[0], teacher.encoded.steps[0]
    assert len(ids) > 10 and len([p for p in expected if p[0] < step_starts(student)[1]]) == 5 < len(other)


def test_equal_tokenizers_and_templates_pair_one_to_one(digits):
    student, teacher = read(digits, method="soft_mix"), read(digits)
    words = sum(map(len, student.encoded.steps))
    found = pairs(student, teacher, "reasoning")
    start = len(student.encoded.prompt)
    # the student's row has a start delimiter more
    assert found == [(start + 1 + n, start + n) for n in range(words)]
    assert pairs(student, student, "shared")[-1][0] == len(student.row.ids) - 2  # all but the end token


def test_equal_ends_of_different_texts_are_no_pairs(digits):
    other = Example("r1", EXAMPLE.question, ("13 + 345 = 358",), EXAMPLE.answer)
    student, teacher = read(digits), read(digits, other)
    assert [a - len(student.encoded.prompt) for a, _ in pairs(student, teacher, "reasoning")] == [
        0
    ]  # the "1"
    solved = Example("r1", EXAMPLE.question, EXAMPLE.steps, "1357", solution="it is 1357")
    found = pairs(student, read(digits, solved, FormatConfig(answer="{solution}")), "shared")
    assert len(found) > 5 and all(a < len(student.encoded.prompt) for a, _ in found)


def literal(template: str) -> str:
    return template.partition("{answer}")[0].replace("{{", "{")


def before_answer(tokenizer, reading: Reading, lead: str) -> int:
    """The last position at which no word of the answer's own has been read, by decoding one token more at a time."""
    ids, count = reading.encoded.answer, 0
    while len(tokenizer.decode(ids[: count + 1])) <= len(lead):
        count += 1
    return len(reading.row.ids) - len(ids) + count - 1


def test_step_ends_pooled_and_answer_need_no_common_text(digits, numbers):
    student = read(digits, method="latent", max_latent_steps=2, thoughts_per_step=2, stage=2)
    teacher = read(numbers, form=TEACHER)
    row, prompt, starts = student.row, len(student.encoded.prompt), step_starts(teacher)
    assert row.thought.index(True) == prompt + 1 and row.thoughts == 4
    lengths = [len(step) for step in teacher.encoded.steps]
    ends = [start + length - 1 for start, length in zip(starts, lengths, strict=True)]
    answer = len(row.ids) - len(student.encoded.answer)
    assert pairs(student, teacher, "step_ends") == list(
        zip([prompt + 2, prompt + 4, answer - 1], ends, strict=True)
    )
    mine, theirs = list(sites(student, "pooled")), list(sites(teacher, "pooled"))
    assert [(s.start, s.stop) for s in mine[:2]] == [(prompt + 1, prompt + 3), (prompt + 3, prompt + 5)]
    assert (mine[2].start, mine[2].stop) == (prompt + 6, answer)
    assert [(s.start, s.stop - 1) for s in theirs] == list(zip(starts, ends, strict=True))
    assert [s[2:] for s in mine] == [s[2:] for s in theirs] == [(1, 0), (2, 0), (3, 0)]
    assert pairs(student, teacher, "answer") == [
        (before_answer(digits, student, "### "), before_answer(numbers, teacher, literal(TEACHER.answer)))
    ]


def test_shared_pairs_the_question_and_the_answer_s_own_words(digits, numbers):
    student, teacher = read(digits), read(numbers, form=TEACHER)
    found = pairs(student, teacher, "shared")
    mine = texts_read(digits, student.encoded.prompt)
    theirs = texts_read(numbers, teacher.encoded.prompt, start=len("Question: "))
    mine.pop(EXAMPLE.question + "\n")  # the template's, and no more of the question
    left = texts_read(digits, student.encoded.answer, start=len("### "))
    right = texts_read(numbers, teacher.encoded.answer, start=len("\\boxed{"))
    starts = [len(r.row.ids) - len(r.encoded.answer) for r in (student, teacher)]
    assert found == common(mine, theirs, 0, 0) + common(left, right, *starts)
    words = [digits.decode(student.row.ids[: a + 1]).split()[-1] for a, _ in found]
    assert words[:7] == ["Tim", "has", "12", "+", "345", "nuts", "nuts?"] and words[-1] == "1357"
    assert not any("#" in word for word in words)
    # the white space that a template trims around a question moves nothing
    spaced = Example("r1", f"  {EXAMPLE.question} ", EXAMPLE.steps, EXAMPLE.answer)
    assert len(pairs(read(digits, spaced), teacher, "shared")) == len(found)


def test_shared_finds_the_question_inside_a_chat_template(digits):
    from copy import deepcopy

    chatty = deepcopy(digits)
    chatty.chat_template = (
        "{% for m in messages %}[{{ m['content'] | trim }}]{% endfor %}"
        "{% if add_generation_prompt %}Reason: nuts?{% endif %}"
    )
    form = FormatConfig(chat=True, system="Tim has nuts?", prompt="Question: {question}\n")
    talk = read(chatty, form=form)
    start, stop = talk.encoded.question
    assert Encoder(chatty, form).pieces(EXAMPLE).prompt[start:stop] == EXAMPLE.question
    plain = read(digits)
    found = [p for p in pairs(plain, talk, "shared") if p[0] < len(plain.encoded.prompt)]
    assert len(found) == len(plain.encoded.prompt) - 1  # every token of the question, not the line break
    assert {b - a for a, b in found} == {found[0][1]}
    # a question that the generation prompt repeats, and the system's turn too, is still the one asked
    short, bare = Example("r", "nuts?", (), "1"), FormatConfig(chat=True, system="nuts?", prompt="{question}")
    text, (start, stop) = (
        Encoder(chatty, bare).pieces(short).prompt,
        read(chatty, short, bare).encoded.question,
    )
    assert (text, start, stop) == ("[nuts?][nuts?]Reason: nuts?", 8, 13)
    shouting = deepcopy(chatty)
    shouting.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    assert read(shouting, form=form).encoded.question is None
    assert [s.piece for s in sites(read(shouting, form=form), "shared")].count(PROMPT) == 0


@settings(max_examples=80, deadline=None)
@given(step=st.text(alphabet="ab 1éàùŀƀǀ日😀\u0301", min_size=1, max_size=14), seed=st.integers(0, 5))
def test_characters_of_several_bytes_pair_only_when_whole(step, seed):
    # the last byte of ŀ, ƀ and ǀ is the same, and the first of é, à and ù: the first merge is across two characters
    drawn = random.Random(seed)
    texts = ["".join(drawn.choice("ŀƀǀ") + drawn.choice("éàù") for _ in range(30)) + "日😀"]
    left = train_tokenizer(TokenizerConfig(kind="bytes", vocab_size=259), texts)
    right = train_tokenizer(TokenizerConfig(kind="bytes", vocab_size=275), [step])
    example = Example("r", "a", (step,), "1")
    student = read(left, example, FormatConfig(step="{step}"))
    teacher = read(right, example, FormatConfig(step="b: {step}"))
    assert len(Encoder(left).encode(Example("r", "ŀé", (), "1")).prompt) == 4  # three tokens and a line break
    mine = texts_read(left, student.encoded.steps[0])
    theirs = texts_read(right, teacher.encoded.steps[0], start=3)
    places = [step_starts(reading)[0] for reading in (student, teacher)]
    assert pairs(student, teacher, "reasoning") == common(mine, theirs, *places)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_keys_are_joined_as_a_dictionary_would(data):
    keys = st.tuples(st.integers(-2, 3), st.one_of(st.integers(-3, 3), st.just(2**31 - 1)))
    student = data.draw(st.lists(keys, unique=True, max_size=12))
    teacher = data.draw(st.lists(keys, max_size=12))  # of equal keys the last counts
    known = {key: place for place, key in enumerate(teacher)}
    expected = [(place, known[key]) for place, key in enumerate(student) if key in known]
    columns = [np.array(side, np.int64).reshape(-1, 2).T for side in (student, teacher)]
    mine, theirs = (keys_of(*side) for side in columns)
    assert list(zip(*(found.tolist() for found in align(mine, theirs)), strict=True)) == expected
    back = Sites(np.arange(len(teacher)), np.arange(len(teacher)) + 1, theirs)
    assert [tuple(site) for site in back] == [(n, n + 1, *key) for n, key in enumerate(teacher)]


@pytest.mark.parametrize("template", ["### {answer}", "Reason nuts: {answer}", "{answer}", "{solution} {{x"])
def test_the_answer_rule_needs_no_offsets(digits, numbers, template):
    from transformers import ByT5Tokenizer

    form = FormatConfig(answer=template)
    solved = Example("r1", EXAMPLE.question, EXAMPLE.steps, "1357", solution="1357, so")
    lead = template.partition("{answer}")[0] if "{answer}" in template else ""
    for tokens in (
        digits,
        numbers,
        ByT5Tokenizer(),
    ):  # the last is a slow one: a byte is a token, and there are no offsets
        reading = read(tokens, solved, form)
        (site,) = sites(reading, "answer")
        assert site.start == before_answer(tokens, reading, lead)
        assert Encoder(tokens, form, spans=False).encode(solved).lead == reading.encoded.lead
    assert reading.encoded.marks is None and reading.encoded.lead == len(lead)


# --- stages -----------------------------------------------------------------------------------------------------------


def test_thoughts_pair_with_thoughts_and_padding_thoughts_with_nothing(digits):
    one = Example("r", "Tim?", ("12 + 1 = 13",), "13")
    options = {"method": "latent", "max_latent_steps": 3, "thoughts_per_step": 2}
    padded, exact = read(digits, one, stage=3, **options), read(digits, one, stage=1, **options)
    assert padded.row.thoughts == 6 and exact.row.thoughts == 2
    start = len(padded.encoded.prompt) + 1
    assert [tuple(site) for site in sites(padded, "reasoning")] == [
        (start, start + 1, 1, -1),
        (start + 1, start + 2, 1, -2),
    ]
    assert pairs(padded, exact, "reasoning") == [(start, start), (start + 1, start + 1)]
    assert pairs(padded, exact, "step_ends") == [(start + 1, start + 1)]
    assert pairs(padded, read(digits, one), "reasoning") == []  # no thought has read what a word has


@pytest.mark.parametrize("method", ["latent", "pause", "removal"])
def test_uniform_draws_keep_steps_and_thoughts_apart(digits, method):
    values = {
        "method": method,
        "max_latent_steps": 2,
        "uniform_prob": 1.0,
        "thoughts_per_step": 1 if method == "removal" else 3,
    }
    curriculum = Curriculum.parse({"each": {"steps": 1}, **values})
    encoded, teacher = Encoder(digits).encode(EXAMPLE), read(digits)
    seen = set()
    for seed in range(30):
        row = curriculum.layout(encoded, 1, random.Random(seed), TOKENS)
        student = Reading(row, encoded)
        seen.add(row.first_step)
        words = [s for s in sites(student, "reasoning") if s.end >= 0]
        assert {s.piece for s in words} == set(range(row.first_step + 1, 4))
        assert len(words) == row.regions.count(4)
        latent = [s for s in sites(student, "pooled") if row.regions[s.start] == 3]
        # "all" stands for drawn 3: two steps as thoughts, the third gone
        count = 0 if method == "removal" else min(row.first_step, 2)
        assert [(s.piece, s.stop - s.start) for s in latent] == [(k + 1, 3) for k in range(count)]
        for mine, theirs in pairs(student, teacher, "predictions"):
            assert row.ids[mine + 1] == teacher.row.ids[theirs + 1]
        assert len(sites(student, "predictions")) == row.regions.count(4) + len(encoded.answer)
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("rule", ["reasoning", "step_ends", "pooled", "predictions", "answer", "shared"])
def test_rows_without_steps(digits, rule):
    bare = Example("r", "Tim?", (), "13")
    for options in (
        {},
        {"method": "none"},
        {"method": "soft_mix"},
        {"method": "latent", "max_latent_steps": 2, "stage": 2},
    ):
        student = read(digits, bare, **options)
        found = pairs(student, read(digits, bare), rule)
        many = {"answer": 1, "shared": 2 + len(student.encoded.answer) - 1, "predictions": 6 + 1}
        assert len(found) == many.get(rule, 0)


def test_enclosed_reasoning_and_predictions_across_delimiters(digits):
    student = read(digits, method="latent", max_latent_steps=1, stage=1, enclose="reasoning")
    teacher = read(digits)
    found = pairs(student, teacher, "predictions")
    assert len(found) == sum(map(len, student.encoded.steps[1:])) + len(student.encoded.answer)
    for mine, theirs in found:
        assert student.row.ids[mine + 1] == teacher.row.ids[theirs + 1] and mine >= 0
    assert pairs(student, teacher, "answer") == [
        (before_answer(digits, student, "### "), before_answer(digits, teacher, "### "))
    ]


def test_shortened_rows_are_compared_with_the_steps_they_kept(digits):
    long = Example("r", "Tim?", ("12 + 1 = 13", "13 + 1 = 14", "14 + 1 = 15"), "15")
    teacher = read(digits, long)
    lost = read(digits, long, max_length=len(teacher.encoded) - 1)
    assert [lost.encoded.part(n).number for n in range(2)] == [1, 3]
    text = digits.decode
    for rule in ("reasoning", "predictions"):
        shift = rule == "predictions"
        found = pairs(lost, teacher, rule)
        assert all(lost.row.ids[a + shift] == teacher.row.ids[b + shift] for a, b in found)
        assert len(found) == sum(map(len, lost.encoded.steps)) + shift * len(lost.encoded.answer)
    ends = pairs(lost, teacher, "step_ends")
    assert [text(teacher.row.ids[: b + 1]).splitlines()[-1] for _, b in ends] == [
        "12 + 1 = 13",
        "14 + 1 = 15",
    ]
    cut = read(digits, long, max_length=len(lost.encoded) - 3)
    # and once more: both cuts of one step are one
    again = fit_rows([cut.encoded], len(cut.encoded) - 2, "truncate_steps").rows[0]
    curriculum = Curriculum.parse({"method": "text", "each": {"steps": 1}})
    cut = Reading(curriculum.layout(again, 0, None, TOKENS), again)
    whole = {1: teacher.encoded.steps[0], 3: teacher.encoded.steps[2]}
    for index, step in enumerate(again.steps):
        part = again.part(index)
        ids = whole[part.number]
        assert step == ids[: part.cut] + ids[part.cut + part.missing :]
    assert sum(again.part(n).missing for n in range(2)) == 5
    for rule, shift in (("reasoning", 0), ("predictions", 1)):
        found = pairs(cut, teacher, rule)
        assert all(cut.row.ids[a + shift] == teacher.row.ids[b + shift] for a, b in found)
        assert len(found) == sum(map(len, again.steps)) + shift * len(again.answer)


def test_tokens_without_spans_are_refused_where_they_are_needed(digits):
    encoded = Encoder(digits, spans=False).encode(EXAMPLE)
    row = Curriculum.parse({"method": "text", "each": {"steps": 1}}).layout(encoded, 0, None, TOKENS)
    for rule in ("reasoning", "shared"):
        with pytest.raises(ConfigError, match=f"alignment {rule} .*fast tokenizer"):
            sites(Reading(row, encoded), rule)
    assert len(sites(Reading(row, encoded), "step_ends")) == 3


# --- places of a batch ------------------------------------------------------------------------------------------------


def test_places_gather_means_and_gradients():
    states_BTD = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    wanted = [(0, 2, 3), (2, 0, 4), (0, 2, 3), (1, 5, 7)]
    got = Places.of(*zip(*wanted, strict=True)).gather(states_BTD)
    expected = torch.stack([states_BTD[row, start:stop].mean(0) for row, start, stop in wanted])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    weights = torch.randn_like(got)
    (gradient,) = torch.autograd.grad((got * weights).sum(), states_BTD)
    (reference,) = torch.autograd.grad((expected * weights).sum(), states_BTD)
    torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-6)
    single = Places.of([1, 0], [3, 6], [4, 7])
    assert torch.equal(single.gather(states_BTD), states_BTD[[1, 0], [3, 6]])
    low = Places.of(*zip(*wanted, strict=True)).gather(states_BTD.bfloat16())
    assert low.dtype == torch.bfloat16


def test_no_places_are_an_empty_matrix_in_the_graph():
    states_BTD = torch.randn(2, 3, 4, requires_grad=True)
    empty = Places.of([], [], [])
    assert len(empty) == 0 and empty.gather(states_BTD).shape == (0, 4)
    empty.gather(states_BTD).sum().backward()
    assert not states_BTD.grad.any()


def test_places_travel_as_integers():
    there = Places.of([0], [1], [3]).to("meta", non_blocking=True)
    tensors = (there.rows_M, there.columns_M, there.owner_M, there.sizes_N)
    assert {(t.device.type, t.dtype) for t in tensors} == {("meta", torch.int64)}
    assert len(there) == 1
    assert there.gather(torch.empty(2, 4, 8, device="meta")).shape == (1, 8)


def test_sites_of_a_padded_batch_point_at_their_tokens(digits):
    curriculum = Curriculum.parse({"method": "latent", "max_latent_steps": 2, "each": {"steps": 1}})
    examples = [EXAMPLE, Example("s", "Tim?", ("12",), "12")]
    readings = [
        Reading(curriculum.layout(encoded, 1, None, TOKENS), encoded)
        for encoded in Encoder(digits).encode_all(examples)
    ]
    batch = Collator(0, curriculum)([reading.row for reading in readings], stage=1)
    assert min(batch["before"]) == 0 < max(batch["before"])
    states_BTD = batch["input_ids"][..., None].float()
    for rule in ("reasoning", "step_ends", "shared", "answer", "predictions"):
        found = [sites(reading, rule) for reading in readings]
        expected = [
            reading.row.ids[site.start]
            for reading, of_row in zip(readings, found, strict=True)
            for site in of_row
        ]
        places = Places.in_batch(found, batch["before"])
        assert places.gather(states_BTD)[:, 0].tolist() == expected
        last = Places.in_batch(found[1:], batch["before"][1:], first=1)
        assert last.gather(states_BTD)[:, 0].tolist() == expected[len(found[0]) :]
    assert ANSWER < PROMPT
