"""Validation while training: which rows it is scored on, and the callable that the trainer gets.

Never the test rows: what a run is steered or stopped by must not be what it is reported on. Taken are the validation rows of
the task's own source, else those of the recipe's data; where neither has any, nothing is scored, and the run says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from latentthought.errors import HubUnreachableError, NotFoundError

if TYPE_CHECKING:
    from latentthought.data.example import ExampleSet
    from latentthought.evaluation.tasks import TaskConfig
    from latentthought.recipe import Recipe
    from latentthought.training.validation import Scorer


def scorer_for(recipe: Recipe, smoke: bool, say: Callable[[str], None]) -> Scorer | None:
    """The scorer of a recipe, its rows read at once so that a mistake shows before the training; None where there is none."""
    if recipe.evaluation.task is None:
        return None
    from latentthought.evaluation import load_task, validation_scorer

    settings, task = recipe.evaluation, load_task(recipe.evaluation.task)
    examples = _validation_rows(recipe, task, smoke, say)
    if examples is None:
        return None
    shots = task.few_shot.draw(task.data, seed=recipe.seed, smoke=smoke)
    made: list[Callable[..., dict[str, float]]] = []

    def score(model: Any, tokenizer: Any, *, thoughts: int, mix_ratio: float) -> Mapping[str, float]:
        if not made:  # the tokenizer of a model from scratch is made by the run itself
            made.append(
                validation_scorer(
                    task,
                    tokenizer,
                    examples=examples,
                    shots=shots,
                    max_new_tokens=settings.max_new_tokens,
                    batch_size=settings.batch_size,
                    seed=recipe.seed,
                )
            )
        return made[0](model, thoughts=thoughts, mix_ratio=mix_ratio)

    return score


def _validation_rows(
    recipe: Recipe, task: TaskConfig, smoke: bool, say: Callable[[str], None]
) -> ExampleSet | None:
    from latentthought.data.sources import SourceConfig, load_examples

    limit = recipe.evaluation.limit
    wanted = {task.data.source: task.data, recipe.data.source: recipe.data}
    for source, settings in wanted.items():
        if source == "file":  # one file has one part: the rows that are trained on
            continue
        given = {name: getattr(settings, name) for name in ("source", "fields", "options", "on_bad_row")}
        config = SourceConfig(**given, split="validation", limit=limit)
        try:
            return load_examples(config, seed=recipe.seed, smoke=smoke)
        except (NotFoundError, HubUnreachableError):
            continue
    tried = " nor ".join(wanted)
    say(
        f"validation  none: neither {tried} has validation rows here"
        if len(wanted) > 1
        else f"validation  none: {tried} has no validation rows here"
    )
    return None
