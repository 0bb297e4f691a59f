"""The cross-entropy of the words that follow and its gradients, against `F.cross_entropy` on the whole logits.

Work at least, with N positions, width D, V words (products with the head's matrix; the elementwise part is bound by memory):
    2 N D V     the logits
    2 N D V     the gradient of the states
    2 N D V     that of the head, where it is trained
Written plainly, logits and log-probabilities and then these and two gradients lie in memory at once, N V numbers each: 3.5 GiB
in fp32, and half precision adds its own copy of the logits. A checkpoint for each chunk of positions saves that and costs one
more product.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.large_vocabulary import OURS, PLAIN, Contest, Form, Problem, checkpointed
from latentthought.model.scoring import summed_loss


def _of_states(problem: Problem, states_nD: Tensor, targets_n: Tensor) -> Tensor:
    logits_nV = problem.head(states_nD)
    precision = torch.promote_types(logits_nV.dtype, torch.float32)
    return F.cross_entropy(logits_nV.to(precision), targets_n, reduction="sum")


def plain(problem: Problem) -> Tensor:
    """On all logits at once."""
    return _of_states(problem, problem.states, problem.targets)


def in_chunks(problem: Problem) -> Tensor:
    """The plain form for some positions at a time."""
    return checkpointed(partial(_of_states, problem), problem.states, problem.targets)


def ours(problem: Problem) -> Tensor:
    return summed_loss(problem.head, problem.states, problem.targets, problem.words, predictions=False)[0]


FORMS: dict[str, Form] = {PLAIN: plain, "checkpointed chunks": in_chunks, OURS: ours}
CONTEST = Contest("cross_entropy", "cross-entropy and its gradients", FORMS)
run = CONTEST.run
