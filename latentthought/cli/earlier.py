"""What a smoke run needs of earlier phases, made first where it is missing: the teacher's run, its answers, its states.

A real run never does this: hours of somebody's GPUs should not start because a folder was misspelt. Its error names the command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentthought.cli.smoke_teacher import alone, beside, changed, with_teacher
from latentthought.processes import process_count

if TYPE_CHECKING:
    from latentthought.recipe import Recipe


def with_inputs(recipe: Recipe, output: Path) -> Recipe:
    """The recipe of a smoke run with its teacher trained, and its answers and states taken down, in folders beside `output`."""
    processes = process_count()
    recipe = with_teacher(recipe, output, print, processes)
    recipe = _with_responses(recipe, output, processes)
    if recipe.teacher is None or recipe.teacher.cache is None:
        return recipe
    from latentthought.cli.states import extract, of_smoke_run
    from latentthought.processes import ALONE

    # the real teacher's states, where the recipe keeps them, are of no use to a tiny student
    if of_smoke_run(Path(recipe.teacher.cache.path)):
        return recipe
    folder = beside(output, "states")
    recipe = changed(recipe, cache=recipe.teacher.cache.replace(path=str(folder)).dump())
    if not of_smoke_run(folder):
        alone(processes, f"teacher extract RECIPE --smoke --output {folder}")
        print(f"states      {folder}, made first")
        extract(recipe, folder, ALONE, resume=folder.is_dir(), smoke=True, shown=False)
    return recipe


def without_inputs(recipe: Recipe) -> Recipe:
    """The recipe of a smoke run as if its teacher read along, for a look at it that makes nothing."""
    if recipe.teacher is None or (recipe.teacher.cache is None and recipe.teacher.responses is None):
        return recipe
    print("teacher     its answers and states would be made first; shown here as if it read along")
    return changed(recipe, cache=None, responses=None)


def _with_responses(recipe: Recipe, output: Path, processes: int) -> Recipe:
    if recipe.teacher is None or recipe.teacher.responses is None:
        return recipe
    from latentthought.cli.teacher_respond import respond
    from latentthought.distillation.responses import PROVENANCE, read_provenance

    folder = beside(output, "responses")
    responses = recipe.teacher.responses.replace(path=str(folder))
    if not (folder / PROVENANCE).is_file():
        alone(processes, f"teacher respond RECIPE --smoke --output {folder}")
        print(f"answers     {folder}, made first")
        respond(recipe, responses, folder, resume=folder.is_dir(), smoke=True)
    if not read_provenance(folder)["rows"]:
        print("            an untrained teacher gave none; the rows keep their own answers")
        return changed(recipe, responses=None)
    return changed(recipe, responses=responses.dump())
