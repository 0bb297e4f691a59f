"""The row that every data set becomes, and a loaded set of them.

An `Example` is immutable and holds text only: token ids, layouts and labels are made later (data/encoding.py), so one loaded
set serves every tokenizer and every curriculum. Whatever a data set knows beyond the contract (subject, choices, a puzzle's
clues) stays in `meta` instead of becoming optional fields that most sources would leave empty.
Rejected: `datasets.Dataset` as the in-memory form (an Arrow schema per source, and a one-second import).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, overload

from latentthought.errors import DataError

DATA_FOLDER = "LATENTTHOUGHT_DATA"  # the environment variable that names a folder of data sets

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class MissingFieldError(DataError):
    """A row without a `field` that it needs: a reader of files can say how to name another column."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its reasoning and its answer, as text.

    `steps` may be empty (no reasoning known). `answer` is the gold answer to be graded; `solution` the whole written solution
    or response where one exists; `messages` the chat turns before the answer. `meta` is plain JSON data: tasks group by it
    (`subject`, `level`) and graders read it (`choices`, `classes`, ...).
    """

    id: str
    question: str
    steps: tuple[str, ...]
    answer: str
    solution: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The contract row: plain JSON data, absent parts left out; `from_row` reads it back."""
        row: dict[str, Any] = {
            "id": self.id,
            "question": self.question,
            "steps": list(self.steps),
            "answer": self.answer,
        }
        if self.solution is not None:
            row["solution"] = self.solution
        if self.messages is not None:
            row["messages"] = [dict(message) for message in self.messages]
        if self.meta:
            row["meta"] = dict(self.meta)
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any], where: str) -> Example:
        """Read a contract row; keys beyond the contract are not read. Raises `DataError` starting with `where`."""
        meta = row.get("meta") or {}
        if not isinstance(meta, Mapping):
            raise DataError(f"{where}: field 'meta' must be a mapping, got {type(meta).__name__}")
        return cls(
            id=optional_text(row, "id", where) or "",
            question=text_field(row, "question", where),
            steps=steps_field(row, "steps", where, required=False),
            answer=text_field(row, "answer", where),
            solution=optional_text(row, "solution", where),
            messages=messages_field(row, "messages", where, required=False),
            meta=dict(meta),
        )


class ExampleSet(Sequence[Example]):
    """Loaded examples, in order. `skipped` holds one line per row that was left out: where it stood and why.

    `origin` says where the rows came from (a file, a hub name, a generator). Slicing gives an ExampleSet.
    """

    def __init__(
        self, examples: Iterable[Example], *, skipped: Iterable[str] = (), origin: str = "memory"
    ) -> None:
        self._examples = tuple(examples)
        self.skipped: list[str] = list(skipped)
        self.origin = origin

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> ExampleSet: ...
    def __getitem__(self, index: int | slice) -> Example | ExampleSet:
        if isinstance(index, slice):
            return ExampleSet(self._examples[index], skipped=self.skipped, origin=self.origin)
        return self._examples[index]

    def __len__(self) -> int:
        return len(self._examples)

    def __repr__(self) -> str:
        return f"ExampleSet({len(self)} rows from {self.origin}, {len(self.skipped)} skipped)"

    @property
    def skip_counts(self) -> dict[str, int]:
        """How many rows were left out, by reason (the part of each `skipped` line after its place), commonest first."""
        return dict(Counter(line.partition(": ")[2] for line in self.skipped).most_common())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all rows in order: equal fingerprints mean the same training data (resume, caches)."""
        digest = hashlib.sha256()
        for example in self._examples:
            digest.update(
                json.dumps(example.to_row(), sort_keys=True, ensure_ascii=False, default=str).encode()
            )
            digest.update(b"\n")
        return digest.hexdigest()


def text_field(row: Mapping[str, Any], key: str, where: str) -> str:
    """A required field of text, stripped; missing, blank or not text is a `DataError`."""
    value = optional_text(row, key, where)
    if value is None:
        raise _absent(row, key, where)
    if not value:
        raise DataError(f"{where}: field {key!r} is empty")
    return value


def optional_text(row: Mapping[str, Any], key: str, where: str) -> str | None:
    """A field of text, stripped, None where it is absent or null. Numbers and booleans become text; else a `DataError`."""
    value = row.get(key)
    if isinstance(value, (bool, int, float)):
        value = str(value)
    if value is None:
        return None
    if not isinstance(value, str):
        raise DataError(f"{where}: field {key!r} must be text, got {_shown(value)}")
    return value.strip()


def steps_field(row: Mapping[str, Any], key: str, where: str, *, required: bool = True) -> tuple[str, ...]:
    """A field of steps: a list of text, or one text with a step a line. Blank steps are dropped; an empty list is allowed."""
    value = row.get(key)
    if value is None and not required:
        return ()
    if value is None:
        raise _absent(row, key, where)
    if isinstance(value, str):
        value = value.splitlines()
    if not isinstance(value, (list, tuple)) or not all(isinstance(step, str) for step in value):
        raise DataError(f"{where}: field {key!r} must be a list of text, got {_shown(value)}")
    return tuple(step.strip() for step in value if step.strip())


def messages_field(
    row: Mapping[str, Any], key: str, where: str, *, required: bool = True
) -> tuple[dict[str, Any], ...] | None:
    """A field of chat messages: a list of mappings with text `role` and `content`."""
    value = row.get(key)
    if value is None and not required:
        return None
    if not isinstance(value, (list, tuple)) or not all(map(_is_message, value)):
        raise DataError(
            f"{where}: field {key!r} must be a list of {{role, content}} messages, got {_shown(value)}"
        )
    return tuple(dict(message) for message in value)


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in ("role", "content"))


def _absent(row: Mapping[str, Any], key: str, where: str) -> DataError:
    if key in row:
        return DataError(f"{where}: field {key!r} is null")
    return MissingFieldError(
        f"{where}: field {key!r} is missing (the row has {', '.join(map(str, row)) or 'no fields'})", key
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
