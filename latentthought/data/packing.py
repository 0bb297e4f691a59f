"""Documents end to end, cut into rows of one length: no token of a batch is padding, and long documents are not dropped.

All documents become one text, a separator between them, which is cut into rows again. A row is cut before a space, so that the
words keep the tokens that they would have in the whole text, and its text is tokenised once more to make sure that it fits: a
row may be a few tokens short, and nothing is lost but what is left over in the end. Rows are text and not ids, so that a teacher
with another tokenizer reads them too.
A row attends across its documents. Rejected: masks that keep documents apart (attention kernels for them exist on GPUs only, and
short documents gain little), and one document a row (with lengths from 50 to 2,000 most of a batch is padding).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from latentthought.data.example import Example, ExampleSet
from latentthought.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLANK_LINE = "\n\n"
# what a window of text is first taken to hold, in characters a token; it grows until it is enough
_GUESS = 6


def pack(examples: ExampleSet, tokenizer: PreTrainedTokenizerBase, length: int) -> ExampleSet:
    """Rows of at most `length` tokens, the opening and the closing one included, each full but for the last.

    Raises `ConfigError` for rows with a question or steps, and for a length that holds nothing.
    """
    asked = next((example for example in examples if example.question or example.steps), None)
    if asked is not None:
        raise ConfigError(
            f"data.packing joins documents, and row {asked.id} has a question or steps; leave packing out for such rows"
        )
    if length < 4:
        raise ConfigError(f"data.max_length: {length} tokens hold no text; give at least 4 with packing")
    text = separator_of(tokenizer).join(example.answer for example in examples)
    rows = [
        Example(f"packed/{number}", question="", steps=(), answer=row)
        for number, row in enumerate(_rows(text, tokenizer, length - 2))
    ]
    return ExampleSet(rows, skipped=examples.skipped, origin=f"{examples.origin}, packed")


def separator_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's end token as text, where it reads that as the one token that it is; else a blank line."""
    end = tokenizer.eos_token
    if end is None:
        return BLANK_LINE
    same = tokenizer(end, add_special_tokens=False)["input_ids"] == [tokenizer.eos_token_id]
    return str(end) if same else BLANK_LINE


def _rows(text: str, tokenizer: PreTrainedTokenizerBase, budget: int) -> Iterator[str]:
    separator, start = separator_of(tokenizer), 0
    while start < len(text):
        if text.startswith(separator, start):
            start += len(separator)  # a row opens with such a token as it is
            continue
        stop = _fitting(text, start, tokenizer, budget)
        if stop <= start:
            raise DataError(f"data.max_length: {budget + 2} tokens do not hold {text[start : start + 20]!r}")
        yield text[start:stop]
        start = stop


def _fitting(text: str, start: int, tokenizer: PreTrainedTokenizerBase, budget: int) -> int:
    """Where the row that begins at `start` ends."""
    width = budget * _GUESS
    while True:
        offsets = _offsets(tokenizer, text[start : start + width])
        if len(offsets) > budget or start + width >= len(text):
            break
        width *= 2
    if len(offsets) <= budget:
        return len(text)
    stop = start + offsets[budget][0]
    while stop > start:
        stop = _before_a_space(text, start, stop)
        excess = len(_offsets(tokenizer, text[start:stop])) - budget
        if excess <= 0:
            return stop
        stop -= 1
    return start


def _before_a_space(text: str, start: int, stop: int) -> int:
    """The last place up to `stop` with white space behind it, or `stop` where there is none."""
    for place in range(stop, start, -1):
        if text[place : place + 1].isspace():
            return place
    return stop


def _offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(found["offset_mapping"])
