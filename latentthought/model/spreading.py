"""Models whose weights are dealt out to the processes while they are read, so that none of them ever holds a whole one.

Under ZeRO-3 a model that is read whole first needs the memory of the whole on every process, once for the student and once for
a teacher, before DeepSpeed cuts it up. transformers does better while it knows of DeepSpeed's settings: each module is cut up as
soon as it is made, and gets its weights from the first process, tensor by tensor. Only a block of code lets it know here, so
that everything else (a teacher that stays whole, a decoder beside the student) is made as ever.
Cost: every tensor goes over the wire once. Rejected: each process reading its own part of the files (transformers has no such
way, and would have to be rebuilt), and models made from nothing (their weights would be drawn in another order).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from latentthought.errors import UnsupportedError


@contextmanager
def spread_loading(settings: Mapping[str, Any] | None) -> Iterator[None]:
    """Inside the block transformers deals out the weights of every model that it reads; all processes have to enter it.

    settings: DeepSpeed's, of stage 3; with None the block is like any other.
    """
    if settings is None:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    meet()
    known = HfDeepSpeedConfig(copy.deepcopy(dict(settings)))  # for as long as it lives
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del known


def frozen_settings(settings: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's settings for a model of this type that stands frozen beside the one that `settings` are for.

    Raises `UnsupportedError` for a type that DeepSpeed does not know on this device.
    """
    from deepspeed.accelerator import get_accelerator

    if dtype == torch.float16 and not get_accelerator().is_fp16_supported():
        raise UnsupportedError("weights in float16 are not dealt out on a CPU; allowed there: fp32, bf16")
    kept = (
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "steps_per_print",
    )
    zero = {
        name: value for name, value in settings["zero_optimization"].items() if name != "offload_optimizer"
    }
    names = {torch.bfloat16: "bf16", torch.float16: "fp16"}
    half = {names[dtype]: {"enabled": True}} if dtype in names else {}
    return {**{name: settings[name] for name in kept}, "zero_optimization": zero, **half}


def spread_frozen(model: nn.Module, settings: Mapping[str, Any]) -> Any:
    """Deal out what of a frozen model is still whole, and let its modules bring their weights together whenever they are called;
    all processes have to make all of those calls. It does so for as long as what is returned lives."""
    import deepspeed

    meet()
    engine, *_ = deepspeed.initialize(model=model, config=copy.deepcopy(dict(settings)))
    return engine


def meet(seconds: float = 1800.0) -> None:
    """Make the group of all processes, where there is none; transformers, which makes it otherwise, comes too late for reading.

    seconds: how long one of its collectives may take.
    """
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    get_accelerator().set_device(int(os.environ.get("LOCAL_RANK", "0")))
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False, timeout=timedelta(seconds=seconds))
