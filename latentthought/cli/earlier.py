"""What a smoke run needs of earlier phases, made first where it is missing: the teacher's run, its answers, its states.

A real run never does this: hours of somebody's GPUs should not start because a folder was misspelt. Its error names the command.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from latentthought.cli.parser import UsageError

if TYPE_CHECKING:
    from latentthought.recipe import Recipe

Say = Callable[[str], None]


def with_inputs(recipe: Recipe, output: Path) -> Recipe:
    """The recipe of a smoke run with its teacher trained, and its answers and states taken down, in folders beside `output`."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    recipe = with_teacher(recipe, output, print, processes)
    recipe = _with_responses(recipe, output, processes)
    if recipe.teacher is None or recipe.teacher.cache is None:
        return recipe
    from latentthought.cli.states import extract, of_smoke_run
    from latentthought.processes import ALONE

    # the real teacher's states, where the recipe keeps them, are of no use to a tiny student
    if of_smoke_run(Path(recipe.teacher.cache.path)):
        return recipe
    folder = _beside(output, "states")
    recipe = _changed(recipe, cache=recipe.teacher.cache.replace(path=str(folder)).dump())
    if not of_smoke_run(folder):
        _alone(processes, f"teacher extract RECIPE --smoke --output {folder}")
        print(f"states      {folder}, made first")
        extract(recipe, folder, ALONE, resume=folder.is_dir(), smoke=True, shown=False)
    return recipe


def with_teacher(recipe: Recipe, output: Path, say: Say, processes: int) -> Recipe:
    """The recipe of a smoke run whose teacher is the run of another recipe, after a smoke run of that one."""
    teacher = recipe.teacher
    if teacher is None or teacher.recipe is None or teacher.scratch is None:
        return recipe
    from latentthought.recipe import load_recipe
    from latentthought.training.progress import Silent
    from latentthought.training.run import train

    run = _beside(output, "teacher")
    if not (run / "model").is_dir():
        _alone(processes, f"train {teacher.recipe} --smoke --output {run}")
        say(f"teacher     {run}, a smoke run of {teacher.recipe}, made first")
        train(
            load_recipe(teacher.recipe, smoke=True), run, resume=run.is_dir(), smoke=True, progress=Silent()
        )
    return _changed(recipe, model=str(run), scratch=None, tokenizer=None)


def _with_responses(recipe: Recipe, output: Path, processes: int) -> Recipe:
    if recipe.teacher is None or recipe.teacher.responses is None:
        return recipe
    from latentthought.cli.teacher_respond import respond
    from latentthought.distillation.responses import PROVENANCE

    folder = _beside(output, "responses")
    responses = recipe.teacher.responses.replace(path=str(folder))
    if not (folder / PROVENANCE).is_file():
        _alone(processes, f"teacher respond RECIPE --smoke --output {folder}")
        print(f"answers     {folder}, made first")
        respond(recipe, responses, folder, resume=folder.is_dir(), smoke=True)
    return _changed(recipe, responses=responses.dump())


def _beside(output: Path, what: str) -> Path:
    return output.with_name(f"{output.name}-{what}")


def _changed(recipe: Recipe, **changes: object) -> Recipe:
    assert recipe.teacher is not None
    return recipe.replace(teacher={**recipe.teacher.dump(), **changes})


def _alone(processes: int, command: str) -> None:
    if processes > 1:
        raise UsageError(f"--smoke with several processes: make what it needs first: latentthought {command}")
