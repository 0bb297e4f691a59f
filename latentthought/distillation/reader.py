"""Rows as the teacher reads them: its own tokenizer, its own templates, its own layout.

A teacher reads every row in one way for the whole run (the whole chain of thought in words, or with thoughts as its own last
stage laid them out), while the student's rows change from stage to stage. So a row is read once, and what both have in common
is found later, by sites that carry the same key (`objective.alignment`).
Rejected: giving the teacher the student's ids (a teacher with another tokenizer is then impossible, and one with the same
sees thought placeholders that it never learnt).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latentthought.data.collation import Collator
from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import Encoded, Encoder, FormatConfig
from latentthought.data.example import Example
from latentthought.data.fitting import Overlong, fit_rows
from latentthought.data.stage import StageSettings
from latentthought.data.tokenizer import pad_id
from latentthought.objective.alignment import Reading
from latentthought.thoughts.layout import Row, ThoughtTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Readings:
    """Rows that were read. kept: their places among the examples given. dropped: one line for each that is too long."""

    readings: list[Reading] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.readings)


class Reader:
    """Reads examples with one tokenizer, in one format, laid out as the last stage of a curriculum.

    Args:
        curriculum: `whole_text(...)` for the whole chain of thought.
        tokens: ids of the reader's delimiters and placeholder.
        limit: tokens of a row at most (None: any number). overlong: what is done with longer ones; where that would be an error
            they are dropped, and said.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        format: FormatConfig,
        curriculum: Curriculum,
        tokens: ThoughtTokens,
        limit: int | None = None,
        overlong: Overlong = "drop",
    ) -> None:
        self.encoder = Encoder(tokenizer, format)
        self.curriculum = curriculum
        self.tokens = tokens
        self.limit = limit
        self._overlong: Overlong = "drop" if overlong == "error" else overlong
        self._collator = Collator(pad_id(tokenizer), curriculum)
        self._stage = len(curriculum.expand()) - 1
        feeds = curriculum.method in ("latent", "soft_mix")
        # the number 0 leaves the machinery of thoughts out altogether
        self._mix = curriculum.expand()[-1].mix.at(1.0) if feeds else 0.0

    def read(self, examples: Iterable[Example]) -> Readings:
        """All examples that fit, in order. Raises `DataError` when none does."""
        rows = self.encoder.encode_all(examples)
        fitted = fit_rows(rows, self.limit, self._overlong, lambda row: len(self.lay_out(row).row))
        return Readings([self.lay_out(row) for row in fitted.rows], fitted.kept, fitted.dropped)

    def lay_out(self, encoded: Encoded) -> Reading:
        """One encoded row as it is read."""
        return Reading(self.curriculum.layout(encoded, self._stage, None, self.tokens), encoded)

    def collate(self, rows: Sequence[Row]) -> dict[str, Any]:
        """A batch of rows; see `data.collation.Collator`."""
        return self._collator(rows, self._stage, self._mix)


def whole_text(curriculum: Curriculum) -> Curriculum:
    """The curriculum that keeps every step in words, with the delimiters of the one given."""
    return Curriculum(
        method="text",
        delimiters=curriculum.delimiters,
        enclose=curriculum.enclose,
        label_start=curriculum.label_start,
        label_end=curriculum.label_end,
        each=StageSettings(steps=1),
    )
