"""A tokenizer: an existing one by name, or one trained on the spot for a model from scratch.

`words`: one token a word, digit, mark or line break, the vocabulary counted from the text. Words a single space apart need no
token for the space and a mark needs none around it; every other space is a token of its own, so that decoding gives back the text
exactly while "a>f f>c" costs six tokens and `f` is the same token on either side of `>`.
`bytes`: byte-level BPE, for open text; nothing is unknown to it.
Both are ordinary fast tokenizers that `AutoTokenizer` loads. Rejected: a tokenizer class of our own (nobody else could load the
model), and GPT-2's habit of gluing the space to the word (it makes two tokens of every word that also follows a mark).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.errors import HubUnreachableError, MissingFileError, NotFoundError
from latentthought.hub import cache_only, offline_reason

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_LETTER = r"[^\W\d_]"
_MARK = "\u2581"
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
# turns as they come: a tokenizer trained on the spot has no chat template of its own
_PLAIN_CHAT = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


class TokenizerConfig(Config):
    """kind: `words` or `bytes`. vocab_size: the most tokens, special ones included. special_tokens: further ones."""

    kind: Literal["words", "bytes"] = "words"
    vocab_size: int = Field(8192, gt=3)
    special_tokens: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_room(self) -> TokenizerConfig:
        least = len(self.special_tokens) + (258 if self.kind == "bytes" else 4)
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size} is too small for kind {self.kind}: at least {least}"
            )
        return self


def train_tokenizer(
    config: TokenizerConfig, texts: Iterable[str], chat: bool = False
) -> PreTrainedTokenizerFast:
    """Train a tokenizer on texts. The same texts, in any order, give the same tokenizer.

    Ids 0, 1, 2 are padding, end and unknown (`words` only), then `special_tokens`, then the vocabulary. chat: with a chat
    template, which writes the turns as they come.
    """
    from transformers import PreTrainedTokenizerFast

    if config.kind == "words":
        special = [PAD, EOS, UNKNOWN, *config.special_tokens]
        tokenizer = _words(texts, special, config.vocab_size)
    else:
        special = [PAD, EOS, *config.special_tokens]
        tokenizer = _bytes(texts, special, config.vocab_size)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN if config.kind == "words" else None,
        additional_special_tokens=list(config.special_tokens) or None,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=_PLAIN_CHAT if chat else None,
    )


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name.

    Raises `MissingFileError` for a path that is not there, `NotFoundError` for a name the hub does not have or a folder without a
    tokenizer, and `HubUnreachableError`, at once when HF_HUB_OFFLINE is set, where the hub would be needed and is out of reach.
    """
    from transformers import AutoTokenizer

    name = str(name_or_path)
    is_folder = Path(name).is_dir()
    if not is_folder and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise MissingFileError(f"no such model folder: {name}")
    absent = None if is_folder else offline_reason()
    try:
        with cache_only(is_folder or absent is not None):
            return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        if is_folder:
            raise NotFoundError(f"{name} holds no tokenizer that loads: {reason}") from error
        if absent:
            raise HubUnreachableError(
                f"tokenizer {name!r} is neither a folder here nor in the local hub cache, and the hub is out of reach "
                f"({absent}): give the path of a local model folder instead"
            ) from error
        raise NotFoundError(f"no tokenizer {name!r} on the hub: {reason}") from error


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to write at padding: the tokenizer's own, else its end token (padding is masked, so any id does)."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def _words(texts: Iterable[str], special: list[str], size: int) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    # a word carries a mark in front, so that the decoder knows which spaces were left out; a mark in the text becomes _
    normalizer = normalizers.Sequence(
        [
            normalizers.Replace(_MARK, "_"),
            normalizers.Replace(Regex(rf"(?<={_LETTER}) (?={_LETTER})"), _MARK),
            normalizers.Replace(Regex(rf"(?<!{_LETTER}|{_MARK})(?={_LETTER})"), _MARK),
        ]
    )
    splitter = pre_tokenizers.Split(Regex(rf"{_MARK}{_LETTER}+|[\s\S]"), "isolated")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))
    # special tokens are matched in the text before it is split, so none of their pieces would ever be looked up
    vocabulary = {
        token: number for number, token in enumerate(dict.fromkeys(special + ranked[: size - len(special)]))
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Fuse(),
            decoders.Replace(Regex(rf"(?<={_LETTER}){_MARK}"), " "),
            decoders.Replace(_MARK, ""),
        ]
    )
    tokenizer.add_special_tokens(special)
    return tokenizer


def _bytes(texts: Iterable[str], special: list[str], size: int) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    return tokenizer


def leading_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer itself puts before a text (a begin token, or nothing)."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start]
    return []
