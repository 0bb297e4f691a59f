"""From a completion to a judgement, by the task's own rule."""

from __future__ import annotations

from typing import Any

from latentthought.data.example import Example
from latentthought.evaluation.puzzles import Judgement, judge_knights, judge_zebra
from latentthought.evaluation.tasks import TaskConfig
from latentthought.grading import grade


def judge(
    completion: str, example: Example, task: TaskConfig, thought_ends: tuple[str, ...] = ("</think>",)
) -> Judgement:
    """Judge one completion of one row. Never raises for any completion."""
    if task.judge == "knights":
        return judge_knights(completion, example, task.grade_policy, thought_ends)
    if task.judge == "zebra":
        return judge_zebra(completion, example, task.grade_policy, thought_ends)
    return Judgement(
        grade(completion, example.answer, task.policy_for(example), thought_ends=thought_ends), {}
    )


def describe(task: TaskConfig, thought_ends: tuple[str, ...]) -> dict[str, Any]:
    """How completions of a task are judged, as `results.json` says it."""
    return {
        "engine": "latentthought",
        "judge": task.judge,
        "extraction": task.extraction,
        "policy": task.grade_policy.dump(),
        "thought_ends": list(thought_ends),
    }
