"""`--depth` and `--width`: `remove=4,by=last` or `drop=3,7-9` or a bare `0.25`, to the settings of a pruning."""

from __future__ import annotations

import re
from typing import Any

from latentthought.cli.parser import UsageError
from latentthought.distillation.pruning.settings import DepthPruning, WidthPruning

DEPTH_FORM = "4, 0.25, remove=0.25,by=last, drop=3,7-9 or keep=1-8,12"
WIDTH_FORM = "mlp=0.75,heads=0.75 or hidden=512,importance=magnitude"
_LISTS = ("drop", "keep")


def depth_of(text: str | None) -> DepthPruning | None:
    """What `--depth` asks for; a bare number is how many blocks go, or what share of them."""
    return (
        None if text is None else DepthPruning.parse(_read(text, "--depth", DEPTH_FORM, "remove"), "--depth")
    )


def width_of(text: str | None) -> WidthPruning | None:
    """What `--width` asks for."""
    return None if text is None else WidthPruning.parse(_read(text, "--width", WIDTH_FORM, None), "--width")


def _read(text: str, option: str, form: str, bare: str | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    key = bare
    for part in text.split(","):
        name, given, value = part.partition("=")
        if given:
            key = name.strip()
            if key in values:
                raise UsageError(f"{option} {text}: {key} is given twice")
        elif key is None or (key in values and key not in _LISTS):
            raise UsageError(f"{option} {text}: {part.strip()!r} is not key=value, such as {form}")
        else:
            value = part
        assert key is not None
        if key in _LISTS:
            values.setdefault(key, []).extend(_blocks(value.strip(), option, form))
        else:
            values[key] = _number(value.strip())
    return values


def _blocks(text: str, option: str, form: str) -> list[int]:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if found is None:
        raise UsageError(f"{option}: {text!r} is neither a block nor a range of them, such as {form}")
    first = int(found[1])
    last = int(found[2] or first)
    if last < first:
        raise UsageError(f"{option}: {text} runs backwards; {last}-{first} is the same range")
    return list(range(first, last + 1))


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
