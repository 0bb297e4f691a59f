"""`latentthought inspect`: a look inside the thoughts of a prompt, or of all rows of a task."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.cli.folders import require_empty, require_writable, written_whole
from latentthought.cli.models import MODEL_HELP, add_model_options, load
from latentthought.cli.parser import Parser, UsageError, amount, natural, positive
from latentthought.cli.prompts import Request, add_prompt_options, ask, read_requests
from latentthought.errors import MissingFileError

if TYPE_CHECKING:
    from latentthought.model.loading import LoadedModel

DESCRIPTION = """Look inside the thoughts. Of prompts, a page (--html FILE): what each thought says block by block, how far it
moved, where it looks, and what becomes of the answer when it is removed, noised or swapped, beside the same answer in words.
Of a task (--task NAME): how often each of these changes the answer, with intervals, and what linear probes read off
each thought; inspection.json, effects.csv, probes.csv and inspection.html in a folder."""
EPILOG = """examples:
  latentthought inspect runs/my-run "..." --html thoughts.html
  latentthought inspect runs/my-run "..." --other "another question" --html thoughts.html
  latentthought inspect MODEL --input questions.jsonl --thoughts 4 --html thoughts.html
  latentthought inspect runs/my-run --task hops --limit 500
  latentthought inspect MODEL --task gsm8k --data rows.jsonl --output inspected"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", help="the question, as a row of the training data would ask it"
    )
    parser.add_argument("--html", metavar="FILE", help="the page of the prompts")
    parser.add_argument(
        "--other",
        metavar="PROMPT",
        help="whose thoughts are swapped in (default: those of the next in --input)",
    )
    add_prompt_options(parser)
    parser.add_argument("--task", metavar="NAME", help="a task by name (latentthought tasks) or YAML file")
    parser.add_argument("--data", metavar="FILE", help="other rows, in the form of the task's source")
    parser.add_argument("--limit", metavar="N", type=positive, help="the first N rows of the task only")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="where the files of a task go (default: inspection/TASK in the run folder, if MODEL is one)",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a few rows that the task's source makes itself; offline"
    )
    parser.add_argument("--thoughts", metavar="N", type=natural, help="default: as many as in training")
    parser.add_argument(
        "--draws",
        metavar="N",
        type=positive,
        default=4,
        help="draws of the noise for each thought (default: 4)",
    )
    parser.add_argument(
        "--noise", metavar="R", type=amount, default=1.0, help="its size relative to the thought (default: 1)"
    )
    parser.add_argument(
        "--words", metavar="K", type=positive, default=5, help="words of a reading on the page (default: 5)"
    )
    parser.add_argument(
        "--max-new-tokens", metavar="N", type=positive, help="of an answer (default: 64, or the task's)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=natural, default=0, help="of the noise, and of made-up data"
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    if args.task:
        return _task(args)
    for name in ("data", "limit", "output", "smoke"):
        if getattr(args, name):
            raise UsageError(f"--{name} is about the rows of a task: give --task NAME, or leave it out")
    return _prompts(args)


# -------------------------------------------------------------------------------------------------------------- prompts
def _prompts(args: argparse.Namespace) -> int:
    if (args.prompt is None) == (args.input is None):
        raise UsageError("give a PROMPT, --input FILE or --task NAME, and not several of them")
    if args.html is None:
        raise UsageError("say where the page goes: --html FILE")
    from latentthought.reporting.inspector import MOST_PROMPTS, check_page, write_page

    check_page(Path(args.html))
    require_writable(Path(args.html).parent, "--html")
    requests = read_requests(args.prompt, args.input)
    if len(requests) > MOST_PROMPTS:
        raise UsageError(
            f"--input {args.input}: {len(requests)} prompts; a page has room for {MOST_PROMPTS} "
            "(over a data set: --task NAME --data FILE)"
        )
    if args.other is not None and not args.other.strip():
        raise UsageError("--other is empty: give another question")
    others = [] if args.other is None else [Request("--other", args.other)]
    loaded = load(args.model, args.device, args.dtype)
    inspector = _inspector(loaded, args)
    from latentthought.evaluation.inspection.prompt import Asked

    # a prompt needs room for its answer, and a donor's thoughts are thought behind its own prompt
    fitting = ask(
        loaded,
        [*requests, *others],
        raw=args.raw,
        thoughts=inspector.thoughts,
        max_new_tokens=inspector.max_new_tokens,
    )
    asked = [Asked(one.request.id, one.request.question, one.prompt) for one in fitting]
    found = []
    from latentthought.evaluation.progress import Progress

    with Progress("inspect", len(requests), True) as bar:
        for place in range(len(requests)):
            room = min(fitting[place].room, inspector.max_new_tokens)
            found.append(inspector.look(asked[place], _donor(asked, place, len(requests)), room))
            bar.add(1)
    print(write_page(Path(args.html), args.model, found))
    return 0


def _donor(asked: list[Any], place: int, count: int) -> Any:
    """Whose thoughts are swapped in: the other prompt's where one is given, else the next one's; None for a lone prompt."""
    if len(asked) > count:
        return asked[count]
    return asked[(place + 1) % count] if count > 1 else None


def _inspector(loaded: LoadedModel, args: argparse.Namespace) -> Any:
    from latentthought.evaluation.inspection.prompt import Inspector

    thoughts = loaded.model.thought.thoughts if args.thoughts is None else args.thoughts
    return Inspector(
        loaded.model,
        loaded.tokenizer,
        thoughts,
        args.draws,
        args.noise,
        top_k=args.words,
        max_new_tokens=args.max_new_tokens or 64,
        seed=args.seed,
        batch_size=args.batch_size,
    )


# ----------------------------------------------------------------------------------------------------------------- task
def _task(args: argparse.Namespace) -> int:
    for name, value in (
        ("PROMPT", args.prompt),
        ("--input", args.input),
        ("--html", args.html),
        ("--other", args.other),
    ):
        if value is not None:
            raise UsageError(
                f"{name} does not go with --task, which writes inspection.html into --output DIR"
            )
    if args.raw:
        raise UsageError(
            "--raw does not go with --task: how rows are prompted is the task's and the model's to say"
        )
    if args.data and not Path(args.data).exists():
        raise MissingFileError(f"--data {args.data}: no such file")
    from latentthought.evaluation.tasks import load_data, load_task
    from latentthought.model.locating import locate

    task = load_task(args.task)
    if args.max_new_tokens:
        task = task.replace(max_new_tokens=args.max_new_tokens)
    _, run = locate(args.model)
    if args.output is None and run is None:
        raise UsageError("--output DIR: MODEL is not a run folder, so the files have no place of their own")
    folder = Path(args.output) if args.output else _run_folder(run, task.name)
    require_writable(folder)
    require_empty(folder)
    limit = args.limit or (16 if args.smoke else None)
    rows = load_data(task, args.data, limit, seed=args.seed, smoke=args.smoke)
    loaded = load(args.model, args.device, args.dtype)
    from latentthought.evaluation.inspection.faithfulness import faithfulness
    from latentthought.reporting.faithfulness import write_faithfulness

    found, shown = faithfulness(
        loaded.model,
        task,
        tokenizer=loaded.tokenizer,
        data=rows,
        thoughts=args.thoughts,
        draws=args.draws,
        noise=args.noise,
        batch_size=args.batch_size,
        seed=args.seed,
        smoke=args.smoke,
    )
    _show(found)
    with written_whole(folder) as partial:
        files = write_faithfulness(partial, found, shown)
    print(f"\nwritten to {folder}: {', '.join(file.name for file in files)}")
    return 0


def _run_folder(run: Path | None, task: str) -> Path:
    assert run is not None
    return run / "inspection" / task


def _show(found: Any) -> None:
    """The tables of a task."""
    from latentthought.cli.console import console
    from latentthought.evaluation.inspection.tables import render_effects, render_probes
    from latentthought.evaluation.tables import percent

    print(
        f"{found.rows:,} rows of {found.task}, {percent(found.accuracy.value)} right after {found.thoughts} thoughts\n"
    )
    print("answers that change when one thought is changed, and those after it follow (95 %)")
    console().print(render_effects(found))
    if (probes := render_probes(found)) is not None:
        print("results of steps, read off the thoughts by linear probes (accuracy on held-out rows)")
        console().print(probes)
    for remark in found.remarks:
        print(f"note: {remark}", file=sys.stderr)
