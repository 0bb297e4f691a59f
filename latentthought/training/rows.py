"""From the `data` section of a recipe to encoded rows that fit the context."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import Encoded, Encoder, FormatConfig
from latentthought.data.example import Example, ExampleSet
from latentthought.data.fitting import Fitted, Overlong, fit_rows
from latentthought.data.packing import pack
from latentthought.data.sources.loading import SourceConfig, load_examples
from latentthought.distillation.responses import ResponsesConfig, training_source
from latentthought.model.configuration import ThoughtConfig
from latentthought.thoughts.layout import ThoughtTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class DataConfig(SourceConfig):
    """Which rows are trained on, how they are written, and how long they may be.

    format: prompt, step and answer templates. max_length: tokens of a row at most (None: what the model's positions hold).
    overlong: what to do with longer rows: drop, truncate_steps (from the middle of the reasoning) or error; always reported.
    packing: documents (rows without question and steps) end to end, cut into rows of max_length; see `data.packing`.
    """

    format: FormatConfig = FormatConfig()
    max_length: int | None = Field(None, gt=0)
    overlong: Overlong = "drop"
    packing: bool = False

    @model_validator(mode="after")
    def _packs_to_a_length(self) -> DataConfig:
        if self.packing and self.max_length is None:
            raise ValueError("packing: say how long the rows are to be (max_length)")
        return self

    def rows_of(
        self,
        examples: ExampleSet,
        tokenizer: PreTrainedTokenizerBase,
        curriculum: Curriculum,
        thought: ThoughtConfig,
        most: int | None = None,
    ) -> ExampleSet:
        """The rows that these examples make for a student with this tokenizer: packed where that is asked for, `most` of them."""
        if not self.packing:
            return examples[:most]
        assert self.max_length is not None
        # what format and curriculum put around a text; a row is only measured, so that any id serves
        tokens = ThoughtTokens(
            start_id=None if thought.start_token is None else 0,
            end_id=None if thought.end_token is None else 0,
        )
        around = Encoder(tokenizer, self.format, spans=False).encode(Example("", "", (), ""))
        return pack(examples, tokenizer, self.max_length - curriculum.longest(around, tokens), most)

    def texts(self, examples: ExampleSet) -> Iterator[str]:
        """Everything that a tokenizer trained on the spot has to know, as the format writes it."""
        for example in examples:
            pieces = self.format.pieces(example)
            yield from (pieces.prompt, *pieces.steps, pieces.answer)
            if self.format.chat:  # earlier turns stand in the prompt too
                yield from (str(message["content"]) for message in example.messages or ())
        if self.format.chat and self.format.system is not None:
            yield self.format.system

    def encode(
        self,
        examples: ExampleSet,
        tokenizer: PreTrainedTokenizerBase,
        curriculum: Curriculum,
        tokens: ThoughtTokens,
        positions: int | None,
        spans: bool = False,
    ) -> Fitted:
        """Encode and fit all rows. positions: how many the model has, or None. spans: to align with a teacher."""
        limits = [limit for limit in (self.max_length, positions) if limit is not None]
        rows = Encoder(tokenizer, self.format, spans=spans).encode_all(examples)
        found: dict[Any, int] = {}

        def longest(row: Encoded) -> int:
            # by the lengths of its pieces: laying out every row at every stage is a third of all that is done with the data
            lengths = (len(row.prompt), *map(len, row.steps), len(row.answer))
            if lengths not in found:
                found[lengths] = curriculum.longest(row, tokens)
            return found[lengths]

        return fit_rows(rows, min(limits, default=None), self.overlong, longest)


def training_rows(
    data: DataConfig, responses: ResponsesConfig | None, seed: int, smoke: bool = False
) -> tuple[DataConfig, ExampleSet]:
    """The rows that a run trains on and that its teacher reads, and the settings that name them.

    responses: in place of the given answers to the questions that `data` names, the teacher's own. Errors as of
    `load_examples` and `training_source`.
    """
    examples = load_examples(data, seed=seed, smoke=smoke)
    if responses is None:
        return data, examples
    data = training_source(responses, data, examples.fingerprint)
    return data, load_examples(data, seed=seed)
