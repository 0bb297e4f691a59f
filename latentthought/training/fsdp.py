"""FSDP2, torch's own `fully_shard`: weights, gradients and optimizer states cut up among the processes, without DeepSpeed.

Every block is a unit, brought together for a pass and again for its backward; what is in no block (embeddings, head, final norm,
companions) is one more, whole from the first pass of a step to the end of its backward. So the head may be called from the
objective, in chunks or on no position at all. A latent step calls each block once a pass and runs backward once, which FSDP2
counts; it needs each of those calls to have an output that backward reaches, as they have: the states of all passes are put in a
row before they are scored.

Cost: each block travels once a pass, and once more in its backward (twice where that recomputes); gradients once a micro-batch,
since those of a weight are complete only when the first pass is done with, and lie whole until then. In bf16 the rounded copies
of float32 weights that autocast makes, 2 bytes a parameter, stay from the forward to the backward pass; where passes are
recomputed, until the forward is over.

Rejected: MixedPrecisionPolicy (gathers those copies and lets them go, but rounds norms too, and so learns something else than
`ddp`); transformers' switch, `TrainingArguments.fsdp` (neither CPUs nor a single process, an optimizer rewired by addresses, a
unit of embeddings, norm and head that opens and shuts with each call of one of them); keeping gradients back between
micro-batches (saves traffic, and holds them whole for longer).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

from latentthought.model.capture import blocks_of
from latentthought.model.sharding import is_spread, spread_by_torch
from latentthought.training.checkpointing import inside

if TYPE_CHECKING:
    from latentthought.training.engine import EngineConfig


def fsdp_sharding(engine: EngineConfig) -> Callable[[nn.Module], None] | None:
    """What a trainer has to do to its model; None for another strategy."""
    if engine.strategy != "fsdp2":
        return None
    return partial(shard, device=torch.device(engine.place()), offload=engine.offload == "all")


def shard(model: nn.Module, device: torch.device, offload: bool = False) -> None:
    """Cut up a model that is whole, and the same on all processes. Its optimizer has to be made afterwards.

    model: what is called for a step; with LoRA peft's wrapper. offload: all that is cut up stays on the host, and is on the
    device while it is whole.
    """
    if not torch.distributed.is_initialized():  # no launcher: a group of one, without an address
        torch.distributed.init_process_group(store=torch.distributed.HashStore(), rank=0, world_size=1)
    mesh = torch.distributed.init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    policy = CPUOffloadPolicy(pin_memory=device.type == "cuda") if offload else OffloadPolicy()
    for block in blocks_of(inside(model).base):
        fully_shard(block, mesh=mesh, reshard_after_forward=True, offload_policy=policy)
        apart = _Apart()
        block.register_forward_pre_hook(apart.begin, prepend=True)
        block.register_forward_hook(apart.end)
    fully_shard(model, mesh=mesh, offload_policy=policy)


class _Apart:
    """Hooks around FSDP2's own on a block, by which a block that was apart before a call is apart after it.

    When backward recomputes a pass FSDP2 leaves its blocks whole until each has had its turn, and that would be the whole model.
    """

    def __init__(self) -> None:
        self._before = False

    def begin(self, block: nn.Module, arguments: tuple) -> None:
        """Before the block is brought together."""
        self._before = is_spread(next(block.parameters()))

    def end(self, block: Any, arguments: tuple, output: Any) -> None:
        """After FSDP2 has done its part."""
        if self._before:
            block.reshard()


def fsdp_settings(engine: EngineConfig, model: Any, processes: int) -> dict[str, Any]:
    """What `shard` will do to a model on so many processes, in numbers."""
    blocks = blocks_of(inside(model).base)
    every = sum(parameter.numel() for parameter in model.parameters())
    inner = [sum(parameter.numel() for parameter in block.parameters()) for block in blocks]
    return {
        "blocks": {
            "class": type(blocks[0]).__name__,
            "number": len(blocks),
            "parameters_each": max(inner),
            "reshard_after_forward": True,
        },
        "rest": {"parameters": every - sum(inner), "reshard_after_forward": False},
        "parameters_a_process": -(-every // processes),
        "offload_policy": "CPUOffloadPolicy" if engine.offload == "all" else None,
        "autocast": "bfloat16" if engine.precision == "bf16" else None,
    }


@contextmanager
def fsdp_process(engine: EngineConfig) -> Iterator[None]:
    """What FSDP2 needs around a process, for as long as a run by it takes."""
    began = torch.distributed.is_initialized()
    launched = "RANK" in os.environ
    if engine.offload == "all" and launched and not began and engine.resolve_device() == "cuda":
        # norms of gradients that lie on the host are added up there; accelerate would only ask for NCCL
        torch.cuda.set_device(engine.place())
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl", timeout=timedelta(seconds=engine.collective_seconds)
        )
    try:
        with spread_by_torch():
            yield
    finally:
        if not began and not launched and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
