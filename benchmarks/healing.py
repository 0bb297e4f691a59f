"""`python -m benchmarks.healing`: what a thinking model keeps when it is pruned, and what each loss brings back, several seeds.

Trains the original (recipe universal/small/original), cuts it three ways (a quarter of its depth, of its width, of both), and
heals each with cross-entropy alone, with the logits too, and with the whole loss, in at most `--share` of the original's steps.
The table has every accuracy on the test rows of hops and what it is of the original's, with the interval over seeds and
questions. Nothing is chosen by the test rows. Each run is a command of its own, two at a time, one thread each; what is
finished is not run again, and a killed run goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.report import ROOT, write_block

CUTS = ("depth", "width", "both")
LOSSES = {
    "CE": ("objective.1.weight=0", "objective.2.weight=0", "objective.3.weight=0"),
    "CE + KL": ("objective.2.weight=0", "objective.3.weight=0"),
    "CE + KL + hidden": (),
}
ORIGINAL = "universal/small/original"
TASK = "hops"
DOCUMENT = ROOT / "docs" / "distillation.md"


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    folder: Path = chosen.output
    original = folder / "original"
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    _train(original, ORIGINAL, [])
    _evaluate(original)
    total = _steps(original)
    steps = int(chosen.share * total)
    for cut in CUTS:
        _prune(original, folder / cut / "student", cut)
        _prune(original, folder / cut / "pruned", cut, "--with-thoughts")
        _evaluate(folder / cut / "pruned")
    jobs = [(cut, loss, seed) for seed in seeds for cut in CUTS for loss in LOSSES]
    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(lambda job: _heal(folder, *job, steps), jobs))
    found = table(folder, seeds, total, steps)
    print(found)
    if chosen.write_docs:
        write_block(DOCUMENT, "healing", found)
    return 0


def _heal(folder: Path, cut: str, loss: str, seed: int, steps: int) -> None:
    run = _run_of(folder, cut, loss, seed)
    changes = [
        f"seed={seed}",
        f"model.base={folder / cut / 'student'}",
        f"model.pruning.model={folder / 'original'}",
        f"teacher.model={folder / 'original'}",
        f"curriculum.stages.0.steps={steps}",
        *LOSSES[loss],
    ]
    _train(run, f"universal/small/{cut}", changes)
    if (done := _steps(run)) != steps:
        raise SystemExit(f"{run}: healed for {done} steps, and {steps} are asked for; give another --output")
    _evaluate(run)


def _run_of(folder: Path, cut: str, loss: str, seed: int) -> Path:
    return folder / cut / f"{loss.replace(' + ', '-').lower()}-{seed}"


def _train(run: Path, recipe: str, changes: Iterable[str]) -> None:
    if (run / "model").is_dir():
        return
    resume = ["--resume"] if run.is_dir() else []
    _command("train", recipe, *changes, "engine.threads=1", "--output", run, *resume)


def _prune(original: Path, student: Path, cut: str, *options: str) -> None:
    if not student.is_dir():
        changes = [f"model.pruning.model={original}", f"model.base={student}"]
        _command("prune", f"universal/small/{cut}", *changes, *options)


def _evaluate(model: Path) -> None:
    if not (model / "results" / TASK / "none" / "results.json").is_file():
        _command("evaluate", model, "--task", TASK, "--output", model)


def _command(*arguments: object) -> None:
    command = [sys.executable, "-m", "latentthought", *map(str, arguments)]
    print(f"latentthought {' '.join(map(str, arguments))}", file=sys.stderr)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _steps(run: Path) -> int:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return int(json.loads(lines[-1])["step"])


def table(folder: Path, seeds: Sequence[int], total: int, steps: int) -> str:
    """A line for each cut and loss, in Markdown."""
    from latentthought.evaluation.recovery import recovery
    from latentthought.evaluation.scores import read_scores

    original = folder / "original"
    answers = read_scores(original).answers[TASK]
    whole = sum(map(sum, answers.values())) / len(answers)
    lines = [
        f"Original: {100 * whole:.1f} % of {len(answers):,} test rows, {total:,} steps. Healed for {steps:,} steps "
        f"({100 * steps / total:.0f} %), seeds {seeds[0]} to {seeds[-1]}.",
        "",
        "| cut | parameters | healed with | accuracy, each seed | of the original (95 %) |",
        "| --- | ---: | --- | --- | ---: |",
    ]
    for cut in CUTS:
        share = _parameters(folder / cut / "student") / _parameters(original / "model")
        arms = {"not healed": [folder / cut / "pruned"]}
        arms |= {loss: [_run_of(folder, cut, loss, seed) for seed in seeds] for loss in LOSSES}
        for row in recovery(original, arms).rows:
            each = [read_scores(run).answers[TASK] for run in arms[row.arm]]
            values = ", ".join(f"{100 * sum(map(sum, one.values())) / len(one):.1f}" for one in each)
            span = "" if row.low is None else f" ({row.low:.1f} to {row.high:.1f})"
            lines.append(
                f"| {cut} | {100 * share:.0f} % | {row.arm} | {values} % | {row.percent:.1f} %{span} |"
            )
    return "\n".join(lines)


def _parameters(model: Path) -> int:
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", framework="np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a mapping
    return sum(map(math.prod, shapes))


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.healing", description=__doc__.partition("\n")[0]
    )
    made.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds of each arm (3)")
    made.add_argument("--first-seed", type=int, default=401, metavar="N")
    made.add_argument(
        "--share",
        type=float,
        default=0.3,
        metavar="S",
        help="steps of a healing, as a share of the original's (0.3)",
    )
    made.add_argument("--jobs", type=int, default=2, metavar="N", help="runs at once (2)")
    made.add_argument("--write-docs", action="store_true", help="put the table into docs/distillation.md")
    made.add_argument(
        "--output", type=Path, default=Path("runs/healing"), metavar="DIR", help="where runs are kept"
    )
    return made


if __name__ == "__main__":
    raise SystemExit(main())
