"""The teacher of a recipe, and what every `teacher` command checks of its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentthought.cli.parser import UsageError
from latentthought.errors import ConfigError

if TYPE_CHECKING:
    from latentthought.data.example import ExampleSet
    from latentthought.distillation.teacher import Teacher
    from latentthought.recipe import Recipe


def check_overrides(overrides: list[str]) -> None:
    """Raise `UsageError` for what stands among the changes and is none."""
    for text in overrides:
        if "=" not in text:
            raise UsageError(
                f"unexpected argument {text!r}: after the recipe come key=value changes and --options"
            )


def teacher_of(recipe: Recipe, examples: ExampleSet, device: str | None = None) -> Teacher:
    """Load the teacher that a recipe names. device: where the recipe leaves it open."""
    from latentthought.distillation.teacher import Teacher

    if recipe.teacher is None:
        raise ConfigError(f"{recipe.name}: the recipe has no teacher; say which with teacher.model=NAME")
    chat = (recipe.teacher.format or recipe.data.format).chat
    tokenizer = None
    if recipe.teacher.scratch is not None and recipe.teacher.tokenizer is None:
        tokenizer = recipe.model.build_tokenizer(recipe.data.texts(examples), chat=recipe.data.format.chat)
    return Teacher.load(
        recipe.teacher,
        tokenizer=tokenizer,
        thought=recipe.model.thought,
        texts=recipe.data.texts(examples),
        chat=chat,
        seed=recipe.seed,
        device=device,
    )
