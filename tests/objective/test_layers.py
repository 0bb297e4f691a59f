"""Layer maps by strategy, by pairs and by depth, and which state the last block stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentthought.config import Config
from latentthought.errors import ConfigError
from latentthought.objective.layers import AFTER_NORM, LayerMap, map_layers


class Term(Config):
    layers: LayerMap = LayerMap()


def parsed(layers) -> LayerMap:
    made = Term.parse({"layers": layers}, "objective.0")
    assert Term.parse(made.dump()) == made
    return made.layers


def test_a_block_that_was_pruned_away_is_said_to_be():
    with pytest.raises(
        ConfigError, match=r"no block 5; .*its blocks were the teacher's 1, 2, 5, and layers: provenance"
    ):
        parsed([[5, 5]]).resolve(3, 5, kept=(1, 2, 5))
    assert parsed("provenance").resolve(3, 5, kept=(1, 2, 5)) == ((1, 1), (2, 2), (AFTER_NORM, AFTER_NORM))


def test_uniform_by_hand():
    assert map_layers(4, 12) == {1: 3, 2: 6, 3: 9, 4: 12}
    # 1.5 and 4.5 are rounded up
    assert map_layers(4, 6) == {1: 2, 2: 3, 3: 5, 4: 6}
    assert map_layers(6, 4) == {1: 1, 2: 1, 3: 2, 4: 3, 5: 3, 6: 4}
    assert map_layers(12, 1)[1] == 1


@given(st.integers(1, 60), st.integers(1, 60))
def test_uniform_grows_and_ends_together(n_student, n_teacher):
    mapped = map_layers(n_student, n_teacher)
    assert list(mapped) == list(range(1, n_student + 1))
    assert list(mapped.values()) == sorted(mapped.values())
    assert mapped[n_student] == n_teacher and mapped[1] >= 1
    assert all(
        abs(t / n_teacher - s / n_student) <= 0.5 / n_teacher + 1e-12 or t == 1 for s, t in mapped.items()
    )


def test_the_other_strategies_by_hand():
    assert map_layers(3, 8, "last") == {1: 6, 2: 7, 3: 8}
    assert map_layers(5, 2, "last") == {4: 1, 5: 2}
    assert map_layers(3, 3, "all") == {1: 1, 2: 2, 3: 3}
    assert map_layers(12, 33, "middle_final") == {6: 17, 12: 33}
    assert map_layers(1, 1, "middle_final") == {1: 1}
    assert map_layers(3, 8, "provenance", kept=[1, 5, 8]) == {1: 1, 2: 5, 3: 8}
    assert map_layers(3, 8, "last", pairs=[(0, 0), (3, 8)]) == {0: 0, 3: 8}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 4, "all"), "the student has 3 blocks, the teacher 4"),
        ((3, 4, "unifrom"), r"unknown strategy 'unifrom'\. Did you mean uniform\?"),
        ((3, 4, "provenance"), "3, and none are recorded"),
        ((3, 4, "provenance", None, [1]), "3, and 1 are recorded"),
        ((3, 4, "uniform", [(4, 1)]), r"the student has no block 4; it has 0 \(embeddings\) to 3"),
        ((3, 4, "uniform", [(1, 5)]), r"the teacher has no block 5; it has 0 \(embeddings\) to 4"),
        ((0, 4), "at least one block"),
    ],
)
def test_maps_that_do_not_hold(arguments, message):
    with pytest.raises(ConfigError, match=message):
        map_layers(*arguments)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("uniform", ((1, 3), (2, 6), (3, 9), (-1, -1))),
        ("middle_final", ((2, 6), (-1, -1))),
        ("final", ((-1, -1),)),
        (2, ((2, 2),)),
        ([0, 4], ((0, 0), (-1, 4))),
        (["middle", "final"], ((2, 6), (-1, -1))),
        ([0.5, 1.0], ((2, 6), (-1, -1))),
        ([[1, 2], [4, 12]], ((1, 2), (-1, -1))),
        ([[0.25, 0.58], ["final", 11]], ((1, 7), (-1, 11))),
        ([-1, "final"], ((-1, -1),)),
        ({"pairs": [[4, 12], -1], "before_norm": True}, ((4, 12), (-1, -1))),
        ({"strategy": "last", "before_norm": True}, ((1, 9), (2, 10), (3, 11), (4, 12))),
    ],
)
def test_what_a_recipe_may_write(layers, expected):
    assert parsed(layers).resolve(4, 12) == expected


def test_shares_of_the_depth_are_taken_as_written():
    # 0.58 of 25 is 14.5, and the nearest float's share is below it
    assert parsed([0.58]).resolve(25, 50) == ((15, 29),)
    assert parsed([0.0]).resolve(25, 50) == ((0, 0),)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("unifrom", "layers.*unifrom.*uniform"),
        (["middel"], "layers.*middel"),
        ([[1, 2, 3]], "layers"),
        ([1.5], "layers.*1.5"),
        ([-2], "layers.*-2"),
        ([True], "layers"),
        (True, "layers"),
        ([], "compares nothing"),
        ({"pairs": [1], "strategy": "last"}, "pairs or strategy last, not both"),
        ({"pears": [1]}, "pears: unknown key; did you mean pairs"),
    ],
)
def test_what_a_recipe_may_not_write(layers, message):
    with pytest.raises(ConfigError, match=message) as raised:
        Term.parse({"layers": layers}, "objective.0")
    assert "\n" not in str(raised.value)


def test_out_of_range_names_the_place_and_the_range():
    with pytest.raises(
        ConfigError, match=r"objective\.hidden\.layers: the teacher has no block 13; it has 0 .* to 12"
    ):
        parsed([[1, 13]]).resolve(4, 12, where="objective.hidden.layers")
    assert parsed([4]).resolve(4, 4) == ((AFTER_NORM, AFTER_NORM),)
