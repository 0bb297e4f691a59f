"""The grid of a sweep: which keys take which values, and the points that follow from it.

    training.learning_rate=1e-3,3e-3            two values
    objective.1.layers=[8],[8,9,10,11,12]       two lists: only a comma outside of brackets and quotes parts two values
    training.batch_size=8                       one value, the same in all points, as in `train`
    objective.1.weight,objective.0.weight=[0.1,0.9],[0.5,0.5]
                                                tied keys, which change together (alpha and 1 - alpha): a list a value

Every value is read as YAML, as `train` reads it. The points are the product of all keys, the last one changing fastest, times the
seeds. A point is named by what is swept: `weight=0.1,seed=3`; a name is a folder, so what a folder's name had better not hold is
replaced, and a name that would be taken gets a few digits of the point's hash.
Rejected: ranges (`1e-5..1e-3`), random and adaptive search: a table with intervals wants the same points for every seed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latentthought.config import parse_override
from latentthought.errors import ConfigError

SEED = "seed"
_LONGEST_VALUE, _LONGEST_NAME = 32, 120
Identity = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Choice:
    """One value of an axis: the overrides that it stands for, the value of each key, and what a table calls it."""

    overrides: tuple[str, ...]
    values: tuple[Any, ...]
    text: str


@dataclass(frozen=True)
class Axis:
    """A key, or keys that are tied, and the values."""

    keys: tuple[str, ...]
    choices: tuple[Choice, ...]

    @property
    def name(self) -> str:
        return ",".join(self.keys)

    @property
    def swept(self) -> bool:
        return len(self.choices) > 1


@dataclass(frozen=True)
class Setting:
    """One choice for every axis: what the points have in common that differ only in their seed."""

    choices: tuple[Choice, ...]

    @property
    def overrides(self) -> tuple[str, ...]:
        return tuple(text for choice in self.choices for text in choice.overrides)


@dataclass(frozen=True)
class Point:
    """One run: a setting under a seed."""

    name: str
    setting: Setting
    seed: int

    @property
    def overrides(self) -> tuple[str, ...]:
        return (*self.setting.overrides, f"{SEED}={self.seed}")


def read_axes(arguments: Iterable[str]) -> list[Axis]:
    """The axes of a command line, in its order. Raises `ConfigError` for what is no key with values, or is there twice."""
    axes = [read_axis(argument) for argument in arguments]
    keys = [key for axis in axes for key in axis.keys]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{key} is given twice: give all of its values at once, {key}=first,second,...")
    return axes


def read_axis(argument: str) -> Axis:
    """`key=value,value,...` or `key,key=[value,value],[value,value],...`."""
    left, separator, right = argument.partition("=")
    keys = tuple(key.strip() for key in left.split(","))
    if not separator or not all(keys):
        raise ConfigError(
            f"{argument!r}: expected key=value or key=value,value,..., for example training.learning_rate=1e-3,3e-3"
        )
    texts = split_values(right)
    if len(texts) > 1 and not all(texts):
        raise ConfigError(
            f"{argument!r}: a value between the commas is empty; none is written null, and a text with commas in quotes"
        )
    choices = tuple(_choice(keys, text, argument) for text in texts)
    seen: dict[str, str] = {}
    for choice in choices:
        same = _canonical(choice.values)
        if same in seen:
            also = "" if seen[same] == choice.text else f" (as {seen[same]} too)"
            raise ConfigError(f"{','.join(keys)}: the value {choice.text} is given twice{also}")
        seen[same] = choice.text
    return Axis(keys, choices)


def split_values(text: str) -> list[str]:
    """The parts of a text at the commas that stand in no bracket and in no quotes; stripped, and at least one."""
    parts, depth, quote, begun = [], 0, "", 0
    before = ""  # the last character that is no space: a quote after a letter is an apostrophe
    place = 0
    while place < len(text):
        char = text[place]
        if quote:
            if char == "\\" and quote == '"':
                place += 1
            elif char == quote:
                quote = ""
        elif char in "\"'" and before in ("", ",", "[", "{", ":"):
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth <= 0:
            parts.append(text[begun:place].strip())
            begun = place + 1
        before = char if not char.isspace() else before
        place += 1
    return [*parts, text[begun:].strip()]


def with_seeds(axes: Sequence[Axis], count: int | None, first: int) -> tuple[list[Axis], tuple[int, ...]]:
    """The axes without the seed, and the seeds: the values of `seed=1,2,3`, or `count` of them from `first` on."""
    rest = [axis for axis in axes if axis.keys != (SEED,)]
    for axis in rest:
        if SEED in axis.keys:
            raise ConfigError(
                f"{axis.name}: seeds are no part of a setting; give them alone, as --seeds N or {SEED}=1,2"
            )
    given = next((axis for axis in axes if axis.keys == (SEED,) and axis.swept), None)
    if given is None:
        return rest, tuple(range(first, first + (count or 1)))
    if count is not None:
        raise ConfigError(
            f"{SEED}={','.join(c.text for c in given.choices)} and --seeds {count}: give one of them"
        )
    return rest, tuple(choice.values[0] for choice in given.choices)


def settings_of(axes: Sequence[Axis]) -> list[Setting]:
    """Every combination of the axes' values, the last axis changing fastest."""
    return [Setting(choices) for choices in itertools.product(*(axis.choices for axis in axes))]


