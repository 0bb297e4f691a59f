"""On-policy distillation: teacher and student are compared on what the student itself writes after its thoughts.

Under teacher forcing a student reads the data's words only, and at inference its own, mistakes included. So a share of the steps
takes the student's own text (Generalized Knowledge Distillation, arXiv 2306.13649, algorithm 1; `share` is its lambda): the
student thinks, as its stage lays the row out, and goes on in words. Then both models read what it wrote: the student after
its thoughts, the teacher after the same steps in words (or as thoughts of its own). As there, no gradient goes through the
drawing of the words, and nothing of the text is a label: `ce` has no part in such a step. `own_rows` says what is compared.

Which steps, and which words, are functions of seed, step and slot alone: word n of a row is the one that uniform number n of its
slot falls on (inverse transform sampling). Micro-batches, processes and resumes cannot change it.
Cost: one generation a step, without gradient, and the teacher reads rows that no cache can hold.
Rejected: torch's own sampling (the words of a row would depend on its neighbours), and own text for some rows of a step (the
generation costs nearly as much for half of the rows).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from latentthought.config import Config
from latentthought.distillation.drawing import Draws, uniform_numbers
from latentthought.distillation.own_rows import OwnRows, Task, thoughts_of
from latentthought.errors import ConfigError
from latentthought.objective.alignment import Reading
from latentthought.thoughts.layout import ThoughtTokens

if TYPE_CHECKING:
    from latentthought.data.curriculum import Curriculum
    from latentthought.distillation.reader import Reader
    from latentthought.distillation.teaching import LiveTeaching

# whatever else a model's own settings would make of its distributions; the words are drawn by `Draws`
_PLAIN: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "return_dict_in_generate": False,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_new_tokens": 0,
}


class OnPolicyConfig(Config):
    """Steps whose text is the student's own.

    share: probability that a step is one; 0 is teacher forcing alone. temperature: of the drawing of words. max_new_tokens: the
    most that a row is continued by; fewer where a model has no positions left.
    """

    share: float = Field(0.5, ge=0.0, le=1.0)
    temperature: float = Field(1.0, gt=0.0)
    max_new_tokens: int = Field(64, gt=0)


@dataclass(frozen=True)
class Written:
    """What became of some tasks. readings: the student's rows. lengths: tokens that it wrote in each. teaching: knows the
    teacher's readings of them, by their place here."""

    readings: list[Reading]
    lengths: list[int]
    teaching: LiveTeaching


