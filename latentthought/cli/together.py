"""A command that several processes run together, under torchrun and its kin, or one alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentthought.processes import Group


def together(work: Callable[[Group], None]) -> int:
    """Join the processes, do the work, and return the exit code; a failure of one stops all, and is said where it happened."""
    from latentthought.processes import Group, StoppedElsewhere

    group = Group.join()
    try:
        with group.guard():
            work(group)
    except StoppedElsewhere as error:
        return error.exit_code
    return 0
