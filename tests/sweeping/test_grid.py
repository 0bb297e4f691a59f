"""The grid of a sweep: how values are read, which points follow, and what they are called."""

from __future__ import annotations

import itertools

import pytest

from latentthought.errors import ConfigError
from latentthought.sweeping.grid import (
    find_choice,
    identity,
    points_of,
    read_axes,
    read_axis,
    settings_of,
    short_names,
    split_values,
    with_seeds,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1", ["1"]),
        ("1,2,3", ["1", "2", "3"]),
        (" 1 , 2", ["1", "2"]),
        ("[8],[8,9,10]", ["[8]", "[8,9,10]"]),
        ("{a: 1, b: [2, 3]},null", ["{a: 1, b: [2, 3]}", "null"]),
        ("'a, b',c", ["'a, b'", "c"]),
        ('"a\\", b",c', ['"a\\", b"', "c"]),
        ("['x,[',2],y", ["['x,[',2]", "y"]),
        ("don't,won't", ["don't", "won't"]),
        ("1,", ["1", ""]),
        ("", [""]),
    ],
)
def test_only_commas_outside_of_brackets_and_quotes_part_values(text: str, parts: list[str]) -> None:
    assert split_values(text) == parts


def test_values_are_yaml_as_train_reads_it() -> None:
    axis = read_axis("a.b=1e-3,2,true,null,text,[1, x]")
    assert [choice.values for choice in axis.choices] == [
        (0.001,),
        (2,),
        (True,),
        (None,),
        ("text",),
        ([1, "x"],),
    ]
    assert [choice.text for choice in axis.choices] == ["1e-3", "2", "true", "null", "text", '[1, "x"]']
    assert [choice.overrides for choice in axis.choices][:2] == [("a.b=1e-3",), ("a.b=2",)]


def test_the_points_are_the_product_times_the_seeds() -> None:
    axes = read_axes(["model.lora.r=4,16", "training.batch_size=8", "curriculum.method=text,none,pause"])
    rest, seeds = with_seeds(axes, 2, 5)
    points = points_of(rest, seeds, {})
    expected = [
        (f"model.lora.r={r}", "training.batch_size=8", f"curriculum.method={method}", f"seed={seed}")
        for r, method, seed in itertools.product(("4", "16"), ("text", "none", "pause"), (5, 6))
    ]
    assert [point.overrides for point in points] == expected
    assert [point.name for point in points][:3] == [
        "r=4,method=text,seed=5",
        "r=4,method=text,seed=6",
        "r=4,method=none,seed=5",
    ]
    assert len(settings_of(rest)) == 6


def test_without_a_grid_there_is_a_point_for_every_seed() -> None:
    rest, seeds = with_seeds(read_axes(["training.batch_size=8"]), 3, 1)
    assert [point.name for point in points_of(rest, seeds, {})] == ["seed=1", "seed=2", "seed=3"]
    assert with_seeds([], None, 7) == ([], (7,))


def test_seeds_can_be_named() -> None:
    rest, seeds = with_seeds(read_axes(["seed=31,7", "training.batch_size=8,16"]), None, 31)
    assert (len(rest), seeds) == (1, (31, 7))
    with pytest.raises(ConfigError, match="seed=31,7 and --seeds 2: give one of them"):
        with_seeds(read_axes(["seed=31,7"]), 2, 31)
    with pytest.raises(ConfigError, match="seeds are no part of a setting"):
        with_seeds(read_axes(["seed,a=[1,2],[3,4]"]), None, 0)


def test_tied_keys_change_together() -> None:
    axes = read_axes(["objective.1.weight,objective.0.weight=[0.1,0.9],[0.5, 0.5]"])
    points = points_of(axes, (0,), {})
    assert [point.overrides for point in points] == [
        ("objective.1.weight=0.1", "objective.0.weight=0.9", "seed=0"),
        ("objective.1.weight=0.5", "objective.0.weight=0.5", "seed=0"),
    ]
    assert points[0].name == "1.weight+0.weight=0.1+0.9,seed=0"
    assert [choice.text for choice in axes[0].choices] == ["0.1, 0.9", "0.5, 0.5"]
    with pytest.raises(ConfigError, match=r"every value is a list of 2.*got 0.5"):
        read_axis("a,b=[1,2],0.5")
    with pytest.raises(ConfigError, match="every value is a list of 2"):
        read_axis("a,b=[1,2],[3]")


def test_names_are_the_least_that_is_clear() -> None:
    assert short_names(["training.learning_rate", "model.lora.r"]) == {
        "training.learning_rate": "learning_rate",
        "model.lora.r": "r",
    }
    assert short_names(["model.width", "teacher.width", "objective.1"]) == {
        "model.width": "model.width",
        "teacher.width": "teacher.width",
        "objective.1": "objective.1",
    }


def test_names_are_good_for_folders_and_never_the_same() -> None:
    axes = read_axes(["data.path=/data/a b.jsonl,/data/a/b.jsonl," + "x" * 300 + "," + "x" * 301])
    names = [point.name for point in points_of(axes, (1,), {})]
    assert names[0] == "path=data-a-b.jsonl,seed=1"
    assert len(set(names)) == 4
    assert all("/" not in name and " " not in name and len(name) <= 120 for name in names)
    assert all(name.endswith(",seed=1") for name in names)


def test_a_sign_stays_in_the_name() -> None:
    names = [
        point.name for point in points_of(read_axes(["model.thought.layer=-1,1", "a.b=[-1],-.5"]), (1,), {})
    ]
    assert names == [f"layer={layer},b={b},seed=1" for layer in ("-1", "1") for b in ("1", "-.5")]


def test_points_that_are_there_keep_their_names() -> None:
    before = points_of(read_axes(["a.r=4", "b.x=1,2"]), (1,), {})
    named = {identity(point.overrides): point.name for point in before}
    after = points_of(read_axes(["a.r=4,8", "b.x=1,2"]), (1, 2), named)
    assert [point.name for point in after][:2] == ["x=1,seed=1", "r=4,x=1,seed=2"]
    assert len({point.name for point in after}) == 8


def test_what_a_point_is_does_not_hang_on_spelling() -> None:
    assert identity(["a=1e-3", "b={x: 1, y: 2}"]) == identity(["b={y: 2, x: 1}", "a=0.001"])
    assert identity(["a=1"]) != identity(["a=2"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a"], "expected key=value"),
        (["=1"], "expected key=value"),
        (["a,=1"], "expected key=value"),
        (["a=1,,2"], "a value between the commas is empty"),
        (["a=,"], "a value between the commas is empty"),
        (["a=[1,2"], "not valid YAML"),
        (["a=1,2,1"], "a: the value 1 is given twice"),
        (["a=1e-3,0.001"], r"a: the value 0.001 is given twice \(as 1e-3 too\)"),
        (["a=1", "b=2", "a=3"], "a is given twice: give all of its values at once, a=first,second,..."),
        (["a=1", "b,a=[1,2],[3,4]"], "a is given twice"),
    ],
)
def test_what_is_no_grid_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_axes(arguments)


def test_a_baseline_is_a_value_of_the_sweep() -> None:
    axes = read_axes(["a.r=4,8", "b.x=1"])
    name, choice = find_choice(axes, "a.r=8")
    assert (name, choice.values) == ("a.r", (8,))
    for wrong, message in (
        ("a.r=5", "no value of the sweep; a.r takes 4, 8"),
        ("b.x=1", "b.x is not swept here; swept: a.r"),
        ("a.r=4,8", "one value to compare with, not 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_choice(axes, wrong)
