"""Keeps the libraries' chatter out of a terminal; whatever they have to say about an error still comes through."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """Turn off transformers' progress bars for reading and writing weights, and warnings about libraries that nobody asked for.

    Called by commands that load a model anyway: it imports transformers.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    quiet_libraries()
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def quiet_libraries() -> None:
    """The part of `quiet` that imports nothing."""
    # torchao, which peft imports where it is installed, announces every CUDA kernel that it cannot load on this machine, and
    # has torch warn of two enums of its own
    logging.getLogger("torchao").setLevel(logging.ERROR)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    # bitsandbytes, which transformers imports where it is installed, misses a kernel that nobody asked for
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # deepspeed, which transformers imports to save a model, announces on standard output that there is no GPU; its own
    # import sets its logger's level anew, and leaves filters alone
    logging.getLogger("DeepSpeed").addFilter(_not_the_accelerator)
    # deepspeed gathers by a name that torch is about to drop
    warnings.filterwarnings("ignore", r"`torch\.distributed\..*is deprecated", FutureWarning)
    # FSDP2 warns of changing what a forward returns in place, which nobody does here
    warnings.filterwarnings("ignore", r"FSDP2-wrapped module .* returned a view", UserWarning)
    # accelerate compares its own number of micro-batches, which Trainer never sets, with deepspeed's
    logging.getLogger("accelerate.accelerator").addFilter(_not_the_accumulation)
    # the errors that follow say the same in one line
    logging.getLogger("transformers.modeling_utils").addFilter(_not_our_report)


def _not_the_accelerator(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Setting accelerator to CPU")


def _not_the_accumulation(record: logging.LogRecord) -> bool:
    return "Gradient accumulation steps mismatch" not in record.getMessage()


def _not_our_report(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    # said of a batch whose finished rows are padded while the others go on; a mask is always given
    if message.startswith("We strongly recommend passing in an `attention_mask`"):
        return False
    return not ("LatentThoughtForCausalLM" in message and "LOAD REPORT" in message)
