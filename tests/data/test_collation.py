"""Batches: aligned thoughts, fixed columns, no holes, nothing lost; and the order of length-grouped batches."""

from __future__ import annotations

import random
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentthought.data.collation import Collator, collate, grouped_order
from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import Encoded
from latentthought.thoughts.layout import IGNORED, Region, Row, ThoughtTokens

TOKENS = ThoughtTokens(start_id=91, end_id=92, thought_id=90)
LONG = Encoded("long", [1, 2, 3, 4], [[5], [6, 7]], [8, 0])
SHORT = Encoded("short", [1], [[9]], [8, 0])
_ = IGNORED


def made(method: str = "latent", **values) -> Curriculum:
    values = {"max_latent_steps": 2, **values} if method in ("latent", "pause", "removal") else values
    return Curriculum.parse({"method": method, "each": {"steps": 1}, **values})


def batch_of(curriculum: Curriculum, stage: int, examples=(LONG, SHORT), **options) -> dict:
    rows = [curriculum.layout(example, stage, random.Random(0), TOKENS) for example in examples]
    return Collator(99, curriculum, **options)(rows, stage=stage)


def unpadded(batch: dict) -> list[tuple]:
    """What is left of each row when the padding is taken away."""
    keys = ("input_ids", "labels", "thought_mask", "regions")
    return [
        (name, *(batch[key][number][mask].tolist() for key in keys))
        for number, (name, mask) in enumerate(zip(batch["ids"], batch["attention_mask"].bool(), strict=True))
    ]


def parts(row: Row) -> tuple:
    return row.id, row.ids, row.labels, row.thought, row.regions


def test_latent_batch_token_by_token():
    batch = batch_of(made(), stage=1)
    assert batch["input_ids"].tolist() == [
        [1, 2, 3, 4, 91, 90, 92, 6, 7, 8, 0],
        [99, 99, 99, 1, 91, 90, 92, 8, 0, 99, 99],
    ]
    assert batch["labels"].tolist() == [
        [_, _, _, _, _, _, _, 6, 7, 8, 0],
        [_, _, _, _, _, _, _, 8, 0, _, _],
    ]
    assert batch["attention_mask"].tolist() == [[1] * 11, [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0]]
    assert batch["position_ids"].tolist() == [list(range(11)), [0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 5]]
    assert batch["thought_mask"].nonzero().tolist() == [[0, 5], [1, 5]]
    assert batch["thought_columns"] == (5, 6)
    assert batch["regions"][1].tolist() == [0, 0, 0, 1, 2, 3, 2, 5, 5, 0, 0]
    assert batch["ids"] == ["long", "short"]
    assert batch["before"] == [0, 3]
    assert (batch["mix_ratio"], batch["feedback"], batch["jacobi_iterations"]) == (1.0, "sequential", None)
    assert batch["thought_mask"].dtype == torch.bool
    assert {
        batch[key].dtype for key in ("input_ids", "labels", "attention_mask", "position_ids", "regions")
    } == {torch.int64}


def test_row_with_fewer_thoughts_is_flush_right_in_the_columns():
    batch = batch_of(made(pad_to_max=False), stage=2)
    assert batch["input_ids"].tolist() == [
        [1, 2, 3, 4, 91, 90, 90, 92, 8, 0],
        [99, 99, 99, 99, 1, 91, 90, 92, 8, 0],
    ]
    assert batch["thought_columns"] == (5, 7)
    assert batch["thought_mask"].nonzero().tolist() == [[0, 5], [0, 6], [1, 6]]


def test_columns_are_the_stage_s_and_not_the_batch_s():
    curriculum = made(pad_to_max=False, max_latent_steps=5)
    batch = batch_of(curriculum, stage=5, examples=(SHORT,))
    start, stop = batch["thought_columns"]
    # one thought only, and a prompt shorter than the columns: the block keeps its width and has a column before it
    assert stop - start == 5 and start >= 1
    assert batch["input_ids"].tolist() == [[99, 99, 99, 1, 91, 90, 92, 8, 0]]


def test_rows_of_an_earlier_stage_fit_the_later_stage_s_columns():
    curriculum = made(thoughts_per_step=2)
    rows = [
        curriculum.layout(example, stage, None, TOKENS)
        for example, stage in ((LONG, 2), (SHORT, 1), (SHORT, 0))
    ]
    batch = Collator(99, curriculum)(rows, stage=2)
    start, stop = batch["thought_columns"]
    assert stop - start == 4
    assert batch["thought_mask"].sum(-1).tolist() == [4, 2, 0]
    # the row in words has its prompt end where the others' thoughts end
    assert batch["input_ids"][2].tolist() == [99] * (stop - 1) + [1, 9, 8, 0]
    assert unpadded(batch) == [parts(row) for row in rows]


@pytest.mark.parametrize("method", ["text", "none", "removal", "pause"])
def test_methods_that_feed_nothing_back_are_padded_on_the_right_only(method):
    curriculum = made(method)
    stage = len(curriculum.expand()) - 1
    batch = batch_of(curriculum, stage)
    assert batch["thought_columns"] == (0, 0) and not batch["thought_mask"].any()
    assert batch["attention_mask"][:, 0].all()


