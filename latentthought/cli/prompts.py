"""What `generate` is asked: one prompt, or a file of them (a line each, or JSON lines)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentthought.errors import DataError, MissingFileError

QUESTION_KEYS = ("question", "prompt", "problem")


@dataclass(frozen=True, slots=True)
class Request:
    """One question. `id` is the row's own, or its place in the file."""

    id: str
    question: str


def read_requests(prompt: str | None, file: str | None) -> list[Request]:
    """The requests of a command line: the prompt, or those of a file (`-`: standard input).

    A file ending in .jsonl or .json holds an object a line with `question` (or `prompt`, `problem`), and perhaps `id`; any
    other file holds a prompt a line. Empty lines are passed over. Raises `DataError` naming file and line.
    """
    if prompt is not None:
        if not prompt.strip():
            raise DataError("PROMPT is empty: give a question, or --input FILE")
        return [Request("1", prompt)]
    assert file is not None
    path = Path(file)
    if file != "-" and not path.is_file():
        raise MissingFileError(
            f"--input {file}: {'a folder, not a file' if path.is_dir() else 'no such file'}"
        )
    try:
        text = sys.stdin.read() if file == "-" else path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 (byte {error.start})") from None
    structured = path.suffix.lower() in (".jsonl", ".json")
    requests = list(_rows(text, file) if structured else _lines(text))
    if not requests:
        raise DataError(f"{file}: no prompts in it")
    return requests


def _lines(text: str) -> Iterator[Request]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield Request(str(number), line)


def _rows(text: str, file: str) -> Iterator[Request]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not valid JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object, got {type(row).__name__}")
        key = next(
            (name for name in QUESTION_KEYS if isinstance(row.get(name), str) and row[name].strip()), None
        )
        if key is None:
            raise DataError(
                f"{where}: no text under {', '.join(QUESTION_KEYS)} (the row has {', '.join(map(str, row)) or 'nothing'})"
            )
        yield Request(str(row.get("id") or number), row[key])
