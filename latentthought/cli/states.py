"""From a recipe to a cache of its teacher's states: what `teacher extract`, `teacher mend` and smoke runs have in common.

The folder keeps the resolved recipe and whether its rows were a smoke run's, so that mending needs nothing but the folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from latentthought.cli.folders import remove_bare
from latentthought.cli.teachers import teacher_of
from latentthought.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    FolderInUseError,
    MissingFileError,
    UserError,
)

if TYPE_CHECKING:
    from latentthought.distillation.cache.spec import CacheSpec
    from latentthought.distillation.extraction import Extraction, Extractor
    from latentthought.distillation.teacher import Teacher
    from latentthought.objective.comparison import Depths
    from latentthought.processes import Group
    from latentthought.recipe import Recipe

RECIPE, ORIGIN = "recipe.yaml", "extraction.json"
BESIDE = (RECIPE, ORIGIN)
_LOCK = ".lock"
_SHOWN = 3

Say = Callable[[str], None]


def extract(
    recipe: Recipe,
    folder: Path,
    group: Group,
    *,
    resume: bool = False,
    smoke: bool = False,
    dry_run: bool = False,
    shown: bool = True,
) -> Extraction | None:
    """Fill `folder` with the states that a recipe asks for, or go on with that; None for a dry run.

    Says what it will take before it starts, and how it went. Raises `ConfigError` where the recipe has no cache, asks for
    nothing or for more than there is room for, and where a resume is of something else.
    """
    from latentthought.training.folder import claimed

    say: Say = print if shown and group.first else _nothing
    extractor = prepare(recipe, smoke, group, say)
    if dry_run:
        for line in extractor.forecast(folder, range(extractor.shards)).lines():
            say(line)
        return None
    try:
        with claimed(folder, resume) if group.first else nullcontext():
            # whoever is not first sees the folder when it is claimed, and not before
            group.exchange()
            return _extract(extractor, recipe, folder, resume, smoke, say, shown)
    except FolderInUseError:  # what is in there is somebody else's
        raise
    except UserError:
        if group.first and not resume:
            remove_bare(folder, {_LOCK, *BESIDE})
        raise


def _extract(
    extractor: Extractor, recipe: Recipe, folder: Path, resume: bool, smoke: bool, say: Say, shown: bool
) -> Extraction:
    group = extractor.group
    if resume and group.first:
        check_same(folder, extractor.spec, recipe)
    missing, entries = extractor.missing(folder)
    if entries:
        say(f"there       {len(entries):,} of {extractor.shards:,} shards")
    if group.first and missing:
        coming = extractor.forecast(folder, missing)
        for line in coming.lines():
            say(line)
        coming.check_disk(folder)
    if group.first:
        write_origin(folder, recipe, smoke)
    group.exchange()
    from latentthought.evaluation.progress import Progress

    rows = sum(len(extractor.rows_of(shard)) for shard in missing[group.rank :: group.count])
    with Progress("states", rows, shown and group.first) as bar:
        done = extractor.run(folder, missing, entries, BESIDE, bar.add)
    report(done, folder, say)
    return done


def prepare(recipe: Recipe, smoke: bool, group: Group, say: Say = lambda text: None) -> Extractor:
    """Load rows and teacher, and make the plan."""
    from latentthought.distillation.extraction import Extractor
    from latentthought.distillation.fingerprints import example_digest
    from latentthought.distillation.matching import TeacherFacts, spec_for
    from latentthought.evaluation.provenance import versions
    from latentthought.training.rows import training_rows

    config = recipe.teacher
    if config is None or config.cache is None:
        raise ConfigError(
            f"{recipe.name}: teacher.cache says what is kept, and the recipe has none; give teacher.cache.path=DIR"
        )
    data, examples = training_rows(recipe.data, config.responses, recipe.seed, smoke)
    teacher = teacher_of(recipe, examples, group.device)
    if data.packing:  # into the rows of the student's tokens
        words = recipe.model.build_tokenizer(data.texts(examples), chat=data.format.chat)
        examples = data.rows_of(examples, words, recipe.curriculum, recipe.model.thought)
    layers, rules = _wanted(recipe, teacher)
    # as beside the student: a row that is dropped or shortened there is so here
    reader = teacher.reader(config, data.format, recipe.curriculum, data.max_length, data.overlong)
    readings = reader.read(examples)
    weights = group.exchange(teacher.fingerprint if group.first else None)[0]
    spec = spec_for(
        TeacherFacts.of(teacher, weights),
        config,
        data.format,
        recipe.curriculum,
        examples.fingerprint,
        layers,
        rules,
        versions(),
        data.max_length if data.overlong == "truncate_steps" else None,
    )
    kept = f"layers {', '.join(map(str, layers)) or 'none'}; positions {', '.join(rules) or 'none'}"
    say(f"teacher     {teacher.name}: {teacher.blocks} blocks of width {teacher.width} on {teacher.device}")
    say(f"data        {len(readings):,} rows from {examples.origin}")
    if readings.dropped:
        some = ", ".join(readings.dropped[:_SHOWN])
        say(f"            {len(readings.dropped):,} rows are too long for the teacher: {some}")
    say(
        f"kept        {kept}; {spec.codec}{f'; logits {config.cache.logits.kind}' if config.cache.logits else ''}"
    )
    digests = [example_digest(examples[place]) for place in readings.kept]
    return Extractor(teacher, reader.collate, readings, spec, digests, group)


def _wanted(recipe: Recipe, teacher: Teacher) -> tuple[tuple[int, ...], tuple]:
    from latentthought.distillation.matching import wanted_states
    from latentthought.objective.comparison import Depths
    from latentthought.objective.total import Objective

    assert recipe.teacher is not None and recipe.teacher.cache is not None
    cache = recipe.teacher.cache
    depths = Depths(teacher.blocks, teacher.blocks)
    if cache.layers is None:  # the student's depth decides which layers its terms are compared with
        depths = _depths(recipe, teacher.blocks)
    return wanted_states(Objective(recipe.objective, depths), cache)


def _depths(recipe: Recipe, teacher: int) -> Depths:
    from latentthought.distillation.pruning.provenance import blocks_in
    from latentthought.model.locating import locate, read_config
    from latentthought.objective.comparison import Depths

    if recipe.model.scratch is not None:
        blocks = recipe.model.scratch.layers
        # a smoke run's student, which stands for the pruned one here
        kept = tuple(range(1, blocks + 1)) if recipe.model.pruning is not None else None
        return Depths(blocks, teacher, kept=kept)
    assert recipe.model.base is not None
    config = read_config(locate(recipe.model.base)[0]).get_text_config()
    return Depths(int(config.num_hidden_layers), teacher, kept=blocks_in(config, teacher))


def check_same(folder: Path, spec: CacheSpec, recipe: Recipe) -> None:
    """Raise `ConfigError`, naming what differs, where the folder's shards were made for something else than `spec`."""
    from latentthought.distillation.cache.shards import Shard

    for path in sorted(folder.glob("shard-*.safetensors")):
        try:
            shard = Shard(path)
        except DamagedFileError:
            continue
        if shard.spec != spec.fingerprint:
            raise ConfigError(
                f"{folder}: its shards were made for something else: {_changed(folder, recipe)}"
            )


