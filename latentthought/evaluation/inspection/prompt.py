"""One prompt looked into: what each thought says, where it looks, and what the answer owes to it.

Everything is of the greedy answer after a fixed number of thoughts. The cost is about that of S (draws + 2) more answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from latentthought.errors import ConfigError, UnsupportedError
from latentthought.evaluation.inspection.results import Effect, Inspection, Seen, ThoughtView, Words
from latentthought.evaluation.models import context_of, decode, end_ids_of, plain_greedy
from latentthought.model.inputs import left_padded
from latentthought.model.interventions import (
    KINDS,
    REACHES,
    Answers,
    Change,
    Scores,
    Thinking,
    answers_after,
    batches_of,
    changed_inputs,
    divergence,
    score,
    think_through,
)
from latentthought.model.lens import Columns, read_columns
from latentthought.model.think import Prompt, ThoughtRun, lay_out
from latentthought.thoughts.scale import root_mean_square


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt to look into: its ids, and what is known of its row."""

    id: str
    question: str
    prompt: Sequence[int]
    steps: tuple[str, ...] = ()
    gold: str | None = None


@dataclass(frozen=True)
class Inspector:
    """Looks into prompts of one model.

    thoughts: how many, at least one. draws, noise: of noised thoughts, and its size relative to the thought. top_k: words of each
    reading. max_new_tokens: of an answer; words_tokens: of the answer in words. batch_size: rows at once.
    """

    model: Any
    tokenizer: Any
    thoughts: int
    draws: int = 4
    noise: float = 1.0
    top_k: int = 5
    max_new_tokens: int = 64
    words_tokens: int = 256
    seed: int = 0
    batch_size: int = 16
    end_ids: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        check_thinks(self.model, self.thoughts)
        object.__setattr__(self, "end_ids", end_ids_of(self.model, self.tokenizer))

    def look(self, asked: Asked, donor: Asked | None = None, room: int | None = None) -> Inspection:
        """Look into one prompt. donor: whose thoughts are swapped in; None: no swap. room: new tokens that the context leaves."""
        with plain_greedy(self.model):
            return self._look(asked, donor, room)

    def _look(self, asked: Asked, donor: Asked | None, room: int | None) -> Inspection:
        limit = min(self.max_new_tokens, self.max_new_tokens if room is None else room)
        thinking = self._think(asked.prompt)
        ids = self._answers(thinking, thinking.inputs, limit)[0]
        answers = Answers.of([ids], self.model.device)
        plain = score(self.model, thinking, thinking.inputs, answers)
        columns, labels = self._columns(thinking, asked.prompt)
        donors = None if donor is None else self._think(donor.prompt).inputs[:, None]
        effects = self._effects(thinking, donors, ids, plain, limit)
        seen = list(self._seen(columns, len(labels)))
        state, target = thinking.states[0].float(), self.model.scale.target
        cosines = torch.cosine_similarity(state[1:], state[:-1], dim=-1).tolist()
        ratios = (root_mean_square(state)[:, 0] / target).tolist()
        return Inspection(
            id=asked.id,
            question=asked.question,
            columns=labels,
            prompt_columns=len(asked.prompt),
            thoughts=tuple(
                ThoughtView(seen[k], cosines[k - 1] if k else None, ratios[k], tuple(effects[k]))
                for k in range(self.thoughts)
            ),
            answer=self._text(ids),
            answer_log_prob=float(plain.log_probs[0]),
            answer_seen=seen[-1],
            in_words=self._in_words(asked.prompt),
            steps=asked.steps,
            gold=asked.gold,
            donor=None if donor is None else donor.question,
        )

    def _think(self, prompt: Sequence[int]) -> Thinking:
        ids, mask = (part.to(self.model.device) for part in left_padded([prompt]))
        return think_through(self.model, Prompt.read(ids, mask), self.thoughts)

    def _columns(self, thinking: Thinking, prompt: Sequence[int]) -> tuple[Columns, tuple[str, ...]]:
        """The columns that made the thoughts and the answer, and what stands at all of them."""
        run = ThoughtRun(thinking.states, thinking.inputs, [self.thoughts], DynamicCache())
        laid = lay_out(self.model, thinking.prompt, run)
        start, end = self.model.thought.start_token_id, self.model.thought.end_token_id
        ids = [*prompt, *([] if start is None else [start])]
        labels = [_word(self.tokenizer, token) for token in ids]
        first = len(labels) - 1
        labels += [f"thought {number}" for number in range(1, self.thoughts + 1)]
        labels += [] if end is None else [_word(self.tokenizer, end)]
        return read_columns(self.model, laid.inputs_embeds, first, self.top_k), tuple(labels)

    def _seen(self, columns: Columns, width: int) -> Iterator[Seen]:
        """What was read off each column, the last one being that of the answer."""
        counts = torch.tensor([columns.words[0].ids.shape[1]])
        by_block = [block.words(self.tokenizer, counts)[0] for block in columns.words]
        looked = len(by_block[0])
        for place in range(looked):
            words: tuple[Words, ...] = tuple(tuple(block[place]) for block in by_block)
            attention = None
            if columns.attention is not None:
                reach = width - looked + place + 1
                attention = tuple(map(tuple, columns.attention[:, place, :reach].tolist()))
            yield Seen(words, attention)

    def _effects(
        self, thinking: Thinking, donors: Tensor | None, answer: list[int], plain: Scores, limit: int
    ) -> list[list[Effect]]:
        """Effects by thought, in the order of kinds and reaches."""
        answers = Answers.of([answer], self.model.device)
        found: dict[tuple[int, str, str], list[tuple[float, float, bool, str]]] = {}
        changes = [
            Change(thought, kind, reach, draw, self.noise)
            for kind in KINDS
            if kind != "swapped" or donors is not None
            for reach in REACHES
            for thought in range(self.thoughts)
            for draw in range(self.draws if kind == "noised" else 1)
        ]
        for part in batches_of(changes, self.thoughts, self.batch_size):
            inputs = changed_inputs(self.model, thinking, part, donors, [self.seed])
            scored = score(self.model, thinking, inputs, answers)
            written = self._answers(thinking, inputs, limit)
            drift = divergence(plain.first, scored.first).tolist()
            lost = (scored.log_probs - plain.log_probs).tolist()
            for place, change in enumerate(part):
                key = (change.thought, change.kind, change.reach)
                kept, text = written[place] == answer, self._text(written[place])
                found.setdefault(key, []).append((lost[place], drift[place], kept, text))
        effects: list[list[Effect]] = [[] for _ in range(self.thoughts)]
        for change in changes:
            thought, kind, reach = key = (change.thought, change.kind, change.reach)
            if (draws := found.pop(key, None)) is None:  # another draw of what is there
                continue
            count = len(draws)
            effects[thought].append(
                Effect(
                    kind,
                    reach,
                    sum(draw[0] for draw in draws) / count,
                    sum(draw[1] for draw in draws) / count,
                    sum(draw[2] for draw in draws) / count,
                    tuple(Counter(draw[3] for draw in draws).most_common()),
                )
            )
        return effects

    def _answers(self, thinking: Thinking, inputs: Tensor, limit: int) -> list[list[int]]:
        """Greedy answers behind thoughts, each up to and with its end token."""
        new = answers_after(self.model, thinking, inputs, **self._arguments(limit))
        return [cut_at(row, self.end_ids) for row in new.tolist()]

    def _in_words(self, prompt: Sequence[int]) -> str:
        ids, mask = (part.to(self.model.device) for part in left_padded([prompt]))
        context = context_of(self.model)
        limit = self.words_tokens if context is None else min(self.words_tokens, context - len(prompt))
        new = self.model.generate(ids, mask, thoughts=0, **self._arguments(limit))
        return self._text(cut_at(new[0, ids.shape[1] :].tolist(), self.end_ids))

    def _arguments(self, max_new_tokens: int) -> dict[str, Any]:
        pad = getattr(self.tokenizer, "pad_token_id", None)
        return {
            "max_new_tokens": max_new_tokens,
            "do_sample": False,
            "num_beams": 1,
            "pad_token_id": pad if pad is not None else min(self.end_ids, default=0),
            **({"eos_token_id": sorted(self.end_ids)} if self.end_ids else {}),
        }

    def _text(self, ids: Sequence[int]) -> str:
        return decode(self.tokenizer, ids).strip()


def check_thinks(model: Any, thoughts: int) -> None:
    """Refuse what holds no thoughts to look into."""
    if not hasattr(model, "think"):
        raise UnsupportedError("inspect: this is a plain language model, which has no thoughts")
    if thoughts < 1:
        mixing = " (it mixes states into the words that it writes)" if model.thought.mix_ratio > 0 else ""
        raise ConfigError(
            f"nothing to inspect: the model is asked for {thoughts} thoughts, and was trained with "
            f"{model.thought.thoughts}{mixing}; say how many: --thoughts N, at least 1"
        )
    if model.thought.fill == "pause":
        raise UnsupportedError(
            "nothing to inspect: this model's thoughts are pause tokens, the same constant for every question"
        )


def cut_at(ids: Sequence[int], ends: frozenset[int]) -> list[int]:
    """Ids up to and with the first end token."""
    stop = next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:stop])


def _word(tokenizer: Any, token: int) -> str:
    """A token as text; its own name where it has none."""
    return str(tokenizer.decode([token])) or str(tokenizer.convert_ids_to_tokens(token))
