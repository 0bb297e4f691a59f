"""`--train-data`: the texts that a model was trained on, for the contamination check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from latentthought.data.example import Example
from latentthought.data.sources import SOURCES, SourceConfig, load_examples
from latentthought.data.sources.reading import BadRow, kind_of, read_rows
from latentthought.errors import DataError, NotFoundError, UserError, unknown


def training_rows(argument: str) -> Iterable[Example | str]:
    """The rows that RECIPE (a name, a file, a run folder), FILE (any rows) or SOURCE (its training split) mean.

    A file is read as it comes, again for every task: every text in a row counts, whatever its columns are called.
    """
    path = Path(argument)
    if kind_of(path) and path.suffix not in (".yaml", ".yml"):
        if not path.is_file():
            raise NotFoundError(f"--train-data {argument}: no such file")
        return _FileTexts(path)
    if argument in SOURCES:
        return load_examples(SourceConfig(source=argument, split="train"))
    from latentthought.recipe import load_recipe
    from latentthought.resources import list_recipes

    recipe_file = path / "recipe.yaml" if path.is_dir() else path
    try:
        recipe = load_recipe(str(recipe_file))
    except NotFoundError:
        raise NotFoundError(
            f"--train-data: {unknown('recipe or source', argument, [*list_recipes(), *SOURCES])}"
        ) from None
    except UserError as error:
        raise type(error)(f"--train-data: {error}") from None
    return load_examples(recipe.data, seed=recipe.seed)


class _FileTexts:
    """The texts of a file of rows, as often as they are asked for."""

    def __init__(self, path: Path):
        self.path = path

    def __iter__(self) -> Iterator[str]:
        for where, row in read_rows(self.path):
            if isinstance(row, BadRow):
                raise DataError(f"{where}: {row.reason}")
            yield from _texts_in(row)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts_in(item)
    elif isinstance(value, list):
        if value and all(isinstance(item, str) for item in value):
            yield "\n".join(value)  # steps of one solution
        else:
            for item in value:
                yield from _texts_in(item)
