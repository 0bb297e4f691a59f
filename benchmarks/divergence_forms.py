"""The divergence from a teacher in several forms that compute the same, and the problem that they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from latentthought.objective.divergence import kl_divergence

TEMPERATURE = 2.0
CHUNK = 64


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
    """Random heads and states. The teacher's are near the student's, as they are once training is under way."""

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


def _divergence(student_nV: Tensor, teacher_nV: Tensor) -> Tensor:
    precision = torch.promote_types(student_nV.dtype, torch.float32)
    log_q = F.log_softmax(student_nV.to(precision) / TEMPERATURE, dim=-1)
    log_p = F.log_softmax(teacher_nV.to(precision) / TEMPERATURE, dim=-1)
    return TEMPERATURE**2 * F.kl_div(log_q, log_p, reduction="sum", log_target=True)


def plain(problem: Problem) -> Tensor:
    """As the formula says."""
    with torch.no_grad():
        teacher_NV = problem.teacher_head(problem.teacher_states)
    return _divergence(problem.head(problem.states), teacher_NV)


def checkpointed(problem: Problem) -> Tensor:
    """The plain form for `CHUNK` positions at a time, each recomputed in the backward pass."""

    def part(states_nD: Tensor, teacher_nD: Tensor) -> Tensor:
        with torch.no_grad():
            teacher_nV = problem.teacher_head(teacher_nD)
        return _divergence(problem.head(states_nD), teacher_nV)

    pairs = zip(problem.states.split(CHUNK), problem.teacher_states.split(CHUNK), strict=True)
    return torch.stack([checkpoint(part, *pair, use_reentrant=False) for pair in pairs]).sum()


def ours(problem: Problem, recompute: bool = False) -> Tensor:
    return kl_divergence(
        problem.head,
        problem.states,
        problem.teacher_head,
        problem.teacher_states,
        vocabulary=problem.words,
        temperature=TEMPERATURE,
        recompute=recompute,
    )


PLAIN, OURS = "written plainly", "latentthought"
FORMS: dict[str, Form] = {
    PLAIN: plain,
    "checkpointed chunks": checkpointed,
    OURS: ours,
    f"{OURS}, recomputed (ZeRO-3, fp16)": partial(ours, recompute=True),
}