class OnPolicy:
    """Lets a student continue rows, and makes rows of it for student and teacher.

    Args:
        teaching: the teacher's readings of the data. reader: lays out what it reads. curriculum: the student's.
        tokens: the student's delimiters and placeholder.
        end_ids: tokens that end a text. words: ids of words that student and teacher both know; no others are written.
            Delimiters count as words only where the student closes its reasoning by one itself.
        positions: that the student has; None for any number.
    """

    def __init__(
        self,
        config: OnPolicyConfig,
        teaching: LiveTeaching,
        reader: Reader,
        curriculum: Curriculum,
        tokens: ThoughtTokens,
        end_ids: Iterable[int],
        words: Iterable[int],
        positions: int | None = None,
        seed: int = 0,
    ) -> None:
        check_curriculum(curriculum, tokens, config)
        self.config, self.teaching, self.tokens, self.seed = config, teaching, tokens, seed
        self.soft = curriculum.method == "soft_mix"
        self.end_ids = frozenset(end_ids)
        self.rows = OwnRows(teaching, reader, curriculum, tokens, self.end_ids)
        self._limits = positions, reader.limit
        self.closing_id = self.rows.closing_id
        closing = [] if self.closing_id is None else [self.closing_id]
        self.words = sorted([*({*words} - {tokens.start_id, tokens.end_id}), *closing])

    def applies(self, step: int) -> bool:
        """Whether the step with this index takes the student's own text; alike in every process and after every resume."""
        return random.Random(f"{self.seed} on-policy {step}").random() < self.config.share

    def write(self, model: Any, tasks: Sequence[Task], mix_ratio: float = 0.0) -> Written:
        """Let the student continue the tasks' rows. model: without gradient, in evaluation mode. mix_ratio: of a soft mix."""
        tokens = self._continue(model, tasks, mix_ratio)
        pairs = [self.rows.read(task, own) for task, own in zip(tasks, tokens, strict=True)]
        students, teachers = [student for student, _ in pairs], [teacher for _, teacher in pairs]
        teaching = self.teaching.upon([student.encoded for student in students], teachers)
        return Written(students, list(map(len, tokens)), teaching)

    # --- the student writes -------------------------------------------------------------------------------------------

    def _continue(self, model: Any, tasks: Sequence[Task], mix_ratio: float) -> list[list[int]]:
        """The tokens that each row is continued by, its end token included."""
        from transformers import LogitsProcessorList

        from latentthought.model.inputs import left_padded

        room = min(self._room(task) for task in tasks)
        if room < 1:
            return [[] for _ in tasks]
        thoughts = [thoughts_of(task.row) for task in tasks]
        prompts = [
            [*self.teaching.rows[task.place].prompt, *self._opening(count)]
            for task, count in zip(tasks, thoughts, strict=True)
        ]
        pad = min(self.end_ids, default=0)
        ids, mask = left_padded(prompts, pad)
        seeds = [f"{self.seed} write {task.slot}" for task in tasks]
        draws = Draws(uniform_numbers(seeds, room), self.words, self.config.temperature, model.device)
        with _left_open(model) if self.rows.encloses and any(thoughts) else nullcontext():
            output = model.generate(
                ids.to(model.device),
                attention_mask=mask.to(model.device),
                thoughts=thoughts,
                mix_ratio=mix_ratio if self.soft else 0.0,
                max_new_tokens=room,
                eos_token_id=sorted(self.end_ids) or None,
                pad_token_id=pad,
                logits_processor=LogitsProcessorList([draws]),
                **_PLAIN,
            )
        return [self._cut(row) for row in output[:, ids.shape[1] :].tolist()]

    def _opening(self, thoughts: int) -> list[int]:
        """What stands between prompt and text in a row that does not think first (the others are opened by their thoughts)."""
        start = self.tokens.start_id
        return [start] if self.rows.encloses and not thoughts and start is not None else []

    def _room(self, task: Task) -> int:
        """Tokens that a row can be continued by before student or teacher runs out of positions."""
        room = self.config.max_new_tokens
        for reading, limit in zip(self.rows.read(task, []), self._limits, strict=True):
            if limit is not None:
                # one for the closing delimiter, which an unfinished row lacks
                room = min(room, limit - len(reading.row) - int(self.rows.encloses))
        return room

    def _cut(self, tokens: list[int]) -> list[int]:
        """Up to and with the first end token, or up to where a second closing delimiter would stand."""
        closed = False
        for place, token in enumerate(tokens):
            if token in self.end_ids:
                return tokens[: place + 1]
            if token == self.closing_id:
                if closed:
                    return tokens[:place]
                closed = True
        return tokens


def check_curriculum(curriculum: Curriculum, tokens: ThoughtTokens, config: OnPolicyConfig) -> None:
    """Raise `ConfigError` for stages whose rows the student cannot continue as they are laid out, or that would never end."""
    adaptive = curriculum.on_collapse or any(stage.advance_at is not None for stage in curriculum.expand())
    if adaptive and config.share == 1.0:
        raise ConfigError(
            "teacher.on_policy.share: 1.0 leaves no row with labels, and the curriculum goes by how many are predicted right "
            "(advance_at, on_collapse); allowed here: less than 1"
        )
    delimited = tokens.start_id is not None or tokens.end_id is not None
    if curriculum.method in ("latent", "pause", "soft_mix") and delimited and not curriculum.delimiters:
        raise ConfigError(
            "teacher.on_policy: a model that has delimiters writes them around its thoughts, and curriculum.delimiters is false; "
            "set it to true, or model.thought.start_token and end_token to null"
        )
    for stage in curriculum.expand():
        if curriculum.method == "latent" and any(stage.mix.at(place) != 1.0 for place in (0.0, 0.5, 1.0)):
            raise ConfigError(
                "teacher.on_policy: a student of method latent writes after thoughts that are states alone, and the stage "
                f"{stage.name} mixes them with text (mix); allowed: mix 1.0"
            )


@contextmanager
def _left_open(model: Any) -> Iterator[None]:
    """Thoughts without the end delimiter after them: in enclosed reasoning the student writes that itself."""
    end = model.thought.end_token_id
    model.set_thought(end_token_id=None)
    try:
        yield
    finally:
        model.set_thought(end_token_id=end)
