"""`python -m benchmarks.gain [TASK]`: what each level of distillation is worth on one student, several seeds, with intervals.

Trains the teacher, then every arm with every seed, and prints a table: steps until the student answers 90 % of fresh validation
rows in thoughts alone (scored every `evaluation.every` steps of the arm's recipe), and its test score when `--steps` are
done, the same for all arms. Nothing is chosen by the test rows. A run that is finished is not run again, and one that was
killed goes on, so the command can be given again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student_t

from benchmarks.report import ROOT, write_block

GOAL = 0.9
DOCUMENT = ROOT / "docs" / "distillation.md"


@dataclass(frozen=True)
class Task:
    """teacher: recipe of the teacher. arms: what the table calls them -> recipe. scored: task that the test rows come from.
    measure: what of its results is the score. score_every: None scores as the recipe says."""

    teacher: str
    arms: Mapping[str, str]
    scored: str
    measure: str = "accuracy"


TASKS = {
    "hops": Task(
        "quickstart",
        {
            "CE only": "hops/ce",
            "response": "hops/response",
            "logit": "hops/logit",
            "feature": "hops/feature",
            "logit + feature": "hops/logit-feature",
        },
        "hops",
    ),
    "knights": Task(
        "knights/teacher",
        {
            "CE only": "knights/ce",
            "logit": "knights/logit",
            "feature": "knights/feature",
            "logit + feature": "knights/logit-feature",
        },
        "knights-generated",
        "consistency",
    ),
}


@dataclass(frozen=True)
class Run:
    """One arm with one seed. reached: the step at which it had 90 %, None if it never did. score: on the test rows at the end."""

    arm: str
    seed: int
    reached: int | None
    score: float
    seconds: float
    curve: dict[int, float]

    def at(self, step: int) -> float:
        """Share of the validation rows that were right after a step; what a run that has ended before it ended with."""
        return next(value for known, value in sorted(self.curve.items(), reverse=True) if known <= step)


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    task = TASKS[chosen.task]
    folder: Path = chosen.output / chosen.task
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    if not chosen.table:
        teacher = _teacher(task, folder)
        for seed in seeds:
            for arm, name in task.arms.items():
                if not chosen.arms or arm in chosen.arms:
                    _run(task, arm, name, seed, chosen.steps, teacher, folder)
    runs = [
        run
        for arm, name in task.arms.items()
        for seed in seeds
        if (not chosen.arms or arm in chosen.arms) and (run := _finished(_result(name, seed, folder)))
    ]
    found = table(runs, chosen.steps, chosen.at)
    print(found)
    if chosen.write_docs:
        write_block(DOCUMENT, f"gain {chosen.task}", found)
    return 0


def _teacher(task: Task, folder: Path) -> Path:
    from latentthought.recipe import load_recipe
    from latentthought.training.run import train

    output = folder / "teacher"
    if not (output / "model").is_dir():
        train(load_recipe(task.teacher), output, resume=output.is_dir())
    return output


def _result(name: str, seed: int, folder: Path) -> Path:
    return folder / f"{name.replace('/', '-')}-{seed}.json"


def _finished(result: Path) -> Run | None:
    if not result.is_file():
        return None
    values = json.loads(result.read_text(encoding="utf-8"))
    return Run(**{**values, "curve": {int(step): value for step, value in values["curve"].items()}})


def _run(task: Task, arm: str, name: str, seed: int, steps: int, teacher: Path, folder: Path) -> None:
    from latentthought.recipe import load_recipe
    from latentthought.training.run import train

    result = _result(name, seed, folder)
    output = result.with_suffix("")
    if not result.is_file():
        changes = [f"seed={seed}", f"training.max_steps={steps}"]
        recipe = load_recipe(name)
        if recipe.teacher is not None:
            changes.append(f"teacher.model={teacher}")
            if isinstance(recipe.model.tokenizer, str):
                changes.append(f"model.tokenizer={teacher / 'model'}")
            if recipe.teacher.responses is not None:
                changes.append(f"teacher.responses.path={_responses(name, seed, teacher, folder)}")
        recipe = load_recipe(name, changes)
        print(f"{arm}, seed {seed}", file=sys.stderr)
        done = train(recipe, output, resume=output.is_dir(), scorer=_final_scorer(recipe))
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        curve = {line["step"]: line["validation_accuracy"] for line in lines if "validation_accuracy" in line}
        reached = next((step for step, accuracy in curve.items() if accuracy >= GOAL), None)
        score = _score(task, output)
        values = {"reached": reached, "score": score, "seconds": done.seconds, "curve": curve}
        result.write_text(json.dumps({"arm": arm, "seed": seed, **values}, indent=1) + "\n", encoding="utf-8")


def _responses(name: str, seed: int, teacher: Path, folder: Path) -> Path:
    """The teacher's answers to the rows of a seed, made once."""
    from latentthought.cli import main as latentthought

    output = folder / f"responses-{seed}"
    if not (output / "provenance.json").is_file():
        changes = [f"seed={seed}", f"teacher.model={teacher}"]
        command = ["teacher", "respond", name, *changes, "--output", str(output)]
        if output.is_dir():
            command.append("--resume")
        if latentthought(command):
            raise SystemExit("the teacher's answers could not be made; see above")
    return output


