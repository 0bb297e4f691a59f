"""Documents end to end, cut into rows of one length: no token of a batch is padding, and long documents are not dropped.

All documents become one text, a separator between them, which is cut into rows again, all of it. A row is cut before a space
where there is one near its end, so that the words keep the tokens that they would have in the whole text, and its text is
tokenised once more to make sure that it fits: a row may be short by a tenth at most, and the last one is as long as what is
left. Rows are text and not ids, so that a teacher with another tokenizer reads them too. Costs about twice the tokenising of
the text.
A row attends across its documents. Rejected: masks that keep documents apart (attention kernels for them exist on GPUs only, and
short documents gain little), and one document a row (with lengths from 50 to 2,000 most of a batch is padding).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from latentthought.data.example import Example, ExampleSet
from latentthought.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLANK_LINE = "\n\n"
# characters a token that the first row is expected to have; the others are expected to be like the one before
_GUESS = 6.0
_SPARE = 1.15


def pack(
    examples: ExampleSet, tokenizer: PreTrainedTokenizerBase, length: int, most: int | None = None
) -> ExampleSet:
    """Rows whose texts are `length` tokens long at most; what the format puts around a text comes on top. most: so many rows.

    Raises `ConfigError` for rows with a question or steps, and for a length that holds nothing.
    """
    asked = next((example for example in examples if example.question or example.steps), None)
    if asked is not None:
        raise ConfigError(
            f"data.packing joins documents, and row {asked.id} has a question or steps; leave packing out for such rows"
        )
    if length < 2:
        raise ConfigError(
            f"data.max_length: leaves {length} tokens of a row for text; packing needs 2 at least"
        )
    text = separator_of(tokenizer).join(example.answer for example in examples)
    rows = [
        Example(f"packed/{number}", question="", steps=(), answer=row)
        for number, row in enumerate(islice(_rows(text, tokenizer, length), most))
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
    separator, start, per_token = separator_of(tokenizer), 0, _GUESS
    while start < len(text):
        if text.startswith(separator, start):
            start += len(separator)  # a row opens with such a token as it is
            continue
        stop = _fitting(text, start, tokenizer, budget, int(budget * per_token * _SPARE) + 1)
        if stop <= start:
            raise DataError(f"data.max_length: {budget} tokens do not hold {text[start : start + 20]!r}")
        yield text[start:stop]
        per_token = (stop - start) / budget
        start = stop


def _fitting(text: str, start: int, tokenizer: PreTrainedTokenizerBase, budget: int, width: int) -> int:
    """Where the row that begins at `start` ends. width: characters that should be enough for it."""
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
    """The last place in the last tenth of a row, up to `stop`, with white space behind it, or `stop` where there is none."""
    for place in range(stop, stop - max(1, (stop - start) // 10), -1):
        if text[place : place + 1].isspace():
            return place
    return stop


def _offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(found["offset_mapping"])
