"""Accuracy by what the questions are about: the groups (subject, level, ...) of results, for the panels and the radar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentthought.evaluation.results import Results
from latentthought.reporting.figures.given import Given, NothingToDraw, natural
from latentthought.reporting.figures.points import Point, Score, shared_tasks


@dataclass(frozen=True)
class Domain:
    """One group key of one task. values: in the order shown. scores: point's name -> value -> accuracy."""

    task: str
    key: str
    values: Sequence[str]
    points: Sequence[Point]
    scores: Mapping[str, Mapping[str, Score]]
    questions: Mapping[str, int]


def domains(given: Given) -> list[Domain]:
    """Every group key of every task. Raises `NothingToDraw` where there is none."""
    found = []
    for task, points in shared_tasks(given.points).items():
        results = {point.name: [one for _, one in point.results(task)] for point in points}
        keys = dict.fromkeys(key for those in results.values() for one in those for key in one.groups)
        found += [_domain(task[0], key, points, results) for key in keys]
    if not found:
        raise NothingToDraw(
            "no results.json has subjects or levels: evaluate on a task with groups (math, math500), or name columns to "
            "group by: `latentthought evaluate RUN --task NAME 'groups=[subject]'`"
        )
    return found


def _domain(task: str, key: str, points: Sequence[Point], results: Mapping[str, Sequence[Results]]) -> Domain:
    scores: dict[str, dict[str, Score]] = {}
    questions: dict[str, int] = {}
    for name, those in results.items():
        groups = [one.groups[key] for one in those if key in one.groups]
        values = dict.fromkeys(value for group in groups for value in group)
        if values:
            scores[name] = {v: Score.of([group[v] for group in groups if v in group]) for v in values}
        for group in groups:
            questions.update({value: found.n for value, found in group.items()})
    kept = [point for point in points if point.name in scores]
    return Domain(task, key, sorted(questions, key=natural), kept, scores, questions)
