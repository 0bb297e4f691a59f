"""The divergence from a teacher's next-token distributions and its gradients, against the same written plainly; T = 2.

Work at least, with N positions, width D, V words (products with the heads' matrices; the elementwise part is bound by memory):
    2 N D V     the teacher's logits, and the student's
    2 N D V     the gradient of the states
    2 N D V     that of the student's head, where it is trained
Written plainly, logits, log-probabilities and their gradients are N V numbers each, and about seven of these lie in memory at
once: 8 GiB in fp32. What a user would write next, a checkpoint for each chunk of positions, saves that and costs two more
products.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.large_vocabulary import OURS, PLAIN, Contest, Form, Problem, checkpointed
from latentthought.objective.divergence import kl_divergence

TEMPERATURE = 2.0


def _divergence(student_nV: Tensor, teacher_nV: Tensor) -> Tensor:
    precision = torch.promote_types(student_nV.dtype, torch.float32)
    log_q = F.log_softmax(student_nV.to(precision) / TEMPERATURE, dim=-1)
    log_p = F.log_softmax(teacher_nV.to(precision) / TEMPERATURE, dim=-1)
    return TEMPERATURE**2 * F.kl_div(log_q, log_p, reduction="sum", log_target=True)


def _of_states(problem: Problem, states_nD: Tensor, teacher_nD: Tensor) -> Tensor:
    with torch.no_grad():
        teacher_nV = problem.teacher_head(teacher_nD)
    return _divergence(problem.head(states_nD), teacher_nV)


def plain(problem: Problem) -> Tensor:
    """As the formula says."""
    return _of_states(problem, problem.states, problem.teacher_states)


def in_chunks(problem: Problem) -> Tensor:
    """The plain form for some positions at a time."""
    return checkpointed(partial(_of_states, problem), problem.states, problem.teacher_states)


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


FORMS: dict[str, Form] = {
    PLAIN: plain,
    "checkpointed chunks": in_chunks,
    OURS: ours,
    f"{OURS}, recomputed (ZeRO-3, fp16)": partial(ours, recompute=True),
}
CONTEST = Contest("divergence", "divergence and its gradients, T = 2", FORMS)
run = CONTEST.run
