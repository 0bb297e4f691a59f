"""From text to token ids, piece by piece: prompt, each step, answer.

The pieces are tokenised apart, so the ids of a training prompt are the ids of the prompt at generation, and a step can be
taken out without touching its neighbours. The price is that no token spans two pieces: a template that ends in a space
followed by a word costs a token more than the whole text would.
Each token keeps its character span, so that a teacher with another tokenizer can be aligned with it.
Rejected: tokenising the whole text and cutting it by offsets (the prompt's last token then depends on what follows it).
"""

from __future__ import annotations

import re
import string
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import ValidationInfo, field_validator

from latentthought.config import Config
from latentthought.data.example import Example
from latentthought.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 2048
_FIELDS = {"prompt": {"question"}, "step": {"step"}, "answer": {"answer", "solution"}}
_SPLITS = {"none": None, "line": re.compile(r"\n+"), "paragraph": re.compile(r"\n\s*\n")}


class Pieces(NamedTuple):
    """A row as text; joined, it is what the model sees (without the tokens that have no text)."""

    prompt: str
    steps: list[str]
    answer: str


class FormatConfig(Config):
    """How a row is written out.

    prompt, step, answer: templates with {question}, {step} and {answer} (or {solution}, the whole written one); braces that are
        text are doubled: "\\\\boxed{{{answer}}}".
    chat: the filled prompt is the user's (last) turn, after `system` or the row's own earlier turns, in the tokenizer's chat
        template with its generation prompt. chat_drop: text to take off the end of it (some open the reasoning: "<think>\\n").
    eos: close the answer with the tokenizer's end token.
    reasoning_from: `steps`; `solution` (the whole written solution); or `messages` (the assistant's turn). Of the latter two,
        what stands within `think_tags` where they occur, cut into steps at `split`.
    """

    prompt: str = "{question}\n"
    step: str = "{step}\n"
    answer: str = "### {answer}"
    chat: bool = False
    system: str | None = None
    chat_drop: str = ""
    eos: bool = True
    reasoning_from: Literal["steps", "solution", "messages"] = "steps"
    split: Literal["none", "line", "paragraph"] = "paragraph"
    think_tags: tuple[str, str] = ("<think>", "</think>")

    @field_validator("prompt", "step", "answer")
    @classmethod
    def _known_fields(cls, template: str, info: ValidationInfo) -> str:
        wanted = _FIELDS[info.field_name or ""]
        try:
            found = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        except ValueError as error:
            raise ValueError(f"not a template ({error}); double the braces that are text") from None
        if not found or found - wanted:
            allowed = " or ".join(f"{{{field}}}" for field in sorted(wanted))
            raise ValueError(f"the template needs {allowed} and nothing else in single braces")
        return template

    def pieces(self, example: Example) -> Pieces:
        """The row as text, before any chat template. Raises `DataError` where a part is asked for that the row lacks."""
        if example.solution is None and "{solution}" in self.answer:
            raise DataError(f"row {example.id}: format.answer asks for its solution, and it has none")
        return Pieces(
            self.prompt.format(question=example.question),
            [self.step.format(step=step) for step in self._reasoning(example)],
            self.answer.format(answer=example.answer, solution=example.solution),
        )

    def _reasoning(self, example: Example) -> Sequence[str]:
        if self.reasoning_from == "steps":
            return example.steps
        if self.reasoning_from == "solution":
            text = example.solution
        else:
            turns = [m.get("content") for m in example.messages or () if m.get("role") == "assistant"]
            text = turns[-1] if turns else None
        if not text:
            raise DataError(
                f"row {example.id}: format.reasoning_from is {self.reasoning_from}, and the row has none "
                f"(it has {len(example.steps)} steps)"
            )
        opening, closing = self.think_tags
        # the opening tag may stand in the prompt already, so only the closing one has to be there
        text = text.partition(closing)[0].rpartition(opening)[2]
        pattern = _SPLITS[self.split]
        parts = pattern.split(text) if pattern else [text]
        return [part.strip() for part in parts if part.strip()]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as token ids: prompt, each step, answer (end token included). Rows may share their lists: read them only.

    spans: per piece, in the order prompt, steps, answer, a flat array of start, end, start, end, ... character positions in
    the joined text of `Encoder.pieces`; a token without text has an empty span. None when not asked for.
    """

    id: str
    prompt: list[int]
    steps: list[list[int]]
    answer: list[int]
    spans: list[array[int]] | None = None

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.steps)) + len(self.answer)


class Encoder:
    """Turns examples into ids with one tokenizer and one format.

    spans: keep character spans (8 bytes a token, and the tokenizer must be a fast one).
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, format: FormatConfig | None = None, *, spans: bool = True
    ):
        self.tokenizer = tokenizer
        self.format = format or FormatConfig()
        self.spans = spans and bool(tokenizer.is_fast)
        self._start = [] if self.format.chat else _leading_tokens(tokenizer)
        self._end = []
        if self.format.eos:
            if tokenizer.eos_token_id is None:
                raise ConfigError(
                    "format.eos: the tokenizer has no end token; give it one, or set format.eos to false"
                )
            self._end = [tokenizer.eos_token_id]
        if self.format.chat and not tokenizer.chat_template:
            raise ConfigError("format.chat: the tokenizer has no chat template; set format.chat to false")
        # every id is one shared object: a list of ids then costs 8 bytes an entry, not 36
        self._shared = list(range(max(tokenizer.get_vocab().values()) + 1))

    def pieces(self, example: Example) -> Pieces:
        """The row as text, chat template applied."""
        pieces = self.format.pieces(example)
        return pieces._replace(prompt=self._in_chat(pieces.prompt, example)) if self.format.chat else pieces

    def prompt_text(self, example: Example) -> str:
        """The prompt as text, chat template applied."""
        prompt = self.format.prompt.format(question=example.question)
        return self._in_chat(prompt, example) if self.format.chat else prompt

    def _in_chat(self, prompt: str, example: Example) -> str:
        turns = [dict(turn) for turn in example.messages or ()]
        while turns and turns[-1]["role"] != "user":
            turns.pop()
        turns[-1:] = [{"role": "user", "content": prompt}]
        if self.format.system is not None:
            turns = [
                {"role": "system", "content": self.format.system},
                *(t for t in turns if t["role"] != "system"),
            ]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return str(text).removesuffix(self.format.chat_drop)

    def prompt_ids(self, example: Example) -> list[int]:
        """The ids to generate from: exactly the `prompt` of `encode`."""
        return self._start + list(self._tokenize([self.prompt_text(example)])[0][0])

    def encode(self, example: Example) -> Encoded:
        """Token ids of one example."""
        return self.encode_all([example])[0]

    def encode_all(self, examples: Iterable[Example]) -> list[Encoded]:
        """Token ids of many examples, in order; one call of the tokenizer per couple of thousand."""
        examples, rows = list(examples), []
        for start in range(0, len(examples), _CHUNK):
            chunk = examples[start : start + _CHUNK]
            pieces = [self.pieces(example) for example in chunk]
            # short steps and answers repeat (in synthetic data they are most of the pieces): each text is tokenised once
            texts = list(
                dict.fromkeys(text for row in pieces for text in (row.prompt, *row.steps, row.answer))
            )
            known = dict(zip(texts, self._tokenize(texts), strict=True))
            for example, row in zip(chunk, pieces, strict=True):
                tokenized = [known[text] for text in (row.prompt, *row.steps, row.answer)]
                rows.append(self._assemble(example, row, tokenized))
        return rows

    def _assemble(
        self, example: Example, pieces: Pieces, tokenized: list[tuple[list[int], list | None]]
    ) -> Encoded:
        (prompt, _), *steps, (answer, _) = tokenized
        if not self._start and not prompt:
            raise DataError(f"row {example.id}: its prompt has no tokens")
        spans = None
        if self.spans:
            spans, place = [], 0
            for text, (_, offsets) in zip(
                (pieces.prompt, *pieces.steps, pieces.answer), tokenized, strict=True
            ):
                spans.append(_flat_spans(offsets or (), place))
                place += len(text)
            spans[0][:0] = array("i", [0, 0] * len(self._start))
            spans[-1].extend([place, place] * len(self._end))
        return Encoded(example.id, self._start + prompt, [ids for ids, _ in steps], answer + self._end, spans)

    def _tokenize(self, texts: list[str]) -> list[tuple[list[int], list | None]]:
        batch = self.tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=self.spans,
            verbose=False,
        )
        shared = self._shared
        ids = [[shared[token] for token in row] for row in batch["input_ids"]]
        return list(zip(ids, batch["offset_mapping"] if self.spans else [None] * len(ids), strict=True))


def _flat_spans(offsets: Iterable[tuple[int, int]], place: int) -> array[int]:
    """Offsets within a piece as a flat array of positions in the whole text, without overlaps.

    A token that begins with an inserted mark claims the character before it too; tokens that share one character keep it.
    """
    flat, last = array("i"), 0
    for start, end in offsets:
        flat.append(place + (last if start < last < end else start))
        flat.append(place + end)
        last = end
    return flat


def _leading_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer itself puts before a text (a begin token, or nothing)."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start]
    return []
