"""Gradients that have no gradients of their own.

Functions that add up gradients by themselves would silently leave out what depends on a gradient, so a backward pass that is
recorded (`create_graph=True`) is refused. torch's `once_differentiable` refuses later, in words that name no cause.
"""

from __future__ import annotations

import torch

from latentthought.errors import UnsupportedError


def refuse_second_derivatives() -> None:
    """Called in a backward pass; raises `UnsupportedError` where it is recorded."""
    if torch.is_grad_enabled():
        raise UnsupportedError(
            "create_graph=True: thoughts, and losses of more logits than fit one chunk, have gradients, but these have none of "
            "their own"
        )
