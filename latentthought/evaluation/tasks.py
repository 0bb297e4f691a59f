"""A task: which rows, how they are prompted, how an answer is found and judged, what is reported.

Tasks are the YAML files in `evals/`, versioned because a number means nothing without the task it was measured on: raise
`version` with every change that may move a result. A model that was trained here is prompted as it was trained; `format`
overrides that, `default_format` serves models that carry no format of their own. Any key can be changed without a file of one's
own by `key=value`; what was changed stands in the settings of the results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from latentthought.config import Config, apply_overrides, merge, read_yaml
from latentthought.data.encoding import FormatConfig
from latentthought.data.example import Example, ExampleSet
from latentthought.data.sources import SourceConfig, load_examples
from latentthought.errors import ConfigError, nearest, unknown
from latentthought.evaluation.few_shot import FewShotConfig
from latentthought.evaluation.measures import AT_K
from latentthought.grading import GradePolicy
from latentthought.resources import find_task

Judge = Literal["answer", "graph", "chain", "knights", "zebra"]
# what a judge measures beside accuracy
SCORES: Mapping[str, tuple[str, ...]] = {
    "answer": (),
    "graph": ("consistency",),
    "chain": ("consistency",),
    "knights": ("cell_accuracy", "consistency"),
    "zebra": ("cell_accuracy",),
}


class TaskConfig(Config):
    """One evaluation task.

    data: the rows (a source, its split). format: how to prompt, whatever the model was trained with (None: as trained).
    default_format: how to prompt a model that does not say. chat: by the tokenizer's chat template or plain (None: as the format
    says). few_shot: worked examples in front. stop: texts that end a completion (None: the separator of plain examples).
    judge: `answer` (the grader); `graph` or `chain` (the same, and whether the clues bear it out); or a puzzle whose answer has
    parts. extraction: `flexible` (every rule) or `strict` (a box or nothing). policy: see `GradePolicy`. choices: the rows are
    multiple choice, letter and option text stand for each other. metrics: accuracy, what the judge measures, and avg@K, pass@K,
    maj@K over several samples. groups: keys of a row's meta to report by. max_new_tokens: per answer, thoughts not counted.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: int = Field(ge=1)
    description: str = ""
    data: SourceConfig
    format: FormatConfig | None = None
    default_format: FormatConfig = FormatConfig()
    chat: bool | None = None
    few_shot: FewShotConfig = FewShotConfig()
    stop: tuple[str, ...] | None = None
    judge: Judge = "answer"
    extraction: Literal["flexible", "strict"] = "flexible"
    policy: dict[str, Any] = {}
    choices: bool = False
    metrics: tuple[str, ...] = ("accuracy",)
    groups: tuple[str, ...] = ()
    max_new_tokens: int = Field(default=256, ge=1)

    @field_validator("policy")
    @classmethod
    def _policy_holds(cls, values: dict[str, Any]) -> dict[str, Any]:
        if "strict" in values or "choices" in values:
            raise ValueError("strict and choices are settings of the task: extraction: strict, choices: true")
        GradePolicy.parse(values)
        return values

    @field_validator("stop")
    @classmethod
    def _stops_hold(cls, stops: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if stops and not all(stops):
            raise ValueError("an empty text would end every completion at once")
        return stops

    @field_validator("metrics")
    @classmethod
    def _metrics_hold(cls, metrics: tuple[str, ...], info: Any) -> tuple[str, ...]:
        judge = info.data.get("judge")
        if judge is None:  # which is wrong itself, and will be named
            return metrics
        known = ("accuracy", *SCORES[judge])
        every = {
            "accuracy",
            "avg@K",
            "pass@K",
            "maj@K",
            *(name for names in SCORES.values() for name in names),
        }
        for metric in metrics:
            if metric in known or AT_K.fullmatch(metric):
                continue
            if metric in every:
                raise ValueError(f"judge {judge!r} does not measure {metric}; allowed: {', '.join(known)}")
            raise ValueError(unknown("metric", metric, every))
        return metrics if "accuracy" in metrics else ("accuracy", *metrics)

    @property
    def grade_policy(self) -> GradePolicy:
        """The grading policy of the task, without a row's choices."""
        return GradePolicy.parse({**self.policy, "strict": self.extraction == "strict"})

    def policy_for(self, example: Example) -> GradePolicy:
        """The grading policy of one row."""
        policy = self.grade_policy
        return policy.replace(choices=tuple(example.meta.get("choices", ()))) if self.choices else policy

    def format_for(self, model: Any) -> FormatConfig:
        """How to prompt `model`: the task's override, else the format it was trained with, else the task's default."""
        trained = getattr(getattr(model, "config", None), "prompt_format", None)
        if self.format is not None:
            form = self.format
        else:
            form = (
                FormatConfig.parse(trained, "the model's prompt_format") if trained else self.default_format
            )
        return form if self.chat is None else form.replace(chat=self.chat)

    def stops(self, form: FormatConfig) -> tuple[str, ...]:
        """Texts that end a completion of a prompt in this format."""
        if self.stop is not None:
            return self.stop
        return (self.few_shot.separator,) if self.few_shot.wanted and not form.chat else ()


def load_task(
    task: str | Path | TaskConfig, overrides: Sequence[str] = (), changes: Mapping[str, Any] | None = None
) -> TaskConfig:
    """A task by name, by path, or as it is; `changes` are laid over its values, then the `key=value` overrides.

    Raises `NotFoundError` (near misses), `MissingFileError`, `ConfigError`.
    """
    if isinstance(task, TaskConfig):
        if not overrides and not changes:
            return task
        where, values = f"task {task.name}", task.dump()
    else:
        path = find_task(str(task))
        where, values = str(path), _task_values(path)
    values = apply_overrides(merge(values, changes or {}), overrides)
    return TaskConfig.parse(values, f"{where} with {' '.join(overrides)}" if overrides else where)


def _task_values(path: Path) -> dict[str, Any]:
    """The values of a task file; another kind of file is named as such, not as a list of wrong keys."""
    values = read_yaml(path)
    if not values:
        raise ConfigError(f"{path}: the file is empty; a task has name, version and data")
    if "tasks" in values and "data" not in values:
        raise ConfigError(f"{path}: this is a suite, not a task; evaluate it with --suite {path}")
    if len({"name", "version", "data"} & values.keys()) < 2 and not values.keys() <= set(
        TaskConfig.model_fields
    ):
        raise ConfigError(
            f"{path}: not a task (it has {', '.join(map(str, values))}); a task has name, version and data"
        )
    return values


def require_groups(task: TaskConfig, examples: ExampleSet) -> None:
    """Raise `ConfigError` for a group that no row has: its table would be missing without a word."""
    known = list(dict.fromkeys(key for example in examples for key in example.meta))
    for group in task.groups:
        if group not in known:
            close = nearest(group, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            if task.data.source == "file":
                hint += f"; a column of the file: data.options.meta=[{group}]"
            raise ConfigError(
                f"task {task.name}: groups: no row has {group!r} (the rows have {', '.join(known) or 'none to group by'}){hint}"
            )


def load_data(
    task: TaskConfig,
    data: str | Path | SourceConfig | ExampleSet | list[Example] | None = None,
    limit: int | None = None,
    *,
    seed: int = 0,
    smoke: bool = False,
) -> ExampleSet:
    """The rows of a task: its own, those of a local file in the same source's form, or given ones; the first `limit`."""
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: at least 1 row (got {limit})")
    if isinstance(data, ExampleSet):
        examples = data
    elif isinstance(data, list):
        examples = ExampleSet(data)
    else:
        config = data if isinstance(data, SourceConfig) else task.data
        changes: dict[str, Any] = {"path": str(data)} if isinstance(data, (str, Path)) else {}
        if limit is not None and (config.limit is None or limit < config.limit):
            changes["limit"] = limit
        config = SourceConfig.parse({**config.dump(), **changes}, f"task {task.name}, its data")
        examples = load_examples(config, seed=seed, smoke=smoke)
    examples = examples[:limit] if limit is not None else examples
    if not len(examples):
        raise ConfigError(f"task {task.name}: there is no row to evaluate")
    return examples