def test_text_stage_of_a_latent_curriculum_feeds_nothing_back():
    assert batch_of(made(), stage=0)["thought_columns"] == (0, 0)


def test_soft_mix_has_a_mask_and_no_columns():
    curriculum = made("soft_mix")
    rows = [curriculum.layout(example, 1, None, TOKENS) for example in (LONG, SHORT)]
    batch = Collator(99, curriculum)(rows, stage=1, mix_ratio=0.25)
    assert batch["thought_columns"] is None
    assert (batch["mix_ratio"], batch["feedback"]) == (0.25, "single_pass")
    assert batch["thought_mask"].sum(-1).tolist() == [3, 1]
    assert batch["input_ids"][1].tolist() == [1, 91, 9, 92, 8, 0] + [99] * 5
    assert batch["labels"][1].tolist() == [_, 91, 9, 92, 8, 0] + [_] * 5


def test_width_is_rounded_up_on_the_right():
    batch = batch_of(made(), stage=1, pad_to_multiple_of=8)
    assert batch["input_ids"].shape == (2, 16) and batch["thought_columns"] == (5, 6)
    assert not batch["attention_mask"][:, 11:].any()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_holes_and_every_row_comes_back(data):
    method = data.draw(st.sampled_from(["latent", "pause", "removal", "soft_mix", "text"]))
    curriculum = made(method)
    if method == "latent":
        curriculum = made(
            max_latent_steps=data.draw(st.integers(1, 3)),
            thoughts_per_step=data.draw(st.integers(1, 2)),
            pad_to_max=data.draw(st.booleans()),
            uniform_prob=data.draw(st.sampled_from([0.0, 0.5])),
        )
    stage = data.draw(st.integers(0, len(curriculum.expand()) - 1))
    token = st.integers(1, 80)
    rows = []
    for number in range(data.draw(st.integers(1, 4))):
        example = Encoded(
            str(number),
            data.draw(st.lists(token, min_size=1, max_size=6)),
            data.draw(st.lists(st.lists(token, min_size=1, max_size=3), max_size=4)),
            [80, 0],
        )
        # replayed rows of earlier stages too
        rows.append(
            curriculum.layout(example, data.draw(st.integers(0, stage)), random.Random(number), TOKENS)
        )
    batch = collate(rows, 0, curriculum.columns(stage), data.draw(st.sampled_from([None, 8])))
    assert unpadded(batch) == [parts(row) for row in rows]
    edges = batch["attention_mask"].diff(
        dim=-1, prepend=torch.zeros(len(rows), 1), append=torch.zeros(len(rows), 1)
    )
    assert ((edges == 1).sum(-1) == 1).all() and ((edges == -1).sum(-1) == 1).all()
    for number, mask in enumerate(batch["attention_mask"].bool()):
        assert batch["position_ids"][number][mask].tolist() == list(range(int(mask.sum())))
    assert ((batch["regions"] == Region.PAD) == (batch["attention_mask"] == 0)).all()
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all()
    columns = curriculum.columns(stage)
    if columns is not None:
        start, stop = batch["thought_columns"]
        assert stop - start == columns
        assert not batch["thought_mask"][:, :start].any() and not batch["thought_mask"][:, stop:].any()
        thoughts = batch["thought_mask"][:, start:stop]
        assert thoughts.tolist() == thoughts.sort(dim=-1).values.tolist()  # flush right


def test_a_batch_of_128_rows_takes_milliseconds():
    rng = random.Random(0)
    curriculum = made(max_latent_steps=5)
    examples = [
        Encoded(
            str(i), [rng.randint(5, 20) for _ in range(37)], [[rng.randint(5, 20)] for _ in range(5)], [7, 0]
        )
        for i in range(128)
    ]
    collator, times = Collator(0, curriculum), []
    for _ in range(20):
        began = time.perf_counter()
        collator([curriculum.layout(example, 3, None, TOKENS) for example in examples], stage=3)
        times.append(time.perf_counter() - began)
    # about 2 ms on one quiet core; the bound is for a busy machine
    assert min(times) < 0.008


def test_grouped_order_is_a_permutation_of_like_lengths():
    rng = random.Random(0)
    lengths = [rng.randint(5, 200) for _ in range(1003)]
    order = grouped_order(lengths, 10, seed=1)
    assert sorted(order) == list(range(1003))
    assert order == grouped_order(lengths, 10, seed=1) != grouped_order(lengths, 10, seed=2)
    spreads = [
        max(run) - min(run) for i in range(0, 1000, 10) for run in [[lengths[j] for j in order[i : i + 10]]]
    ]
    assert sum(spreads) / len(spreads) < 15  # a random batch of ten spreads over about 160
    # batches come in random order, and the three left over are no particular ones
    means = [sum(lengths[j] for j in order[i : i + 10]) / 10 for i in range(0, 1000, 10)]
    assert means != sorted(means)
    left_over = [lengths[j] for seed in range(60) for j in grouped_order(lengths, 10, seed)[-3:]]
    assert 80 < sum(left_over) / len(left_over) < 125


def test_grouped_order_of_few_rows():
    assert sorted(grouped_order([3, 1, 2], 8, seed=0)) == [0, 1, 2]
    assert grouped_order([], 8, seed=0) == []
