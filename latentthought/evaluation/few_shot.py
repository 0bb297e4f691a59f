"""Worked examples in front of a question: written in the task, or drawn from another split of its data.

They are written as the task's format writes a row, one after the other in a plain prompt, as turns of user and assistant in a
chat. A row that is itself among the drawn ones gets a spare in its place, so that no question stands beside its own answer.
Cost: a draw reads the pool; a plain prompt is tokenised whole, so the examples count as often as there are questions.
Rejected: examples chosen by likeness to the question (a result then depends on a retriever).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.data.encoding import Encoder, FormatConfig
from latentthought.data.example import Example, Split
from latentthought.data.sources import SOURCES, SourceConfig, load_examples
from latentthought.data.sources.base import GeneratedSource
from latentthought.errors import ConfigError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# rows that a source is asked to make for a pool; a file is read whole
_GENERATED_POOL = 1000


class Shot(Config):
    """One example written out. steps: its reasoning."""

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    steps: tuple[str, ...] = ()


class FewShotConfig(Config):
    """Examples in front of every question.

    count: how many (None: all of `examples`, and none where there are none written). examples: written out; without them,
    `count` rows are drawn by `seed` from `split` of the task's source, or of the file `path`. steps: with their reasoning, or
    answers only. separator: between two plain examples; a completion is cut at it (see `stop` of the task).
    """

    count: int | None = Field(default=None, ge=0)
    examples: tuple[Shot, ...] = ()
    split: Split = "train"
    path: str | None = None
    seed: int = Field(default=0, ge=0)
    steps: bool = True
    separator: str = Field(default="\n\n", min_length=1)

    @model_validator(mode="after")
    def _holds(self) -> FewShotConfig:
        if self.examples and (self.count or 0) > len(self.examples):
            raise ValueError(f"count is {self.count}, and only {len(self.examples)} examples are written")
        return self

    @property
    def wanted(self) -> int:
        """How many examples a prompt has."""
        return len(self.examples) if self.count is None else self.count

    def draw(self, data: SourceConfig, *, seed: int = 0, smoke: bool = False) -> list[Example]:
        """The examples, and a spare where they are drawn. `data`: the task's own rows; `seed`, `smoke`: as for these."""
        if not self.wanted:
            return []
        if self.examples:
            return [
                Example(f"shot/{number}", shot.question, shot.steps, shot.answer)
                for number, shot in enumerate(self.examples[: self.wanted])
            ]
        changes: dict[str, Any] = {"split": self.split, "start": 0, "limit": None}
        if isinstance(SOURCES[data.source], GeneratedSource):
            changes["limit"] = _GENERATED_POOL
        if self.path is not None:
            changes["path"] = self.path
        try:
            pool = load_examples(data.replace(**changes), seed=seed, smoke=smoke)
        except UserError as error:  # which is about these rows, not about the task's own
            raise type(error)(f"few_shot: {str(error).replace('data.path', 'few_shot.path')}") from None
        distinct = list({example.question: example for example in pool}.values())
        if len(distinct) <= self.wanted:
            raise ConfigError(
                f"few_shot.count: {self.wanted} examples, and one to spare, are wanted; "
                f"{pool.origin} has {len(distinct)} different question{'s' * (len(distinct) != 1)}"
            )
        return random.Random(f"few-shot {self.seed}").sample(distinct, self.wanted + 1)


class Prompter:
    """From a row to its prompt's ids, with the examples in front."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        format: FormatConfig,
        config: FewShotConfig | None = None,
        shots: Sequence[Example] = (),
    ):
        self.tokenizer, self.format = tokenizer, format
        self.config, self.shots = config or FewShotConfig(), shots
        self._encoders: dict[str, Encoder] = {}

    def ids(self, example: Example) -> list[int]:
        """The ids to generate from."""
        chosen = [shot for shot in self.shots if shot.question != example.question][: self.config.wanted]
        if self.format.chat and chosen:
            return self._encoder("").prompt_ids(replace(example, messages=(*self._turns(example, chosen),)))
        return self._encoder("".join(self._plain(shot) for shot in chosen)).prompt_ids(example)

    def _encoder(self, before: str) -> Encoder:
        """An encoder whose prompts begin with a text; a few texts differ only by the spare."""
        if before not in self._encoders:
            literal = before.replace("{", "{{").replace("}", "}}")
            form = self.format.replace(prompt=literal + self.format.prompt) if before else self.format
            self._encoders[before] = Encoder(self.tokenizer, form, spans=False)
        return self._encoders[before]

    def _plain(self, shot: Example) -> str:
        question, answer = self._written(shot)
        return f"{question}{answer}{self.config.separator}"

    def _turns(self, example: Example, chosen: Sequence[Example]) -> list[dict[str, Any]]:
        """System turns of the row, the examples, and what else the row has; its last turn is put in by the encoder."""
        own = [dict(turn) for turn in example.messages or ({"role": "user", "content": ""},)]
        opening = 0
        while opening < len(own) and own[opening].get("role") == "system":
            opening += 1
        turns: list[dict[str, Any]] = []
        for shot in chosen:
            question, answer = self._written(shot)
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer.strip()}]
        return [*own[:opening], *turns, *own[opening:]]

    def _written(self, shot: Example) -> tuple[str, str]:
        """Question and answer as the format writes them; reasoning that the format takes from elsewhere is its steps here."""
        form = self.format
        solution = shot.solution if shot.solution is not None else shot.answer
        steps = [form.step.format(step=step) for step in shot.steps] if self.config.steps else []
        return (
            form.prompt.format(question=shot.question),
            "".join(steps) + form.answer.format(answer=shot.answer, solution=solution),
        )
