"""What a look inside the thoughts finds: of one prompt, and over a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latentthought.config import Config
from latentthought.evaluation.statistics import Estimate

Words = tuple[tuple[str, float], ...]
"""The most probable words with their probabilities, most probable first."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one kind of change to one thought does to the answer.

    kind: removed, noised or swapped; reach: direct or total (`model.interventions`). log_prob: of the original answer, afterwards
    minus before, in nats. divergence: KL at the answer's first word. kept: share of the draws that leave the greedy answer as
    it was. answers: the greedy answers, how often each.
    """

    kind: str
    reach: str
    log_prob: float
    divergence: float
    kept: float
    answers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read off the column in which something was made.

    words: a block each, the last one's as the head says them. attention: a block each, over the columns up to this one; None
    where the model does not tell.
    """

    words: tuple[Words, ...]
    attention: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True, slots=True)
class ThoughtView:
    """One thought. cosine: of its state with the thought before, None for the first. rms_ratio: its RMS over an embedding's."""

    seen: Seen
    cosine: float | None
    rms_ratio: float
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """One prompt, looked into.

    columns: what stands at each column before the answer; the first `prompt_columns` are the prompt. answer: greedy, after the
    thoughts, with its log probability in nats; answer_seen: the column that its first word is read off. in_words: what the model
    writes without any thoughts. steps, gold: the row's own, where it is known. donor: whose thoughts are swapped in.
    """

    id: str
    question: str
    columns: tuple[str, ...]
    prompt_columns: int
    thoughts: tuple[ThoughtView, ...]
    answer: str
    answer_log_prob: float
    answer_seen: Seen
    in_words: str
    steps: tuple[str, ...] = ()
    gold: str | None = None
    donor: str | None = None


class Mean(Config):
    """A mean over rows with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    n: int


class ThoughtEffect(Config):
    """What one kind of change to thought `thought` (from 1) does over a data set.

    kind: removed, noised, swapped (from a row whose step has another result, where results are known), or alike (from a row
    whose step has the same result: nothing should happen). log_prob: change of the model's own answer's log probability, nats.
    flipped: share of rows whose greedy answer changes. led: share whose answer becomes the one that the other row's result leads
    to in this row's own puzzle, where a program can tell.
    """

    thought: int
    kind: str
    reach: str
    log_prob: Mean
    divergence: Mean
    flipped: Estimate
    led: Estimate | None = None


class ProbeScore(Config):
    """How well a linear probe reads the result of step `step` (from 1) off thought `thought` (from 1).

    accuracy: on rows that were held out. majority: of always saying the commonest result. shuffled: of probes fitted on the
    results of other rows, the mean. classes: different results; rows: fitted and scored ones; left_out: rows whose result is too
    rare to learn.
    """

    thought: int
    step: int
    accuracy: Estimate
    majority: float
    shuffled: float
    classes: int
    rows: tuple[int, int]
    left_out: int


class Faithfulness(Config):
    """Causal effects and probes of each thought over the rows of a task.

    accuracy: of the answers as they are. unfit: rows that the context has no room for. per_step: thoughts that stand for one
    step, as far as is known. remarks: what could not be measured, and why.
    """

    task: str
    version: int
    model: str
    thoughts: int
    rows: int
    unfit: int
    accuracy: Estimate
    per_step: int | None
    draws: int
    noise: float
    effects: tuple[ThoughtEffect, ...]
    probes: tuple[ProbeScore, ...]
    remarks: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    git: dict[str, Any] | None = None

    def effect(self, thought: int, kind: str, reach: str) -> ThoughtEffect | None:
        """The effect of one change, if it was measured."""
        return next(
            (
                found
                for found in self.effects
                if (found.thought, found.kind, found.reach) == (thought, kind, reach)
            ),
            None,
        )


def kinds_in(effects: Sequence[ThoughtEffect]) -> list[str]:
    """The kinds of change that were measured, in order."""
    return list(dict.fromkeys(found.kind for found in effects))
