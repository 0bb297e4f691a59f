"""Rows position by position, and the masks that regions give."""

from __future__ import annotations

import torch

from latentthought.thoughts.layout import (
    IGNORED,
    Region,
    ThoughtTokens,
    answer_mask,
    lay_out,
    prompt_mask,
    reasoning_mask,
    region_mask,
)

TOKENS = ThoughtTokens(start_id=91, end_id=92, thought_id=90)
PROMPT, STEPS, ANSWER = [1, 2], [[3], [4, 5]], [6, 0]
P, D, H, S, A = Region.PROMPT, Region.DELIMITER, Region.THOUGHT, Region.STEP, Region.ANSWER
_ = IGNORED


def test_thoughts_stand_between_delimiters_and_out_of_the_loss():
    row = lay_out(PROMPT, STEPS[1:], ANSWER, TOKENS, thoughts=3, id="r")
    assert row.ids == [1, 2, 91, 90, 90, 90, 92, 4, 5, 6, 0]
    assert row.labels == [_, _, _, _, _, _, _, 4, 5, 6, 0]
    assert row.thought == [False] * 3 + [True] * 3 + [False] * 5
    assert row.regions == [P, P, D, H, H, H, D, S, S, A, A]
    assert (row.pivot, row.thoughts, len(row), row.id) == (6, 3, 11, "r")


def test_row_without_thoughts_has_no_delimiters():
    row = lay_out(PROMPT, STEPS, ANSWER, TOKENS)
    assert row.ids == [1, 2, 3, 4, 5, 6, 0]
    assert row.labels == [_, _, 3, 4, 5, 6, 0]
    assert row.regions == [P, P, S, S, S, A, A]
    assert not any(row.thought) and row.pivot == 2


def test_pause_tokens_feed_nothing_back():
    row = lay_out(PROMPT, [], ANSWER, TOKENS, thoughts=2, feed_thoughts=False)
    assert row.ids == [1, 2, 91, 90, 90, 92, 6, 0]
    assert row.thoughts == 0
    assert row.regions == [P, P, D, H, H, D, A, A]


def test_soft_mix_keeps_words_and_labels():
    row = lay_out(PROMPT, STEPS, ANSWER, TOKENS, mix_steps=True, label_start=True, label_end=True)
    assert row.ids == [1, 2, 91, 3, 4, 5, 92, 6, 0]
    assert row.labels == [_, _, 91, 3, 4, 5, 92, 6, 0]
    assert row.thought == [False] * 3 + [True] * 3 + [False] * 3
    assert row.regions == [P, P, D, S, S, S, D, A, A]
    assert row.pivot == 6


def test_soft_mix_without_reasoning_is_a_plain_row():
    assert lay_out(PROMPT, [], ANSWER, TOKENS, mix_steps=True).ids == [1, 2, 6, 0]


def test_delimiters_are_optional_together_or_one_by_one():
    assert lay_out(PROMPT, [], ANSWER, TOKENS, thoughts=1, delimiters=False).ids == [1, 2, 90, 6, 0]
    only_end = ThoughtTokens(None, 92, 90)
    row = lay_out(PROMPT, [], ANSWER, only_end, thoughts=1, label_start=True, label_end=True)
    assert row.ids == [1, 2, 90, 92, 6, 0]
    assert row.labels == [_, _, _, 92, 6, 0]


def test_masks_from_regions():
    regions_BT = torch.tensor([[0, P, P, D, H, D, S, A, 0]])
    assert prompt_mask(regions_BT).tolist() == [[False, True, True] + [False] * 6]
    assert reasoning_mask(regions_BT).nonzero()[:, 1].tolist() == [4, 6]
    assert answer_mask(regions_BT).nonzero()[:, 1].tolist() == [7]
    assert region_mask(regions_BT, Region.PAD, Region.DELIMITER).nonzero()[:, 1].tolist() == [0, 3, 5, 8]
    assert region_mask(regions_BT).sum() == 0


def test_delimiters_around_all_reasoning_come_right_before_the_answer():
    tokens = ThoughtTokens(start_id=91, end_id=92, thought_id=90)
    row = lay_out(
        [1, 2], [[5], [6]], [7, 8], tokens, thoughts=2, enclose_steps=True, label_start=True, label_end=True
    )
    assert row.ids == [1, 2, 91, 90, 90, 5, 6, 92, 7, 8]
    assert row.labels == [-100, -100, 91, -100, -100, 5, 6, 92, 7, 8]
    assert row.thought == [False, False, False, True, True, False, False, False, False, False]
    assert row.pivot == 5
    words = lay_out([1, 2], [[5], [6]], [7, 8], tokens, enclose_steps=True)
    assert words.ids == [1, 2, 91, 5, 6, 92, 7, 8]
    only_end = lay_out([1, 2], [], [7], ThoughtTokens(end_id=92), thoughts=1, enclose_steps=True)
    assert only_end.ids == [1, 2, 0, 92, 7]


def test_regions_are_found_as_runs():
    row = lay_out(PROMPT, STEPS, ANSWER, TOKENS, thoughts=3, first_step=1, per_step=3, label_end=True)
    assert [row.run(region) for region in (P, H, S, A)] == [(0, 2), (3, 6), (7, 10), (10, 12)]
    assert (row.first_step, row.per_step) == (1, 3)
    mixed = lay_out(PROMPT, STEPS, ANSWER, TOKENS, mix_steps=True)
    assert (mixed.run(S), mixed.run(H), mixed.per_step) == ((3, 6), (0, 0), 1)
    assert lay_out(PROMPT, [], ANSWER, TOKENS, thoughts=2, feed_thoughts=False).run(H) == (3, 5)
