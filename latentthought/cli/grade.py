"""`latentthought grade`: judge a file of predictions, or the completions of an evaluation again, without generating."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from latentthought.cli.parser import Parser, UsageError, natural
from latentthought.errors import DataError, MissingFileError, UserError

DESCRIPTION = (
    "Judge the completions of a samples.jsonl again with the grader and the task as they are now, and show what changed.\n"
    "With --gold and --prediction: judge any file of rows (JSON lines, JSON, CSV, Parquet).\n"
    "Nothing is overwritten: --output DIR writes what was found anew."
)
EPILOG = """examples:
  latentthought grade runs/my-run/results/gsm8k/none
  latentthought grade answers.jsonl --gold answer --prediction response.text --policy precision=null --output graded"""


# samples between two looks at the progress line
AT_A_TIME = 512


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a samples.jsonl, the folder it lies in, or any file of rows"
    )
    rows = parser.add_argument_group("any file of rows")
    rows.add_argument("--gold", metavar="FIELD", help="the right answer; a.b leads into nested data")
    rows.add_argument("--prediction", metavar="FIELD", help="the completion or bare answer to be judged")
    rows.add_argument(
        "--choices", metavar="FIELD", help="option texts, where letter and text stand for each other"
    )
    rows.add_argument(
        "--policy",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="how answers are compared (strict, precision, percent, ordered, simplified, symbolic, units); may be repeated",
    )
    again = parser.add_argument_group("a samples.jsonl again")
    again.add_argument("--task", metavar="NAME", help="judge by this task (default: the one in the file)")
    again.add_argument(
        "--data",
        metavar="FILE",
        help="the task's rows, for tasks whose judge reads more than the gold answer",
    )
    again.add_argument(
        "--changed", metavar="N", type=natural, default=10, help="show so many changed verdicts (default: 10)"
    )
    parser.add_argument("--output", metavar="DIR", help="write rows and results into this empty folder")


def run(args: argparse.Namespace) -> int:
    if args.output:
        from latentthought.cli.folders import require_empty, require_writable

        require_empty(Path(args.output))
        require_writable(Path(args.output))
    if not (args.gold or args.prediction or args.policy or args.choices):
        return _again(args)
    if not (args.gold and args.prediction):
        raise UsageError("a file of rows needs both --gold FIELD and --prediction FIELD")
    if args.task or args.data:
        raise UsageError("--task and --data are for a samples.jsonl; rows with --gold are judged by --policy")
    from latentthought.cli.grading_rows import grade_rows

    return grade_rows(args)


def _again(args: argparse.Namespace) -> int:
    from latentthought.cli.console import console
    from latentthought.cli.folders import written_whole
    from latentthought.evaluation import Results, read_samples, render
    from latentthought.evaluation.judging import describe
    from latentthought.evaluation.provenance import versions
    from latentthought.evaluation.results import summarize
    from latentthought.evaluation.samples import RESULTS, SAMPLES
    from latentthought.evaluation.tasks import load_task

    file = _samples_file(Path(args.file), SAMPLES)
    try:
        samples = read_samples(file)
    except DataError as error:
        raise DataError(
            f"{error}; for any other file of rows give --gold FIELD and --prediction FIELD"
        ) from None
    if not samples:
        raise DataError(f"{file}: there is no sample in it")
    task = load_task(args.task or samples[0].task)
    before = Results.load(file.with_name(RESULTS)) if file.with_name(RESULTS).is_file() else None
    ends = _thought_ends(before)
    rows = _rows_of(samples, task, args.data)
    judged = _judge_all(samples, task, rows, ends)
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
    memory = before.costs.peak_memory if before else None
    found = summarize(
        judged,
        task.metrics,
        lambda sample: task.policy_for(rows[sample.id]) if sample.id in rows else task.grade_policy,
        memory,
    )
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
        | {name: _plain(value) for name, value in found.items()}
    )
    shown, title = ([before, results], "before and after") if before else ([results], None)
    console().print(render(shown, title, console().width))
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


def _rows_of(samples: list[Any], task: Any, data: str | None) -> dict[str, Any]:
    """The rows of the samples by id, where the judge reads more of them than the gold answer; else none."""
    if not (task.choices or task.judge != "answer"):
        return {}
    from latentthought.evaluation.tasks import load_data

    try:
        rows = {example.id: example for example in load_data(task, data, seed=samples[0].seed)}
    except UserError:
        if data or task.choices or task.judge not in ("graph", "chain"):
            raise
        return {}  # the answers can be judged without their clues, and `_judge_all` keeps what the clues said
    missing = [sample.id for sample in samples if sample.id not in rows]
    if missing:
        raise DataError(
            f"{len(missing)} samples, the first {missing[0]!r}, are of rows that task {task.name} does not have; "
            "give --data FILE"
        )
    return rows


def _judge_all(
    samples: list[Any], task: Any, rows: dict[str, Any], thought_ends: tuple[str, ...]
) -> list[Any]:
    """The samples with new verdicts, by killable workers: a completion that defeats the grader costs its own verdict."""
    from latentthought.evaluation.generation import UNFIT
    from latentthought.evaluation.progress import Progress
    from latentthought.grading.workers.pool import GradingPool

    judging = (
        task
        if rows or task.judge not in ("graph", "chain")
        else task.replace(judge="answer", metrics=["accuracy"])
    )
    judged = []
    with GradingPool() as pool, Progress("grading", len(samples), shown=True) as bar:
        for start in range(0, len(samples), AT_A_TIME):
            part = samples[start : start + AT_A_TIME]
            # nothing was asked where a prompt did not fit, so there is nothing to judge anew
            asked = [sample for sample in part if not sample.verdict.reason.startswith(UNFIT)]
            anew = iter(_judge_part(asked, task, judging, rows, thought_ends, pool))
            found = [
                next(anew)
                if not sample.verdict.reason.startswith(UNFIT)
                else replace(sample, task=task.name, version=task.version)
                for sample in part
            ]
            judged += found
            bar.add(len(found), sum(sample.verdict.correct for sample in found))
    return judged


def _judge_part(
    samples: list[Any],
    task: Any,
    judging: Any,
    rows: dict[str, Any],
    thought_ends: tuple[str, ...],
    pool: Any,
) -> list[Any]:
    """Samples with new verdicts. All answers go through the pool at once, and are found in its cache when they are judged."""
    from latentthought.data.example import Example
    from latentthought.evaluation.judging import extractions, judge, policies

    examples = [rows.get(sample.id) or Example(sample.id, "-", (), sample.gold) for sample in samples]
    if judging.judge in ("answer", "graph", "chain"):
        pool.grade_many(
            [
                (sample.completion, example.answer, policy)
                for sample, example in zip(samples, examples, strict=True)
                for policy in policies(judging, example)
            ],
            thought_ends=thought_ends,
        )
    judged = []
    for sample, example in zip(samples, examples, strict=True):
        found = judge(sample.completion, example, judging, thought_ends, pool.grade)
        scores = {name: value for name, value in found.scores.items() if name in task.metrics}
        judged.append(
            replace(
                sample,
                task=task.name,
                version=task.version,
                verdict=found.verdict,
                extraction=found.verdict.extraction,
                scores=scores if judging is task else sample.scores,
                extractions=extractions(
                    sample.completion, example, judging, thought_ends, found.verdict, pool.grade
                ),
            )
        )
    return judged


def _thought_ends(results: Any) -> tuple[str, ...]:
    """What closes the reasoning in a completion: R1's mark, and the end token of the model that was evaluated."""
    from latentthought.grading.extraction.rules import THOUGHT_ENDS

    if results and results.grading.get("thought_ends"):
        return tuple(results.grading["thought_ends"])
    recipe = (results.recipe if results else None) or {}
    own = recipe.get("model", {}).get("thought", {}).get("end_token") or "<|end-thought|>"
    return tuple(dict.fromkeys((*THOUGHT_ENDS, own)))


def _plain(value: Any) -> Any:
    """Configs inside `value` as plain values."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.dump() if hasattr(value, "dump") else value
