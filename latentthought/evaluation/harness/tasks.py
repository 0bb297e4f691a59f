"""Our tasks as lm-eval sees them: the rows, prompts and verdicts of `evals/*.yaml`, by the same code.

The YAML files in `evals/lm_eval` name `rows` and `score`, so lm-eval runs a task on the rows that `latentthought evaluate` would
take (a local file, the data folder or the hub), prompts a model as it was trained, and grades by our grader. Rejected: the same
rows spelt out in lm-eval's own terms (a template and a regular expression a task would grade otherwise, and go stale).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from latentthought.data.example import Example
from latentthought.errors import UnsupportedError, UserError, require_extra
from latentthought.evaluation.judging import judge
from latentthought.evaluation.tasks import TaskConfig, load_data, load_task
from latentthought.grading.extraction.rules import THOUGHT_ENDS
from latentthought.resources import lm_eval_folder


class _KnowsOurTasks:
    """In front of lm-eval's `TaskManager`: our folder beside those that it is given."""

    def __init__(self, *arguments: Any, include_path: Any = None, **options: Any):
        given = [include_path] if isinstance(include_path, (str, Path)) else list(include_path or [])
        super().__init__(*arguments, include_path=[*map(str, given), str(lm_eval_folder())], **options)  # type: ignore[call-arg]


@cache
def task_manager_class() -> type:
    """lm-eval's `TaskManager`, knowing our tasks too. Raises `MissingExtraError` without lm-eval."""
    tasks = require_extra("lm_eval.tasks", "eval", "evaluation by lm-eval")
    return type("TaskManager", (_KnowsOurTasks, tasks.TaskManager), {})


def task_manager(model: Any = None, **options: Any) -> Any:
    """A `task_manager_class()` for `lm_eval.simple_evaluate(task_manager=...)`.

    Args:
        model: a `LatentThoughtLM` whose rows are to be prompted as it was trained. (With `--model_args pretrained=...` the
            tasks find that out by themselves.)
        options: for lm-eval's `TaskManager`, such as include_path.
    """
    trained = _described(model.model.config.to_dict()) if model is not None else {}
    return task_manager_class()(**{"metadata": trained, **options})


def rows(
    task: str,
    data: str | None = None,
    pretrained: Any = None,
    prompt_format: dict[str, Any] | None = None,
    thought_ends: list[str] | None = None,
    **_: Any,
) -> dict[str, Any]:
    """lm-eval's `custom_dataset`: {"test": the rows of a task}, each with its prompt, its answer, and what judging needs.

    Args:
        task: a task of ours, or a file of one. data: other rows in the form of the task's source.
        pretrained: what lm-eval evaluates; a model folder or run folder of ours brings its own prompt format.
        prompt_format, thought_ends: the same, said by hand (`task_manager`).
    """
    from datasets import Dataset

    config = _task(task)
    if prompt_format is None and isinstance(pretrained, str):
        found = _described(_config_of(pretrained))
        prompt_format, thought_ends = found.get("prompt_format"), found.get("thought_ends")
    if config.few_shot.wanted:
        raise UnsupportedError(f"task {config.name}: its few_shot examples are not carried over to lm-eval")
    form = config.format_for(SimpleNamespace(config=SimpleNamespace(prompt_format=prompt_format)))
    if form.chat and (prompt_format is None or config.chat or config.format is not None):
        raise UnsupportedError(
            f"task {config.name}: lm-eval applies chat templates itself: leave chat out, and give --apply_chat_template"
        )
    return {
        "test": Dataset.from_list(
            [
                {
                    "id": example.id,
                    "question": example.question,
                    "prompt": form.prompt.format(question=example.question),
                    "answer": example.answer,
                    "row": json.dumps(example.to_row(), ensure_ascii=False),
                    "task": task,
                    "thought_ends": list(thought_ends or THOUGHT_ENDS),
                }
                for example in load_data(config, data)
            ]
        )
    }


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's `process_results`: what our grader says of a completion, as the task's metrics."""
    task = _task(doc["task"])
    example = Example.from_row(json.loads(doc["row"]), f"task {task.name}, row {doc['id']}")
    verdict, scores = judge(results[0], example, task, tuple(doc["thought_ends"]))
    return {
        "accuracy": float(verdict.correct),
        **{name: value for name, value in scores.items() if name in task.metrics},
    }


@cache
def _task(name: str) -> TaskConfig:
    return load_task(name)


def _described(config: dict[str, Any]) -> dict[str, Any]:
    """What a model's config says about prompts and about the end of reasoning."""
    end = (config.get("thought") or {}).get("end_token")
    ends = list(dict.fromkeys([*THOUGHT_ENDS, *([end] if end else [])]))
    return {"prompt_format": config.get("prompt_format"), "thought_ends": ends}


def _config_of(pretrained: str) -> dict[str, Any]:
    """The config of a model by folder or hub name, as it is written; empty where it cannot be had (a model behind an API)."""
    from transformers import PreTrainedConfig

    from latentthought.model.locating import locate

    try:
        return PreTrainedConfig.get_config_dict(str(locate(pretrained)[0]))[0]
    except (OSError, ValueError, UserError):
        return {}
