"""What each change of each thought does to the answers of a task's rows, batch by batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from latentthought.data.encoding import Encoder
from latentthought.evaluation.clues import chain_leads
from latentthought.evaluation.inspection.results import Mean, ThoughtEffect
from latentthought.evaluation.inspection.rows import ALIKE, SWAPPED, AnsweredRow, Asking
from latentthought.evaluation.statistics import bootstrap, estimate
from latentthought.model.interventions import (
    KINDS,
    REACHES,
    Answers,
    Change,
    Thinking,
    batches_of,
    changed_inputs,
    divergence,
    score,
)

# changes that stand side by side for each prompt of a batch
COPIES = 8
_ORDER = ("removed", "noised", "swapped", "alike")


@dataclass(frozen=True, slots=True)
class _Changed:
    """What one change did to one row. flipped: None for an unsettled row. led: whether the answer is now the one that the donor's
    result leads to."""

    log_prob: float
    divergence: float
    flipped: bool | None
    led: bool | None


@dataclass(frozen=True)
class EffectsOfChanges:
    """Measures every change on every row.

    inputs: (N, S, D), what each row feeds at its thoughts; donors: (N, 2, S), whose thoughts are swapped in, places in `rows`, -1
    for none; steps: the step (0-based) that each thought stands for. draws, noise: of noised thoughts. unsettled: filled while
    measuring, places of rows whose answer is not the likeliest even unchanged; no change can be said to have changed it.
    """

    asking: Asking
    rows: Sequence[AnsweredRow]
    inputs: Tensor
    donors: Tensor
    steps: Sequence[int | None]
    draws: int
    noise: float
    seed: int
    unsettled: set[int] = field(default_factory=set)

    def measure(self) -> list[ThoughtEffect]:
        """Effects by kind, reach and thought."""
        changes = self._changes()
        found: dict[tuple[str, str, int], dict[int, list[_Changed]]] = defaultdict(lambda: defaultdict(list))
        with self.asking.bar("changed thoughts", len(self.rows)) as bar:
            for places in self.asking.batches(self.rows):
                for change, place, changed in self._batch(places, changes):
                    found[_name(change), change.reach, change.thought][place].append(changed)
                bar.add(len(places))
        keys = sorted(found, key=lambda key: (_ORDER.index(key[0]), key[1] != "direct", key[2]))
        return [
            _effect(thought + 1, kind, reach, found[kind, reach, thought]) for kind, reach, thought in keys
        ]

    def _changes(self) -> list[Change]:
        """Every change that is made to a row; swaps only where some row has a donor."""
        changes = []
        for kind in KINDS:
            for reach in REACHES:
                for thought in range(self.asking.thoughts):
                    if kind == "swapped":
                        changes += [
                            Change(thought, kind, reach, donor=donor)
                            for donor in (SWAPPED, ALIKE)
                            if bool((self.donors[:, donor, thought] >= 0).any())
                        ]
                    else:
                        draws = self.draws if kind == "noised" else 1
                        changes += [Change(thought, kind, reach, draw, self.noise) for draw in range(draws)]
        return changes

    def _batch(self, places: list[int], changes: Sequence[Change]) -> Iterator[tuple[Change, int, _Changed]]:
        """(change, place of the row, what it did) for one batch."""
        model, batch = self.asking.model, [self.rows[place] for place in places]
        thinking = self.asking.think(batch)
        answers = Answers.of([row.answer for row in batch], model.device)
        plain = score(model, thinking, thinking.inputs, answers)
        settled = plain.kept.tolist()
        self.unsettled.update(place for place, known in zip(places, settled, strict=True) if not known)
        donors_B2S = self.donors[places]
        given_B2SD = self.inputs[donors_B2S.clamp_min(0), torch.arange(self.asking.thoughts)].to(model.device)
        seeds = [self.seed * 1_000_003 + row.number for row in batch]
        for part in batches_of(changes, self.asking.thoughts, COPIES):
            fed = changed_inputs(model, thinking, part, given_B2SD, seeds)
            scored = score(model, thinking, fed, answers)
            led = self._led(places, thinking, fed, part)
            copies = len(part)
            drift = divergence(plain.first.repeat_interleave(copies, 0), scored.first).tolist()
            lost = (scored.log_probs - plain.log_probs.repeat_interleave(copies, 0)).tolist()
            kept = scored.kept.tolist()
            for row, place in enumerate(places):
                for copy, change in enumerate(part):
                    if change.kind != "swapped" or donors_B2S[row, change.donor, change.thought] >= 0:
                        here = row * copies + copy
                        flipped = not kept[here] if settled[row] else None
                        yield change, place, _Changed(lost[here], drift[here], flipped, led.get(here))

    def _led(
        self, places: Sequence[int], thinking: Thinking, fed: Tensor, changes: Sequence[Change]
    ) -> dict[int, bool]:
        """Row of `fed` -> whether the answer is the one that the donor's result leads to, where that is known."""
        if self.asking.task.judge != "chain":
            return {}
        encoder = Encoder(self.asking.tokenizer, self.asking.format, spans=False)
        expected: list[list[int]] = []
        known: list[int] = []
        for place in places:
            example = self.rows[place].example
            for change in changes:
                answer = self._leads(place, change)
                if answer is None:
                    expected.append(self.rows[place].answer)
                else:
                    known.append(len(expected))
                    expected.append(encoder.encode(replace(example, answer=answer)).answer)
        if not known:
            return {}
        model = self.asking.model
        kept = score(model, thinking, fed, Answers.of(expected, model.device), each_row=True).kept.tolist()
        return {here: kept[here] for here in known}

    def _leads(self, place: int, change: Change) -> str | None:
        """The answer that follows in a row's own table from the result that the donor's step has; None where there is none."""
        if _name(change) != "swapped" or (donor := int(self.donors[place, SWAPPED, change.thought])) < 0:
            return None
        step, example, lent = self.steps[change.thought], self.rows[place].example, self.rows[donor].results
        if step is None or step >= min(len(lent), len(example.steps)):
            return None
        return chain_leads(example, step, lent[step])


def _name(change: Change) -> str:
    return "alike" if change.kind == "swapped" and change.donor == ALIKE else change.kind


def _effect(thought: int, kind: str, reach: str, by_row: dict[int, list[_Changed]]) -> ThoughtEffect:
    led: dict[Hashable, list[float]] = {
        row: [float(one.led) for one in draws if one.led is not None] for row, draws in by_row.items()
    }
    flipped: dict[Hashable, list[float]] = {
        row: known
        for row, draws in by_row.items()
        if (known := [float(one.flipped) for one in draws if one.flipped is not None])
    }
    return ThoughtEffect(
        thought=thought,
        kind=kind,
        reach=reach,
        log_prob=_mean([[one.log_prob for one in draws] for draws in by_row.values()]),
        divergence=_mean([[one.divergence for one in draws] for draws in by_row.values()]),
        flipped=estimate(flipped),
        led=estimate(led) if any(led.values()) else None,
    )


def _mean(values: Sequence[Sequence[float]]) -> Mean:
    """The mean over rows of the mean over a row's draws."""
    means = [sum(draws) / len(draws) for draws in values]
    low, high = bootstrap(means)
    return Mean(value=sum(means) / len(means), low=low, high=high, n=len(means))
