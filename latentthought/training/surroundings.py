"""What the environment of a process must not decide: how a run computes stands in its recipe.

`accelerate launch` hands its options, and those of its configuration file, to the processes by variables, and transformers and
accelerate obey them: with `ACCELERATE_MIXED_PRECISION=bf16` a recipe in fp32 trains in bf16 and nothing says so. Here that is an
error that names the setting of the recipe. Rejected: taking the variables away (whoever typed the option believes in it).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from latentthought.errors import ConfigError

if TYPE_CHECKING:
    from latentthought.training.engine import EngineConfig

# what a launcher sets, all of it
RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MIXED_PRECISION = "ACCELERATE_MIXED_PRECISION"
# variable -> whose engine it asks for; the engine of a run is engine.strategy
ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
DEVICES_OF_DEEPSPEED = ("cpu", "cuda", "hpu", "klxpu", "mlu", "mps", "npu", "sdaa", "supa", "xpu")


def check_surroundings(engine: EngineConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Raise `ConfigError` where the environment asks for another engine or precision than the recipe."""
    if problem := rank_problem(environment):
        told = " ".join(f"{name}={environment[name]}" for name in RANKS if name in environment)
        raise ConfigError(
            f"{told}: {problem}; start several processes by a launcher "
            "(torchrun --standalone --nproc-per-node 2 -m latentthought ...), or unset what one would set, to run one"
        )
    for name, what in ENGINES.items():
        if is_on(environment.get(name)):
            raise ConfigError(
                f"{name}={environment[name]} asks accelerate for {what}, and this run's engine is {engine.strategy}: unset it, "
                "or start without accelerate's options and configuration file for that; the recipe says it (engine=zero2)"
            )
    wanted = environment.get(MIXED_PRECISION, "no").lower() or "no"
    own = "no" if engine.precision == "fp32" else engine.precision
    # under ZeRO it is DeepSpeed that autocasts, and accelerate is told "no"
    if wanted not in ("no", own) or (engine.stage and wanted != "no"):
        raise ConfigError(
            f"{MIXED_PRECISION}={wanted} (accelerate launch --mixed_precision, or its configuration file) would train in "
            f"{wanted}, and engine.precision is {engine.precision}: leave it to the recipe (--mixed_precision no, "
            f"engine.precision={wanted})"
        )
    device = environment.get("DS_ACCELERATOR")
    if device is not None and device not in DEVICES_OF_DEEPSPEED:
        raise ConfigError(
            f"DS_ACCELERATOR={device!r}: DeepSpeed has no such device; unset it, or take one of {', '.join(DEVICES_OF_DEEPSPEED)}"
        )


def rank_problem(environment: Mapping[str, str]) -> str:
    """What is wrong with what a launcher tells a process; empty where nothing is, as where it runs alone."""
    numbers: dict[str, int] = {}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"):
        value = environment.get(name)
        if value is not None and not value.isdecimal():
            return f"{name} is not a whole number"
        if value is not None:
            numbers[name] = int(value)
    size = numbers.get("WORLD_SIZE", 1)
    if not size:
        return "WORLD_SIZE is 0"
    missing = [name for name in RANKS if name not in environment]
    if size > 1 and missing:
        return f"without {', '.join(missing)}"
    wrong = [
        name for name in ("RANK", "LOCAL_RANK") if "WORLD_SIZE" in numbers and numbers.get(name, 0) >= size
    ]
    return f"{wrong[0]} is not below WORLD_SIZE" if wrong else ""


def is_on(value: str | None) -> bool:
    """Whether a variable says yes, as accelerate reads it."""
    return (value or "").lower() in ("1", "true", "t", "yes", "y", "on")
