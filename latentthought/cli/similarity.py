"""From a run folder to the similarity of its student's and its teacher's layers: what `plot --figure layers` computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.errors import ConfigError, MissingFileError

if TYPE_CHECKING:
    from latentthought.distillation.similarity import Side, Similarity
    from latentthought.distillation.teacher import Teacher, TeacherConfig
    from latentthought.model.loading import LoadedModel
    from latentthought.objective.alignment import Rule
    from latentthought.objective.projectors import Projectors
    from latentthought.recipe import Recipe


def similarity_of(
    folder: Path,
    teacher: str | None = None,
    rows: int = 64,
    device: str | None = None,
    smoke: bool = False,
) -> Similarity:
    """The layers of a run's student against those of its own teacher, or of the model that `teacher` names.

    rows: of the recipe's data, from the first one on. smoke: rows that the source itself makes, as a smoke run's.
    Raises `ConfigError` where the recipe has no teacher, and what loading the two models and the rows raises.
    """
    from latentthought.cli.models import load
    from latentthought.config import read_yaml
    from latentthought.distillation.similarity import layer_similarity
    from latentthought.recipe import Recipe

    path = folder / "recipe.yaml"
    if not path.is_file():
        raise MissingFileError(
            f"{folder}: no recipe.yaml, so neither rows nor teacher are known; give a run folder"
        )
    recipe = Recipe.parse(read_yaml(path), str(path))
    config = _teacher_config(recipe, teacher, folder)
    loaded = load(str(folder), device)
    # a teacher that is not there is told before rows are read; one from scratch takes its words from them
    taught = _teacher(recipe, config, loaded) if config.scratch is None else None
    examples, chosen = _rows(recipe, rows, smoke)
    taught = taught or _teacher(recipe, config, loaded, examples)
    student, other = _sides(recipe, config, loaded, taught)
    rule, projectors, compared = _compared(
        recipe, student, other, folder if teacher is None else None, loaded
    )
    return layer_similarity(student, other, chosen, rule, projectors, compared)


def _teacher_config(recipe: Recipe, named: str | None, folder: Path) -> TeacherConfig:
    from latentthought.distillation.teacher import TeacherConfig

    own = recipe.teacher
    if named is not None:
        keep = {} if own is None or own.is_self else {"reads": own.reads}
        return TeacherConfig.parse({"model": named, **keep}, "--teacher")
    if own is None:
        raise ConfigError(f"{folder}: its recipe has no teacher; name one with --teacher MODEL")
    return own.replace(cache=None, responses=None, on_policy=None, sharded=False)


def _rows(recipe: Recipe, count: int, smoke: bool) -> tuple[Any, Any]:
    """All examples that were asked for, and the first of them."""
    from latentthought.training.rows import training_rows

    responses = None if recipe.teacher is None else recipe.teacher.responses
    data = recipe.data
    # the teacher's answers, and a tokenizer trained on the spot, belong to all rows
    whole = responses is not None or (recipe.teacher is not None and recipe.teacher.scratch is not None)
    if not whole:
        data = data.replace(limit=min(count, data.limit or count))
    _, examples = training_rows(data, responses, recipe.seed, smoke)
    return examples, examples[:count]


def _teacher(recipe: Recipe, config: TeacherConfig, loaded: LoadedModel, examples: Any = ()) -> Teacher:
    from latentthought.distillation.teacher import Teacher

    if config.is_self:
        return Teacher(loaded.model, loaded.tokenizer, "the student itself")
    return Teacher.load(
        config,
        tokenizer=loaded.tokenizer,
        thought=recipe.model.thought,
        texts=recipe.data.texts(examples),
        chat=(config.format or recipe.data.format).chat,
        seed=recipe.seed,
        device=str(loaded.model.device),
    )


def _sides(recipe: Recipe, config: TeacherConfig, loaded: LoadedModel, taught: Teacher) -> tuple[Side, Side]:
    """The student as its last stage reads a row, and the teacher as its settings say."""
    from latentthought.distillation.reader import Reader
    from latentthought.distillation.similarity import Side
    from latentthought.distillation.teacher import Teacher

    data, student = recipe.data, Teacher(loaded.model, loaded.tokenizer, "student")
    limits = [limit for limit in (data.max_length, student.positions) if limit is not None]
    reader = Reader(
        loaded.tokenizer,
        data.format,
        recipe.curriculum,
        loaded.model.thought.tokens,
        min(limits, default=None),
        data.overlong,
    )
    theirs = taught.reader(config, data.format, recipe.curriculum, data.max_length, data.overlong)
    return Side(student, reader), Side(taught, theirs)


def _compared(
    recipe: Recipe, student: Side, teacher: Side, run: Path | None, loaded: LoadedModel
) -> tuple[Rule | None, Projectors | None, tuple[tuple[int, int], ...]]:
    """What the run's first hidden term looks at: its positions, its projectors, its pairs of layers; nothing for another teacher
    than the run's (`run` None)."""
    from latentthought.distillation.guidance import Guidance, attach_companions
    from latentthought.distillation.pruning.provenance import blocks_in
    from latentthought.model.companions import COMPANIONS, load_companions
    from latentthought.objective.balance import Balances
    from latentthought.objective.comparison import Depths
    from latentthought.objective.projectors import Projectors
    from latentthought.objective.terms import HiddenTerm
    from latentthought.objective.total import Objective

    terms = [t for t in recipe.objective if isinstance(t, HiddenTerm) and t.target == "teacher"]
    if run is None or not terms:
        return None, None, ()
    blocks = teacher.model.blocks
    kept = blocks_in(loaded.model.base.config.get_text_config(), blocks)
    objective = Objective(recipe.objective, Depths(student.model.blocks, blocks, kept=kept))
    projectors = None
    if (run / COMPANIONS).is_file():
        model = loaded.model
        attach_companions(model, Guidance(objective, width=teacher.model.width), loaded.tokenizer)
        Balances(model, objective.terms)  # their running means lie in the same file
        load_companions(model, run)
        found = dict(model.companions.items()).get(terms[0].name)
        projectors = found if isinstance(found, Projectors) else None
    return terms[0].alignment, projectors, objective.layer_pairs[terms[0].name]
