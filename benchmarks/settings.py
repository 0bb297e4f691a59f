"""What one call of `python -m benchmarks` was asked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.workload import Sizes


@dataclass(frozen=True)
class Settings:
    """Shared by all benchmarks.

    quick: tiny sizes, whose times are not judged. rounds: timed rounds, or None for each benchmark's own number. model: name
    of the sizes in `workload.MODELS`.
    teacher: name of the teacher's sizes in distillation, or None for the student's. coconut: folder of the published program.
    accepted: file for the random pairs that the grader accepts.
    """

    sizes: Sizes = field(default_factory=Sizes)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    threads: int = 2
    quick: bool = False
    rounds: int | None = None
    model: str = "small"
    teacher: str | None = None
    coconut: Path | None = None
    accepted: Path | None = None
    seed: int = 0
    silent: bool = False

    def rounds_or(self, usual: int) -> int:
        return usual if self.rounds is None else self.rounds

    def mixed(self) -> torch.autocast:
        """Mixed precision for a forward pass, where another type than float32 was asked for."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def progress(self, text: str) -> None:
        """Say on standard error what is going on."""
        if not self.silent:
            print(text, file=sys.stderr, flush=True)
