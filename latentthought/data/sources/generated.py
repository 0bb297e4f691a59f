"""The generators of data/synthetic as sources: `source: hops`, `knights-generated`, `prosqa-generated`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from latentthought.data.example import DATA_FOLDER, Example, Split
from latentthought.data.sources.base import GeneratedSource
from latentthought.data.sources.graphs import ProsQa
from latentthought.data.sources.reading import BadRow, read_rows
from latentthought.data.synthetic import hops, knights, prosqa

SMOKE_ROWS = 256


class _Sized(GeneratedSource):
    """Options say how many rows each split has."""

    def rows_in(self, split: Split, smoke: bool) -> int:
        size: int = getattr(self.options, f"{split}_rows")
        return min(size, SMOKE_ROWS) if smoke else size


class Hops(_Sized):
    """Follow links through a shuffled cycle (data/synthetic/hops.py)."""

    name = "hops"
    Options = hops.HopsOptions

    def generate(self, split: Split, n: int, seed: int) -> Iterator[Example]:
        return hops.generate(self.options, split, n, seed)


class KnightsGenerated(_Sized):
    """Chains of knights and knaves (data/synthetic/knights.py), judged as the rows of `knights-knaves` are."""

    name = "knights-generated"
    Options = knights.KnightsOptions

    def generate(self, split: Split, n: int, seed: int) -> Iterator[Example]:
        return knights.generate(self.options, split, n, seed)


class ProsQaGenerated(_Sized):
    """Graphs in the manner of ProsQA (data/synthetic/prosqa.py), as the same examples that the source `prosqa` gives.

    A row that equals one of the real validation or test file is left out, and counted, where LATENTTHOUGHT_DATA has them.
    """

    name = "prosqa-generated"
    Options = prosqa.GraphOptions

    def generate(self, split: Split, n: int, seed: int) -> Iterator[Example]:
        parser = ProsQa()
        for number, row in enumerate(prosqa.iterate(self.options, split, n, seed)):
            name = f"{self.name}/{split}/{seed}-{number}"
            yield replace(parser.parse(row, name), id=name)

    def held_out(self) -> frozenset[str]:
        folder = os.environ.get(DATA_FOLDER)
        if not folder:
            return frozenset()
        names = [name for split in ("validation", "test") for name in ProsQa.local_files[split]]
        files = [Path(folder) / name for name in names if (Path(folder) / name).is_file()]
        rows = [row for file in files for _, row in read_rows(file) if not isinstance(row, BadRow)]
        return frozenset(prosqa.content_key(str(row["question"])) for row in rows if "question" in row)

    def key(self, example: Example) -> str:
        return prosqa.content_key(example.question)