def points_of(axes: Sequence[Axis], seeds: Sequence[int], named: Mapping[Identity, str]) -> list[Point]:
    """The points, setting by setting. named: what points that are there already are called."""
    short = short_names([key for axis in axes if axis.swept for key in axis.keys])
    taken, points = set(named.values()), []
    for setting in settings_of(axes):
        for seed in seeds:
            point = Point("", setting, seed)
            known = identity(point.overrides)
            name = named.get(known) or _free_name(_name(axes, setting, seed, short), known, taken)
            taken.add(name)
            points.append(Point(name, setting, seed))
    return points


def identity(overrides: Iterable[str]) -> Identity:
    """What tells a point from all others, however its values are spelt."""
    read = (text.partition("=") for text in overrides)
    return tuple(sorted((key.strip(), _canonical(_read(key.strip(), text))) for key, _, text in read))


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Key -> the least of its last parts that no other key ends in; a part that is only a number takes the one before along."""

    def ending(key: str, count: int) -> str:
        return ".".join(key.split(".")[-count:])

    names = {}
    for key in keys:
        count, most = 1, len(key.split("."))
        while count < most and (
            ending(key, count).isdigit() or sum(ending(o, count) == ending(key, count) for o in keys) > 1
        ):
            count += 1
        names[key] = ending(key, count)
    return names


def shown(value: Any) -> str:
    """A value as a table shows it: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _choice(keys: tuple[str, ...], text: str, argument: str) -> Choice:
    value = _read(keys[0], text)
    if len(keys) == 1:
        # a number keeps the form in which it was given: 1e-3, not 0.001
        called = text if isinstance(value, int | float) and not isinstance(value, bool) else shown(value)
        return Choice((f"{keys[0]}={text}",), (value,), called)
    if not isinstance(value, list) or len(value) != len(keys):
        raise ConfigError(
            f"{argument!r}: {len(keys)} keys change together, so every value is a list of {len(keys)}, "
            f"such as [{', '.join('...' for _ in keys)}] (got {text})"
        )
    overrides = tuple(
        f"{key}={json.dumps(part, ensure_ascii=False)}" for key, part in zip(keys, value, strict=True)
    )
    return Choice(overrides, tuple(value), ", ".join(map(shown, value)))


def _read(key: str, text: str) -> Any:
    value: Any = parse_override(f"{key}={text}")
    for part in key.split("."):
        value = value[part]
    return value


def _canonical(value: Any) -> str:
    # 8 and 8.0 are one number to a recipe that wants a float, and the recipe of one that wants an int refuses the other
    return json.dumps(value, sort_keys=True, default=str)


def _name(axes: Sequence[Axis], setting: Setting, seed: int, short: Mapping[str, str]) -> str:
    parts = []
    for axis, choice in zip(axes, setting.choices, strict=True):
        if axis.swept:
            keys = "+".join(_in_a_name(short[key]) for key in axis.keys)
            texts = [choice.text] if len(axis.keys) == 1 else [shown(value) for value in choice.values]
            parts.append(f"{keys}={'+'.join(map(_in_a_name, texts))}")
    return ",".join([*parts, f"{SEED}={seed}"])


def _in_a_name(text: str) -> str:
    """A value as a part of a folder's name."""
    plain = re.sub(r"[^A-Za-z0-9.+_-]+", "-", text).rstrip("-.")
    # the sign of a number stays, the dash of a bracket goes
    return (plain if re.match(r"-\.?\d", text) else plain.lstrip("-"))[:_LONGEST_VALUE] or "empty"


def _free_name(name: str, known: Identity, taken: Iterable[str]) -> str:
    if len(name) <= _LONGEST_NAME and name not in taken:
        return name
    front, _, seed = name.rpartition(",")
    digits = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:8]
    return ",".join(filter(None, (front[: _LONGEST_NAME - 40], digits, seed)))


def same_but(axes: Sequence[Axis], setting: Setting, changes: Mapping[str, Choice]) -> Setting:
    """The setting with other choices on some axes, by the axis' name."""
    return Setting(
        tuple(changes.get(axis.name, own) for axis, own in zip(axes, setting.choices, strict=True))
    )


def find_choice(axes: Sequence[Axis], argument: str) -> tuple[str, Choice]:
    """The axis (its name) and the choice that `key=value` means. Raises `ConfigError` for one that the sweep does not have."""
    wanted = read_axis(argument)
    axis = next((axis for axis in axes if axis.keys == wanted.keys), None)
    if axis is None or not axis.swept:
        swept = ", ".join(axis.name for axis in axes if axis.swept) or "none"
        raise ConfigError(f"--baseline {argument}: {wanted.name} is not swept here; swept: {swept}")
    if len(wanted.choices) > 1:
        raise ConfigError(f"--baseline {argument}: one value to compare with, not {len(wanted.choices)}")
    sought = _canonical(wanted.choices[0].values)
    for choice in axis.choices:
        if _canonical(choice.values) == sought:
            return axis.name, choice
    values = ", ".join(choice.text for choice in axis.choices)
    raise ConfigError(f"--baseline {argument}: no value of the sweep; {axis.name} takes {values}")
