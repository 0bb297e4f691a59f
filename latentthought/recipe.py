"""The recipe: one YAML file that says everything about a run.

It composes the configs of the package, each of which stands beside the class it builds. A file may build on another
(`extends: name-or-relative-path`); mappings merge key by key, everything else is replaced. On top of it come, in this
order: the changes of `--smoke`, the recipe's own `smoke:` block, and `key=value` overrides.
Rejected: composition by search paths and groups (nobody can say what a run used), and flags beside the recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from latentthought.config import Config, apply_overrides, merge, read_yaml
from latentthought.data.curriculum import Curriculum
from latentthought.distillation.teacher import TeacherConfig
from latentthought.errors import ConfigError
from latentthought.objective.terms import DEFAULT_TERMS, HiddenTerm, TermConfig, asks_teacher, check_names
from latentthought.resources import find_recipe
from latentthought.training.building import ModelConfig
from latentthought.training.engine import EngineConfig
from latentthought.training.optimization import TrainingConfig
from latentthought.training.rows import DataConfig
from latentthought.training.validation import ValidationConfig

SMOKE_STEPS = 4
# keys that describe a recipe and do not change what it trains
DESCRIPTIVE = frozenset({"name", "description", "extends", "smoke"})
# what of an engine changes more than the order of sums
LASTING = frozenset({"precision", "fp8"})
# what of the training changes no step that goes well
PASSING = frozenset({"bad_steps", "keep_last", "keep_best", "final_model"})


class Recipe(Config):
    """Everything about a run.

    name, description: for people. extends: the recipe it builds on (empty once merged in). seed: of weights, order and draws.
    model, teacher, data, curriculum, objective (a list of terms), training, engine, evaluation (validation while training): see
    their classes. smoke: changes that `--smoke` makes beyond the usual ones.
    """

    name: str = "unnamed"
    description: str = ""
    extends: str | None = None
    seed: int = Field(0, ge=0)
    model: ModelConfig
    teacher: TeacherConfig | None = None
    data: DataConfig
    curriculum: Curriculum
    objective: tuple[TermConfig, ...] = DEFAULT_TERMS
    training: TrainingConfig = TrainingConfig()
    engine: EngineConfig = EngineConfig()
    evaluation: ValidationConfig = ValidationConfig()
    smoke: dict[str, Any] = {}

    @model_validator(mode="after")
    def _terms_hold(self) -> Recipe:
        check_names(self.objective)
        asking = [term for term in self.objective if asks_teacher(term)]
        if asking and self.teacher is None:
            raise ValueError(
                f"objective.{asking[0].name} compares with a teacher: say which (teacher.model: a name, a folder, or self)"
            )
        adaptive = [s.name for s in self.curriculum.expand() if s.advance_at is not None]
        if (adaptive or self.curriculum.on_collapse) and not self.training.accuracy:
            raise ValueError("stages that end early or go back on a collapse need training.accuracy: true")
        if self.training.keep_best and (self.evaluation.task is None or not self.evaluation.every):
            raise ValueError(
                "training.keep_best goes by the validation: say what is scored (evaluation.task) and how often (evaluation.every)"
            )
        return self

    def differences(self, other: Recipe) -> list[str]:
        """Dotted keys in which two recipes differ, as far as a resume must not change them: not what describes a recipe, what
        to do about bad steps, which checkpoints to keep, and of the engine only the precision and fp8."""
        mine, theirs = (
            {key: value for key, value in recipe.dump().items() if key not in DESCRIPTIVE}
            for recipe in (self, other)
        )
        for values in (mine, theirs):
            values["engine"] = {key: value for key, value in values["engine"].items() if key in LASTING}
            values["training"] = {k: v for k, v in values["training"].items() if k not in PASSING}
        return list(_differences(mine, theirs, ""))


def load_recipe(path_or_name: str | Path, overrides: Iterable[str] = (), smoke: bool = False) -> Recipe:
    """Read a recipe by name (`quickstart`) or path.

    overrides: `key=value` texts, dotted keys, YAML values. smoke: shrink it to seconds on a CPU, same code path.
    Raises `ConfigError` with every problem at once, `MissingFileError` or `NotFoundError` for the file.
    """
    path = find_recipe(path_or_name)
    overrides = [_spelled_out(text) for text in overrides]
    where = f"{path} with {' '.join(overrides)}" if overrides else str(path)
    values = _with_parents(path, ())
    values.setdefault("name", path.stem)
    values.pop("extends", None)  # merged in; a resolved recipe reads without its parent
    values = apply_overrides(values, overrides)
    if smoke:
        # cut from the recipe as the overrides make it; they are laid over the cut once more, since they come last
        extra = values.get("smoke") or {}
        if not isinstance(extra, Mapping):
            raise ConfigError(
                f"{path}: smoke: expected a mapping of keys to values, got {type(extra).__name__}"
            )
        values = merge(merge(values, smoke_changes(Recipe.parse(values, where))), extra)
        values = apply_overrides(values, overrides)
        teacher = values.get("teacher") or {}
        if any(text.startswith("teacher.model=") for text in overrides) and teacher.get("scratch"):
            raise ConfigError(
                f"teacher.model={teacher['model']}: a smoke run has a tiny teacher of its own making; leave it out"
            )
        for part in ("each", "first", "last"):
            length = values["curriculum"][part]
            if isinstance(length, dict) and length.get("epochs") is not None:
                length["steps"] = None  # epochs asked for in place of the cut's steps
    return Recipe.parse(values, where)


def _spelled_out(override: str) -> str:
    """`engine=zero3` as `engine.strategy=zero3`, which leaves the engine's other settings as they are."""
    key, _, value = override.partition("=")
    return f"engine.strategy={value}" if key.strip() == "engine" and value.strip().isalnum() else override


