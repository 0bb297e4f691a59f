"""Whether a run may go on with what an earlier one left: the settings of both, and their differences in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentthought.errors import ConfigError

# a setting that is a hash, and the one whose change explains its own
_EXPLAINED_BY = {"data": "questions", "weights": "model"}
_UNSET = {"thoughts": "as trained", "mix_ratio": "as trained", "temperature": "greedy"}


def check_settings(folder: Path, was: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise `ConfigError` when the settings of the run in `folder` are not those of this one.

    A hash is left out where the difference behind it is named too, and else shortened to 12 digits.
    """
    now = json.loads(json.dumps(settings))
    differ = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    changes = [
        f"{name} was {_shown(name, was.get(name))}, is {_shown(name, now.get(name))}"
        for name in differ
        if _EXPLAINED_BY.get(name) not in differ
    ]
    if changes:
        raise ConfigError(
            f"{folder}: cannot resume, the settings differ: {'; '.join(changes)}; choose another output folder"
        )


def _shown(name: str, value: Any) -> str:
    if value is None and name in _UNSET:
        return _UNSET[name]
    return repr(value[:12] if name in _EXPLAINED_BY and isinstance(value, str) else value)
