"""The teacher of a smoke run that is the run of another recipe: a smoke run of that one, made first where it is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from latentthought.cli.parser import UsageError

if TYPE_CHECKING:
    from latentthought.recipe import Recipe

Say = Callable[[str], None]


def with_teacher(recipe: Recipe, output: Path, say: Say, processes: int) -> Recipe:
    """The recipe of a smoke run whose teacher is the run of another recipe, after a smoke run of that one."""
    teacher = recipe.teacher
    if teacher is None or teacher.recipe is None or teacher.scratch is None:
        return recipe
    from latentthought.recipe import load_recipe
    from latentthought.training.progress import Silent
    from latentthought.training.run import train

    run = beside(output, "teacher")
    if not (run / "model").is_dir():
        alone(processes, f"train {teacher.recipe} --smoke --output {run}")
        say(f"teacher     {run}, a smoke run of {teacher.recipe}, made first")
        train(
            load_recipe(teacher.recipe, smoke=True), run, resume=run.is_dir(), smoke=True, progress=Silent()
        )
    return changed(recipe, model=str(run), scratch=None, tokenizer=None)


def beside(output: Path, what: str) -> Path:
    return output.with_name(f"{output.name}-{what}")


def changed(recipe: Recipe, **changes: object) -> Recipe:
    assert recipe.teacher is not None
    return recipe.replace(teacher={**recipe.teacher.dump(), **changes})


def alone(processes: int, command: str) -> None:
    if processes > 1:
        raise UsageError(f"--smoke with several processes: make what it needs first: latentthought {command}")
