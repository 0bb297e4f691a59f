"""`grade`: a prediction, a gold answer, a policy; out comes correct, wrong or ungradable, and why.

A prediction may be a whole completion or a bare answer. A completion is searched by the rules of `extraction`; a bare
answer (one short line, no sentence, no mark of an answer) is taken whole, or `x^2 + 3` would be read as its last number.
"""

from __future__ import annotations

from collections.abc import Callable

from latentthought.grading.arguments import check_types
from latentthought.grading.equivalence.ladder import equivalent
from latentthought.grading.extraction.prediction import find, find_gold, gold_beside
from latentthought.grading.extraction.rules import THOUGHT_ENDS, Extraction
from latentthought.grading.policy import GradePolicy
from latentthought.grading.verdict import CORRECT, UNGRADABLE, WRONG, Verdict

# two strings that math-verify can read -> (status, reason)
Compare = Callable[[str, str], tuple[str, str]]


def grade(
    prediction: str,
    gold: str,
    policy: GradePolicy = GradePolicy(),
    *,
    thought_ends: tuple[str, ...] = THOUGHT_ENDS,
) -> Verdict:
    """Judge a completion or a bare answer against a gold answer. Never raises for any text, never runs any.

    Symmetric on bare answers. An empty gold or a prediction without an answer is `ungradable`, not `wrong`. Raises `TypeError`
    for anything but text and a policy.
    """
    check_types(prediction, gold, policy)
    return judge(prediction, gold, policy, thought_ends, _compare_in_pool)


def judge(
    prediction: str, gold: str, policy: GradePolicy, thought_ends: tuple[str, ...], compare: Compare
) -> Verdict:
    """`grade`, with the one who asks math-verify where the policy chose it: a pool, or the worker of a pool itself."""
    whole, gold = gold.strip(), find_gold(gold)
    if not gold:
        return Verdict(UNGRADABLE, "no gold answer")
    if prediction.strip() == whole and not policy.strict:
        extraction = Extraction(gold, "bare")
    else:
        extraction = find(prediction, gold, policy, thought_ends)
    answer = extraction.answer
    if answer is None:
        return Verdict(UNGRADABLE, "no answer found" if prediction.strip() else "empty prediction")
    if max(len(answer), len(gold)) > policy.maximum_length:
        if answer.strip() == gold.strip():
            return Verdict(CORRECT, "same text", extraction)
        return Verdict(UNGRADABLE, f"longer than {policy.maximum_length} characters", extraction)
    if extraction.rule == "bare":
        gold = gold_beside(gold, prediction.strip(), policy)
    same, reason = equivalent(answer, gold, policy)
    if not same and policy.symbolic == "math-verify":
        from latentthought.grading.workers.mathverify import second_opinion

        return Verdict(*second_opinion(answer, gold, policy, reason, compare), extraction)
    return Verdict(CORRECT if same else WRONG, reason, extraction)


def _compare_in_pool(answer: str, gold: str) -> tuple[str, str]:
    from latentthought.grading.workers.pool import default_pool

    return default_pool().compare(answer, gold)
