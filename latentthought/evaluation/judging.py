"""From a completion to a judgement, by the task's own rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from latentthought.data.example import Example
from latentthought.evaluation.clues import chain_consistency, graph_consistency
from latentthought.evaluation.puzzles import Judgement, judge_knights, judge_zebra
from latentthought.evaluation.tasks import TaskConfig
from latentthought.grading import GradePolicy, Verdict, grade
from latentthought.grading.extraction.rules import THOUGHT_ENDS

# `grade`, or the same method of a `GradingPool`
Grader = Callable[..., Verdict]
_CONSISTENCY = {"graph": graph_consistency, "chain": chain_consistency}


def judge(
    completion: str,
    example: Example,
    task: TaskConfig,
    thought_ends: tuple[str, ...] = THOUGHT_ENDS,
    grader: Grader = grade,
) -> Judgement:
    """Judge one completion of one row. Never raises for any completion."""
    if task.judge == "knights":
        return judge_knights(completion, example, task.grade_policy, thought_ends)
    if task.judge == "zebra":
        return judge_zebra(completion, example, task.grade_policy, thought_ends)
    verdict = grader(completion, example.answer, task.policy_for(example), thought_ends=thought_ends)
    check = _CONSISTENCY.get(task.judge)
    consistent = check(completion, verdict.extraction.answer, example, thought_ends) if check else None
    return Judgement(verdict, {} if consistent is None else {"consistency": consistent})


def extractions(
    completion: str,
    example: Example,
    task: TaskConfig,
    thought_ends: tuple[str, ...],
    verdict: Verdict,
    grader: Grader = grade,
) -> dict[str, str]:
    """The verdict's status under strict and flexible extraction, of which `verdict` is one; {} for a grid, which is found in
    one way only."""
    if task.judge == "zebra":
        return {}
    policy, other = policies(task, example)
    if task.judge == "knights":
        status = judge_knights(completion, example, other, thought_ends).verdict.status
    else:
        status = grader(completion, example.answer, other, thought_ends=thought_ends).status
    strict, flexible = (verdict.status, status) if policy.strict else (status, verdict.status)
    return {"strict": strict, "flexible": flexible}


def policies(task: TaskConfig, example: Example) -> tuple[GradePolicy, GradePolicy]:
    """A row's policy, and the same with the other extraction."""
    policy = task.policy_for(example)
    return policy, policy.replace(strict=not policy.strict)


def describe(task: TaskConfig, thought_ends: tuple[str, ...]) -> dict[str, Any]:
    """How completions of a task are judged, as `results.json` says it."""
    return {
        "engine": "latentthought",
        "judge": task.judge,
        "extraction": task.extraction,
        "policy": task.grade_policy.dump(),
        "choices": task.choices,
        "thought_ends": list(thought_ends),
    }
