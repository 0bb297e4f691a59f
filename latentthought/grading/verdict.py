"""The three verdicts. A text without an answer is `ungradable`, which is not the same as wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from latentthought.grading.extraction.rules import NO_ANSWER, Extraction

CORRECT, WRONG, UNGRADABLE = "correct", "wrong", "ungradable"


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
