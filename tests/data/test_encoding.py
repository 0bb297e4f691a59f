"""Text to ids piece by piece: the same prompt in training and generation, spans, formats, and rows that are too long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentthought.data.encoding import Encoded, Encoder, FormatConfig
from latentthought.data.example import Example
from latentthought.data.fitting import fit_rows
from latentthought.data.spans import UNMARKED, locate
from latentthought.data.tokenizer import TokenizerConfig, train_tokenizer
from latentthought.errors import ConfigError, DataError

EXAMPLE = Example(
    "r1",
    "2+3*4?",
    ("3*4=12", "2+12=14"),
    "14",
    solution="<think>\nFirst.\n\nThen.\n</think>\nSo \\boxed{14}.",
)
CHAT = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]<think>\n{% endif %}"
)


@pytest.fixture
def tokenizer():
    texts = [
        "2+3*4?\n3*4=12\n2+12=14\n### 14\\boxed{} First. Then. So user assistant system [] <think> Q: Be brief"
    ]
    return train_tokenizer(TokenizerConfig(kind="bytes", vocab_size=300), texts)


def text_of(tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)


def test_pieces_become_ids_one_by_one(tokenizer):
    encoder = Encoder(tokenizer)
    row = encoder.encode(EXAMPLE)
    assert text_of(tokenizer, row.prompt) == "2+3*4?\n"
    assert [text_of(tokenizer, step) for step in row.steps] == ["3*4=12\n", "2+12=14\n"]
    assert text_of(tokenizer, row.answer) == "### 14"
    assert row.answer[-1] == tokenizer.eos_token_id and row.id == "r1"
    assert len(row) == len(row.prompt) + sum(map(len, row.steps)) + len(row.answer)
    assert encoder.prompt_ids(EXAMPLE) == row.prompt


def test_many_examples_are_encoded_as_one_by_one(tokenizer):
    encoder = Encoder(tokenizer)
    examples = [EXAMPLE, Example("r2", "2?", (), "2"), EXAMPLE]
    assert encoder.encode_all(iter(examples)) == [encoder.encode(example) for example in examples]
    assert encoder.encode_all([]) == []


def test_spans_point_into_their_own_piece(tokenizer):
    encoder = Encoder(tokenizer)
    row, pieces = encoder.encode(EXAMPLE), encoder.pieces(EXAMPLE)
    groups = [row.prompt, *row.steps, row.answer]
    assert [len(spans) for spans in row.spans] == [2 * len(ids) for ids in groups]
    for text, ids, spans in zip(
        (pieces.prompt, *pieces.steps, pieces.answer), groups, row.spans, strict=True
    ):
        for token, start, end in zip(ids, spans[::2], spans[1::2], strict=True):
            assert text[start:end] == text_of(tokenizer, [token])
    assert list(row.spans[-1][-2:]) == [len(pieces.answer)] * 2  # the end token has no text
    without = Encoder(tokenizer, spans=False).encode(EXAMPLE)
    assert (without.spans, without.marks, without.question) == (None, None, None)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(alphabet="ab >.\n3é", max_size=12), min_size=2, max_size=5))
def test_spans_of_words_cover_the_text_in_order(texts):
    encoder = Encoder(
        train_tokenizer(TokenizerConfig(), ["a b ab é > . 3 \n Q", *texts]),
        FormatConfig(prompt="Q{question}"),
    )
    example = Example("r", texts[0], tuple(texts[1:-1]), texts[-1])
    row, pieces = encoder.encode(example), encoder.pieces(example)
    for text, spans in zip((pieces.prompt, *pieces.steps, pieces.answer), row.spans, strict=True):
        edges = list(spans)
        assert edges == sorted(edges)
        assert edges[0] == 0 and edges[-1] == len(text)


@pytest.mark.parametrize("name", ["words", "bytes"])
def test_marks_are_equal_where_the_same_words_were_read(name):
    trained = train_tokenizer(TokenizerConfig(kind=name, vocab_size=300), ["Step 1: 12 + 3 = 15. é"] * 9)
    texts = ("12 + 3 = 15", "12 + 4 = 16", "é 12")
    plain, dressed = (
        Encoder(trained, FormatConfig(step=step)) for step in ("{step}", "Step {{1}}: {step}. ")
    )
    rows = [encoder.encode(Example("r", "1", texts, "1")) for encoder in (plain, dressed)]
    prefix, seen = len("Step {1}: "), []
    for row, before, after in ((rows[0], 0, ""), (rows[1], prefix, ". ")):
        for number, text in enumerate(texts, 1):
            ends = row.spans[number][1::2]
            read = [(text + after)[: end - before] for end in ends if end > before]
            seen += zip(read, row.marks[number][-len(read) :], strict=True)
    assert len({text for text, _ in seen}) < len(seen)
    assert all((a == b) == (mark == other) for a, mark in seen for b, other in seen)


def test_question_is_found_without_the_white_space_around_it(tokenizer):
    form = FormatConfig(prompt="Q {{2}}: {question} 2?\n")
    encoder = Encoder(tokenizer, form)
    for asked in ("2?", " 2+3?\n", "Q", ""):
        example = Example("r", asked, (), "2")
        start, stop = encoder.encode(example).question
        assert encoder.pieces(example).prompt[start:stop] == asked.strip()
        assert start == len("Q {2}: ") + len(asked) - len(asked.lstrip())


def test_characters_belong_to_the_token_that_has_their_last_byte():
    # three bytes of one character, the last with the next one's first; then a plain token
    found = locate([(0, 1), (0, 1), (0, 2), (1, 2), (2, 4)], "日日ab", 0, splits_characters=True)
    assert list(found.spans) == [0, 0, 0, 0, 0, 1, 1, 2, 2, 4]
    assert [mark == UNMARKED for mark in found.marks] == [True, True, True, False, False]
    assert found.marks[-2:] == locate([(0, 1), (1, 2), (2, 4)], "日日ab", 0).marks[1:]
    # a mark that was inserted before a word claims the character before it
    assert list(locate([(0, 1), (0, 2)], ">b", 0).spans) == [0, 1, 1, 2]


def test_of_tokens_that_end_at_one_place_the_last_is_marked():
    marks = list(locate([(0, 2), (2, 3), (2, 3), (3, 5)], "ab日cd", 0).marks)
    assert marks[1] == UNMARKED and len({*marks}) == 4
    assert [marks[0], *marks[2:]] == list(locate([(0, 2), (2, 3), (3, 5)], "ab日cd", 0).marks)


def test_equal_ids_are_one_object(tokenizer):
    row = Encoder(tokenizer).encode(Example("r", "14?", ("14",), "14"))
    assert any(token > 256 for token in row.prompt + row.answer)
    held = {token: id(token) for token in row.prompt + row.answer[:-1]}
    assert all(held.get(token, id(token)) == id(token) for step in row.steps for token in step)


def test_begin_token_of_the_tokenizer_starts_the_prompt(tokenizer):
    from tokenizers.processors import TemplateProcessing

    tokenizer.add_special_tokens({"bos_token": "<s>"})
    begin = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[begin])
    row = Encoder(tokenizer).encode(EXAMPLE)
    assert row.prompt[0] == tokenizer.bos_token_id
    assert tokenizer.bos_token_id not in row.answer + row.steps[0]
    assert list(row.spans[0][:2]) == [0, 0]
    assert Encoder(tokenizer).prompt_ids(EXAMPLE) == row.prompt


def test_boxed_answers_and_other_templates(tokenizer):
    made = Encoder(
        tokenizer,
        FormatConfig(prompt="Q: {question}", step="{step}. ", answer="\\boxed{{{answer}}}", eos=False),
    )
    assert made.pieces(EXAMPLE) == ("Q: 2+3*4?", ["3*4=12. ", "2+12=14. "], "\\boxed{14}")
    assert tokenizer.eos_token_id not in made.encode(EXAMPLE).answer
    braces = Example("r", "{x} {0}", ("{y}",), "{z}")
    assert made.pieces(braces) == ("Q: {x} {0}", ["{y}. "], "\\boxed{{z}}")
    whole = Encoder(tokenizer, FormatConfig(answer="{solution}"))
    assert whole.pieces(EXAMPLE).answer == EXAMPLE.solution
    with pytest.raises(DataError, match=r"row r: format\.answer asks for its solution"):
        whole.encode(braces)


@pytest.mark.parametrize(
    ("field", "template"),
    [
        ("prompt", "{answer}"),
        ("prompt", "no field"),
        ("step", "{step.__class__}"),
        ("answer", "\\boxed{answer"),
        ("step", "{}"),
    ],
)
def test_templates_that_do_not_hold(field, template):
    with pytest.raises(ConfigError, match=f"{field}: .*template"):
        FormatConfig.parse({field: template})


def test_chat_template(tokenizer):
    tokenizer.chat_template = CHAT
    made = Encoder(
        tokenizer, FormatConfig(prompt="Q: {question}", chat=True, system="Be brief", chat_drop="<think>\n")
    )
    assert made.prompt_text(EXAMPLE) == "[system]Be brief[user]Q: 2+3*4?[assistant]"
    assert made.prompt_ids(EXAMPLE) == made.encode(EXAMPLE).prompt
    turns = tuple({"role": role, "content": role[0]} for role in ("system", "user", "assistant", "user"))
    talk = Example("r", "2?", (), "2", messages=turns)
    plain = Encoder(tokenizer, FormatConfig(prompt="{question}", chat=True))
    assert plain.prompt_text(talk) == "[system]s[user]u[assistant]a[user]2?[assistant]<think>\n"
    assert made.prompt_text(talk) == "[system]Be brief[user]u[assistant]a[user]Q: 2?[assistant]"
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        Encoder(tokenizer, FormatConfig(chat=True))


def test_reasoning_from_the_solution_or_the_messages(tokenizer):
    steps = Encoder(tokenizer, FormatConfig(reasoning_from="solution")).pieces(EXAMPLE).steps
    assert steps == ["First.\n", "Then.\n"]
    whole = (
        Encoder(tokenizer, FormatConfig(reasoning_from="solution", split="none", step="{step}"))
        .pieces(EXAMPLE)
        .steps
    )
    assert whole == ["First.\n\nThen."]
    talk = Example("r", "2?", (), "2", messages=({"role": "assistant", "content": "one\ntwo</think>2"},))
    lines = FormatConfig(reasoning_from="messages", split="line")
    assert Encoder(tokenizer, lines).pieces(talk).steps == ["one\n", "two\n"]
    with pytest.raises(DataError, match=r"row r1: format\.reasoning_from is messages"):
        Encoder(tokenizer, lines).encode(EXAMPLE)


def test_what_the_tokenizer_lacks_is_said(tokenizer):
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="no end token"):
        Encoder(tokenizer)
    with pytest.raises(DataError, match="row e: its prompt has no tokens"):
        Encoder(tokenizer, FormatConfig(prompt="{question}", eos=False)).encode(Example("e", "", (), "2"))


# --- rows that are too long -------------------------------------------------------------------------------------------


def row(steps: list[list[int]], name: str = "r") -> Encoded:
    return Encoded(name, [1, 2], steps, [8, 0])


def test_rows_that_fit_are_left_alone():
    rows = [row([[3]]), row([[3], [4]])]
    fitted = fit_rows(rows, 6)
    assert (fitted.rows, fitted.kept, fitted.report()) == (rows, [0, 1], "")
    assert fit_rows(rows, None).rows == rows


def test_drop_counts_and_names_the_rows():
    fitted = fit_rows([row([[3] * 9], "long"), row([[3]], "good"), row([[3] * 8], "other")], 6)
    assert [r.id for r in fitted.rows] == ["good"] and fitted.kept == [1]
    assert fitted.dropped == ["row long: 13 tokens, 6 allowed", "row other: 12 tokens, 6 allowed"]
    assert (
        fitted.report() == "2 rows dropped: row long: 13 tokens, 6 allowed, row other: 12 tokens, 6 allowed"
    )


def test_truncation_takes_the_middle_steps_first():
    fitted = fit_rows([row([[3], [4, 4], [5, 5], [6]])], 8, "truncate_steps")
    assert fitted.rows[0].steps == [[3], [4, 4], [6]]
    assert fitted.truncated == ["row r: 10 tokens, 8 allowed, 2 taken out of the middle steps"]


def test_truncation_of_one_long_step_keeps_its_ends():
    fitted = fit_rows([row([[3, 4, 5, 6, 7]])], 7, "truncate_steps")
    assert fitted.rows[0].steps == [[3, 6, 7]]


def test_truncation_keeps_spans_in_step(tokenizer):
    encoded = Encoder(tokenizer).encode(Example("r", "2?", ("3*4=12", "So 2+12=14. Then.", "14"), "14"))
    fitted = fit_rows([encoded], len(encoded) - 4, "truncate_steps").rows[0]
    assert [len(spans) for spans in fitted.spans] == [
        2 * len(ids) for ids in (fitted.prompt, *fitted.steps, fitted.answer)
    ]
    pieces = Encoder(tokenizer).pieces(Example("r", "2?", ("3*4=12", "So 2+12=14. Then.", "14"), "14"))
    assert [part.number for part in fitted.parts] == [1, 3]
    for part, ids, spans, marks in zip(
        fitted.parts, fitted.steps, fitted.spans[1:], fitted.marks[1:], strict=False
    ):
        text = pieces.steps[part.number - 1]
        assert [text[a:b] for a, b in zip(spans[::2], spans[1::2], strict=True)] == [
            text_of(tokenizer, [token]) for token in ids
        ]
        assert list(marks) == list(encoded.marks[part.number])
    again = fit_rows([encoded], len(encoded.prompt + encoded.answer) + 3, "truncate_steps").rows[0]
    for part, ids, marks in zip(again.parts, again.steps, again.marks[1:], strict=False):
        kept = [n for n in range(len(encoded.steps[part.number - 1])) if not 0 <= n - part.cut < part.missing]
        assert ids == [encoded.steps[part.number - 1][n] for n in kept]
        assert list(marks) == [encoded.marks[part.number][n] for n in kept]
    assert len(again) <= len(encoded.prompt + encoded.answer) + 3
    assert [len(spans) for spans in again.spans] == [
        2 * len(ids) for ids in (again.prompt, *again.steps, again.answer)
    ]


def test_what_no_truncation_can_save_is_dropped():
    # padded thoughts cost their places however few words are left
    fitted = fit_rows([row([[3]]), row([])], 5, "truncate_steps", length=lambda r: len(r) + 2 * len(r.steps))
    assert fitted.kept == [1]
    assert fitted.dropped == ["row r: 7 tokens, 5 allowed, prompt and answer alone are too long"]


def test_error_policy_and_nothing_left():
    with pytest.raises(
        DataError,
        match=r"1 of 2 rows are too long \(max_length 6\): row bad: 10 tokens.*drop or truncate_steps",
    ):
        fit_rows([row([[3] * 6], "bad"), row([])], 6, "error")
    with pytest.raises(DataError, match="none of 1 rows fits max_length 3"):
        fit_rows([row([])], 3)
