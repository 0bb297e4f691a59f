"""The divergence from a teacher's next-token distributions and its gradients, against the same written plainly.

2,048 positions over 151,936 words, from states of width 896: the head of Qwen2.5-0.5B on both sides, T = 2. Work at least, with
N positions, width D, V words (products with the heads' matrices; the elementwise part is bound by memory):
    2 N D V     the teacher's logits, and the student's
    2 N D V     the gradient of the states
    2 N D V     that of the student's head, where it is trained
Written plainly, logits, log-probabilities and their gradients are N V numbers each, and about seven of these lie in memory at
once: 8 GiB in fp32. What a user would write next, a checkpoint for each chunk of positions, saves that and costs two more
products.

Extra memory is what one run allocates at most beyond what it finds (weights, states) and leaves behind (gradients). On a CPU
the peak of the resident set of a fresh process shows the same from outside, for the plain form and for ours.

Before anything is timed, all forms are held against fp64 on fewer positions, in value and in each gradient.
"""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import psutil
import torch

from benchmarks.agreement import Step, require_same_step
from benchmarks.divergence_forms import FORMS, OURS, PLAIN, Case, Form, Problem, plain
from benchmarks.findings import Findings, Table
from benchmarks.report import Target
from benchmarks.settings import Settings
from benchmarks.timing import Side, Timing, measure, peak_bytes

ROUNDS = 3
TOLERANCE = 1e-5
REFERENCE_POSITIONS = 64
# copies of the logits that the plain form needs room for, with some to spare
ROOM = 10
STATUS = Path("/proc/self/status")


def run(settings: Settings) -> Findings:
    """Check that the forms agree, then measure them, with a head that learns and with a frozen one."""
    case = Case(positions=96, words=3000, width=32) if settings.quick else Case()
    case = replace(case, seed=settings.seed)
    title = f"divergence and its gradients, {case.positions:,} positions, {case.words:,} words, width {case.width}, T = 2"
    if shortage := _shortage(case, settings.device):
        return Findings("divergence", title, [], skipped={"divergence": shortage})
    tables, targets, data = [], [], {"case": asdict(case)}
    for trained, head in ((True, "head trained"), (False, "head frozen")):
        chosen = replace(case, trained=trained)
        settings.progress(f"divergence, {head}: comparing values and gradients")
        agreement = check(chosen, settings.device)
        found = _measured(chosen, settings, head)
        tables.append(_table(head, found, agreement))
        data[head] = {name: asdict(one) for name, one in found.items()}
        targets += [
            Target.at_most(OURS, f"{head}: extra memory over the plain form's", found[OURS].share, 0.1),
            Target.at_most(OURS, f"{head}: time over the plain form's", found[OURS].ratio, 1.0),
        ]
    return Findings("divergence", title, tables, targets, data)


def check(case: Case, device: torch.device, forms: dict[str, Form] = FORMS) -> dict[str, str]:
    """Form -> how near it came to fp64, in fp32 on few positions. Disagreement beyond 1e-5."""
    few = replace(case, positions=min(REFERENCE_POSITIONS, case.positions))
    problem, reference = (Problem(few, device, dtype) for dtype in (torch.float32, torch.float64))
    expected = _step_of(reference, plain)
    return {
        name: str(require_same_step(name, _step_of(problem, form), expected, TOLERANCE))
        for name, form in forms.items()
    }


def _step_of(problem: Problem, form: Form) -> Step:
    value = problem.step(form)
    gradients = {name: tensor.grad for name, tensor in problem.learnt.items()}
    problem.clear()
    return Step(value, gradients)


@dataclass(frozen=True)
class Measured:
    """One form.

    seconds: median. ratio: to the plain form's, paired by round. extra: bytes beyond what it finds and leaves. share: of the
    plain form's. resident: extra bytes of the resident set, where they were measured.
    """

    seconds: float
    ratio: float
    extra: int
    share: float
    resident: int | None


def _measured(case: Case, settings: Settings, head: str) -> dict[str, Measured]:
    timings, extra = _timed(case, settings, head)
    resident: dict[str, int] = {}
    if settings.device.type == "cpu" and not settings.quick and STATUS.exists():
        for name in (PLAIN, OURS):
            settings.progress(f"divergence, {head}: resident set of {name}")
            # a fresh process for each: the peak of a process never falls
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                resident[name] = pool.submit(resident_extra, name, case, settings.threads).result()
    plain_form = timings[PLAIN]
    return {
        name: Measured(
            timing.median,
            timing.ratio(plain_form),
            extra[name],
            extra[name] / extra[PLAIN],
            resident.get(name),
        )
        for name, timing in timings.items()
    }


def _timed(case: Case, settings: Settings, head: str) -> tuple[dict[str, Timing], dict[str, int]]:
    """Times of all forms in turn, and the extra bytes that each of them allocated."""

    def progress(text: str) -> None:
        settings.progress(f"divergence, {head}: {text}")

    problem = Problem(case, settings.device, settings.dtype)

    def step(form: Form) -> None:
        problem.clear()
        problem.step(form)

    sides = [Side(name, "", partial(step, form)) for name, form in FORMS.items()]
    timings = measure(sides, settings.device, settings.rounds_or(ROUNDS), memory=False, progress=progress)
    extra = {}
    for side in sides:
        progress(f"memory of {side.name}")
        problem.clear()
        extra[side.name] = peak_bytes(side.run, settings.device) - problem.left
    return timings, extra


def resident_extra(name: str, case: Case, threads: int) -> int:
    """The most bytes that the resident set of this fresh process grew by in an fp32 step of a form, less those it keeps."""
    torch.set_num_threads(threads)
    cpu = torch.device("cpu")
    # threads, math library and autograd fetch their own memory first
    Problem(replace(case, positions=2, words=1000), cpu, torch.float32).step(FORMS[name])
    problem = Problem(case, cpu, torch.float32)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before = _status("VmRSS")
    problem.step(FORMS[name])
    return _status("VmHWM") - before - problem.left


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def _shortage(case: Case, device: torch.device) -> str:
    """Why the plain form can't be run here, or nothing."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    needed = ROOM * case.logits_bytes
    return (
        ""
        if free >= needed
        else f"the plain form needs {needed / 2**30:.0f} GiB of free memory, there are {free / 2**30:.0f}"
    )


def _table(head: str, found: dict[str, Measured], agreement: dict[str, str]) -> Table:
    def mebibytes(size: int | None) -> str:
        return "" if size is None else f"{size / 2**20:,.1f} MiB"

    rows = [
        (
            f"**{name}**" if name == OURS else name,
            f"{one.seconds:.2f} s",
            f"{one.ratio:.2f}",
            mebibytes(one.extra),
            f"{one.share:.1%}",
            mebibytes(one.resident),
            agreement[name],
        )
        for name, one in found.items()
    ]
    columns = ("form", "median", "time / plain", "extra memory", "/ plain", "resident set", "against fp64")
    return Table(head, columns, rows)
