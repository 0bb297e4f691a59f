"""lm-evaluation-harness: the model class `latentthought`, and our tasks in its form.

`LatentThoughtLM` is an `lm_eval.api.model.TemplateLM`, made when it is first asked for, since lm-eval is an extra and slow to
import. Three ways to it: an instance handed to `lm_eval.simple_evaluate`, the command `latentthought lm-eval`, and the entry
point group `lm_eval.models`, for releases of lm-eval that read it.
"""

from __future__ import annotations

from typing import Any

from latentthought.evaluation.harness.tasks import task_manager, task_manager_class

__all__ = ["LatentThoughtLM", "register", "task_manager", "task_manager_class"]

NAME = "latentthought"


def __getattr__(name: str) -> Any:
    if name != "LatentThoughtLM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from latentthought.evaluation.harness.model import model_class

    return model_class()


def register() -> None:
    """Make lm-eval know the model class as `latentthought`. Raises `MissingExtraError` without lm-eval."""
    from latentthought.evaluation.harness.model import model_class

    found = model_class()
    import lm_eval.models  # noqa: F401  (first, because lm-eval fills its registry only while that is empty)
    from lm_eval.api.registry import MODEL_REGISTRY, register_model

    if NAME not in MODEL_REGISTRY:
        register_model(NAME)(found)
