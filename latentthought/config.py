"""Strict, frozen settings, and YAML that becomes them.

Every setting of the package is a pydantic model derived from `Config`, placed beside the class it builds. Unknown keys and
wrong types are errors, all of them reported at once with their dotted paths and near misses; nothing is silently coerced
except what YAML itself leaves open (PyYAML reads `1e-5` as text, and an int where a float is wanted is exact).
Rejected: Hydra and OmegaConf (a second type system, dotted import paths in YAML), plain dataclasses (no error list).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from latentthought.errors import ConfigError, MissingFileError, nearest, unknown

ConfigT = TypeVar("ConfigT", bound="Config")


class Config(BaseModel):
    """Base of every setting: immutable, no unknown keys, no lossy coercion (a bool is not an int, "3" is not 3)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def parse(cls: type[ConfigT], values: Mapping[str, Any], where: str = "") -> ConfigT:
        """Build from plain YAML values; a `ConfigError` lists every problem with its path, value and nearest match."""
        try:
            text = to_json(values, inf_nan_mode="constants")
        except PydanticSerializationError as error:
            raise ConfigError(f"{where or cls.__name__}: not plain values: {error}") from None
        try:
            # JSON mode is pydantic's strict mode for plain data: lists become tuples, strings become enum members
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise ConfigError(_describe(cls, error, from_json(text), where)) from None

    def dump(self) -> dict[str, Any]:
        """Plain values that `parse` reads back to an equal object."""
        return self.model_dump(mode="json")

    def replace(self: ConfigT, **changes: Any) -> ConfigT:
        """A validated copy with some fields changed."""
        return type(self).parse({**self.dump(), **changes})


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-5 as a number and refuses a key given twice."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes the text "1e-5", which `_Loader` would read as a number."""


# YAML 1.2's floats with an exponent; the forms with a dot are known to PyYAML already
_EXPONENT = re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$|^[-+]?\.[0-9_]+[eE][-+]?[0-9]+$")
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes Unicode's own line breaks as they are and reads them back as spaces, unless they are quoted
    style = '"' if re.search("[\x85\u2028\u2029]", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[tuple[str, str]] = set()
    for key_node, _ in node.value:
        key = (key_node.tag, key_node.value) if isinstance(key_node, yaml.ScalarNode) else None
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
            )
        if key:
            seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; file and line in the error."""
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """The mapping in a YAML text; `where` names it in the error."""
    values = _load(text, where)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected a mapping of keys to values, got {type(values).__name__}")
    return values


def _load(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{where}{line}: not valid YAML: {getattr(error, 'problem', None) or error}"
        ) from None
    except (ValueError, RecursionError) as error:  # 2026-13-45 looks like a date; a thousand brackets
        raise ConfigError(f"{where}: not valid YAML: {error}") from None


def write_yaml(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write values as YAML that `read_yaml` reads back equal, whole or not at all."""
    path = Path(path)
    text = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it: mappings are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """`a.b=3` -> {"a": {"b": 3}}; the value is read as YAML."""
    parts, value = _split_override(text)
    for part in reversed(parts):
        value = {part: value}
    return value


