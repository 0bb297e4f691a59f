"""Where and in what precision a run computes: the part of a recipe that must not change what is learnt.

The batch size of a recipe is the global one; `micro_batch_size` says how much of it fits at once, and accumulation follows.
Under every precision the weights stay float32 (autocast), since an AdamW step of 1e-5 is lost in a bf16 weight of 1. That holds
for ZeRO too, at 20 bytes a parameter over all processes (DeepSpeed's own bf16 mode takes 16), and for FSDP2, at 16; with the
losses of `ddp`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.errors import ConfigError
from latentthought.training.float8 import Float8Config

Precision = Literal["fp32", "bf16", "fp16", "fp8"]
Strategy = Literal["ddp", "fsdp2", "zero1", "zero2", "zero3"]


class EngineConfig(Config):
    """How the work is spread over time and hardware. In YAML also the bare strategy (`engine: zero3`).

    strategy: `ddp`: a copy of everything on every process (one process without a launcher); `zero1`: optimizer states spread over
        the processes; `zero2`: and gradients; `zero3`: and weights. ZeRO is DeepSpeed's; `fsdp2`: all three too, by torch itself.
    offload: keep optimizer states (ZeRO), or all that is spread (`all`: zero3, fsdp2), in the memory of the host.
    precision: fp32, or autocast to bf16 or fp16 (fp16 scales the loss; CUDA and ddp only); fp8: the linear layers of the decoder
        blocks multiply in float8, the rest is as under bf16 (ddp, zero1, zero2). fp8: by which library, see `Float8Config`.
    device: `auto` takes CUDA when there is one.
    micro_batch_size: rows a device works on at once; None is the whole share of the device.
    gradient_checkpointing: recompute instead of keep; a whole latent pass is the unit.
    bucket_size: numbers that ZeRO reduces or gathers at once; they lie in memory beside everything else.
    threads: torch's CPU threads; None leaves them as they are.
    timeout: seconds after which a process that does not move while the others wait for it is named, and the run ended, see
        `training.watchdog`.
    """

    strategy: Strategy = "ddp"
    offload: Literal["none", "optimizer", "all"] = "none"
    precision: Precision = "fp32"
    fp8: Float8Config = Float8Config()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    micro_batch_size: int | None = Field(None, gt=0)
    gradient_checkpointing: bool = False
    bucket_size: int = Field(100_000_000, gt=0)
    threads: int | None = Field(None, gt=0)
    timeout: float = Field(1800.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"strategy": value}
        if not isinstance(value, Mapping | EngineConfig):
            allowed = ", ".join(get_args(Strategy))
            raise ValueError(f"a strategy ({allowed}) or a mapping of settings, not {value!r}")
        return value

    @model_validator(mode="after")
    def _holds(self) -> EngineConfig:
        if self.offload != "none" and self.strategy == "ddp":
            spread = "zero1, zero2 and zero3" if self.offload == "optimizer" else "zero3 and fsdp2"
            raise ValueError(f"offload {self.offload} goes with {spread}, not with ddp")
        if self.offload == "optimizer" and self.strategy == "fsdp2":
            raise ValueError(
                "offload optimizer: fsdp2 keeps weights, gradients and optimizer states in one place; allowed for it: none, all"
            )
        if self.offload == "all" and not self.spreads_weights:
            raise ValueError(
                f"offload all moves weights, which {self.strategy} keeps whole on every device; allowed for it: none, optimizer"
            )
        if self.precision == "fp8" and self.spreads_weights:
            raise ValueError(
                f"precision fp8 holds every weight that {self.strategy} has gathered until the backward pass, and nothing would "
                f"be spared; allowed for {self.strategy}: fp32, bf16; or take zero2"
            )
        if self.precision == "fp16" and self.strategy != "ddp":
            others = "fp32, bf16" if self.spreads_weights else "fp32, bf16, fp8"
            raise ValueError(f"precision fp16 goes with ddp; allowed for {self.strategy}: {others}")
        return self

    @property
    def stage(self) -> int:
        """The stage of ZeRO; 0 without."""
        return int(self.strategy.removeprefix("zero")) if self.strategy.startswith("zero") else 0

    @property
    def autocast(self) -> Literal["fp32", "bf16", "fp16"]:
        """What is computed in where no layer knows better; "fp32" is no autocast."""
        return "bf16" if self.precision == "fp8" else self.precision

    @property
    def spreads_weights(self) -> bool:
        """Whether each process holds only a part of every weight."""
        return self.strategy in ("fsdp2", "zero3")

    @property
    def collective_seconds(self) -> int:
        """How long torch lets processes wait for each other: longer than the watch (`training.watchdog`), which says for whom."""
        return math.ceil(1.5 * self.timeout) + 60

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
            raise ConfigError("engine.precision fp16 needs CUDA; allowed on a CPU: fp32, bf16, fp8")
        return device

    def place(self) -> str:
        """The device of this process, as torch names it: under a launcher each has a GPU of its own."""
        device = self.resolve_device()
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device

    def arguments(self, batch_size: int, world_size: int) -> dict[str, Any]:
        """The share of `transformers.TrainingArguments` that the engine decides, but for DeepSpeed's (`training.zero`)."""
        micro, steps = self.accumulation(batch_size, world_size)
        # under ZeRO it is DeepSpeed that autocasts: accelerate would turn weights and optimizer states to bf16
        precision = self.autocast if self.stage == 0 else "fp32"
        return {
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": steps,
            "use_cpu": self.resolve_device() == "cpu",
            "bf16": precision == "bf16",
            "fp16": precision == "fp16",
            # of a collective: after the watchdog has had the time to say who is waited for
            "ddp_timeout": self.collective_seconds,
        }
