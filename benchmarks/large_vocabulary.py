"""A loss of next-token logits over a large vocabulary, in several forms that compute the same: its time and its memory.

2,048 positions over 151,936 words, from states of width 896: the head of Qwen2.5-0.5B. Extra memory is what one run allocates
at most beyond what it finds (weights, states) and leaves behind (gradients). On a CPU the peak of the resident set of a fresh
process shows the same from outside, for the plain form and for ours.

Before anything is timed, all forms are held against fp64 on fewer positions, in value and in each gradient.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.agreement import Step, require_same_step
from benchmarks.findings import Findings, Table
from benchmarks.report import Target
from benchmarks.settings import Settings
from benchmarks.timing import Side, Timing, measure, peak_bytes, shortage

# a run takes tens of seconds, so that warming up is nothing beside it
ROUNDS = 1
TOLERANCE = 1e-5
# more than one chunk of ours
REFERENCE_POSITIONS = 256
# positions of a part of `checkpointed`
CHUNK = 64
# of the plain form's extra memory, what ours may take
SHARE = 0.06
# copies of the logits that a plain form needs room for, with some to spare
ROOM = 10
STATUS = Path("/proc/self/status")
PLAIN, OURS = "written plainly", "latentthought"


@dataclass(frozen=True)
class Case:
    """N positions over V words from states of width D; `trained`: the student's head learns too."""

    positions: int = 2048
    words: int = 151_936
    width: int = 896
    trained: bool = True
    seed: int = 0

    @property
    def logits_bytes(self) -> int:
        """One fp32 copy of one side's logits."""
        return 4 * self.positions * self.words


