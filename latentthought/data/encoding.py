"""From text to token ids, piece by piece: prompt, each step, answer.

The pieces are tokenised apart, so the ids of a training prompt are the ids of the prompt at generation, and a step can be
taken out without touching its neighbours. The price is that no token spans two pieces: a template that ends in a space
followed by a word costs a token more than the whole text would.
Each token keeps its character span, and a mark of what has been read when it ends, so that a teacher with another tokenizer
and other templates can be aligned with it (`spans`).
Rejected: tokenising the whole text and cutting it by offsets (the prompt's last token then depends on what follows it).
"""

from __future__ import annotations

import re
import string
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import ValidationInfo, field_validator

from latentthought.config import Config
from latentthought.data.example import Example
from latentthought.data.spans import Located, common_prefix, literal_before, locate
from latentthought.data.tokenizer import leading_tokens
from latentthought.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 2048
_PROBE = "a question of our own"
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


class StepPart(NamedTuple):
    """What of an example's step is left in a shortened row.

    number: which step of the example it is, from 1. cut, missing: from its token `cut` on (0-based), `missing` were taken out.
    """

    number: int
    cut: int = 0
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as token ids: prompt, each step, answer (end token included). Rows may share their lists: read them only.

    spans: per piece, in the order prompt, steps, answer, a flat array of start, end, start, end, ... character positions
        within the piece; a token without text has an empty span. marks: per piece, one a token: what has been read of it when
        the token ends, see `spans.marks_of`. question: start and end of the question, without the white space around it, in
        the prompt piece; None where a template rewrote it. All three are None when spans are not asked for.
    lead: tokens of the answer piece before the answer's own words ("The answer is:").
    parts: one a step, in a row that `fit_rows` shortened; else None, which is every step, whole.
    """

    id: str
    prompt: list[int]
    steps: list[list[int]]
    answer: list[int]
    spans: list[array[int]] | None = None
    marks: list[array[int]] | None = None
    question: tuple[int, int] | None = None
    lead: int = 0
    parts: tuple[StepPart, ...] | None = None

    def part(self, step: int) -> StepPart:
        """Which step of the example the step with this 0-based index is, and what of it is left."""
        return StepPart(step + 1) if self.parts is None else self.parts[step]

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.steps)) + len(self.answer)


class Encoder:
    """Turns examples into ids with one tokenizer and one format.

    spans: keep what alignment needs (12 bytes a token, and the tokenizer must be a fast one).
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, format: FormatConfig | None = None, *, spans: bool = True
    ):
        self.tokenizer = tokenizer
        self.format = format or FormatConfig()
        self.spans = spans and bool(tokenizer.is_fast)
        self._byte_level = self.spans and "ByteLevel" in repr(tokenizer.backend_tokenizer.pre_tokenizer)
        self._start = [] if self.format.chat else leading_tokens(tokenizer)
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
        return self._start + self._tokenize([self.prompt_text(example)])[0].ids

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
            located: dict[tuple[str, int, int, int], Located] = {}
            for example, row in zip(chunk, pieces, strict=True):
                encoded = self._assemble(example, row, known)
                rows.append(self._locate(encoded, example, row, known, located) if self.spans else encoded)
        return rows

    def _assemble(self, example: Example, pieces: Pieces, known: Mapping[str, _Tokens]) -> Encoded:
        prompt, answer = known[pieces.prompt].ids, known[pieces.answer].ids
        opening = self._opening(prompt)
        if not opening and not prompt:
            raise DataError(f"row {example.id}: its prompt has no tokens")
        steps = [known[text].ids for text in pieces.steps]
        lead = common_prefix(self._answer_opening, answer)
        return Encoded(example.id, opening + prompt, steps, answer + self._end, lead=lead)

    def _opening(self, prompt: Sequence[int]) -> list[int]:
        """What stands before a prompt's own tokens. A document has no prompt: where the tokenizer has no token to begin with, the
        end of the one before it is what its first word is predicted from."""
        end = self.tokenizer.eos_token_id
        return self._start if self._start or prompt or end is None else [end]

    def _locate(
        self,
        encoded: Encoded,
        example: Example,
        pieces: Pieces,
        known: Mapping[str, _Tokens],
        located: dict[tuple[str, int, int, int], Located],
    ) -> Encoded:
        """The row with spans and marks. located: of the chunk's pieces so far, each is worked out once."""
        question = self._question(pieces.prompt, example)
        step, answer = (len(literal_before(template)) for template in (self.format.step, self.format.answer))
        places = [
            (pieces.prompt, question[0] if question else 0, len(self._opening(known[pieces.prompt].ids)), 0),
            *((text, step, 0, 0) for text in pieces.steps),
            (pieces.answer, answer, 0, len(self._end)),
        ]
        for place in places:
            if place not in located:
                located[place] = locate(known[place[0]].offsets, *place, splits_characters=self._byte_level)
        found = [located[place] for place in places]
        spans, marks = [piece.spans for piece in found], [piece.marks for piece in found]
        return replace(encoded, spans=spans, marks=marks, question=question)

    @cached_property
    def _answer_opening(self) -> list[int]:
        """What the answer's template writes before the answer's own words, alone; its last token may merge with these."""
        return self._tokenize([literal_before(self.format.answer)])[0].ids

    def _question(self, prompt: str, example: Example) -> tuple[int, int] | None:
        """Where the question stands in the prompt piece, without the white space around it."""
        filled, asked = self.format.prompt.format(question=example.question), example.question.strip()
        start = filled.find(asked, len(literal_before(self.format.prompt)))
        if start >= 0 and self.format.chat:
            # our turn is the last, and most templates strip it
            turn = prompt.rfind(filled.strip(), 0, len(prompt) - self._after_turn)
            start = -1 if turn < 0 else start + turn - (len(filled) - len(filled.lstrip()))
        return None if start < 0 else (start, start + len(asked))

    @cached_property
    def _after_turn(self) -> int:
        """Characters that the chat template writes after the last turn, whatever that says."""
        return len(self._in_chat(_PROBE, Example("", _PROBE, (), "")).rpartition(_PROBE)[2])

    def _tokenize(self, texts: list[str]) -> list[_Tokens]:
        batch = self.tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=self.spans,
            verbose=False,
        )
        shared = self._shared
        ids = [[shared[token] for token in row] for row in batch["input_ids"]]
        offsets = batch["offset_mapping"] if self.spans else [()] * len(ids)
        return [_Tokens(*both) for both in zip(ids, offsets, strict=True)]


class _Tokens(NamedTuple):
    ids: list[int]
    offsets: Sequence[tuple[int, int]]
