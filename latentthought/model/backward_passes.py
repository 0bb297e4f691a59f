"""What functions that add up gradients by themselves have to know of the backward pass that is going on.

They keep sums from one call to the next, so they have to see when another pass begins: one that broke off, or did not ask for a
tensor, has left its part behind. And they would silently leave out what depends on a gradient, so a backward pass that is
recorded (`create_graph=True`) is refused; torch's `once_differentiable` refuses later, in words that name no cause.
"""

from __future__ import annotations

import torch

from latentthought.errors import UnsupportedError


class BackwardPass:
    """Tells one backward pass from the next."""

    def __init__(self) -> None:
        self._task = -1

    def begins(self) -> bool:
        """Whether the pass that is going on is another one than at the last call."""
        before, self._task = self._task, torch._C._current_graph_task_id()
        return self._task != before


def refuse_second_derivatives() -> None:
    """Called in a backward pass; raises `UnsupportedError` where it is recorded."""
    if torch.is_grad_enabled():
        raise UnsupportedError(
            "create_graph=True: thoughts, and losses of more logits than fit one chunk, have gradients, but these have none of "
            "their own"
        )
