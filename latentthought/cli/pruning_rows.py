"""The rows that a pruning is measured on: of a recipe, laid out as its last stage reads them, or any texts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from latentthought.errors import DataError

if TYPE_CHECKING:
    from latentthought.distillation.pruning.importance import Batch
    from latentthought.model.loading import LoadedModel
    from latentthought.recipe import Recipe


# examples that are read for each row that is measured on
_SPARE = 8


@dataclass(frozen=True)
class MeasuredRows:
    """Batches for `prune`, and what they are, for people."""

    batches: Sequence[Batch]
    what: str


def recipe_rows(
    recipe: Recipe, loaded: LoadedModel, count: int, batch_size: int, smoke: bool
) -> MeasuredRows:
    """The first rows of a recipe's training data as the model reads them: with thoughts, where it has learnt to think."""
    from latentthought.data.collation import Collator
    from latentthought.data.tokenizer import pad_id
    from latentthought.distillation.pruning.importance import fed_rows
    from latentthought.distillation.reader import whole_text
    from latentthought.training.rows import training_rows

    model, tokenizer = loaded.model, loaded.tokenizer
    thinks = model.thought.thoughts > 0 or model.thought.mix_ratio > 0
    as_it_is = thinks or recipe.curriculum.method == "none"
    curriculum = recipe.curriculum if as_it_is else whole_text(recipe.curriculum)
    # of a large set no more than may be needed: some rows are too long, and several documents may make one
    enough = min(recipe.data.limit or _SPARE * count, _SPARE * count)
    data, examples = training_rows(recipe.data.replace(limit=enough), None, recipe.seed, smoke)
    examples = data.rows_of(examples, tokenizer, curriculum, model.thought, count)
    tokens, stage = model.thought.tokens, len(curriculum.expand()) - 1
    rows = data.encode(examples, tokenizer, curriculum, tokens, model.backbone.positions).rows
    laid_out = [
        curriculum.layout(row, stage, random.Random(f"{recipe.seed} {place}"), tokens)
        for place, row in enumerate(rows)
    ]
    collate = Collator(pad_id(tokenizer), curriculum)
    batches = []
    for part in _parts(laid_out, batch_size):
        batch = collate(part, stage, curriculum.expand()[-1].mix.at(1.0) if thinks else 0.0)
        batches.append(fed_rows(model, {key: _on(value, model.device) for key, value in batch.items()}))
    return MeasuredRows(batches, f"{len(rows):,} rows from {examples.origin}")


def text_rows(
    texts: Iterable[str], loaded: LoadedModel, count: int, batch_size: int, length: int
) -> MeasuredRows:
    """The first `length` tokens of the first texts."""
    import torch

    from latentthought.data.tokenizer import leading_tokens, pad_id

    limit = min(length, loaded.model.backbone.positions or length)
    opening, rows = leading_tokens(loaded.tokenizer), []
    for text in islice(texts, count):
        ids = loaded.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if row := [*opening, *ids][:limit]:
            rows.append(row)
    if not rows:
        raise DataError("--data: no text in it")
    batches = []
    for part in _parts(rows, batch_size):
        width, pad = max(map(len, part)), pad_id(loaded.tokenizer)
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in part])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in part])
        batches.append((ids.to(loaded.model.device), mask.to(loaded.model.device)))
    return MeasuredRows(batches, f"{len(rows):,} texts of at most {limit:,} tokens")


def _parts(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    # by length, so that little of a batch is padding; a mean does not mind the order
    rows = sorted(rows, key=lambda row: len(row.ids if hasattr(row, "ids") else row))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _on(value: Any, device: Any) -> Any:
    return value.to(device) if hasattr(value, "to") else value
