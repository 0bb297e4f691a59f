"""Lists of shipped YAML files: their names and what their `description` says."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path


def show(name: str | None, known: Callable[[], list[str]], find: Callable[[str], Path]) -> int:
    """Print the file of `name` as it is, or a line for every known name."""
    if name is not None:
        print(find(name).read_text(encoding="utf-8"), end="")
        return 0
    from latentthought.config import read_yaml

    names = known()
    width = max(map(len, names), default=0)
    for entry in names:
        description = " ".join(str(read_yaml(find(entry)).get("description", "")).split())
        print(f"{entry:<{width}}  {textwrap.shorten(description, 108, placeholder=' ...')}".rstrip())
    return 0