def _final_scorer(recipe: Any) -> Any:
    """Scores as the finished model will be used, whatever the curriculum's stage: all thoughts, no words."""
    from latentthought.cli.scoring import scorer_for

    score = scorer_for(recipe, smoke=False, say=print)
    assert score is not None, f"{recipe.name}: nothing is scored"
    thoughts = recipe.curriculum.thoughts(-1)

    def scored(model: Any, tokenizer: Any, *, mix_ratio: float, **unused: Any) -> Mapping[str, float]:
        return score(model, tokenizer, thoughts=thoughts, mix_ratio=mix_ratio)

    return scored


def _score(task: Task, run: Path) -> float:
    from latentthought.evaluation import evaluate
    from latentthought.model.loading import load_model

    loaded = load_model(str(run))
    results = evaluate(loaded.model, task.scored, tokenizer=loaded.tokenizer, progress=False)
    return results.accuracy.value if task.measure == "accuracy" else results.metrics[task.measure].value


def table(runs: Sequence[Run], steps: int, at: int | None = None) -> str:
    """One line an arm, in Markdown. at: a step at which the validation rows were scored, which gets columns of its own."""
    arms = list(dict.fromkeys(run.arm for run in runs))
    between = "" if at is None else f" validation at step {at:,}, each seed | mean (95 %) |"
    after = f" score after {steps:,} steps, each seed | mean (95 %) |"
    lines = [
        f"| arm | steps to {GOAL:.0%}, each seed | mean (95 %) |{between}{after} s |",
        f"| --- | --- | ---: |{'' if at is None else ' --- | ---: |'} --- | ---: | ---: |",
    ]
    for arm in arms:
        own = [run for run in runs if run.arm == arm]
        reached = [run.reached for run in own]
        shown = ", ".join("never" if step is None else f"{step:,}" for step in reached)
        known = [float(step) for step in reached if step is not None]
        steps_mean = interval(known, 0) if len(known) == len(own) else "none"
        between = "" if at is None else f" {_shares([run.at(at) for run in own])} |"
        seconds = mean(run.seconds for run in own)
        lines.append(
            f"| {arm} | {shown} | {steps_mean} |{between} {_shares([run.score for run in own])} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def _shares(values: Sequence[float]) -> str:
    percent = [100 * value for value in values]
    return f"{', '.join(f'{value:.1f}' for value in percent)} % | {interval(percent, 1)} %"


def interval(values: Sequence[float], digits: int) -> str:
    """Mean with the 95 % interval of Student's t over seeds."""
    if len(values) < 2:
        return f"{values[0]:,.{digits}f}" if values else "none"
    half = student_t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{mean(values):,.{digits}f} ± {half:,.{digits}f}"


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.gain", description=__doc__.partition("\n")[0])
    made.add_argument("task", nargs="?", default="hops", choices=TASKS)
    made.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds of each arm (3)")
    made.add_argument("--first-seed", type=int, default=301, metavar="N")
    made.add_argument("--steps", type=int, default=1000, metavar="N", help="steps of every run (1,000)")
    made.add_argument("--table", action="store_true", help="train nothing: the table of what has finished")
    made.add_argument("--write-docs", action="store_true", help="put the table into docs/distillation.md")
    made.add_argument("--at", type=int, metavar="STEP", help="also show the validation rows of that step")
    made.add_argument("--arms", nargs="*", metavar="ARM", help="only these")
    made.add_argument(
        "--output", type=Path, default=Path("runs/gain"), metavar="DIR", help="where runs are kept"
    )
    return made


if __name__ == "__main__":
    raise SystemExit(main())
