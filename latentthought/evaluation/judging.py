"""From a completion to a judgement, by the task's own rule."""

from __future__ import annotations

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
