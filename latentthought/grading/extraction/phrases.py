"""Answers that a sentence announces: after `####`, after "the answer is" and its kin, after "therefore".

Cost: a search for each key word, bounded patterns where it occurs, a look at one line after the last hit; linear. The last
announcement wins, so a correction ("The answer is 5. Wait, no, the answer is 6.") is the answer, and one that is taken back
("the answer is not 5") is none.
Rejected: a grammar of sentences (it fails on the first typing error), and the first announcement (models restate questions).
"""

from __future__ import annotations

import re

from latentthought.grading.extraction.announcements import announcements
from latentthought.grading.extraction.sentences import (
    FULL_STOP,
    REACH,
    SENTENCE_END,
    end_of,
    first_line,
    math_spans,
    tidy,
    without_emphasis,
)
from latentthought.grading.extraction.silence import says_something

_CANDIDATES = 8  # announcements looked at, from the last one backwards
_LONGEST_BELOW = 200  # characters of a last line that is an answer because the line above ends in a colon

_HEADING = re.compile(
    r"[\s*_]*(?:step|solution|explanation|final answer|answer|conclusion|problem|part|case|reasoning|verification|summary|"
    r"calculation|given|approach|method|analysis|check|note|understand|identify|calculate|find|determine|\d+[.)]\s)",
    re.IGNORECASE,
)
_ANSWER_HEADING = re.compile(r"[\s*_]*(?:the )?(?:final )?(?:answer|result)\b[\s*_:：]*", re.IGNORECASE)

_FILLER = re.compile(
    r"[\s*_:：=,，]*(?:(?:therefore|thus|simply|just|indeed|clearly|then|hence|obviously|definitely|option|choice|letter|选项|选|"
    r"equal to|as follows|given by|la|el|das)\b[\s*_:：,]*)*",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"[\s*_]*(?:not\b|n't|unknown|unclear|undetermined|wrong|incorrect|correct\b|right\b|in the form|asked|required|needed"
    r"|to be\b)",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"(?:^|[.!?\n—-])[\s$*)}\]\\]{0,12}(?:(?:but|oh|hmm),? )?(?:wait|hold on|scratch that|correction|sorry|oops|my mistake"
    r"|actually(?=,)|no(?=, )|let me re(?:check|do|consider|calculate)|i made an? (?:mistake|error)"
    r"|that(?:'s| is) (?:wrong|not right|incorrect))\b",
    re.IGNORECASE,
)
_CORRECTED = re.compile(
    r"\b(?:it(?:'s| is| should be| must be)|this (?:is|gives)|(?:answer|result|total|value|that) (?:is|should be|becomes)"
    r"|should be|we get|gives)\b(?! (?:not|wrong|incorrect|important))",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(r"\b(?:would|could|might) (?:have )?(?:be|been|not)\b", re.IGNORECASE)
_DENIED = re.compile(r"\b(?:cannot|can't|can not|not be)\b", re.IGNORECASE)
_DIRECTLY = re.compile(
    r"[,:]?\s{0,3}(?:no,? )?(?:it(?:'s| is) )?(-?[$€£]?\d[\d.,/]{0,20}(?<=\d)%?)\s{0,3}[.!*]{0,3}(?:\n|$)"
)
_CONCLUSION = re.compile(
    r"(?:^|(?<=[.!?\n。]))[*_\s>-]{0,12}(?:(?:and )?(?:so|therefore|thus|hence|consequently|in total|altogether|in conclusion"
    r"|finally|overall|donc|ainsi|por lo tanto|daher|portanto)\b|所以|因此|因而|故|∴|\\therefore|إذن|إذًا|لذلك|इसलिए|अतः)",
    re.IGNORECASE,
)
_CONCLUDING = (
    "so", "therefore", "thus", "hence", "consequently", "in total", "altogether", "in conclusion", "finally", "overall", "donc",
    "ainsi", "por lo tanto", "daher", "portanto",
)  # fmt: skip
# where the reason for an answer begins
_ANSWER_END = re.compile(
    FULL_STOP + r"|[,，،]?\s{0,8}(?:因为|因為|لأن|क्योंकि)"
    r"|,?\s{1,8}\(?(?:because|since|which|so that|as we|where|for which|car|porque|weil)\b"
    r"|,\s+(?:(?:and )?not|rather than|instead of|(?:et )?(?:non|pas))\b|[,，]\s*(?:而)?不是"
    r"|, so\b|[,;] (?:and|but|as|so|though) (?:I|we|the|this|it|that)\b|\s{1,8}\(since\b",
    re.IGNORECASE,
)
_LETTER_IS = re.compile(r"\(?([A-J])\)? (?:is|seems|was)\b")
_COPULA_END = re.compile(r"(?:है|हैं|होगा|होगी|です|でした|입니다|이다|هو|ist|元整)\s*$")
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])(\d+),(\d{1,2}|\d{4,})(?![\d,])")


def after_hash(text: str) -> str | None:
    """The line after the last `####` (GSM8K), or after the last `###` that is not a heading (this package's own rows)."""
    if "###" not in text:
        return None
    stop = len(text)
    for _ in range(8):  # headings of a Markdown text are no answers
        at = text.rfind("####", 0, stop)
        if at < 0:
            break
        answer = _marked_line(
            text[at:].lstrip("#") if at + REACH > len(text) else text[at : at + REACH].lstrip("#")
        )
        if answer:
            return answer
        stop = at
    for match in list(re.finditer(r"^[ \t]*###[ \t]*+([^#\n]++)$", text, re.MULTILINE))[:-9:-1]:
        if answer := _marked_line(text[match.start(1) : match.start(1) + REACH]):
            return answer
    return None


