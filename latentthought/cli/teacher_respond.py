"""`latentthought teacher respond`: a teacher's own answers to a recipe's questions, graded, as a training set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.cli.folders import numbered, remove_bare, require_writable
from latentthought.cli.parser import Parser, UsageError
from latentthought.cli.teachers import check_overrides, teacher_of
from latentthought.cli.together import together
from latentthought.errors import ConfigError, DataError, FolderInUseError, UserError
from latentthought.resources import find_recipe

if TYPE_CHECKING:
    from latentthought.data.example import ExampleSet
    from latentthought.distillation.responses import Kept, ResponsesConfig
    from latentthought.distillation.teacher import Teacher
    from latentthought.evaluation import Results, TaskConfig
    from latentthought.processes import Group
    from latentthought.recipe import Recipe

DESCRIPTION = """Let the teacher of a recipe answer the recipe's rows, grade its completions, and write what is kept as rows to
train on: responses.jsonl, with provenance.json beside it. A killed run goes on with --resume; a finished one sorts
its completions anew with it, when teacher.responses.keep or .steps has changed."""
EPILOG = """examples:
  latentthought teacher respond levels/response
  latentthought teacher respond my.yaml teacher.responses.samples=8 teacher.responses.keep=all --output answers
  torchrun --nproc-per-node 4 -m latentthought teacher respond my.yaml --output answers --resume"""
_TASK = "responses"


def add_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name or YAML file, with a teacher")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="changes to the recipe: dotted keys, YAML values"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="where the rows go (default: the recipe's teacher.responses.path)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with what the output folder holds")
    parser.add_argument(
        "--smoke", action="store_true", help="a tiny teacher and a few made-up rows; offline, CPU"
    )


def run(args: argparse.Namespace) -> int:
    return together(lambda group: _run(args, group))


def _run(args: argparse.Namespace, group: Group) -> None:
    check_overrides(args.overrides)
    find_recipe(args.recipe)  # a mistyped name should not wait for torch
    from latentthought.cli.noise import quiet
    from latentthought.distillation.responses import ResponsesConfig
    from latentthought.recipe import load_recipe

    quiet()
    recipe = load_recipe(args.recipe, args.overrides, smoke=args.smoke)
    if recipe.teacher is None:
        raise ConfigError(f"{args.recipe}: the recipe has no teacher; say which with teacher.model=NAME")
    config = recipe.teacher.responses or ResponsesConfig()
    output = _output(args, recipe.name, config, group)
    if args.smoke:
        from latentthought.cli.smoke_teacher import with_teacher

        recipe = with_teacher(recipe, output, print if group.first else lambda text: None, group.count)
    try:
        results, kept = respond(recipe, config, output, args.resume, args.smoke, group)
    except UserError:
        remove_bare(output, set())
        raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with --output {output} --resume") from None
    if kept is not None:
        _report(args, config, output, results, kept)


def respond(
    recipe: Recipe,
    config: ResponsesConfig,
    output: Path,
    resume: bool = False,
    smoke: bool = False,
    group: Group | None = None,
) -> tuple[Results, Kept | None]:
    """Answer, grade and write; what came of it, whose rows the first process alone has.

    Raises what `evaluate` raises, for a resume under other settings above all.
    """
    from latentthought.data.sources.loading import load_examples
    from latentthought.evaluation import evaluate
    from latentthought.processes import ALONE

    assert recipe.teacher is not None
    group = group or ALONE
    task = _task(recipe, config)  # which may not hold, and is quicker to say than a model is to load
    examples = load_examples(recipe.data, seed=recipe.seed, smoke=smoke)
    if any("choices" in example.meta for example in examples):
        task = task.replace(choices=True)
    teacher = teacher_of(recipe, examples, group.device)
    results = evaluate(
        teacher.model,
        task,
        tokenizer=teacher.tokenizer,
        data=examples,
        thoughts=0 if recipe.teacher.reads == "text" else None,
        samples=config.samples,
        temperature=config.temperature,
        batch_size=config.batch_size,
        output=output,
        resume=resume,
        seed=recipe.seed,
        group=group,
    )
    if not group.first:
        return results, None
    return results, _write(output, config, teacher, examples, results)


def _output(args: argparse.Namespace, recipe: str, config: ResponsesConfig, group: Group) -> Path:
    if args.smoke and args.output is None:
        # a smoke run stays out of the way of the answers that the recipe is about
        if group.count > 1:
            raise UsageError("several processes need one folder: give --output DIR")
        return numbered(f"{recipe}-responses")
    place = args.output or config.path
    if place is None:
        raise UsageError("say where the answers go: --output DIR, or teacher.responses.path in the recipe")
    output = Path(place)
    if group.first:
        if args.resume and not output.is_dir():
            raise UsageError(f"--resume: there is no folder {output}")
        require_writable(output, "--output" if args.output else "teacher.responses.path")
        if not args.resume and output.is_dir() and any(output.iterdir()):
            raise FolderInUseError(
                f"{output} is not empty: choose another --output, or go on with what it holds with --resume"
            )
    group.exchange()  # before the first process fills the folder
    return output


def _task(recipe: Recipe, config: ResponsesConfig) -> TaskConfig:
    """How the teacher is asked, and by whose rules it is graded."""
    from latentthought.data.sources.loading import SourceConfig
    from latentthought.evaluation import TaskConfig
    from latentthought.evaluation.few_shot import FewShotConfig
    from latentthought.evaluation.tasks import load_task

    assert recipe.teacher is not None
    own = recipe.teacher.format
    asked: dict[str, Any] = {
        "name": _TASK,
        "data": {"source": recipe.data.source},
        # a teacher that was trained here is asked as it was trained
        "format": own.dump() if own is not None else None,
        "default_format": recipe.data.format.dump(),
        "chat": None,
        "few_shot": FewShotConfig().dump(),
        "max_new_tokens": config.max_new_tokens,
    }
    if config.task is not None:
        return load_task(config.task, changes={**asked, "data": SourceConfig(**asked["data"]).dump()})
    return TaskConfig.parse({**asked, "version": 1, "policy": config.policy}, "teacher.responses")


def _write(
    output: Path, config: ResponsesConfig, teacher: Teacher, examples: ExampleSet, results: Results
) -> Kept:
    from latentthought.distillation.responses import THINK_TAGS, Response, save_responses, to_rows
    from latentthought.evaluation import read_samples
    from latentthought.evaluation.results import result_folder
    from latentthought.evaluation.samples import SAMPLES

    samples = read_samples(result_folder(output, _TASK, "none") / SAMPLES)
    thought = teacher.model.thought
    own = [(thought.start_token, thought.end_token)] if thought.end_token is not None else []
    asked = {"teacher": teacher.name, "seed": results.seed, "temperature": results.settings["temperature"]}
    kept = to_rows(
        examples,
        (Response(s.id, s.sample, s.completion, s.verdict, s.tokens) for s in samples),
        config,
        asked,
        (THINK_TAGS, *own),
    )
    about = {
        "teacher": {"name": teacher.name, "weights": results.settings["weights"]},
        "data": {key: results.data[key] for key in ("origin", "questions", "fingerprint")},
        "settings": {**config.dump(), "temperature": results.settings["temperature"]},
        "prompt": results.settings["format"],
        "grading": results.grading,
        "accuracy": results.accuracy.dump(),
        "seed": results.seed,
        "versions": results.versions,
        "git": results.git,
    }
    save_responses(output, kept, about)
    return kept


def _report(
    args: argparse.Namespace, config: ResponsesConfig, output: Path, results: Results, kept: Kept
) -> None:
    from latentthought.evaluation.tables import spanned

    total = sum(kept.counts.values())
    others = ", ".join(f"{count:,} {fate}" for fate, count in kept.counts.items() if count and fate != "kept")
    print(f"teacher     {spanned(results.accuracy)} right on {results.data['questions']:,} questions")
    print(f"kept        {len(kept.rows):,} of {total:,} completions{f' ({others})' if others else ''}")
    print(f"rows        {kept.questions:,} questions have one at least; {output}")
    if not kept.rows and not args.smoke:
        raise DataError(
            f"{output}: no completion was kept (keep: {config.keep}); see {output / 'results'} for what the teacher wrote"
        )
    if config.path is not None and Path(config.path) == output:
        print(f"next        latentthought train {args.recipe}")
