"""`latentthought quickstart`: watch a small model learn to think without words, and see what the thoughts were worth."""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

from latentthought.cli.arms import FIRST, MEANINGS, TASK, Arm, Crew, recipe_of, steps_by_stage, write_recipe
from latentthought.cli.console import console
from latentthought.cli.folders import numbered, require_empty
from latentthought.cli.noise import quiet
from latentthought.cli.parser import Parser, UsageError, natural, positive
from latentthought.errors import MissingExtraError, unknown
from latentthought.reporting.experiment import Experiment, Line, Shown, table, write_report

DESCRIPTION = """Train a small model from scratch to follow 5 links among 12 symbols with 5 thoughts instead of words, train
the same model without them in four other ways at the same budget, score all of them on fresh rows with every
control, and write a report. No network, no GPU; each call is a fresh numbered run."""

CONTROL_MEANINGS = {
    "no-thought": "the thinking model, thoughts left out",
    "pause": "the thinking model, a constant in place of its thoughts",
    "shuffled": "the thinking model, another question's thoughts",
    "noised": "the thinking model, noise as large as the thoughts added",
}
EXAMPLES = 3
SHOWN_WORDS = 3


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--arms", metavar="A,B,...", help=f"which arms (default: all of {','.join(MEANINGS)})"
    )
    parser.add_argument(
        "--seed", metavar="N", type=natural, help="of weights, data and order (default: the recipe's)"
    )
    parser.add_argument(
        "--rows", metavar="N", type=positive, default=2000, help="fresh rows to score on (default: 2000)"
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=positive,
        default=min(2, _cores()),
        help="arms at a time, a thread each (default here: %(default)s)",
    )
    parser.add_argument("--output", metavar="DIR", help="default: the next of runs/quickstart-001, -002, ...")
    parser.add_argument(
        "--smoke", action="store_true", help="a few steps and rows, to see that everything runs"
    )


def run(args: argparse.Namespace) -> int:
    begun = time.perf_counter()
    names = _arms(args.arms)
    quiet()
    output = _output(args.output)
    print(f"quickstart in {output}\n")
    (output / "arms").mkdir()
    crew = Crew(args.jobs, args.smoke, 16 if args.smoke else args.rows)
    crew.arms = [Arm(name, output / "arms" / name, output / "recipes" / f"{name}.yaml") for name in names]
    _train_and_score(crew, args.seed)

    lines = _lines(crew.arms)
    thinking = crew.arms[0].folder if names[0] == FIRST else None
    examples = _examples(thinking) if thinking else []
    for shown in examples:
        _print_example(shown)
    console().print(table(lines, f"\naccuracy on {lines[0].questions:,} fresh rows of {TASK}"))
    width = max(len(line.name) for line in lines)
    print("\n".join(f"  {line.name:<{width}}  {line.meaning}" for line in lines))
    seconds = time.perf_counter() - begun
    silent = [arm.remark for arm in crew.arms if arm.remark]
    print("\n".join(silent), end="\n" if silent else "")
    figures, remark = _figures(crew.arms, lines, output)
    if remark:
        print(remark)
    written = write_report(_experiment(args, output, lines, examples, figures, silent, seconds), output)
    print(
        f"\n{seconds:.0f} s in all. Report: {written[0]} and {written[1].name}; models in {output / 'arms'}"
    )
    if thinking:
        print(f'try:  latentthought generate {thinking} "{examples[0].question}" --show-thoughts')
    return 0


def _train_and_score(crew: Crew, seed: int | None) -> None:
    """The thinking arm first, because the steps that it takes are the budget of the others."""
    others = [arm for arm in crew.arms if arm.name != FIRST]
    budget = None
    scoring: list[tuple[Any, ...]] = []
    for arm in crew.arms:
        if arm.name == FIRST:
            print(f"training the thinking arm: {MEANINGS[FIRST]}")
            write_recipe(arm.name, arm.recipe, seed, None)
            crew.run([(crew.train, arm)])
            budget = steps_by_stage(arm.folder)
            crew.end_line()
            print(f"   {sum(budget.values()):,} steps in {arm.seconds:.0f} s\n")
            scoring.append((crew.score, arm))
    for arm in others:
        write_recipe(arm.name, arm.recipe, seed, budget)
    print(f"training the other arms at the same budget, and scoring on {crew.rows:,} fresh rows")
    # the longest work first, so that no core is left waiting for it at the end
    crew.run([*((crew.train_and_score, arm) for arm in others), *scoring])
    crew.end_line()