def _marked_line(after: str) -> str | None:
    """The answer that a `####` line gives: on it, or below the heading "Answer"; None for another heading."""
    line = first_line(after)
    heading = _ANSWER_HEADING.match(line)
    if heading:
        rest = line[heading.end() :].strip(" *_:：")
        return tidy(rest) if rest else (tidy(first_line(after.split("\n", 1)[-1].lstrip())) or None)
    heading_like = line.rstrip(" *").endswith((":", "：")) or (
        not any(c.isdigit() for c in line) and len(line.split()) > 1 and "\n" in after.strip()
    )
    return tidy(line) if line.strip() and not heading_like and not _HEADING.match(line) else None


def after_phrase(text: str) -> tuple[str, int] | None:
    """(answer, where its announcement begins) of the last "the answer is" or its like that is followed by something."""
    found = sorted(announcements(text, _CANDIDATES), key=lambda hit: (hit[0].end(), hit[0].start()))
    for match, comma in found[: -_CANDIDATES - 1 : -1]:
        value = _announced(text, match.end())
        # "the result is" may stand in the middle of a solution: figures in later lines take it back
        weak = any(match.groupdict().values())
        if value and _SUPPOSED.search(match.group()) and match is not found[0][0]:
            continue  # the answer would be 15 if
        if _DENIED.search(match.group()):
            continue  # the answer cannot be determined
        if value and not (
            weak and _has_figures(text[match.end() : match.end() + REACH].lstrip().partition("\n")[2])
        ):
            if comma:
                value = _DECIMAL_COMMA.sub(r"\1.\2", value)
            corrected = _corrected(text[match.end() : match.end() + REACH])
            return corrected or value, match.start()
    return None


def _announced(text: str, start: int) -> str | None:
    """The answer that begins at `start`: a formula, or the rest of the sentence."""
    rest = text[start : start + REACH]
    if _TAKEN_BACK.match(rest):
        return None
    rest = rest[_FILLER.match(rest).end() :]  # type: ignore[union-attr]
    line = first_line(rest)
    if line.startswith(("\\[", "$$")):  # a displayed formula may go over lines
        line = rest.split("\n\n", 1)[0]
    plain = without_emphasis(line)
    math = math_spans(plain)
    if math and plain[: math[0][0]].strip(" *:(") == "":
        following = plain[math[0][2] :].lstrip()
        if (
            not following[:1].isalnum() and not following.startswith((",", "$", "\\"))
        ) or following.startswith(("because", "since", "is ")):
            return tidy(math[0][1])
    end = end_of(_ANSWER_END, plain, math)
    value = tidy(_COPULA_END.sub("", plain[:end]))
    lettered = _LETTER_IS.match(value)
    if lettered:
        return lettered.group(1)
    if math and len(value.split()) > 8:
        return tidy(math[-1][1])
    if value.endswith("}") and value.count("}") > value.count("{"):  # {"answer": "5"}
        value = tidy(value[:-1])
    return value if says_something(value) else None


def _corrected(after: str) -> str | None:
    """What an answer is corrected to in the sentences after it ("Wait, that's wrong. It should be 6."), if it is."""
    wait = _CORRECTION.search(after)
    if not wait:
        return None
    if direct := _DIRECTLY.match(after, wait.end()):
        return direct.group(1)
    better = None
    for better in _CORRECTED.finditer(after, wait.end()):  # noqa: B007 - the last one is wanted
        pass
    if better is None:
        return None
    value = _announced(after, better.end())
    return value if value and any(c.isdigit() for c in value) else None


def _may_conclude(lower: str) -> bool:
    """Whether one of the words is there that a conclusion begins with: a search for them all costs ten times as much."""
    for word in _CONCLUDING:  # noqa: SIM110 - any() takes three times as long
        if word in lower:
            return True
    return False


def conclusion(text: str) -> str | None:
    """The last sentence that begins with "therefore" or the like, without that word; None where figures follow in later lines.

    A last line under one that ends in a colon is one too.
    """
    above, _, below = text.rstrip().rpartition("\n")
    if above.rstrip(" \n*").endswith((":", "：")) and below.strip() and len(below) < _LONGEST_BELOW:
        return below.strip()
    if text.isascii() and not _may_conclude(text.lower()):
        return None
    last = None
    for last in _CONCLUSION.finditer(text, max(0, len(text) - 2 * REACH)):  # noqa: B007
        pass
    if last is None:
        return None
    rest = text[last.end() : last.end() + REACH].lstrip(" ,，،:*_")
    line = first_line(rest)
    if (
        line.rstrip(" *").endswith((":", "："))
        or _has_figures(rest[len(line) :])
        or last.end() + REACH < len(text)
    ):
        return None
    return line[: end_of(SENTENCE_END, line, math_spans(line))].strip() or None


def _has_figures(text: str) -> bool:
    """Whether there is still something in a text that could be the answer."""
    return any(c.isdigit() for c in text) or bool(math_spans(text))


def corrected_after(text: str, start: int) -> str | None:
    """The answer that is announced after `start`, where what stood before is taken back there ("Wait, ...")."""
    after = text[start : start + REACH]
    if not _CORRECTION.search(after[:300]):
        return None
    found = after_phrase(after)
    return found[0] if found else _corrected(after)
