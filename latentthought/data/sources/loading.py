"""From a few settings to a set of examples.

Where the rows come from, first match: `path` (a file or a folder); the folder named by LATENTTHOUGHT_DATA; the hub. With
`smoke` and no path: rows made by the source itself, in its own raw format, through the same parser. A row that does not hold
is an error naming file and line, or with `on_bad_row: skip` a counted line in `ExampleSet.skipped`; nothing is dropped unsaid.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.data.example import (
    DATA_FOLDER,
    SPLITS,
    Example,
    ExampleSet,
    MissingFieldError,
    Split,
)
from latentthought.data.sources.base import GeneratedSource, Source
from latentthought.data.sources.catalog import SOURCES
from latentthought.data.sources.hub import hub_rows
from latentthought.data.sources.reading import SUFFIXES, BadRow, kind_of, read_rows
from latentthought.errors import ConfigError, DataError, MissingFileError, NotFoundError, nearest, unknown

SMOKE_ROWS = 64

Rows = Iterator[tuple[str, dict[str, Any] | BadRow]]


class SourceConfig(Config):
    """Which rows to read.

    source: a name of `SOURCES`. path: a local file or folder, before everything else. start: pass over the first rows of the
    file (a validation slice of a training file: one reads `limit: 500`, the other `start: 500`). limit: at most so many rows.
    min_steps: leave out rows with fewer reasoning steps (counted). fields: the name the source expects -> the name, or
    dotted path, in the file. options: the source's own settings. on_bad_row: stop at a row that does not hold, or count it.
    also: more sources, each with settings of its own, whose rows are mixed with these; `limit` counts for each of them.
    """

    source: str
    path: str | None = None
    split: Split = "train"
    start: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1)
    min_steps: int = Field(default=0, ge=0)
    fields: dict[str, str] = {}
    options: dict[str, Any] = {}
    on_bad_row: Literal["error", "skip"] = "error"
    also: tuple[SourceConfig, ...] = ()

    @model_validator(mode="after")
    def _holds(self) -> SourceConfig:
        if self.source not in SOURCES:
            raise ValueError(unknown("source", self.source, SOURCES))
        source = SOURCES[self.source].configured(self.options)
        if isinstance(source, GeneratedSource) and (self.path or self.fields):
            raise ValueError(
                f"source {self.source!r} makes its own rows and takes no path or fields; to read a file, say source: file"
            )
        for name in self.fields:
            if source.names and name not in source.names:
                raise ValueError(
                    f"fields: {unknown('name', name, source.names)} (a column to keep stands in options.meta too)"
                )
        return self


def load_examples(config: SourceConfig, *, seed: int = 0, smoke: bool = False) -> ExampleSet:
    """Read, parse and check the rows that `config` names.

    `seed` matters to generated sources and to smoke rows only. Raises DataError (bad row or file, or no row left),
    MissingFileError, NotFoundError (no such split), HubUnreachableError.
    """
    sets = [_load(part, seed, smoke) for part in (config, *_others(config))]
    if len(sets) == 1:
        return sets[0]
    seen: set[str] = set()
    for example in (example for part in sets for example in part):
        if example.id in seen:
            raise DataError(f"data.also: two sources have a row with the id {example.id!r}")
        seen.add(example.id)
    origin = " and ".join(part.origin for part in sets)
    return ExampleSet(
        [example for part in sets for example in part],
        skipped=[line for part in sets for line in part.skipped],
        origin=origin,
    )


def _others(config: SourceConfig) -> Iterator[SourceConfig]:
    for part in config.also:
        limits = [limit for limit in (config.limit, part.limit) if limit is not None]
        yield part.replace(limit=min(limits, default=None))


def _load(config: SourceConfig, seed: int, smoke: bool) -> ExampleSet:
    source = SOURCES[config.source].configured(config.options)
    if isinstance(source, GeneratedSource):
        return _generated(source, config, seed, smoke)
    skipped: list[str] = []
    origin, rows = _rows(source, config, seed, smoke)
    examples: list[Example] = []
    seen: set[str] = set()
    for index, (where, row) in enumerate(rows):
        if index < config.start:
            continue
        try:
            example = _parse(source, config, where, row, index, seen, skipped)
        except DataError as error:
            if config.on_bad_row == "error":
                if isinstance(error, MissingFieldError):
                    raise DataError(f"{error}; {_another_column(error.field, config)}") from None
                raise
            skipped.append(_with_place(str(error), where))
            continue
        if example is not None:
            examples.append(example)
            if len(examples) == config.limit:
                break
    return _finish(examples, skipped, origin, config)


def _another_column(field: str, config: SourceConfig) -> str:
    """How a file with other names is read, or which name of `fields` was meant to be this one."""
    close = nearest(field, config.fields, 1)
    if close and field not in config.fields:
        return f"fields: {close[0]!r} is not read of it, did you mean {field}={config.fields[close[0]]}?"
    return f"to read another column, --field {field}=COLUMN (data.fields.{field}=COLUMN)"


def _parse(
    source: Source,
    config: SourceConfig,
    where: str,
    row: dict[str, Any] | BadRow,
    index: int,
    seen: set[str],
    skipped: list[str],
) -> Example | None:
    if isinstance(row, BadRow):
        raise DataError(f"{where}: {row.reason}")
    if config.fields:
        row = {**row, **{name: field_at(row, path, where) for name, path in config.fields.items()}}
    reason = source.left_out(row)
    if reason is not None:
        skipped.append(f"{where}: {reason}")
        return None
    example = source.parse(row, where)
    if len(example.steps) < config.min_steps:
        skipped.append(f"{where}: fewer than {config.min_steps} steps")
        return None
    if not example.id:
        # the place in the file, so that an id does not depend on limit or on skipped rows
        example = replace(example, id=f"{source.name}/{config.split}/{index}")
    if example.id in seen:
        raise DataError(f"{where}: id {example.id!r} is given twice")
    seen.add(example.id)
    return example


def _generated(source: GeneratedSource, config: SourceConfig, seed: int, smoke: bool) -> ExampleSet:
    size = source.rows_in(config.split, smoke)
    wanted = min(config.limit or size, size) if smoke else config.limit or size
    held_out = source.held_out()
    examples: list[Example] = []
    skipped: list[str] = []
    for example in islice(source.generate(config.split, config.start + wanted, seed), config.start, None):
        if len(example.steps) < config.min_steps:
            skipped.append(f"{example.id}: fewer than {config.min_steps} steps")
        elif held_out and source.key(example) in held_out:
            skipped.append(f"{example.id}: equals a row of the real validation or test file")
        else:
            examples.append(example)
    compared = f" (compared with {len(held_out)} real rows)" if held_out else ""
    return _finish(examples, skipped, f"{source.name} generator{compared}", config)


def _finish(examples: list[Example], skipped: list[str], origin: str, config: SourceConfig) -> ExampleSet:
    loaded = ExampleSet(examples, skipped=skipped, origin=origin)
    if not examples:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in list(loaded.skip_counts.items())[:3])
        raise DataError(
            f"{origin}: no row is left for source {config.source!r} ({reasons or 'there are none'})"
        )
    return loaded


def _with_place(message: str, where: str) -> str:
    return message if message.startswith(where) else f"{where}: {message}"


def field_at(row: Mapping[str, Any], path: str, where: str) -> Any:
    """The value at a dotted path (`gt.value`, `messages.0.content`); a key that holds the dots itself comes first."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            close = nearest(path, map(str, row))
            hint = f"; did you mean {close[0]}?" if close else ""
            raise DataError(f"{where}: no field {path!r}{hint} (the row has {', '.join(map(str, row))})")
    return value