class Problem:
    """A random head, states, the words that should follow them, and a teacher near the student, as it is once training is under
    way."""

    def __init__(self, case: Case, device: torch.device, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(case.seed)
        draw = partial(torch.randn, generator=generator)
        self.words = case.words
        self.head = nn.Linear(case.width, case.words, bias=False, device="meta")
        matrix = draw(case.words, case.width).mul_(2 * case.width**-0.5)
        self.head.weight = nn.Parameter(matrix.to(device, dtype), requires_grad=case.trained)
        states = draw(case.positions, case.width)
        self.states = states.to(device, dtype).requires_grad_()
        self.teacher_states = (states + 0.3 * draw(case.positions, case.width)).to(device, dtype)
        self.targets = torch.randint(case.words, (case.positions,), generator=generator).to(device)
        # one matrix serves both sides, so that it is made and held once
        self.teacher_head = nn.Linear(case.width, case.words, bias=False, device="meta")
        self.teacher_head.weight = nn.Parameter(self.head.weight.detach(), requires_grad=False)

    @property
    def learnt(self) -> dict[str, Tensor]:
        """What gets a gradient."""
        return {"states": self.states} | (
            {"head": self.head.weight} if self.head.weight.requires_grad else {}
        )

    @property
    def left(self) -> int:
        """Bytes of the gradients that a step leaves behind."""
        return sum(tensor.nbytes for tensor in self.learnt.values())

    def step(self, form: Form) -> float:
        """Value and backward pass; the gradients stay in `.grad`."""
        value = form(self)
        value.backward()
        return value.item()

    def clear(self) -> None:
        """Let go of the gradients."""
        for tensor in self.learnt.values():
            tensor.grad = None


Form = Callable[[Problem], Tensor]


def checkpointed(part: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """The sum of `part` over so many positions at a time, each recomputed in the backward pass: what one would write next."""
    parts = zip(*(tensor.split(CHUNK) for tensor in tensors), strict=True)
    return torch.stack([checkpoint(part, *some, use_reentrant=False) for some in parts]).sum()


@dataclass(frozen=True)
class Contest:
    """One benchmark. forms: PLAIN and OURS among them."""

    name: str
    title: str
    forms: Mapping[str, Form]

    def run(self, settings: Settings) -> Findings:
        """Check that the forms agree, then measure them, with a head that learns and with a frozen one."""
        case = Case(positions=96, words=3000, width=32) if settings.quick else Case()
        case = replace(case, seed=settings.seed)
        title = f"{self.title}, {case.positions:,} positions, {case.words:,} words, width {case.width}"
        if why := _shortage(case, settings.device):
            return Findings(self.name, title, [], skipped={self.name: why})
        tables, targets, data = [], [], {"case": asdict(case)}
        for trained, head in ((True, "head trained"), (False, "head frozen")):
            chosen = replace(case, trained=trained)
            settings.progress(f"{self.name}, {head}: comparing values and gradients")
            agreement = check(chosen, settings.device, self.forms)
            found = self._measured(chosen, settings, head)
            tables.append(_table(head, found, agreement))
            data[head] = {name: asdict(one) for name, one in found.items()}
            ours = found[OURS]
            targets += [
                Target.at_most(OURS, f"{head}: extra memory over the plain form's", ours.share, SHARE),
                Target.at_most(OURS, f"{head}: time over the plain form's", ours.ratio, 1.0),
            ]
        return Findings(self.name, title, tables, targets, data)

    def _measured(self, case: Case, settings: Settings, head: str) -> dict[str, Measured]:
        timings, extra = self._timed(case, settings, head)
        resident: dict[str, int] = {}
        if settings.device.type == "cpu" and not settings.quick and STATUS.exists():
            for name in (PLAIN, OURS):
                settings.progress(f"{self.name}, {head}: resident set of {name}")
                # a fresh process for each: the peak of a process never falls
                context = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    form = self.forms[name]
                    resident[name] = pool.submit(resident_extra, form, case, settings.threads).result()
        plain = timings[PLAIN]
        return {
            name: Measured(
                timing.median,
                timing.ratio(plain),
                extra[name],
                extra[name] / extra[PLAIN],
                resident.get(name),
            )
            for name, timing in timings.items()
        }

    def _timed(self, case: Case, settings: Settings, head: str) -> tuple[dict[str, Timing], dict[str, int]]:
        """Times of all forms in turn, and the extra bytes that each of them allocated."""

        def progress(text: str) -> None:
            settings.progress(f"{self.name}, {head}: {text}")

        problem = Problem(case, settings.device, settings.dtype)

        def step(form: Form) -> None:
            problem.clear()
            problem.step(form)

        sides = [Side(name, "", partial(step, form)) for name, form in self.forms.items()]
        rounds = settings.rounds_or(ROUNDS)
        timings = measure(sides, settings.device, rounds, warmup=0, memory=False, progress=progress)
        extra = {}
        for side in sides:
            progress(f"memory of {side.name}")
            problem.clear()
            extra[side.name] = peak_bytes(side.run, settings.device) - problem.left
        return timings, extra


def check(case: Case, device: torch.device, forms: Mapping[str, Form]) -> dict[str, str]:
    """Form -> how near it came to the plain one in fp64, in fp32 on few positions. Disagreement beyond 1e-5."""
    few = replace(case, positions=min(REFERENCE_POSITIONS, case.positions))
    problem, reference = (Problem(few, device, dtype) for dtype in (torch.float32, torch.float64))
    expected = _step_of(reference, forms[PLAIN])
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


def resident_extra(form: Form, case: Case, threads: int) -> int:
    """The most bytes that the resident set of this fresh process grew by in an fp32 step of a form, less those it keeps."""
    torch.set_num_threads(threads)
    cpu = torch.device("cpu")
    # threads, math library and autograd fetch their own memory first
    Problem(replace(case, positions=2, words=1000), cpu, torch.float32).step(form)
    problem = Problem(case, cpu, torch.float32)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before = _status("VmRSS")
    problem.step(form)
    return _status("VmHWM") - before - problem.left


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def _shortage(case: Case, device: torch.device) -> str:
    """Why the plain form can't be run here, or nothing."""
    why = shortage(ROOM * case.logits_bytes, device)
    return why and f"the plain form {why}"


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
