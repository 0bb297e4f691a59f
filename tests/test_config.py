"""Settings: what YAML becomes, what is refused, and how every problem is named."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import model_validator

from latentthought.config import (
    Config,
    apply_overrides,
    merge,
    parse_override,
    parse_yaml,
    read_yaml,
    write_yaml,
)
from latentthought.errors import ConfigError, MissingFileError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Leg(Config):
    steps: int
    rate: float = 1.0
    name: str | None = None


class Short(Config):
    first: int
    each: int = 1


class Settings(Config):
    seed: int = 0
    rate: float = 1e-3
    verbose: bool = False
    rule: Literal["linear", "bernoulli"] = "linear"
    colour: Colour = Colour.RED
    folder: Path | None = None
    latent: int | Literal["all"] = 0
    pair: tuple[int, ...] = (1, 2)
    leg: Leg = Leg(steps=1)
    legs: tuple[Leg, ...] | Short = ()
    by_name: dict[str, Leg] = {}
    free: dict[str, Any] = {}

    @model_validator(mode="after")
    def _rules(self) -> Settings:
        if self.seed == 13:
            raise ValueError("seed 13 needs verbose: true")
        return self


def problem(values: dict[str, Any], where: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        Settings.parse(values, where)
    return str(caught.value)


# -- values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        ("+1e3", 1000.0),
        (".5e1", 5.0),
        ("1.e2", 100.0),
        ("3.0", 3.0),
        ("1_000.5", 1000.5),
    ],
)
def test_numbers_with_an_exponent_are_floats(text, value):
    read = parse_yaml(f"rate: {text}", "x")["rate"]
    assert type(read) is float
    assert read == value
    assert Settings.parse({"rate": read}).rate == value


@pytest.mark.parametrize("text", ["'1e-5'", "1e-5x", "e5", "1e", "1-e5", "v1e5", "1e5.5", "1 e5"])
def test_what_only_looks_like_a_number_stays_text(text):
    assert isinstance(parse_yaml(f"a: {text}", "x")["a"], str)


def test_yaml_integers_stay_integers():
    assert parse_yaml("a: 12\nb: -3\nc: 1_000", "x") == {"a": 12, "b": -3, "c": 1000}


def test_an_integer_where_a_float_is_wanted_is_exact():
    rate = Settings.parse({"rate": 3}).rate
    assert rate == 3.0
    assert type(rate) is float


def test_plain_values_become_the_declared_types():
    built = Settings.parse(
        {
            "colour": "blue",
            "folder": "a/b",
            "latent": "all",
            "pair": [3],
            "legs": [{"steps": 2}],
            "by_name": {"x": {"steps": 4}},
        }
    )
    assert built.colour is Colour.BLUE
    assert built.folder == Path("a/b")
    assert built.pair == (3,)
    assert built.legs == (Leg(steps=2),)
    assert built.by_name == {"x": Leg(steps=4)}
    assert Settings.parse({"legs": {"first": 3}}).legs == Short(first=3)


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().seed = 3  # type: ignore[misc]


def test_dump_and_replace():
    built = Settings.parse({"colour": "blue", "legs": [{"steps": 2}], "folder": "a", "rate": 2.5})
    assert Settings.parse(built.dump()) == built
    changed = built.replace(seed=4, leg=Leg(steps=9), colour=Colour.RED, folder=Path("b"), pair=(5, 6))
    assert (changed.seed, changed.leg.steps, changed.colour, changed.folder, changed.pair) == (
        4,
        9,
        Colour.RED,
        Path("b"),
        (5, 6),
    )
    assert changed.legs == built.legs
    with pytest.raises(ConfigError, match="sed: unknown key"):
        built.replace(sed=4)


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan"])
def test_a_number_must_be_finite(text):
    with pytest.raises(ConfigError, match="rate: Input should be a finite number"):
        Settings.parse(parse_yaml(f"rate: {text}", "here"))


def test_a_value_that_is_not_plain_is_refused():
    with pytest.raises(ConfigError, match="not plain values"):
        Settings.parse({"free": {"x": object()}}, "here")


# -- refusals


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"seed": True}, "seed: Input should be a valid integer (got True)"),
        ({"seed": "3"}, "seed: Input should be a valid integer (got '3')"),
        ({"seed": 3.0}, "seed: Input should be a valid integer (got 3.0)"),
        ({"rate": True}, "rate: Input should be a valid number (got True)"),
        ({"rate": "1e-5"}, "rate: Input should be a valid number (got '1e-5')"),
        ({"verbose": 1}, "verbose: Input should be a valid boolean (got 1)"),
        ({"verbose": "true"}, "verbose: Input should be a valid boolean (got 'true')"),
        ({"seed": None}, "seed: Input should be a valid integer (got None)"),
        ({"leg": {}}, "leg.steps: required, and missing"),
        (
            {"by_name": {"x": {"steps": "many"}}},
            "by_name.x.steps: Input should be a valid integer (got 'many')",
        ),
        ({"legs": [{"steps": 1}, {"steps": 1.5}]}, "legs.1.steps: Input should be a valid integer (got 1.5)"),
        (
            {"rule": "bernouli"},
            "rule: Input should be 'linear' or 'bernoulli' (got 'bernouli'); did you mean bernoulli?",
        ),
        ({"colour": "Blue"}, "colour: Input should be 'red' or 'blue' (got 'Blue'); did you mean blue?"),
        ({"latent": "al"}, "latent: Input should be a valid integer or 'all' (got 'al'); did you mean all?"),
        ({"seed": 13}, "Settings: seed 13 needs verbose: true"),
        ({"leg": [1]}, "leg: Input should be an object (got [1])"),
        (
            {"legs": {"frist": 1, "first": 2}},
            "legs.frist: unknown key; did you mean first? allowed: each, first",
        ),
        (
            {"legs": [{"steps": 1, "stepz": 2}]},
            "legs.0.stepz: unknown key; did you mean steps? allowed: name, rate, steps",
        ),
        ({"leg": {"steps": 1, 5: 2}}, "leg.5: unknown key; allowed: name, rate, steps"),
    ],
)
def test_each_problem_names_its_path_value_and_what_is_allowed(values, expected):
    assert problem(values) == expected


def test_an_unknown_key_names_its_near_miss():
    message = problem({"verbos": True})
    assert message.startswith("verbos: unknown key; did you mean verbose? allowed: by_name, colour,")


def test_where_comes_first():
    assert problem({"seed": "x"}, "my.yaml").startswith("my.yaml: seed: ")


def test_all_problems_come_at_once_with_their_paths():
    lines = problem(
        {"seed": True, "sede": 1, "leg": {"rate": "fast"}, "pair": [1, "2"]}, "my.yaml"
    ).splitlines()
    assert lines[0] == "my.yaml: 5 problems"
    assert sorted(line.split(":")[0] for line in lines[1:]) == [
        "  leg.rate",
        "  leg.steps",
        "  pair.1",
        "  sede",
        "  seed",
    ]


def test_a_long_value_is_shortened():
    assert len(problem({"seed": "x" * 1000})) < 200


# -- YAML


def test_a_key_given_twice_is_refused_with_its_line(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("seed: 1\nleg:\n  steps: 1\n  rate: 2\n  steps: 3\n")
    with pytest.raises(ConfigError, match=r"twice\.yaml, line 5: not valid YAML: key 'steps' is given twice"):
        read_yaml(path)


def test_anchors_and_merge_keys_work():
    values = parse_yaml("base: &base {steps: 1, rate: 2.0}\nleg:\n  <<: *base\n  rate: 3.0\n", "x")
    assert values["leg"] == {"steps": 1, "rate": 3.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1, 2", "x, line"),
        ("a: b: c", "x, line 1: not valid YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 2", "x, line 2"),
        ("- 1\n- 2", "x: expected a mapping of keys to values, got list"),
        ("just words", "x: expected a mapping of keys to values, got str"),
        ("when: 2026-13-45", "x: not valid YAML"),
        (
            "a: !!python/object/apply:os.getcwd []",
            "x, line 1: not valid YAML: could not determine a constructor",
        ),
        ("? [1, 2]\n: 3", "x, line 1: not valid YAML: found unhashable key"),
        ("a: 1\n---\nb: 2", "x, line 2"),
        ("a: " + "[" * 1500, "x"),
        ("a: &x {b: *x}", "x, line 1"),
    ],
)
def test_bad_yaml_is_one_clear_error(text, expected):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "x")
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_an_empty_mapping(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert read_yaml(path) == {}


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"no such file: .*absent\.yaml"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(MissingFileError, match="no such file"):
        read_yaml(tmp_path)


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 text \(byte 3\)"):
        read_yaml(path)


TRICKY = st.sampled_from(["1e-5", "1e5", ".5e1", "no", "2026-01-01", "1:30", "\x85", "a\u2028b"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | TRICKY
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.dictionaries(st.text(), PLAIN, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("yaml") / "values.yaml"
    write_yaml(path, values)
    assert read_yaml(path) == values


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept.yaml"
    write_yaml(path, {"a": 1})
    with pytest.raises(Exception, match="represent"):
        write_yaml(path, {"a": object()})
    assert read_yaml(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["kept.yaml"]


def test_a_write_that_cannot_be_finished_leaves_no_temporary_file(tmp_path):
    folder = tmp_path / "values.yaml"
    folder.mkdir()  # the last step, the rename, fails
    with pytest.raises(OSError, match=r"values\.yaml"):
        write_yaml(folder, {"a": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["values.yaml"]


# -- overrides


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=3", {"seed": 3}),
        ("training.learning_rate=1e-4", {"training": {"learning_rate": 1e-4}}),
        ("a=", {"a": None}),
        ("a=x=y", {"a": "x=y"}),
        ("a=[1, b]", {"a": [1, "b"]}),
        ("engine={strategy: zero3}", {"engine": {"strategy": "zero3"}}),
        ("a='1'", {"a": "1"}),
        ("a=true", {"a": True}),
    ],
)
def test_parse_override(text, expected):
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["seed", "=3", "", ".a=1", "a..b=1", "a.=1"])
def test_an_override_needs_a_key_and_a_value(text):
    with pytest.raises(ConfigError, match="expected key=value"):
        parse_override(text)


@pytest.mark.parametrize("text", ["a=[1", "a={b: 1", "a=b: c: d"])
def test_an_override_with_bad_yaml_is_quoted(text):
    with pytest.raises(ConfigError) as caught:
        parse_override(text)
    assert str(caught.value).startswith(f"override {text!r}")
    assert "\n" not in str(caught.value)


def test_overrides_are_laid_in_order_and_leave_the_original_alone():
    values = {"seed": 1, "leg": {"steps": 1, "rate": 2.0}}
    result = apply_overrides(values, ["leg.steps=5", "seed=2", "seed=3", "new.key=x"])
    assert result == {"seed": 3, "leg": {"steps": 5, "rate": 2.0}, "new": {"key": "x"}}
    assert values == {"seed": 1, "leg": {"steps": 1, "rate": 2.0}}


def test_a_number_indexes_a_list():
    values = {"legs": [{"steps": 1}, {"steps": 2, "rate": 3.0}], "pair": [1, 2]}
    result = apply_overrides(values, ["legs.1.steps=7", "pair.0=9", "legs.0={rate: 4}"])
    assert result == {"legs": [{"steps": 1, "rate": 4}, {"steps": 7, "rate": 3.0}], "pair": [9, 2]}
    assert values["legs"][1]["steps"] == 2


@pytest.mark.parametrize("text", ["legs.2.steps=1", "legs.first.steps=1", "legs.-1=3", "legs.²=3"])
def test_an_index_that_is_not_there_is_an_error(text):
    with pytest.raises(ConfigError, match="is no index of the list there; allowed: 0 to 1"):
        apply_overrides({"legs": [{"steps": 1}, {"steps": 2}]}, [text])


def test_a_list_is_replaced_whole_by_a_value():
    assert apply_overrides({"legs": [1, 2]}, ["legs=[3]"]) == {"legs": [3]}
    assert apply_overrides({"legs": [1, 2]}, ["legs={first: 3}"]) == {"legs": {"first": 3}}
    assert apply_overrides({"legs": {"0": 1}}, ["legs.0=3"]) == {"legs": {"0": 3}}


def test_a_dotted_key_replaces_a_scalar():
    assert apply_overrides({"leg": None}, ["leg.steps=3"]) == {"leg": {"steps": 3}}


def test_merge_goes_into_mappings_and_replaces_everything_else():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}}
    assert merge(base, {"a": {"c": [3]}, "d": {"x": 1}, "e": None}) == {
        "a": {"b": 1, "c": [3]},
        "d": {"x": 1},
        "e": None,
    }
    assert base["a"] == {"b": 1, "c": [1, 2]}