def _changed(folder: Path, recipe: Recipe) -> str:
    try:
        stored, _ = read_origin(folder)
    except (UserError, DamagedFileError):
        return f"it has no {RECIPE} that says for what"
    named = recipe.differences(stored)
    return (
        "; ".join(named)
        or "the teacher's weights, its config, its tokenizer or the rows are no longer the same"
    )


def write_origin(folder: Path, recipe: Recipe, smoke: bool) -> None:
    """Keep what made the cache beside it."""
    from latentthought.config import write_yaml
    from latentthought.evaluation.samples import write_bytes

    write_yaml(folder / RECIPE, recipe.dump())
    write_bytes(folder / ORIGIN, (json.dumps({"smoke": smoke}) + "\n").encode())


def read_origin(folder: Path) -> tuple[Recipe, bool]:
    """The recipe that a cache was made by, and whether its rows were a smoke run's.

    Raises `MissingFileError` for a folder that keeps none, `DamagedFileError` for one that no longer reads.
    """
    from latentthought.config import read_yaml
    from latentthought.recipe import Recipe

    if not folder.is_dir():
        raise MissingFileError(f"no such folder: {folder}")
    if not (folder / RECIPE).is_file():
        raise MissingFileError(
            f"{folder}: no {RECIPE}, so there is nothing to make its states by; extract them with: "
            f"latentthought teacher extract RECIPE --output {folder} --resume"
        )
    try:
        recipe = Recipe.parse(read_yaml(folder / RECIPE), str(folder / RECIPE))
        smoke = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["smoke"]
    except (ConfigError, DataError, OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(
            f"{folder}: what made it no longer reads ({error}); extract with the recipe and --resume"
        ) from error
    return recipe, smoke is True


def of_smoke_run(folder: Path) -> bool:
    """Whether a folder holds the finished cache of a smoke run, or one that was imported, whose origin nobody knows."""
    from latentthought.distillation.cache.manifest import MANIFEST

    try:
        whole = (folder / MANIFEST).is_file()
        return whole and (not (folder / RECIPE).is_file() or read_origin(folder)[1])
    except (UserError, DamagedFileError):
        return False


def report(done: Extraction, folder: Path, say: Say) -> None:
    """What an extraction did."""
    from latentthought.amounts import in_bytes, in_time
    from latentthought.distillation.extraction import reasons

    manifest = done.manifest
    rows = sum(len(shard.ids) for shard in manifest.shards)
    for reason, count in reasons(done.empty).items():
        first = next(line.partition(": ")[0] for line in done.empty if line.endswith(reason))
        say(f"            {count:,} rows have no position to compare, {first} for one: {reason}")
    say(f"made        {done.made:,} shards in {in_time(done.seconds)}")
    say(f"cache       {folder}: {rows:,} rows, {manifest.positions:,} positions, {in_bytes(manifest.bytes)}")


def _nothing(text: str) -> None:
    pass
