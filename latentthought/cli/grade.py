"""`latentthought grade`: judge the completions of a samples file again, without generating."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from latentthought.cli.parser import Parser, natural
from latentthought.errors import DataError, MissingFileError

DESCRIPTION = (
    "Judge the completions of a samples.jsonl again with the grader and the task as they are now, and show what changed.\n"
    "Nothing is overwritten: --output DIR writes the samples and results anew."
)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="a samples.jsonl, or the folder it lies in")
    parser.add_argument("--task", metavar="NAME", help="judge by this task (default: the one in the file)")
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="the task's rows, for tasks whose judge reads more than the gold answer",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="write samples.jsonl and results.json into this empty folder"
    )
    parser.add_argument(
        "--changed", metavar="N", type=natural, default=10, help="show so many changed verdicts (default: 10)"
    )


def run(args: argparse.Namespace) -> int:
    from latentthought.cli.console import console
    from latentthought.cli.folders import require_empty, written_whole
    from latentthought.evaluation import Results, read_samples, render
    from latentthought.evaluation.judging import describe
    from latentthought.evaluation.provenance import versions
    from latentthought.evaluation.results import summarize
    from latentthought.evaluation.samples import RESULTS, SAMPLES
    from latentthought.evaluation.tasks import load_task

    if args.output:
        require_empty(Path(args.output))
    file = _samples_file(Path(args.file), SAMPLES)
    samples = read_samples(file)
    if not samples:
        raise DataError(f"{file}: there is no sample in it")
    task = load_task(args.task or samples[0].task)
    before = Results.load(file.with_name(RESULTS)) if file.with_name(RESULTS).is_file() else None
    ends = _thought_ends(before)
    judged = _judge_all(samples, task, args.data, ends)
    changed = [
        (old, new)
        for old, new in zip(samples, judged, strict=True)
        if old.verdict.status != new.verdict.status
    ]
    for old, new in changed[: args.changed]:
        print(
            f"{new.id}: {old.verdict.status} -> {new.verdict.status} ({new.verdict.reason}); "
            f"gold {new.gold!r}, found {new.extraction.answer!r}"
        )
    print(f"{len(changed)} of {len(judged)} verdicts changed")
    known = before.dump() if before else {"model": "unknown"}
    results = Results.parse(
        {
            **known,
            "task": task.name,
            "version": task.version,
            "control": judged[0].control,
            "against_none": None,
            "grading": describe(task, ends),
            "versions": versions(),
        }
        | {name: _plain(value) for name, value in summarize(judged, task.metrics).items()}
    )
    console().print(
        render([before, results] if before else [results], title="before and after" if before else None)
    )
    if args.output:
        with written_whole(Path(args.output)) as folder:
            lines = (json.dumps(sample.to_row(), ensure_ascii=False) + "\n" for sample in judged)
            (folder / SAMPLES).write_bytes("".join(lines).encode("utf-8", "replace"))
            results.save(folder)
        print(f"written to {args.output}")
    return 0


def _samples_file(path: Path, name: str) -> Path:
    """The samples file that a path means: itself, or the one in it. A folder with several below it names them."""
    if not path.is_dir() or (path / name).is_file():
        return path / name if path.is_dir() else path
    below = sorted(str(found.parent) for found in path.glob(f"results/**/{name}"))
    hint = f"; it lies in {', '.join(below[:8])}" if below else ""
    raise MissingFileError(f"no {name} in {path}{hint}")


def _judge_all(samples: list[Any], task: Any, data: str | None, thought_ends: tuple[str, ...]) -> list[Any]:
    """The samples with new verdicts. Rows are read only where the judge wants more of them than the gold answer."""
    from latentthought.data.example import Example
    from latentthought.evaluation.generation import UNFIT
    from latentthought.evaluation.judging import judge

    rows: dict[str, Example] = {}
    if task.choices or task.judge != "answer":
        from latentthought.evaluation.tasks import load_data

        rows = {example.id: example for example in load_data(task, data, seed=samples[0].seed)}
        missing = [sample.id for sample in samples if sample.id not in rows]
        if missing:
            raise DataError(
                f"{len(missing)} samples, the first {missing[0]!r}, are of rows that task {task.name} does not have; "
                "give --data FILE"
            )
    judged = []
    for sample in samples:
        if sample.verdict.reason.startswith(UNFIT):  # nothing was asked, so there is nothing to judge anew
            judged.append(replace(sample, task=task.name, version=task.version))
            continue
        example = rows.get(sample.id) or Example(sample.id, "-", (), sample.gold)
        found = judge(sample.completion, example, task, thought_ends)
        scores = {name: value for name, value in found.scores.items() if name in task.metrics}
        judged.append(
            replace(
                sample,
                task=task.name,
                version=task.version,
                verdict=found.verdict,
                extraction=found.verdict.extraction,
                scores=scores,
            )
        )
    return judged


def _thought_ends(results: Any) -> tuple[str, ...]:
    """What closes the reasoning in a completion: R1's mark, and the end token of the model that was evaluated."""
    if results and results.grading.get("thought_ends"):
        return tuple(results.grading["thought_ends"])
    recipe = (results.recipe if results else None) or {}
    own = recipe.get("model", {}).get("thought", {}).get("end_token") or "<|end-thought|>"
    return tuple(dict.fromkeys(("</think>", own)))


def _plain(value: Any) -> Any:
    """Configs inside `value` as plain values."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.dump() if hasattr(value, "dump") else value
