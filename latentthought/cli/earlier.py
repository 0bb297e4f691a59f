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
    """The recipe of a smoke run with its student pruned, its teacher trained, and its answers and states taken down, in folders
    beside `output`."""
    processes = process_count()
    recipe = with_teacher(recipe, output, print, processes)
    recipe = _with_pruned(recipe, output, processes)
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
    """The recipe of a smoke run as if its teacher read along and its student were whole, for a look at it that makes nothing."""
    if recipe.model.scratch is not None:
        if recipe.model.pruning is not None:
            print("student     would be pruned first; shown here as it is before that")
        recipe = _of_a_whole_student(recipe)
    if recipe.teacher is None or (recipe.teacher.cache is None and recipe.teacher.responses is None):
        return recipe
    print("teacher     its answers and states would be made first; shown here as if it read along")
    return changed(recipe, cache=None, responses=None)


def _with_pruned(recipe: Recipe, output: Path, processes: int) -> Recipe:
    if recipe.model.scratch is None:
        return recipe
    if recipe.model.pruning is None:
        return _of_a_whole_student(recipe)
    from latentthought.cli.prune import prune_by_recipe

    folder = beside(output, "pruned")
    if not folder.is_dir():
        alone(processes, f"prune RECIPE --smoke --output {folder}")
        print(f"student     {folder}, pruned first")
        # a teacher that is the run of another recipe is what the student is cut from, in the real run too
        whole = None if recipe.teacher is None or recipe.teacher.recipe is None else recipe.teacher.model
        prune_by_recipe(recipe, folder, smoke=True, device="cpu", whole=whole)
    model = {**recipe.model.dump(), "base": str(folder), "scratch": None, "tokenizer": None}
    return recipe.replace(model=model)


def _of_a_whole_student(recipe: Recipe) -> Recipe:
    """The recipe with uniform layers where it has those of a pruning."""
    terms = [term.dump() for term in recipe.objective]
    pruned = [term for term in terms if (term.get("layers") or {}).get("strategy") == "provenance"]
    if not pruned:
        return recipe
    print("layers      uniform in place of provenance, since this tiny student was not cut from anything")
    for term in pruned:
        term["layers"] = {**term["layers"], "strategy": "uniform"}
    return recipe.replace(objective=terms)


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
