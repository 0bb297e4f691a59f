"""ZeRO by DeepSpeed: from the engine of a recipe to DeepSpeed's settings, and what it needs around a process.

Nobody writes its JSON: every value follows from the recipe and from how many processes there are, and `--dry-run` shows it. The
optimizer is torch's own, on DeepSpeed's flat partitions: the names in its JSON ("AdamW") stand for kernels that are compiled for
over a minute at first use, and learn nothing else.
Rejected: its bf16 mode, which turns the weights of the module to bf16 for good; autocast over float32 weights is what `ddp` does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from latentthought.errors import require_extra
from latentthought.model.spreading import meet

if TYPE_CHECKING:
    from latentthought.recipe import Recipe

# parameters of fewer numbers (norms, biases) stay whole on every process under ZeRO-3
PERSISTENT = 10_000

# what a launcher tells a process, and what accelerate leaves behind in its surroundings
_ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
_ACCELERATES = ("ACCELERATE_USE_CPU", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_MIXED_PRECISION")


def require_zero(recipe: Recipe) -> None:
    """Raise `MissingExtraError` without DeepSpeed."""
    # DeepSpeed settles on a device when it is imported
    os.environ.setdefault("DS_ACCELERATOR", recipe.engine.resolve_device())
    require_extra("deepspeed", "deepspeed", f"engine.strategy {recipe.engine.strategy}")


def zero_settings(recipe: Recipe, world_size: int) -> dict[str, Any]:
    """DeepSpeed's settings for a recipe on so many processes."""
    engine, training = recipe.engine, recipe.training
    micro, steps = engine.accumulation(training.batch_size, world_size)
    zero: dict[str, Any] = {
        "stage": engine.stage,
        "contiguous_gradients": True,
        "overlap_comm": engine.resolve_device() == "cuda",
        "reduce_bucket_size": engine.bucket_size,
        "allgather_bucket_size": engine.bucket_size,
    }
    host = {"device": "cpu", "pin_memory": engine.resolve_device() == "cuda"}
    if engine.offload != "none":
        zero["offload_optimizer"] = host
    if engine.offload == "all":
        zero["offload_param"] = host
    if engine.stage == 3:
        zero["stage3_param_persistence_threshold"] = PERSISTENT
        zero["stage3_prefetch_bucket_size"] = engine.bucket_size
        zero["stage3_max_live_parameters"] = 10 * engine.bucket_size
        zero["stage3_max_reuse_distance"] = 10 * engine.bucket_size
    settings: dict[str, Any] = {
        "train_batch_size": training.batch_size,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": steps,
        "gradient_clipping": training.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        # torch's AdamW on the host too: DeepSpeed's own for that is compiled at first use
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 40,
        "wall_clock_breakdown": False,
    }
    if engine.autocast == "bf16":
        # no modules whose gradients would be rounded on their way between the processes
        settings["torch_autocast"] = {
            "enabled": True,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        }
    return settings


@contextmanager
def zero_process(recipe: Recipe) -> Iterator[None]:
    """What DeepSpeed looks for around a process, for as long as a run by ZeRO takes.

    Ranks, and an address to meet at, where a launcher has not set them: without these DeepSpeed asks for MPI. Afterwards the
    process is as it was, and may train by another engine.
    """
    before = {name: os.environ.get(name) for name in (*_ALONE, *_ADDRESS, *_ACCELERATES)}
    linear = F.linear
    # accelerate's launcher says `--cpu` by it, and accelerate then trains by DDP without a word
    os.environ.pop("ACCELERATE_USE_CPU", None)
    if recipe.engine.resolve_device() == "cpu":
        _without_compiling()
    alone = "RANK" not in os.environ
    if alone:
        os.environ.update(_ALONE, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
    _forget_engine(alone)
    _forget_lost_group()
    if recipe.engine.stage == 3:  # before anybody else makes a group, with a time-out of his own
        meet(recipe.engine.collective_seconds)
    try:
        yield
    finally:
        # the group of one stays: DeepSpeed keeps it in many places, and a second run is to find it there
        _forget_engine(alone)
        # stage 3 puts one of its own there for good: dearer for models that stand whole, and unknown to `ProductsInPlace`
        F.linear = linear
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _forget_engine(alone: bool) -> None:
    """Let go of what transformers and accelerate keep of an engine for the whole process: they take one, and never another."""
    from accelerate.state import AcceleratorState, GradientState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    # processes that a launcher has started stay in their group
    AcceleratorState._reset_state(reset_partial_state=alone)
    GradientState._reset_state()
    unset_hf_deepspeed_config()


def _forget_lost_group() -> None:
    """Where somebody has taken down the group that DeepSpeed keeps, let it make another one."""
    import deepspeed.comm.comm as communication
    import torch.distributed
    from deepspeed.utils import groups

    if not torch.distributed.is_initialized():
        communication.cdb = None
        for name in ("_WORLD_GROUP", "_ZERO_PARAM_INTRA_PARALLEL_GROUP", "_DATA_PARALLEL_GROUP"):
            setattr(groups, name, None)


def _without_compiling() -> None:
    """Leave out the kernel by which processes of one CPU share memory: gloo does without it, and at a first start it is compiled
    for half a minute, for which a lock file that a killed run has left makes every later one wait for ever."""
    from deepspeed.accelerator import get_accelerator
    from deepspeed.ops import __compatible_ops__ as compatible

    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is not None:
        compatible[builder.NAME] = False


def _free_port() -> int:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
