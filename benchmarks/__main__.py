"""`python -m benchmarks [NAME ...]`: compare, check, print the tables, and one of all figures that were promised.

Exit codes: 0; 1 when two sides that should agree do not; 2 for wrong usage. A missed target is printed, not an error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# read while libraries load: nothing here needs the hub, and the profiler would announce itself at every start
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch

from benchmarks import (
    ablation,
    activations,
    cache,
    cross_entropy,
    distillation,
    divergence,
    extraction,
    float8,
    generate,
    grading,
    growth,
    memory,
    samples,
    soft_mix,
    train_step,
)
from benchmarks.agreement import Disagreement
from benchmarks.findings import Findings, findings_markdown
from benchmarks.report import ROOT, Report, as_json, as_markdown, circumstances, write_block, write_whole
from benchmarks.settings import Settings
from benchmarks.summary import as_entries, summary_markdown
from benchmarks.workload import MODELS, Sizes
from latentthought.errors import ConfigError, LatentThoughtError

BENCHMARKS: dict[str, Callable[[Settings], Report | Findings]] = {
    "train_step": train_step.run,
    "generate": generate.run,
    "samples": samples.run,
    "soft_mix": soft_mix.run,
    "activations": activations.run,
    "grading": grading.run,
    "cache": cache.run,
    "divergence": divergence.run,
    "cross_entropy": cross_entropy.run,
    "extraction": extraction.run,
    "distillation": distillation.run,
    "ablation": ablation.run,
    "fp8": float8.run,
    "memory": memory.run,
    "growth": growth.run,
}
# these share the table of their device; every other one has a block of its own in the document
IN_ONE_TABLE = ("train_step", "generate")
# these run only when they are named: emulated on a CPU, fp8 takes long and proves no gain; ablation and growth promise nothing
BY_NAME = ("ablation", "growth", "fp8")
# these run on the CPU whatever the device is
CPU_ONLY = ("grading", "cache")
DOCUMENT = ROOT / "docs" / "performance.md"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = parser().parse_args(arguments)
    try:
        settings = settings_of(chosen)
        where = circumstances(command_of(arguments), settings)
        names = chosen.names or [name for name in BENCHMARKS if name not in BY_NAME]
        reports, seconds = run_all(names, settings)
        blocks = blocks_of(where, reports, settings.device.type)
        promised = [*reports, *([] if chosen.names else left_out())]
        summary = summary_markdown(where, promised)
        print("\n".join([*blocks.values(), summary]))
        if not chosen.names:
            blocks = {summary_block(settings.device.type): summary} | blocks
        if chosen.output:
            entries = {"seconds": seconds, "summary": as_entries(promised, settings.quick)}
            chosen.output.write_text(
                json.dumps(as_json(where, reports) | entries, indent=2) + "\n", encoding="utf-8"
            )
        if chosen.write_docs:
            for name, block in blocks.items():
                write_block(DOCUMENT, name, block)
            for report in reports:
                if isinstance(report, Findings):
                    for path, text in report.files.items():
                        write_whole(ROOT / path, text)
    except LatentThoughtError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run_all(names: Sequence[str], settings: Settings) -> tuple[list[Report | Findings], dict[str, float]]:
    """Run some benchmarks; returns what they found, and how many seconds each took. Disagreement names the benchmark."""
    reports, seconds = [], {}
    for number, name in enumerate(names, start=1):
        settings.progress(f"{name} ({number} of {len(names)})")
        start = time.perf_counter()
        try:
            reports.append(BENCHMARKS[name](settings))
        except Disagreement as error:
            raise Disagreement(f"{name}: sides that must agree do not: {error}") from error
        seconds[name] = time.perf_counter() - start
        settings.progress(f"{name} took {seconds[name]:,.0f} s")
    return reports, seconds


def left_out() -> list[Findings]:
    """What the summary says of benchmarks that run only by name."""
    return [Findings(name, "", [], skipped={name: "runs only when named"}) for name in BY_NAME]


def summary_block(device: str) -> str:
    """Name of the marked block of the document that holds all figures that were promised."""
    return "benchmarks summary" if device == "cpu" else f"benchmarks summary {device}"


def blocks_of(where: dict[str, Any], reports: Sequence[Report | Findings], device: str) -> dict[str, str]:
    """Name of a marked block of the document -> what it says."""
    shared = [report for report in reports if isinstance(report, Report) and report.name in IN_ONE_TABLE]
    # a model of a billion weights has promises, and a table, of its own
    model = " 1b" if where["model"] == "1b" else ""
    blocks = {f"benchmarks {device}{model}": as_markdown(where, shared)} if shared else {}
    for report in reports:
        if report.name in IN_ONE_TABLE:
            continue
        elsewhere = "" if device == "cpu" or report.name in CPU_ONLY else f" {device}"
        blocks[f"benchmarks {report.name}{elsewhere}"] = (
            as_markdown(where, [report]) if isinstance(report, Report) else findings_markdown(where, report)
        )
    return blocks


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Speed and memory, side by side with the alternatives."
    )
    made.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"which: {', '.join(BENCHMARKS)} (all but {', '.join(BY_NAME)})",
    )
    made.add_argument(
        "--quick",
        action="store_true",
        help="tiny sizes: shows that everything runs and agrees, times nothing",
    )
    made.add_argument(
        "--rounds", type=int, metavar="N", help="timed rounds (each benchmark has its own number)"
    )
    made.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (2)")
    made.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    made.add_argument(
        "--dtype",
        default="float32",
        choices=DTYPES,
        help="for the timed runs; values are compared in float32",
    )
    made.add_argument(
        "--model", choices=MODELS, help="sizes of GPT-2 (small); fp8: of a Llama; 1b is for a GPU"
    )
    made.add_argument("--teacher", choices=MODELS, help="distillation: the teacher's sizes (the student's)")
    made.add_argument("--batch", type=int, metavar="N", help="rows of a training step (4)")
    made.add_argument("--thoughts", type=int, metavar="N", help="thoughts of a row (6)")
    made.add_argument("--padded", action="store_true", help="training rows of unequal length, left-padded")
    made.add_argument("--seed", type=int, default=0, metavar="N")
    made.add_argument(
        "--coconut",
        type=Path,
        metavar="DIR",
        help="folder with coconut.py of github.com/facebookresearch/coconut, run as a rival",
    )
    made.add_argument(
        "--accepted",
        type=Path,
        metavar="FILE",
        help="grading: write the random pairs that were accepted there, one a line",
    )
    made.add_argument("--output", type=Path, metavar="FILE", help="write all results there as JSON")
    made.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    return made


def settings_of(chosen: argparse.Namespace) -> Settings:
    """Check the arguments and set up torch."""
    if unknown_names := [name for name in chosen.names if name not in BENCHMARKS]:
        raise ConfigError(f"no benchmark {unknown_names[0]!r}; there are: {', '.join(BENCHMARKS)}")
    for option in ("rounds", "threads", "batch", "thoughts"):
        value = getattr(chosen, option)
        if value is not None and value < 1:
            raise ConfigError(f"--{option}: must be 1 or more, got {value}")
    if chosen.quick and chosen.write_docs:
        raise ConfigError("--write-docs: not with --quick, whose times mean nothing")
    if chosen.quick and (chosen.model or chosen.teacher):
        raise ConfigError("--model, --teacher: not with --quick, which has sizes of its own")
    try:
        device = torch.device(chosen.device)
    except RuntimeError:
        raise ConfigError(f"--device: cpu or cuda, not {chosen.device!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device: cpu or cuda, not {chosen.device!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: torch finds no CUDA device here")
    torch.set_num_threads(chosen.threads)
    # a cache that is made and thrown away, as rivals do, is worth no warning in the middle of a table
    warnings.filterwarnings("ignore", category=UserWarning)
    sizes = Sizes().quick() if chosen.quick else Sizes().of(chosen.model or "small")
    sizes = replace(sizes, padded=chosen.padded, **({"batch": chosen.batch} if chosen.batch else {}))
    if chosen.thoughts:  # the prompt stays as long as it was
        sizes = replace(
            sizes, thoughts=chosen.thoughts, sequence=sizes.sequence + chosen.thoughts - sizes.thoughts
        )
    return Settings(
        sizes=sizes,
        device=device,
        dtype=DTYPES[chosen.dtype],
        threads=chosen.threads,
        quick=chosen.quick,
        rounds=chosen.rounds or (2 if chosen.quick else None),
        model=chosen.model or "small",
        teacher=chosen.teacher,
        coconut=chosen.coconut,
        accepted=chosen.accepted,
        seed=chosen.seed,
    )


def command_of(arguments: Sequence[str]) -> str:
    """The command to print: with placeholders for folders of this machine, without what only says where results go."""
    shown, skip = ["python -m benchmarks"], False
    for position, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if skip:
            skip = False
        elif name in ("--coconut", "--output", "--accepted"):
            skip = not value and position + 1 < len(arguments)
            shown += ["--coconut DIR"] if name == "--coconut" else []
        elif name != "--write-docs":
            shown.append(argument)
    return " ".join(shown)


if __name__ == "__main__":
    sys.exit(main())
