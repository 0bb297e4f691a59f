"""How strongly each term of the objective pulls: the norm of its own gradient.

A term's value says little about its pull: a cosine distance of 1e-3 may outweigh a cross-entropy of 3, or vanish beside it.
Costs one backward pass a term, and one copy of the gradients while it lasts, so it is asked for now and then, not every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def gradient_norms(terms: Mapping[str, Tensor], parameters: Iterable[Tensor]) -> dict[str, Tensor]:
    """L2 norm over all parameters of the gradient of each term, 0-d fp32.

    terms: 0-d values; the graph stays for the backward pass to come, and `.grad` stays as it is. A term that nothing trained
        leads to has norm 0.
    parameters: those without `requires_grad` are left out.

    The norm is that of this process and micro-batch: hooks of DDP do not fire here, so ranks neither wait for each other nor
    add up. Parameters that an engine has split (ZeRO-3) are not whole here and can't be asked.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return {name: _norm(term, trained) for name, term in terms.items()}


def _norm(term: Tensor, parameters: list[Tensor]) -> Tensor:
    zero = torch.zeros((), device=term.device)
    if not term.requires_grad or not parameters:
        return zero
    found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    norms = [
        torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in found if gradient is not None
    ]
    # parameters may lie on several devices
    return torch.linalg.vector_norm(torch.stack([norm.to(term.device) for norm in norms])) if norms else zero
