"""Hops: what a row says, and splits that share no table."""

from __future__ import annotations

import time
from itertools import islice

import pytest

from latentthought.data.example import SPLITS, Example
from latentthought.data.sources import SourceConfig, load_examples
from latentthought.data.synthetic.hops import HopsOptions, generate
from latentthought.errors import ConfigError


def table(example: Example) -> dict[str, str]:
    words = example.question.split()
    return dict(zip(words[:-2:2], words[1:-2:2], strict=True))


@pytest.mark.parametrize(("symbols", "links"), [(6, 1), (8, 4), (12, 5), (26, 25)])
def test_row_asks_for_the_end_of_a_walk_on_one_cycle(symbols: int, links: int) -> None:
    for example in generate(HopsOptions(symbols=symbols, links=links), "train", 20, 0):
        follows = table(example)
        here, walk = example.question.split()[-1], []
        assert example.question.split()[-2] == "?"
        for _ in range(links):
            here = follows[here]
            walk.append(here)
        assert example.steps == tuple(walk)
        assert example.answer == walk[-1]
        seen = set()
        while here not in seen:
            seen.add(here)
            here = follows[here]
        assert len(seen) == symbols == len(example.meta["choices"])


def canonical(example: Example) -> str:
    follows, walk = table(example), "a"
    while len(walk) < len(follows):
        walk += follows[walk[-1]]
    return walk


def test_splits_share_no_table_even_where_all_tables_are_drawn() -> None:
    drawn = {
        split: {
            canonical(example) for example in generate(HopsOptions(symbols=6, links=2), split, 3000, seed)
        }
        for seed, split in enumerate(SPLITS)
    }
    assert sum(len(tables) for tables in drawn.values()) == 120  # every cycle of 6 symbols, each in one split
    assert not drawn["train"] & drawn["test"]
    assert not drawn["train"] & drawn["validation"]
    assert not drawn["test"] & drawn["validation"]


def test_stream_is_the_seed_and_nothing_else() -> None:
    options = HopsOptions()
    assert list(generate(options, "train", 5, 3)) == list(islice(generate(options, "train", None, 3), 5))
    assert list(generate(options, "train", 5, 3)) != list(generate(options, "train", 5, 4))


def test_marks_are_settings() -> None:
    question = next(generate(HopsOptions(link_mark=">", pair_mark=" , "), "train", 1, 0)).question
    assert question.count(">") == 12
    assert question.count(" , ") == 11


def test_answers_are_even_over_symbols() -> None:
    answers = [example.answer for example in generate(HopsOptions(), "train", 6000, 0)]
    assert all(400 < answers.count(symbol) < 600 for symbol in "abcdefghijkl")


def test_source_sizes_and_limit() -> None:
    config = SourceConfig(source="hops", split="test", options={"test_rows": 30, "links": 3})
    rows = load_examples(config, seed=7)
    assert len(rows) == 30
    assert len(load_examples(config.replace(limit=10), seed=7)) == 10
    assert [row.id for row in load_examples(config.replace(start=28), seed=7)][:1] == [rows[28].id]


def test_options_that_do_not_hold() -> None:
    with pytest.raises(ConfigError, match=r"links \(12\) must be below symbols \(12\)"):
        HopsOptions.parse({"links": 12})
    with pytest.raises(ConfigError, match="symbols"):
        HopsOptions.parse({"symbols": 27})


def test_a_hundred_thousand_rows_take_seconds() -> None:
    start = time.process_time()
    assert sum(1 for _ in generate(HopsOptions(), "train", 20_000, 0)) == 20_000
    assert time.process_time() - start < 4  # measured: 0.3 s
