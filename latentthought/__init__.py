"""latentthought teaches a language model to think in hidden states instead of words.

Public names load on first use, so that `import latentthought` is quick; importing it makes transformers' Auto classes know
the model. See the README for the two commands to start with.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from latentthought.model.registration import register_auto_classes

__version__ = "0.1.0"

_HOMES = {
    "LatentThoughtForCausalLM": "latentthought.model.modeling",
    "LatentThoughtConfig": "latentthought.model.configuration",
    "ThoughtConfig": "latentthought.model.configuration",
    "ThoughtPolicy": "latentthought.model.policy",
    "ThoughtSampling": "latentthought.model.policy",
    "EmbeddedPrompt": "latentthought.model.prompt_embeds",
    "embed_prompts": "latentthought.model.prompt_embeds",
    "write_prompt_embeds": "latentthought.model.prompt_embeds",
    "MixSchedule": "latentthought.thoughts.schedule",
    "Curriculum": "latentthought.data.curriculum",
    "Stage": "latentthought.data.curriculum",
    "Example": "latentthought.data.example",
    "Recipe": "latentthought.recipe",
    "load_recipe": "latentthought.recipe",
    "Objective": "latentthought.objective.total",
    "map_layers": "latentthought.objective.layers",
    "prune": "latentthought.distillation.pruning.prune",
    "Teacher": "latentthought.distillation.teacher",
    "TeacherConfig": "latentthought.distillation.teacher",
    "TeacherStateCache": "latentthought.distillation.cache.store",
    "LatentThoughtTrainer": "latentthought.training.trainer",
    "train": "latentthought.training.run",
    "extract_answer": "latentthought.grading",
    "Extraction": "latentthought.grading",
    "grade": "latentthought.grading",
    "GradePolicy": "latentthought.grading",
    "GradingPool": "latentthought.grading.workers.pool",
    "Verdict": "latentthought.grading",
    "evaluate": "latentthought.evaluation",
    "Results": "latentthought.evaluation",
}
__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:  # what `__getattr__` gives, spelt out for editors and type checkers
    from latentthought.data.curriculum import Curriculum as Curriculum
    from latentthought.data.curriculum import Stage as Stage
    from latentthought.data.example import Example as Example
    from latentthought.distillation.cache.store import TeacherStateCache as TeacherStateCache
    from latentthought.distillation.pruning.prune import prune as prune
    from latentthought.distillation.teacher import Teacher as Teacher
    from latentthought.distillation.teacher import TeacherConfig as TeacherConfig
    from latentthought.evaluation import Results as Results
    from latentthought.evaluation import evaluate as evaluate
    from latentthought.grading import Extraction as Extraction
    from latentthought.grading import GradePolicy as GradePolicy
    from latentthought.grading import Verdict as Verdict
    from latentthought.grading import extract_answer as extract_answer
    from latentthought.grading import grade as grade
    from latentthought.grading.workers.pool import GradingPool as GradingPool
    from latentthought.model.configuration import LatentThoughtConfig as LatentThoughtConfig
    from latentthought.model.configuration import ThoughtConfig as ThoughtConfig
    from latentthought.model.modeling import LatentThoughtForCausalLM as LatentThoughtForCausalLM
    from latentthought.model.policy import ThoughtPolicy as ThoughtPolicy
    from latentthought.model.policy import ThoughtSampling as ThoughtSampling
    from latentthought.model.prompt_embeds import EmbeddedPrompt as EmbeddedPrompt
    from latentthought.model.prompt_embeds import embed_prompts as embed_prompts
    from latentthought.model.prompt_embeds import write_prompt_embeds as write_prompt_embeds
    from latentthought.objective.layers import map_layers as map_layers
    from latentthought.objective.total import Objective as Objective
    from latentthought.recipe import Recipe as Recipe
    from latentthought.recipe import load_recipe as load_recipe
    from latentthought.thoughts.schedule import MixSchedule as MixSchedule
    from latentthought.training.run import train as train
    from latentthought.training.trainer import LatentThoughtTrainer as LatentThoughtTrainer


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'latentthought' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


register_auto_classes()
