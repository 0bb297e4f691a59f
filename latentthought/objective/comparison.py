"""What an objective is given of a teacher in one step: which pairs of sites, and the teacher's side of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from latentthought.objective.divergence import CachedLogits
from latentthought.objective.places import Places


@dataclass(frozen=True)
class Comparison:
    """What one term compares in one batch: N pairs of sites.

    student: where, in the student's batch. teacher: where, in the teacher's; None when its side comes from a cache, as
    `states` (N, L, D) in the order of the term's layer pairs, or as the `words` that were kept of its distributions.
    """

    student: Places
    teacher: Places | None = None
    states: Tensor | None = None
    words: CachedLogits | None = None

    def to(self, device: Any, **options: Any) -> Comparison:
        """The same on a device."""
        rest = (
            part if part is None else part.to(device, **options)
            for part in (self.teacher, self.states, self.words)
        )
        return Comparison(self.student.to(device, **options), *rest)  # type: ignore[arg-type]


@dataclass(frozen=True)
class TeacherOutput:
    """The teacher's forward. captured: layer -> (B, T, D), as `forward(capture=...)`. head: (N, D) -> (N, V) logits."""

    captured: Mapping[int, Tensor]
    head: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Depths:
    """Number of blocks of student and teacher, how many leading ids of their vocabularies mean the same token, and for a student
    that was pruned from the teacher which block of it each of its own was."""

    student: int
    teacher: int
    vocabulary: int | None = None
    kept: tuple[int, ...] | None = None
