"""Validation during training: when, on what, and how the scorer enters.

The trainer may not import the evaluation (layers), so whoever starts a run hands in a callable. It gets the live model in
evaluation mode and how far the curriculum has come; random states are put back after it, so scoring never changes a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from latentthought.config import Config

if TYPE_CHECKING:
    from latentthought.data.curriculum import Curriculum
    from latentthought.training.stages import Moment


class ValidationConfig(Config):
    """A slice of a task that is scored while training, by generating.

    task: name or file of an evaluation task; None scores nothing. every: steps between scores, 0 for the end of the run only.
    limit: rows scored. batch_size, max_new_tokens: of generation (None: the task's own).
    """

    task: str | None = None
    every: int = Field(0, ge=0)
    limit: int = Field(200, gt=0)
    batch_size: int = Field(64, gt=0)
    max_new_tokens: int | None = Field(None, gt=0)


class Scorer(Protocol):
    """Scores a model; the values are logged as `validation_<key>`."""

    def __call__(self, model: Any, tokenizer: Any, *, thoughts: int, mix_ratio: float) -> Mapping[str, float]:
        """model: unwrapped, in evaluation mode. thoughts, mix_ratio: what the current stage trains it to answer with."""
        ...


def scores(
    scorer: Scorer, model: Any, tokenizer: Any, curriculum: Curriculum, moment: Moment
) -> dict[str, float]:
    """What a scorer says of a model that answers as the stage of a moment trains it to, named as it is logged."""
    mix_ratio = moment.mix if curriculum.method == "soft_mix" else 0.0
    with undisturbed(model):
        found = scorer(model, tokenizer, thoughts=curriculum.thoughts(moment.stage), mix_ratio=mix_ratio)
    return {f"validation_{key}": float(value) for key, value in found.items()}


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode without gradient; afterwards the mode and all random states are as before."""
    import random

    import numpy as np
    import torch

    was_training = model.training
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            model.train(was_training)
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
