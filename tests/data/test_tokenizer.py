"""Tokenizers trained on the spot: exact decoding, one token a symbol, the same from run to run; and loading by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentthought.data.tokenizer import TokenizerConfig, load_tokenizer, pad_id, train_tokenizer
from latentthought.errors import ConfigError, HubUnreachableError, MissingFileError, NotFoundError

TEXTS = [
    "a>f f>c c>a ? a\n",
    "f\nc\n### c",
    "Every yumpus is a rompus. Bob is a yumpus.\nIs Bob a rompus or a lempus?",
    "<<12*3.5=42>>\n\n  (x_y), l'été 100%",
]


@pytest.fixture(scope="module")
def words():
    return train_tokenizer(TokenizerConfig(kind="words"), TEXTS)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", ["words", "bytes"])
def test_decoding_gives_the_text_back(kind, text):
    tokenizer = train_tokenizer(TokenizerConfig(kind=kind, vocab_size=400), TEXTS)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="abéZ09 \n.,>?_'", max_size=30))
def test_any_text_of_known_pieces_comes_back(text):
    tokenizer = _letters()
    ids = tokenizer(text)["input_ids"]
    if tokenizer.unk_token_id not in ids:
        assert tokenizer.decode(ids) == text


def _letters(cache: list = []):  # noqa: B006 - one tokenizer for all examples
    if not cache:
        pieces = [
            "".join(pair) for first in "abéZ" for pair in ((first,), *((first, second) for second in "abéZ"))
        ]
        cache.append(train_tokenizer(TokenizerConfig(), [*pieces, *"09 \n.,>?_'"]))
    return cache[0]


def test_a_symbol_is_one_token_on_either_side_of_a_mark_and_single_spaces_cost_nothing(words):
    ids = words("a>f f>c")["input_ids"]
    assert len(ids) == 6 and ids[2] == ids[3]
    assert len(words("Bob is a yumpus.")["input_ids"]) == 5
    assert len(words("3.5")["input_ids"]) == 3


def test_special_tokens(words):
    assert (words.pad_token_id, words.eos_token_id, words.unk_token_id) == (0, 1, 2)
    assert words("zebra")["input_ids"] == [words.unk_token_id]
    made = train_tokenizer(TokenizerConfig(special_tokens=("<think>",)), TEXTS)
    thought = made.convert_tokens_to_ids("<think>")
    assert thought == 3 and made("f<think>f")["input_ids"][1] == thought
    assert made.decode(made("f<think>f c")["input_ids"], skip_special_tokens=True) == "f f c"
    assert train_tokenizer(TokenizerConfig(kind="bytes", vocab_size=400), TEXTS).unk_token_id is None


def test_tokens_added_later_are_kept_whole(words):
    tokenizer = train_tokenizer(TokenizerConfig(), TEXTS)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|thought|>"]})
    ids = tokenizer("a<|thought|>f")["input_ids"]
    assert ids == [*words("a")["input_ids"], len(words), *words("f")["input_ids"]]


@pytest.mark.parametrize("kind", ["words", "bytes"])
def test_order_of_texts_and_process_do_not_matter(kind):
    here = train_tokenizer(TokenizerConfig(kind=kind, vocab_size=300), reversed(TEXTS)).get_vocab()
    program = (
        "import json; from latentthought.data.tokenizer import *\n"
        f"made = train_tokenizer(TokenizerConfig(kind={kind!r}, vocab_size=300), {TEXTS!r})\n"
        "print(json.dumps(made.get_vocab()))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    there = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=120,
    )
    assert json.loads(there.stdout.splitlines()[-1]) == here


def test_vocabulary_is_cut_to_the_commonest(words):
    small = train_tokenizer(TokenizerConfig(vocab_size=6), ["b b b a a c c c c"])
    assert set(small.get_vocab()) == {"<pad>", "<eos>", "<unk>", "▁c", "▁b", "▁a"}
    with pytest.raises(ConfigError, match="vocab_size 100 is too small for kind bytes: at least 258"):
        TokenizerConfig.parse({"kind": "bytes", "vocab_size": 100})


@pytest.mark.parametrize("kind", ["words", "bytes"])
def test_saved_and_loaded_again(kind, tmp_path):
    made = train_tokenizer(TokenizerConfig(kind=kind, vocab_size=400), TEXTS)
    made.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert [again(text)["input_ids"] for text in TEXTS] == [made(text)["input_ids"] for text in TEXTS]
    assert again.decode(made(TEXTS[2])["input_ids"]) == TEXTS[2]
    assert (again.pad_token_id, again.eos_token_id) == (made.pad_token_id, made.eos_token_id)


def test_pad_id_falls_back_to_the_end_token(words):
    assert pad_id(words) == 0
    tokenizer = train_tokenizer(TokenizerConfig(), TEXTS)
    tokenizer.pad_token = None
    assert pad_id(tokenizer) == tokenizer.eos_token_id


def test_loading_what_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(MissingFileError, match=r"no such model folder: \./nope"):
        load_tokenizer("./nope")
    with pytest.raises(NotFoundError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(HubUnreachableError, match=r"HF_HUB_OFFLINE is set\): give the path of a local"):
        load_tokenizer("nobody/nothing")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachableError, match="no answer within"):
        load_tokenizer("nobody/nothing")
