"""What `engine.strategy` asks of a recipe and of the process that it runs in: DeepSpeed's ZeRO (`training.zero`), torch's FSDP2
(`training.fsdp`), or, with `ddp`, nothing."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from latentthought.errors import ConfigError
from latentthought.training.zero import require_zero, zero_process, zero_settings

if TYPE_CHECKING:
    from latentthought.recipe import Recipe

# optimizers whose step is a function of each number alone, so that a part can stand for its tensor
PIECEWISE_OPTIMIZERS = ("adamw", "sgd")


def check_strategy(recipe: Recipe) -> None:
    """Raise `ConfigError` for settings of a recipe that its strategy cannot do, `MissingExtraError` for a lack of DeepSpeed."""
    check_settings(recipe)
    if recipe.engine.stage:
        require_zero(recipe)


def check_settings(recipe: Recipe) -> None:
    """Raise `ConfigError` for settings of a recipe that its strategy cannot do, whatever is installed."""
    engine, training, strategy = recipe.engine, recipe.training, recipe.engine.strategy
    if engine.stage != 3 and recipe.teacher is not None and recipe.teacher.sharded:
        raise ConfigError(
            f"teacher.sharded: true deals it out by zero3, and engine.strategy is {strategy}; allowed for it: false"
        )
    if strategy == "ddp":
        return
    if training.optimizer not in PIECEWISE_OPTIMIZERS:
        raise ConfigError(
            f"training.optimizer: {training.optimizer} needs whole tensors, which {strategy} cuts up; "
            f"allowed for it: {', '.join(PIECEWISE_OPTIMIZERS)}"
        )
    if engine.spreads_weights:
        if recipe.teacher is not None and recipe.teacher.on_policy is not None:
            raise ConfigError(
                f"teacher.on_policy: rows think for different lengths while they write, and under {strategy} every process has "
                "to make every pass; take zero2 or ddp"
            )
        _check_passes(recipe)
        if training.gradient_norms:
            raise ConfigError(
                f"training.gradient_norms: the gradient of a single term needs whole weights; allowed for {strategy}: 0"
            )
        if recipe.model.lora is not None and recipe.model.lora.quantize != "none":
            raise ConfigError(
                f"model.lora.quantize: {recipe.model.lora.quantize} weights cannot be spread by {strategy}; take zero2 or ddp"
            )


def _check_passes(recipe: Recipe) -> None:
    """Raise `ConfigError` for stages that make as many passes as a batch has thoughts: ranks would wait for each other."""
    read = {"curriculum": recipe.curriculum}
    teacher = recipe.teacher
    if teacher is not None and teacher.sharded and teacher.reads == "thoughts":
        read["teacher.curriculum"] = teacher.curriculum or recipe.curriculum
    for where, curriculum in read.items():
        for stage in curriculum.expand():
            mixes = any(stage.mix.at(place) for place in (0.0, 0.5, 1.0))
            if curriculum.method == "soft_mix" and stage.feedback == "sequential" and mixes:
                raise ConfigError(
                    f"{where}: in stage {stage.name} feedback is sequential, which takes a pass for every reasoning position of "
                    f"a batch, and under {recipe.engine.strategy} every process has to make every pass; allowed for it: "
                    "single_pass, jacobi; or take zero2 or ddp"
                )


def strategy_process(recipe: Recipe) -> AbstractContextManager[None]:
    """What the strategy needs around a process, for as long as a run takes. Afterwards it may train by another one."""
    if recipe.engine.stage:
        return zero_process(recipe)
    if recipe.engine.strategy == "fsdp2":
        from latentthought.training.fsdp import fsdp_process

        return fsdp_process(recipe.engine)
    return nullcontext()


def shown_settings(recipe: Recipe, model: Any, processes: int) -> str | None:
    """What the strategy will do on so many processes, for people; None where there is nothing to say. model: as it is trained."""
    on = f"{processes} process{'' if processes == 1 else 'es'}"
    if recipe.engine.stage:
        return f"DeepSpeed's settings for {on}\n{json.dumps(zero_settings(recipe, processes), indent=2)}"
    if recipe.engine.strategy == "fsdp2":
        from latentthought.training.fsdp import fsdp_settings

        return (
            f"FSDP2's units on {on}\n{json.dumps(fsdp_settings(recipe.engine, model, processes), indent=2)}"
        )
    return None
