"""Where and in what precision a run computes: the part of a recipe that must not change what is learnt.

The batch size of a recipe is the global one; `micro_batch_size` says how much of it fits at once, and accumulation follows.
Under bf16 and fp16 the weights stay float32 (autocast), since an AdamW step of 1e-5 is lost in a bf16 weight of 1.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field

from latentthought.config import Config
from latentthought.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]


class EngineConfig(Config):
    """How the work is spread over time and hardware.

    precision: fp32, or autocast to bf16 or fp16 (fp16 scales the loss; CUDA only).
    device: `auto` takes CUDA when there is one.
    micro_batch_size: rows a device works on at once; None is the whole share of the device.
    gradient_checkpointing: recompute instead of keep; a whole latent pass is the unit.
    strategy: `ddp`: a copy of the model on every process (one process without torchrun).
    threads: torch's CPU threads; None leaves them as they are.
    """

    precision: Precision = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    micro_batch_size: int | None = Field(None, gt=0)
    gradient_checkpointing: bool = False
    strategy: Literal["ddp"] = "ddp"
    threads: int | None = Field(None, gt=0)

    def accumulation(self, batch_size: int, world_size: int) -> tuple[int, int]:
        """Micro-batch size of a device and micro-batches a step, such that their product over all ranks is `batch_size`."""
        if batch_size % world_size:
            raise ConfigError(
                f"training.batch_size {batch_size} does not divide among {world_size} processes"
            )
        share = batch_size // world_size
        micro = min(self.micro_batch_size or share, share)
        if share % micro:
            raise ConfigError(
                f"engine.micro_batch_size {micro} does not divide the {share} rows that a process gets of "
                f"training.batch_size {batch_size}; allowed: {', '.join(str(n) for n in range(1, share + 1) if share % n == 0)}"
            )
        return micro, share // micro

    def resolve_device(self) -> str:
        """`cpu` or `cuda`; a `ConfigError` when the settings ask for what is not there."""
        import torch

        available = torch.cuda.is_available()
        if self.device == "cuda" and not available:
            raise ConfigError(
                "engine.device is 'cuda', and torch finds no CUDA device; allowed here: auto, cpu"
            )
        device = "cuda" if available and self.device != "cpu" else "cpu"
        if self.precision == "fp16" and device == "cpu":
            raise ConfigError("engine.precision fp16 needs CUDA; allowed on a CPU: fp32, bf16")
        return device

    def place(self) -> str:
        """The device of this process, as torch names it: under a launcher each has a GPU of its own."""
        device = self.resolve_device()
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device

    def arguments(self, batch_size: int, world_size: int) -> dict[str, Any]:
        """The share of `transformers.TrainingArguments` that the engine decides."""
        micro, steps = self.accumulation(batch_size, world_size)
        return {
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": steps,
            "use_cpu": self.resolve_device() == "cpu",
            "bf16": self.precision == "bf16",
            "fp16": self.precision == "fp16",
        }
