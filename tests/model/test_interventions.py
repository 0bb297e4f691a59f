"""An answer scored again with one thought changed, against whole passes by hand: no cache, no padding, no batch."""

from __future__ import annotations

import pytest
import torch

from latentthought.model.interventions import (
    Answers,
    Change,
    answers_after,
    changed_inputs,
    divergence,
    score,
    think_through,
)
from latentthought.model.think import Prompt
from latentthought.thoughts.scale import root_mean_square
from tests.generation.naive import (
    END,
    MATRIX,
    START,
    TOLERANCE,
    naive_decode,
    naive_think,
    prompts,
    rows_of,
    states,
    thinker,
)

THOUGHTS = 3
ANSWERS = [[11, 12, 13], [14], [15, 16]]
CLOSE = {"atol": 5e-5, "rtol": 1e-4}


class Case:
    """A model that thought about three padded prompts, and the same by hand."""

    def __init__(self, case=MATRIX[0], **thought):
        self.model = thinker(case, **thought)
        ids, mask = prompts()
        self.rows = rows_of(ids, mask)
        self.thinking = think_through(self.model, Prompt.read(ids, mask), THOUGHTS)
        self.answers = Answers.of(ANSWERS, self.model.device)
        self.fed = [
            [self.model.scale(state) for state in naive_think(self.model, row, THOUGHTS)[1]]
            for row in self.rows
        ]

    def embed(self, *tokens):
        return self.model.base.get_input_embeddings()(torch.tensor([tokens], dtype=torch.long)).detach()

    def before(self, row):
        start = [] if self.model.thought.start_token_id is None else [START]
        return self.embed(*self.rows[row][0].tolist(), *start)

    def laid(self, row, fed):
        """Embeddings of a prompt, thoughts that are given, and the end delimiter."""
        end = [] if self.model.thought.end_token_id is None else [END]
        parts = [self.before(row), *(one[None, None] for one in fed)]
        return torch.cat([*parts, self.embed(*end)] if end else parts, dim=1)

    def thought_on(self, row, fed):
        """Thoughts given so far, and those that follow from them."""
        fed = list(fed)
        while len(fed) < THOUGHTS:
            embeds = torch.cat([self.before(row), *(one[None, None] for one in fed)], dim=1)
            fed.append(self.model.scale(states(self.model, embeds)[0, -1]))
        return fed

    def scored(self, row, fed):
        """Log probability of the row's answer, whether greedy decoding writes it, and log probabilities of the first word."""
        answer = ANSWERS[row]
        embeds = torch.cat([self.laid(row, fed), self.embed(*answer)], dim=1)
        with torch.no_grad():
            logits = self.model.base(inputs_embeds=embeds, use_cache=False).logits[0, -len(answer) - 1 : -1]
        log_probs = logits.log_softmax(-1)
        total = sum(log_probs[place, token] for place, token in enumerate(answer))
        return total, log_probs.argmax(-1).tolist() == answer, log_probs[0]

    def check(self, inputs, by_hand):
        """by_hand: [row][copy] -> the thoughts fed."""
        copies = len(by_hand[0])
        found = score(self.model, self.thinking, inputs, self.answers)
        for row, variants in enumerate(by_hand):
            for copy, fed in enumerate(variants):
                total, kept, first = self.scored(row, fed)
                here = row * copies + copy
                torch.testing.assert_close(
                    inputs[here], torch.stack(fed) if fed else inputs[here][:0], **CLOSE
                )
                torch.testing.assert_close(found.log_probs[here], total, **CLOSE)
                torch.testing.assert_close(found.first[here], first, **CLOSE)
                assert bool(found.kept[here]) == kept


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_nothing_changed(case):
    made = Case(case)
    made.check(made.thinking.inputs, [[fed] for fed in made.fed])


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_removed(case):
    made = Case(case)
    direct = [Change(thought, "removed", "direct") for thought in range(THOUGHTS)]
    by_hand = [[[*fed[:k], *fed[k + 1 :]] for k in range(THOUGHTS)] for fed in made.fed]
    made.check(changed_inputs(made.model, made.thinking, direct), by_hand)
    for k in range(THOUGHTS):
        total = changed_inputs(made.model, made.thinking, [Change(k, "removed", "total")])
        assert total.shape[1] == k
        made.check(total, [[fed[:k]] for fed in made.fed])


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_noised(case):
    made = Case(case)
    for reach in ("direct", "total"):
        changes = [
            Change(thought, "noised", reach, draw, noise=0.5)
            for thought in range(THOUGHTS)
            for draw in range(2)
        ]
        inputs = changed_inputs(made.model, made.thinking, changes, seeds=[7, 8, 9])
        by_hand = []
        for row, fed in enumerate(made.fed):
            variants = []
            for copy, change in enumerate(changes):
                k = change.thought
                noised = inputs[row * len(changes) + copy, k]
                size = root_mean_square(noised - fed[k]) / root_mean_square(fed[k])
                assert 0.2 < float(size) < 0.9, "noise of half its size, on 32 numbers"
                after = made.thought_on(row, [*fed[:k], noised]) if reach == "total" else fed[k + 1 :]
                variants.append(after if reach == "total" else [*fed[:k], noised, *after])
            by_hand.append(variants)
        made.check(inputs, by_hand)