def _rows(source: Source, config: SourceConfig, seed: int, smoke: bool) -> tuple[str, Rows]:
    if config.path:
        files = files_at(Path(config.path).expanduser(), source, config.split)
        return config.path, (item for file in files for item in read_rows(file))
    if smoke:
        count = min(config.limit or SMOKE_ROWS, SMOKE_ROWS)
        made = source.smoke_rows(count, seed + zlib.crc32(config.split.encode()))
        return f"{source.name} smoke rows", ((f"smoke row {i}", row) for i, row in enumerate(made, 1))
    file = _in_data_folder(source, config.split)
    if file:
        return str(file), read_rows(file)
    if config.source in ("file", "text"):
        raise ConfigError(f"source {config.source!r} needs a path: data.path=FILE")
    if source.hub and config.split in source.hub.splits:
        return source.hub.repo, hub_rows(source.hub, config.split, source.name)
    raise NotFoundError(_no_split(source, config.split))


def _no_split(source: Source, split: str) -> str:
    on_hub = [name for name in SPLITS if source.hub and name in source.hub.splits]
    expected = source.local_files.get(split, ())
    parts = [
        f"source {source.name!r} has no {split} rows on the hub ({'it has ' + ', '.join(on_hub) if on_hub else 'no hub set'})"
    ]
    if expected:
        parts.append(f"and no {expected[0]} in the folder that {DATA_FOLDER} names")
    advice = "; or " + source.stand_in if source.stand_in else ""
    return f"{' '.join(parts)}; give a local file: data.path=FILE{advice}"


def _in_data_folder(source: Source, split: str) -> Path | None:
    folder = os.environ.get(DATA_FOLDER)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise MissingFileError(f"{DATA_FOLDER} names a folder that does not exist: {folder}")
    candidates = (Path(folder) / name for name in source.local_files.get(split, ()))
    return next((file for file in candidates if file.is_file()), None)


def files_at(path: Path, source: Source, split: str) -> list[Path]:
    """The files to read for a path: itself, or the split's files of a folder (the source's own names, `<split>.*`, shards)."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, beside)
        hint = f" (did you mean {path.parent / close[0]}?)" if close else ""
        raise MissingFileError(f"data.path: no such file: {path}{hint}")
    for name in source.local_files.get(split, ()):
        for file in (path / name, path / Path(name).name):
            if file.is_file():
                return [file]
    files = sorted(item for item in path.iterdir() if item.is_file() and kind_of(item))
    words = ("valid", "val", "dev", "validation") if split == "validation" else (split,)
    named = [item for item in files if item.name.split(".")[0] in words]
    shards = [item for item in files if any(item.name.startswith(f"{word}-0") for word in words)]
    chosen = named[:1] if len(named) == 1 else shards if not named else []
    if not chosen and not named and len(files) == 1:
        chosen = files
    if not chosen:
        found = ", ".join(item.name for item in files[:12]) or f"no file ending in {', '.join(SUFFIXES)}"
        raise ConfigError(
            f"data.path: cannot tell which file of {path} is the {split} split (found {found}); name the file"
        )
    return chosen