def _arms(text: str | None) -> list[str]:
    names = list(MEANINGS) if text is None else [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in MEANINGS:
            raise UsageError(f"--arms: {unknown('arm', name, MEANINGS)}")
    if not names:
        raise UsageError(f"--arms: no arm named; known: {', '.join(MEANINGS)}")
    # the thinking arm sets the budget of the others
    return sorted(dict.fromkeys(names), key=list(MEANINGS).index)


def _output(given: str | None) -> Path:
    if given is None:
        return numbered("quickstart")
    output = Path(given)
    require_empty(output)
    output.mkdir(parents=True, exist_ok=True)
    return output


def _lines(arms: list[Arm]) -> list[Line]:
    """A line for every arm, those of the controls after the thinking arm's."""
    from latentthought.evaluation import find_results
    from latentthought.reporting.metrics import read_metrics

    lines = []
    for arm in arms:
        steps = int(read_metrics(arm.folder).last("step") or 0)
        found = {results.control: results for results in find_results(arm.folder).values()}
        for control in (name for name in ("none", *CONTROL_MEANINGS) if name in found):
            results = found[control]
            plain = control == "none"
            lines.append(
                Line(
                    name=arm.name if plain else f"{arm.name} / {control}",
                    meaning=MEANINGS[arm.name] if plain else CONTROL_MEANINGS[control],
                    accuracy=results.accuracy.value,
                    low=results.accuracy.low,
                    high=results.accuracy.high,
                    questions=results.accuracy.n,
                    thoughts=results.costs.thoughts,
                    tokens=results.costs.tokens,
                    milliseconds=results.costs.milliseconds,
                    steps=steps if plain else None,
                    seconds=arm.seconds if plain else None,
                )
            )
    return lines


def _examples(run: Path) -> list[Shown]:
    """A few test rows, answered by the model, with the words that each thought is closest to."""
    import torch

    from latentthought.cli.models import load
    from latentthought.data.encoding import Encoder, FormatConfig
    from latentthought.data.sources import SourceConfig, load_examples

    loaded = load(str(run), device="cpu")
    model, tokenizer = loaded.model, loaded.tokenizer
    encoder = Encoder(tokenizer, FormatConfig.parse(model.config.prompt_format), spans=False)
    shown = []
    for example in load_examples(SourceConfig(source=TASK, split="test", limit=EXAMPLES)):
        prompt = torch.tensor([encoder.prompt_ids(example)])
        thought = model.think(prompt, top_k=SHOWN_WORDS)
        words = thought.decoded.words(tokenizer, thought.counts)[0] if thought.decoded else []
        new = model.generate(prompt, max_new_tokens=16, do_sample=False)[0, prompt.shape[1] :]
        answer = tokenizer.decode(new, skip_special_tokens=True).strip()
        shown.append(
            Shown(example.question, answer, " ".join(example.steps), tuple(tuple(word) for word in words))
        )
    return shown


def _print_example(shown: Shown) -> None:
    print(f"\n{shown.question}")
    for number, text in enumerate(shown.thought_texts(), 1):
        print(f"  thought {number}: {text}")
    print(f"  answer: {shown.answer}   (the way: {shown.gold})")


def _figures(arms: list[Arm], lines: list[Line], output: Path) -> tuple[list[Path], str]:
    """PNG files of the accuracies and of the runs' curves, or the reason why there are none."""
    from latentthought.reporting.plots import bar_chart, plot_runs

    folder = output / "figures"
    folder.mkdir()
    try:
        files = bar_chart(
            [line.name for line in lines],
            [line.accuracy for line in lines],
            [(line.low, line.high) for line in lines],
            f"accuracy on {lines[0].questions:,} fresh rows",
            folder / "accuracies",
        )
        files += plot_runs([arms[0].folder], folder / arms[0].name)
        if len(arms) > 1:
            files += plot_runs([arm.folder for arm in arms], folder / "all")
    except MissingExtraError as error:
        folder.rmdir()
        return [], f"no figures: {error}"
    return [
        file
        for file in files
        if file.suffix == ".png"
        and file.stem in ("accuracies", "loss", "train_accuracy", "accuracy", "scale")
    ], ""


def _experiment(
    args: argparse.Namespace,
    output: Path,
    lines: list[Line],
    examples: list[Shown],
    figures: list[Path],
    silent: list[str],
    seconds: float,
) -> Experiment:
    from latentthought.cli.doctor import package_version

    task = "12 symbols stand in one shuffled cycle, given as shuffled pairs; start at one and follow 5 links"
    return Experiment(
        title="Thinking without words: the quickstart"
        + (" (smoke run: a few steps, the figures mean nothing)" if args.smoke else ""),
        introduction=(
            f"Task: {task}. Test tables never occur in training. "
            "One small model, the same number of training steps for every arm; "
            "accuracy of generated answers with 95 % Wilson intervals; thoughts, tokens and milliseconds are means per answer. "
            "Lines with a stroke are the thinking model with the meaning taken out of its thoughts."
        ),
        lines=lines,
        examples=examples,
        figures=figures,
        remarks=[
            "Milliseconds were measured with other processes beside, in batches of 250: compare them with each other only.",
            *silent,
        ],
        facts=[
            ("latentthought", package_version()),
            (
                "machine",
                f"{platform.system()} {platform.machine()}, {_cores()} cores, Python {platform.python_version()}",
            ),
            ("seed", "the recipe's" if args.seed is None else str(args.seed)),
            ("wall time", f"{seconds:.0f} s, {args.jobs} arms at a time, one thread each"),
        ],
        commands=[
            *(
                f"latentthought train {output / 'recipes' / (name + '.yaml')}   # from recipe {recipe_of(name)}"
                for name in _names(lines)
            ),
            f"latentthought evaluate RUN --task {TASK} --control all",
        ],
    )


def _names(lines: list[Line]) -> list[str]:
    return [line.name for line in lines if "/" not in line.name]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
