"""What a data set has to say about itself to be read.

A source names its places (files under the data folder, a hub set) and turns one raw row into an `Example`; it opens nothing
itself. Reading, skipping, field maps and error places are the same for all of them (loading.py), so a new data set is one
short file. A generated source (hops, knights-generated) makes examples instead of parsing rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from latentthought.config import Config
from latentthought.data.example import Example, Split


class NoOptions(Config):
    """Options of a source that has none."""


@dataclass(frozen=True)
class HubLocation:
    """A data set on the Hugging Face hub. `splits` maps our split name to the (configuration, split) pairs that hold it.

    streaming: rows are fetched as they are read, and nothing is kept; for sets too large to be fetched whole."""

    repo: str
    splits: Mapping[str, tuple[tuple[str | None, str], ...]]
    revision: str | None = None
    streaming: bool = False


@dataclass(frozen=True)
class Source(ABC):
    """One data set. `options` is an instance of the class's own `Options`; `stand_in` says what to use where rows are missing."""

    name: ClassVar[str]
    hub: ClassVar[HubLocation | None] = None
    local_files: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    stand_in: ClassVar[str] = ""
    Options: ClassVar[type[Config]] = NoOptions
    options: Any = field(default=None)

    def __post_init__(self) -> None:
        if self.options is None:
            object.__setattr__(self, "options", self.Options())

    def configured(self, options: Mapping[str, Any]) -> Self:
        """The same source with other options; a `ConfigError` names what does not hold."""
        return type(self)(self.Options.parse(options, f"options of source {self.name!r}"))

    @abstractmethod
    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        """One raw row as an example; an empty `id` is filled in by the loader. Raises `DataError` starting with `where`."""

    @abstractmethod
    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        """`n` small made-up rows in this source's own raw format, the same for the same seed."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that is read of a row, where they are known: a field map may name no other. () for any."""
        return ()

    def left_out(self, row: Mapping[str, Any]) -> str | None:
        """Why a well-formed row is not wanted under these options, or None. Such rows are counted, never an error."""
        return None


class GeneratedSource(Source):
    """A source that makes its rows; its raw form is the contract row."""

    @abstractmethod
    def generate(self, split: Split, n: int, seed: int) -> Iterator[Example]:
        """`n` examples of a split; equal arguments give equal rows, and no row of one split occurs in another."""

    @abstractmethod
    def rows_in(self, split: Split, smoke: bool) -> int:
        """How many rows a split has when no `limit` is given."""

    def held_out(self) -> frozenset[str]:
        """Keys of real rows that must not be generated (the caller leaves them out and counts them)."""
        return frozenset()

    def key(self, example: Example) -> str:
        """What makes two examples the same row."""
        return example.question

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        return Example.from_row(row, where)

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        return [example.to_row() for example in self.generate("train", n, seed)]
