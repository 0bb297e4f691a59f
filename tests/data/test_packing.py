"""Documents end to end: nothing lost, nothing padded, and rows that fit whatever the tokenizer does at their borders."""

from __future__ import annotations

import random

import pytest

from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import Encoder, FormatConfig
from latentthought.data.example import Example, ExampleSet
from latentthought.data.packing import pack, separator_of
from latentthought.data.sources import SourceConfig, load_examples
from latentthought.data.stage import StageSettings
from latentthought.data.tokenizer import TokenizerConfig, train_tokenizer
from latentthought.errors import ConfigError, DataError
from latentthought.model.configuration import ThoughtConfig
from latentthought.thoughts.layout import ThoughtTokens
from latentthought.training.rows import DataConfig

PLAIN = FormatConfig(prompt="{question}", step="{step}", answer="{answer}")


def documents(count: int = 40) -> ExampleSet:
    draws = random.Random(3)
    words = ["river", "stone", "the", "of", "wind", "7", "shapes", "hides", "slowly", "a", "tree\n", "sun,"]
    texts = [" ".join(draws.choices(words, k=draws.randint(1, 90))).strip() for _ in range(count)]
    return ExampleSet([Example(f"d{n}", "", (), text) for n, text in enumerate(texts)])


@pytest.fixture(params=["words", "bytes"])
def tokenizer(request):
    return train_tokenizer(
        TokenizerConfig(kind=request.param, vocab_size=400), [d.answer for d in documents()]
    )


@pytest.mark.parametrize("length", [8, 33, 128])
def test_rows_are_full_and_together_are_all_documents(tokenizer, length) -> None:
    given = documents()
    packed = pack(given, tokenizer, length - 2)
    rows = Encoder(tokenizer, PLAIN).encode_all(packed)
    assert all(len(row) <= length for row in rows)
    assert all(row.prompt == [tokenizer.eos_token_id] == row.answer[-1:] for row in rows)
    # what is between the rows of the whole text is separators, which open them instead
    separator = separator_of(tokenizer)
    whole = separator.join(d.answer for d in given)
    start = 0
    for row in packed:
        while whole.startswith(separator, start):
            start += len(separator)
        assert whole.startswith(row.answer, start)
        start += len(row.answer)
    assert start == len(whole)
    if length > 8:  # a word may be several tokens, which a row of eight has little room for
        assert all(len(row) > 0.8 * length for row in rows[:-1])
    assert pack(given, tokenizer, length - 2).fingerprint == packed.fingerprint
    assert [row.answer for row in pack(given, tokenizer, length - 2, 3)] == [row.answer for row in packed[:3]]


def test_a_separator_is_one_token_or_a_blank_line(tokenizer) -> None:
    assert separator_of(tokenizer) == tokenizer.eos_token
    tokenizer.eos_token = None
    assert separator_of(tokenizer) == "\n\n"


def test_what_cannot_be_packed(tokenizer) -> None:
    asked = ExampleSet([Example("q", "what?", (), "that")])
    with pytest.raises(ConfigError, match="row q has a question"):
        pack(asked, tokenizer, 64)
    with pytest.raises(ConfigError, match="2 at least"):
        pack(documents(), tokenizer, 1)


def test_text_without_spaces_is_packed_all_the_same() -> None:
    text = "a " + "".join(random.Random(2).choices("山川風石鳥", k=3000))
    tokenizer = train_tokenizer(TokenizerConfig(kind="bytes", vocab_size=300), [text])
    packed = pack(ExampleSet([Example("d", "", (), text)]), tokenizer, 200)
    lengths = [len(tokenizer(row.answer, add_special_tokens=False)["input_ids"]) for row in packed]
    assert "".join(row.answer for row in packed) == text
    assert all(180 <= length <= 200 for length in lengths[:-1])


@pytest.mark.parametrize("delimiters", [False, True])
def test_what_a_format_and_a_curriculum_write_around_a_text_is_allowed_for(tokenizer, delimiters) -> None:
    data = DataConfig(
        source="text", packing=True, max_length=40, format=FormatConfig(answer="the {answer} of the")
    )
    curriculum = Curriculum(
        method="text", delimiters=delimiters, enclose="reasoning", each=StageSettings(steps=1)
    )
    thought = ThoughtConfig()
    rows = data.rows_of(documents(), tokenizer, curriculum, thought)
    tokens = ThoughtTokens(start_id=0, end_id=0)
    fitted = data.encode(rows, tokenizer, curriculum, tokens, None)
    assert not fitted.dropped and len(fitted.rows) == len(rows) > 10
    longest = max(curriculum.longest(row, tokens) for row in fitted.rows)
    assert 36 <= longest <= 40


def test_documents_from_a_file(tmp_path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "A river bends.", "other": 1}\n{"text": "A stone waits.", "id": "s"}\n')
    found = load_examples(SourceConfig(source="text", path=str(file)))
    assert [(e.id, e.question, e.steps, e.answer) for e in found] == [
        ("text/train/0", "", (), "A river bends."),
        ("s", "", (), "A stone waits."),
    ]
    with pytest.raises(ConfigError, match=r"'text' needs a path: data\.path=FILE"):
        load_examples(SourceConfig(source="text"))
    file.write_text('{"body": "A river bends."}\n')
    with pytest.raises(DataError, match="--field text=COLUMN"):
        load_examples(SourceConfig(source="text", path=str(file)))


def test_a_document_is_opened_by_the_end_of_the_one_before(tokenizer) -> None:
    row = Encoder(tokenizer, PLAIN).encode(Example("d", "", (), "the river"))
    assert row.prompt == [tokenizer.eos_token_id]
    assert row.spans is not None and len(row.spans[0]) == 2 and list(row.spans[0]) == [0, 0]
