"""Keeps the libraries' chatter out of a terminal; whatever they have to say about an error still comes through."""

from __future__ import annotations

import logging
import os


def quiet() -> None:
    """Turn off transformers' progress bars for reading and writing weights, and warnings about libraries that nobody asked for.

    Called by commands that load a model anyway: it imports transformers.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torchao announces every CUDA kernel that it cannot load on this machine
    logging.getLogger("torchao").setLevel(logging.ERROR)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