def smoke_changes(recipe: Recipe) -> dict[str, Any]:
    """What `--smoke` changes in every recipe: a tiny model from scratch with a tokenizer of its own, few rows and steps."""
    architecture = recipe.model.scratch.architecture if recipe.model.scratch else "llama"
    tokenizer = recipe.model.dump()["tokenizer"]
    training, limit = recipe.training, recipe.data.max_length or 512
    # four-bit layers of a CPU take inputs whose width is a multiple of 64
    width = 64 if recipe.model.lora and recipe.model.lora.quantize == "4bit" else 32
    return {
        "model": {
            "base": None,
            "scratch": {
                "architecture": architecture,
                "layers": 2,
                "width": width,
                "heads": 4,
                "kv_heads": None,
                "mlp_width": 64,
                "max_positions": 1024,
            },
            "tokenizer": tokenizer if isinstance(tokenizer, dict) else {"kind": "words", "vocab_size": 2048},
        },
        "data": {"limit": min(recipe.data.limit or 64, 64), "max_length": min(limit, 512)},
        # so few steps teach nothing, and everything would count as a collapse
        "curriculum": {**recipe.curriculum.with_steps(SMOKE_STEPS).dump(), "on_collapse": None},
        "training": {
            "batch_size": 4,
            "learning_rate": 1e-3,
            "warmup_steps": min(training.warmup_steps, 2),
            "stage_warmup_steps": min(training.stage_warmup_steps, 2),
            "log_every": 2,
            "save_every": SMOKE_STEPS,
            "max_steps": None,
            "keep_best": 0,
            "final_model": "last",
            "report_to": [],
        },
        "engine": {
            "precision": "fp32",
            "device": "cpu",
            "micro_batch_size": 2 if recipe.engine.micro_batch_size else None,
        },
        "evaluation": {"every": 0, "limit": 8, "batch_size": 4, "max_new_tokens": 16},
        **_smaller_teaching(recipe),
    }


def _smaller_teaching(recipe: Recipe) -> dict[str, Any]:
    """A tiny teacher of another depth and width than the tiny student, and layers that both have."""
    changes: dict[str, Any] = {}
    if any(_by_number(term) for term in recipe.objective):
        terms = [term.dump() for term in recipe.objective]
        for term, values in zip(recipe.objective, terms, strict=True):
            if _by_number(term):
                values.update(layers={"strategy": "middle_final"}, layer_weights=None)
        changes["objective"] = terms
    if recipe.teacher is not None:
        changes["teacher"] = recipe.teacher.smoke_changes()
    return changes


def _by_number(term: TermConfig) -> bool:
    """Whether a term names layers by number: those of the real models."""
    pairs = term.layers.pairs if isinstance(term, HiddenTerm) else None
    return any(type(layer) is int for pair in pairs or () for layer in pair)


def _with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a recipe file laid over those of the one it extends."""
    resolved = path.resolve()
    if resolved in seen:
        chain = " -> ".join(p.name for p in (*seen, resolved))
        raise ConfigError(f"{seen[0]}: extends goes in a circle: {chain}")
    values = read_yaml(path)
    if isinstance(
        values.get("engine"), str
    ):  # a bare strategy, which leaves the parent's other settings as they are
        values["engine"] = {"strategy": values["engine"]}
    parent = values.get("extends")
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends: expected the name or path of a recipe, got {parent!r}")
    beside = path.parent / parent
    found = beside if beside.suffix in (".yaml", ".yml") and beside.is_file() else find_recipe(parent)
    inherited = {
        k: v for k, v in _with_parents(found, (*seen, resolved)).items() if k not in ("name", "description")
    }
    return merge(inherited, values)


def _differences(mine: Any, theirs: Any, path: str) -> Iterable[str]:
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        for key in dict.fromkeys([*mine, *theirs]):
            yield from _differences(mine.get(key), theirs.get(key), f"{path}.{key}" if path else str(key))
    elif mine != theirs:
        yield f"{path} ({theirs!r} -> {mine!r})"
