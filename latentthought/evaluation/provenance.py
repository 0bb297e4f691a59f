"""Where a number came from: settings, package versions, git state, the recipe that trained the model."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from latentthought.config import read_yaml
from latentthought.data.encoding import FormatConfig
from latentthought.data.example import Example, ExampleSet
from latentthought.evaluation.decoding import Decoding
from latentthought.evaluation.judging import describe
from latentthought.evaluation.models import name_of, thought_ends_of
from latentthought.evaluation.tasks import TaskConfig

# values read at either end of a parameter
_ENDS = 32
_PACKAGES = ("latentthought", "torch", "transformers")


def settings_of(
    task: TaskConfig,
    decoding: Decoding,
    model: Any,
    examples: ExampleSet,
    samples: int,
    form: FormatConfig,
    shots: Sequence[Example],
) -> dict[str, Any]:
    """All that must not change between a run and its resumption, as plain values."""
    thoughts = decoding.thoughts
    return {
        "task": task.name,
        "version": task.version,
        "control": decoding.control,
        "seed": decoding.seed,
        "model": name_of(model),
        "weights": weights_fingerprint(model),
        "thoughts": thoughts if isinstance(thoughts, (int, type(None))) else str(thoughts),
        "mix_ratio": decoding.mix_ratio,
        "samples": samples,
        "temperature": decoding.temperature,
        "max_new_tokens": decoding.max_new_tokens,
        "generate": {name: str(value) for name, value in decoding.options.items()},
        "format": form.dump(),
        "few_shot": [shot.id for shot in shots[: task.few_shot.wanted]],
        "stop": list(task.stops(form)),
        "grading": describe(task, thought_ends_of(model)),
        "groups": list(task.groups),
        "questions": len(examples),
        "data": examples.fingerprint,
    }


def versions() -> dict[str, str]:
    """Python and the packages that can move a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a checkout without installation
            import latentthought

            found[name] = latentthought.__version__ if name == "latentthought" else "unknown"
    return found


def weights_fingerprint(model: Any) -> str:
    """A hash of every parameter's name, shape and outermost values: another model under the same path is told apart, in
    milliseconds even for billions of weights, since training moves them all."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters() if hasattr(model, "named_parameters") else ():
        flat = parameter.detach().flatten()
        ends = [*flat[:_ENDS].float().tolist(), *flat[-_ENDS:].float().tolist()]
        digest.update(f"{name} {tuple(parameter.shape)} {ends}".encode())
    return digest.hexdigest()


def git_state() -> dict[str, Any] | None:
    """{commit, dirty} of the working directory's repository; None where there is none or no git."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def recipe_of(model_folder: str) -> dict[str, Any] | None:
    """The resolved recipe of the run that a model folder (`RUN/model` or a checkpoint) belongs to; None for any other model."""
    path = Path(model_folder).parent / "recipe.yaml" if model_folder else None
    return read_yaml(path) if path is not None and path.is_file() else None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
