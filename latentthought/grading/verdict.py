"""`grade`: a prediction, a gold answer, a policy; out comes correct, wrong or ungradable, and why.

A prediction may be a whole completion or a bare answer. A completion is searched by the rules of `extraction`; a bare
answer (one short line, no sentence, no mark of an answer) is taken whole, or `x^2 + 3` would be read as its last number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from latentthought.grading.equivalence import equivalent
from latentthought.grading.extraction import (
    NO_ANSWER,
    RULES,
    STRICT_RULES,
    Extraction,
    cut_reasoning,
    extract_answer,
)
from latentthought.grading.policy import GradePolicy

CORRECT, WRONG, UNGRADABLE = "correct", "wrong", "ungradable"
_EXPLICIT = ("answer_tag", "boxed", "fbox", "hash", "phrase")
_BARE_LENGTH = 300
_PROSE_WORDS = """
is are was were so thus hence therefore has have had make makes equal equals get gets got then we she he they it you let because
since need needs cost costs give gives there this that mean means left find can cannot will would maybe think know must should
"""
_PROSE = re.compile(rf"\b(?:{'|'.join(_PROSE_WORDS.split())})\b|[.!?]\s+\S", re.IGNORECASE)
_SUBSTANCE = re.compile(r"[\w\\]|[^\x00-\x7f]")
_LATEX_WORDS = re.compile(r"\\(?:text|mbox|mathrm|textbf)\s*\{[^{}]*\}|\\(?:[a-zA-Z]+|[!,;: ])")
_LONE_LETTER = re.compile(r"(?:^|[\s(*\"])([A-J])(?=$|[\s).,:;*\"!])")


@dataclass(frozen=True, slots=True)
class Verdict:
    """status: `correct`, `wrong` or `ungradable` (no answer, no gold, or too long to be read); reason: a few words.

    `extraction` is the answer that was judged and the rule that found it.
    """

    status: str
    reason: str
    extraction: Extraction = field(default=NO_ANSWER, compare=False)

    @property
    def correct(self) -> bool:
        """Whether the status is `correct`."""
        return self.status == CORRECT


def grade(
    prediction: str,
    gold: str,
    policy: GradePolicy = GradePolicy(),
    *,
    thought_ends: tuple[str, ...] = ("</think>",),
) -> Verdict:
    """Judge a completion or a bare answer against a gold answer. Never raises for any text, never runs any.

    Symmetric on bare answers. An empty gold or a prediction without an answer is `ungradable`, not `wrong`.
    """
    gold = _gold(gold)
    if not gold:
        return Verdict(UNGRADABLE, "no gold answer")
    extraction = _find(prediction, gold, policy, thought_ends)
    answer = extraction.answer
    if answer is None:
        return Verdict(UNGRADABLE, "no answer found" if prediction.strip() else "empty prediction")
    if max(len(answer), len(gold)) > policy.maximum_length:
        if answer.strip() == gold.strip():
            return Verdict(CORRECT, "same text", extraction)
        return Verdict(UNGRADABLE, f"longer than {policy.maximum_length} characters", extraction)
    same, reason = equivalent(answer, gold, policy)
    return Verdict(CORRECT if same else WRONG, reason, extraction)


def _gold(gold: str) -> str:
    """A gold is a bare answer; one that is itself a solution with a box or a `####` line is read like a completion."""
    if "\\boxed" in gold or "\\fbox" in gold or "####" in gold:
        return extract_answer(gold, ("boxed", "fbox", "hash")).answer or gold.strip()
    return gold.strip()


def _find(prediction: str, gold: str, policy: GradePolicy, thought_ends: tuple[str, ...]) -> Extraction:
    if policy.strict:
        return extract_answer(prediction, STRICT_RULES, thought_ends)
    rest = cut_reasoning(prediction, thought_ends).strip()
    if not rest:
        return NO_ANSWER
    if rest.isascii() and rest.isdigit():
        return Extraction(rest, "bare")
    extraction = extract_answer(rest, RULES, thought_ends=())
    if extraction.rule in _EXPLICIT:
        return extraction
    bare = len(rest) <= _BARE_LENGTH and "\n" not in rest and bool(_SUBSTANCE.search(rest))
    # where the gold is a sentence, so may be the answer
    if rest == gold or (bare and (not _is_prose(rest.rstrip(". ")) or _is_prose(gold))):
        return Extraction(rest, "bare")
    if (policy.choices or re.fullmatch(r"\(?[A-J]\)?", gold)) and (
        letters := _LONE_LETTER.findall(rest[-_BARE_LENGTH:])
    ):
        return Extraction(letters[-1], "phrase")
    return extraction


def _is_prose(text: str) -> bool:
    """Whether a line is a sentence with an answer in it, rather than an answer."""
    plain = _LATEX_WORDS.sub(" ", text)
    words = re.findall(r"[A-Za-z]{2,}", plain)
    return len(words) > 8 or bool(_PROSE.search(plain))