def test_noise_is_a_rows_own():
    made = Case()
    changes = [Change(1, "noised", reach, draw) for reach in ("direct",) for draw in range(3)]
    together = changed_inputs(made.model, made.thinking, changes, seeds=[7, 8, 9])
    alone = think_through(made.model, Prompt.read(made.rows[2], None), THOUGHTS)
    torch.testing.assert_close(
        changed_inputs(made.model, alone, changes, seeds=[9]), together[6:], **TOLERANCE
    )
    total = changed_inputs(made.model, made.thinking, [Change(1, "noised", "total")], seeds=[7, 8, 9])
    torch.testing.assert_close(total[:, 1], together[::3, 1], **TOLERANCE)
    draws = together[:3, 1]
    assert not torch.allclose(draws[0], draws[1]) and not torch.allclose(draws[1], draws[2])


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_swapped(case):
    made = Case(case)
    donors = made.thinking.inputs.roll(1, 0)[:, None]
    for reach in ("direct", "total"):
        changes = [Change(thought, "swapped", reach) for thought in range(THOUGHTS)]
        by_hand = []
        for row, fed in enumerate(made.fed):
            given = made.fed[row - 1]
            by_hand.append(
                [
                    made.thought_on(row, [*fed[:k], given[k]])
                    if reach == "total"
                    else [*fed[:k], given[k], *fed[k + 1 :]]
                    for k in range(THOUGHTS)
                ]
            )
        made.check(changed_inputs(made.model, made.thinking, changes, donors), by_hand)


def test_without_delimiters_the_first_word_may_hang_on_the_prompt_alone():
    made = Case(start_token_id=None, end_token_id=None)
    total = changed_inputs(made.model, made.thinking, [Change(0, "removed", "total")])
    made.check(total, [[[]] for _ in made.fed])
    made.answers = Answers.of([row[:1] for row in ANSWERS], made.model.device)
    first = score(made.model, made.thinking, total, made.answers).first
    for row in range(3):
        torch.testing.assert_close(first[row], made.scored(row, [])[2], **CLOSE)


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_answers_are_those_of_greedy_decoding(case):
    made = Case(case)
    changes = [Change(thought, "removed", "direct") for thought in range(THOUGHTS)]
    inputs = changed_inputs(made.model, made.thinking, changes)
    ask = {"max_new_tokens": 4, "do_sample": False}
    new = answers_after(made.model, made.thinking, inputs, **ask)
    for row, fed in enumerate(made.fed):
        for k in range(THOUGHTS):
            expected, _ = naive_decode(made.model, made.laid(row, [*fed[:k], *fed[k + 1 :]]), 4)
            assert new[row * THOUGHTS + k].tolist() == expected
    ids, mask = prompts()
    whole = made.model.generate(ids, mask, thoughts=THOUGHTS, **ask)[:, ids.shape[1] :]
    assert answers_after(made.model, made.thinking, made.thinking.inputs, **ask).equal(whole)
    # and of these the score says that greedy decoding would write them
    made.answers = Answers.of(whole.tolist(), made.model.device)
    assert score(made.model, made.thinking, made.thinking.inputs, made.answers).kept.all()


def test_answers_one_a_changed_row():
    made = Case()
    changes = [Change(thought, "removed", "direct") for thought in range(THOUGHTS)]
    inputs = changed_inputs(made.model, made.thinking, changes)
    each = [answer for answer in ANSWERS for _ in changes]
    found = score(made.model, made.thinking, inputs, Answers.of(each, made.model.device), each_row=True)
    torch.testing.assert_close(
        found.log_probs, score(made.model, made.thinking, inputs, made.answers).log_probs, **TOLERANCE
    )


def test_divergence():
    first = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    other = torch.tensor([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(divergence(first.log(), other.log()), torch.tensor([0.5 * 0.6931472, 0.0]))