def apply_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Lay `key=value` overrides over values, in order; a dotted part that is a number indexes a list."""
    result: Any = dict(values)
    for text in overrides:
        parts, value = _split_override(text)
        result = _lay(result, parts, value, text)
    return result


def _split_override(text: str) -> tuple[list[str], Any]:
    key, separator, value = text.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"override {text!r}: expected key=value, for example training.learning_rate=1e-4")
    return parts, _load(value, f"override {text!r}")


def _lay(target: Any, parts: Sequence[str], value: Any, text: str) -> Any:
    if not parts:
        both = isinstance(target, Mapping) and isinstance(value, Mapping)
        return merge(target, value) if both else value
    part, rest = parts[0], parts[1:]
    if isinstance(target, list):
        if not re.fullmatch("[0-9]+", part) or int(part) >= len(target):
            allowed = f"0 to {len(target) - 1}" if target else "none, the list is empty"
            raise ConfigError(
                f"override {text!r}: {part!r} is no index of the list there; allowed: {allowed}"
            )
        index = int(part)
        return [_lay(item, rest, value, text) if i == index else item for i, item in enumerate(target)]
    held = target if isinstance(target, Mapping) else {}
    return {**held, part: _lay(held.get(part), rest, value, text)}


def _describe(cls: type[Config], error: ValidationError, values: Any, where: str) -> str:
    """One line a problem. A union reports each of its members: those of one path become one line."""
    found: dict[str, list[tuple[Any, list[Any]]]] = {}
    for item in error.errors():
        keys = _keys(item["loc"], values, item["type"])
        found.setdefault(".".join(map(str, keys)), []).append((item, keys))
    problems = [
        _problem(cls, path or cls.__name__, items)
        for path, items in found.items()
        if not _beside_the_point(path, found)
    ]
    head = f"{where}: " if where else ""
    if len(problems) == 1:
        return head + problems[0]
    return f"{head}{len(problems)} problems\n" + "\n".join(f"  {problem}" for problem in problems)


def _keys(location: Sequence[Any], values: Any, kind: str) -> list[Any]:
    """The keys and indices of a pydantic location, without the tags it adds for unions and validators."""
    keys: list[Any] = []
    for part in location:
        if not (
            (isinstance(values, dict) and part in values)
            or (isinstance(values, list) and isinstance(part, int) and part < len(values))
        ):
            continue
        values = values[part]
        keys.append(part)
    return [*keys, location[-1]] if kind == "missing" else keys


def _beside_the_point(path: str, found: Mapping[str, Any]) -> bool:
    """Whether all that is said of a path is "should be a list", while another member of the union looked inside."""
    deeper = any(other.startswith(f"{path}.") for other in found)
    return deeper and all(item["type"].endswith("_type") for item, _ in found[path])


def _problem(cls: type[Config], path: str, items: list[tuple[Any, list[Any]]]) -> str:
    item, keys = items[0]
    if item["type"] == "extra_forbidden":
        known = _fields_at(cls, item["loc"][:-1])
        close = nearest(str(keys[-1]), known)
        hint = f" did you mean {' or '.join(close)}?" if close else ""
        return f"{path}: unknown key;{hint} allowed: {', '.join(sorted(known)) or 'none'}"
    if item["type"] == "missing":
        return f"{path}: required, and missing"
    if item["type"] == "union_tag_not_found":
        key = item["ctx"]["discriminator"].strip("'")
        return f"{path}.{key}: required, and missing; it says which kind of settings these are"
    if item["type"] == "union_tag_invalid":
        tag, key = item["ctx"]["tag"], item["ctx"]["discriminator"].strip("'")
        allowed = re.findall(r"'([^']*)'", item["ctx"]["expected_tags"])
        return f"{path}.{key}: {unknown(key, tag, allowed)}"
    messages = list(dict.fromkeys(other["msg"].removeprefix("Value error, ") for other, _ in items))
    message = " or ".join([messages[0], *(m.removeprefix("Input should be ") for m in messages[1:])])
    given = item["input"]
    close = nearest(given, re.findall(r"'([^']*)'", message), 1) if isinstance(given, str) else []
    hint = f"; did you mean {close[0]}?" if close else ""
    if isinstance(given, Mapping) and item["type"] == "value_error":
        return f"{path}: {message}"  # a rule between several keys names them itself
    shown = repr(given)
    return f"{path}: {message} (got {shown if len(shown) < 120 else shown[:117] + '...'}){hint}"


def _fields_at(cls: type[BaseModel], location: Iterable[Any]) -> list[str]:
    """Field names of the config that a pydantic location leads to (through lists, unions and optionals)."""
    current: list[type[BaseModel]] = [cls]
    for part in location:
        fields = [
            field
            for model in current
            for name, field in model.model_fields.items()
            if part in (name, field.alias)
        ]
        if fields:
            current = [model for field in fields for model in _models_in(field.annotation)]
        else:  # a list index, a dict key or the name of a union's member
            named = [model for model in current if re.search(rf"\b{model.__name__}\b", str(part))]
            current = named or current
    return list(dict.fromkeys(name for model in current for name in model.model_fields))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
