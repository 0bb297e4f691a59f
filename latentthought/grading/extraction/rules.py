"""Find the answer in a completion, and say which rule found it.

The rules go from the most explicit to the least: an `<answer>` tag, a `\\boxed` or `\\fbox`, a line after `####`, "the
answer is" and its kin, a sentence with "therefore", the last formula, the last number. Reasoning before the last `</think>`
never counts. A text in which no rule fires has no answer, which is not the same as a wrong one.

Every rule is linear in the text; `boxes` and `phrases` say how. Rejected: asking the rules for all candidates and grading the
best (a grader that looks for the gold answer finds it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from latentthought.grading.extraction import phrases
from latentthought.grading.extraction.afterthoughts import without_closing
from latentthought.grading.extraction.boxes import last_box, last_tag
from latentthought.grading.extraction.figures import plain_figures
from latentthought.grading.extraction.sentences import math_spans, side_by_side, tidy, without_emphasis
from latentthought.grading.extraction.silence import given
from latentthought.grading.normalization.unit_names import ONE

RULES = ("answer_tag", "boxed", "fbox", "hash", "phrase", "conclusion", "last_math", "last_number")
STRICT_RULES = ("boxed", "fbox")
EXPLICIT_RULES = ("answer_tag", "boxed", "fbox", "hash", "phrase")
# what closes a reasoning segment
THOUGHT_ENDS = ("</think>",)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answer's text (None: there is none) and the rule that found it.

    rule: boxed, fbox, answer_tag, hash, phrase, conclusion, last_math, last_number or none. `grade` adds `bare` for a
    prediction that was taken whole because it is an answer and nothing else.
    """

    answer: str | None
    rule: str


NO_ANSWER = Extraction(None, "none")

_DIGITS = (
    r"(?:[-+−](?=[\d$€£¥₹. ]))?\s?[$€£¥₹]?\s?-?"
    r"(?:\d{1,3}(?: 000)+(?!\d)|\d{1,3}(?:(?:,|\{,\}|\\,|[\u00a0\u2009\u202f])\d{3})+(?:\.\d+)?|\d+ \d+/\d+|\d+(?:\.\d+)?|\.\d+)"
    r"(?:[eE][-+]?\d+)?(?:\s?/\s?\d+)?(?:\s?\\?%)?"
)
_NUMBER = re.compile(rf"(?<![\w.])(?!(?<=\d,)\d{{3}}(?![\d/])){_DIGITS}")
# not where it goes on as an expression: = 2x + 1
_RESULT = re.compile(rf"\s*((?>{_DIGITS}))(?![\w^(]|\s*[-+*/^(]\s*[\w(\\]|\s*[b-z]\b)")
_EQUATION = re.compile(
    r"(?:\b[A-Za-z](?:\([a-z]\)|_\d)?|\b\d[\w^+*/ -]*) ?=(?: ?(?:[-+*/^(),.\d\\{}]|\b[a-zA-Z]{1,2}\b|sqrt|pi))++$"
)
# a formula that nobody put between dollars: "The probability is \\dfrac{4}{9}."
_RAW_LATEX = re.compile(
    r"(?:\b(?:is|are|of|equals|to)\b|[=:])\s*(-?\(?[\d.]*\s?\\(?:d?frac|sqrt|pi|left|begin)\b[^.]*+(?:\.\d[^.]*+)*+)\.?\s*$"
)
_NUMBERS = re.compile(r"[\s:]*-?\d[\d./]*(?:(?:, (?:and |or )?| and | or )-?\d[\d./]*)+\.?")
_WORD = re.compile(
    r"(?<![\\A-Za-z])[A-Za-z]{3,}|\b(?:i[st]|[wh]e)\b|[\u0600-\u06ff\u0900-\u097f\u3040-\u30ff\u4e00-\u9fff]"
)
_ASSIGNMENT = r"[A-Za-z](?:_\{?\d\}?)? ?= ?[\w./\\{}()^+*√-]{1,40}+"
_ASSIGNED = re.compile(
    rf"\b{_ASSIGNMENT}(?:(?:,? (?:and|or|et|ou) |, ?){_ASSIGNMENT})+[.\s]*$"
)  # x = 3 or x = -3
_STATES = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals?|equal to|gives|yields|becomes|simplifies to|reduces to|sont|est|vaut|es|son|ist|sind)\b"
    r"|\w's\b)(?: at\b)?(?=[ :])",
    re.IGNORECASE,
)
_MATHEMATICS = re.compile(
    r"(?:[\d\s.,:;+*/^=<>()\[\]{}|%$€£°±∈√π∞≤≥≠∪×÷−·!_-]|\\[a-zA-Z]+|(?<![a-zA-Z])(?:[a-zA-Z]|and|or|to|pi|sqrt|sin|cos|tan|log|ln|[ap]m|et"
    r"|y|und|ou|oder)(?![a-zA-Z]))+",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r",?\s(?:(?:which )?(?:is )?(?:attained|achieved|reached|occurs|obtained) (?:at|when|for)|when|if|where|at)"
    r"\s\$?\\?[a-zA-Z]\s?="
    r"[^=]*$"
)
_SHARE = re.compile(
    r"(?:out of|of the|of these|of those|of all|divided by|among|among the)\s+$", re.IGNORECASE
)
_UNIT_WORD = re.compile(r"[ -]?((?:[a-z]{3,}|[cmk]m|kg|ft|ml)\b|[\u4e00-\u9fff]{1,2})")
_CJK_NUMBER = re.compile(
    r"(?<=[\u0600-\u06ff\u0900-\u097f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
)
_BELOW = 400  # characters at the end of a completion in which a last sentence is looked for
_VARIABLE = re.compile(r"\\?[a-zA-Z]+(?:_\{?\w+\}?)?")
_LATER_SENTENCE = re.compile(r"[.!?。]\s|\n")
_CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's marks for a calculator: 2*3 = <<2*3=6>>6
_CONCLUDED = re.compile(
    r"\b(?:is|are|be|was|were|equals|total of|totals|costs?|makes?|get|gets|have|has|takes?|need|needs|"
    r"there (?:is|are)|left with)\b",
    re.IGNORECASE,
)


def extract_answer(
    text: str, rules: tuple[str, ...] = RULES, thought_ends: tuple[str, ...] = THOUGHT_ENDS
) -> Extraction:
    """The final answer of `text`, by the first of `rules` that finds one.

    `thought_ends` are the marks that close a reasoning segment; nothing before the last of them is looked at.
    """
    return search(*prepared(cut_reasoning(text, thought_ends)), rules)


def prepared(text: str) -> tuple[str, bool]:
    """(a text as the rules read it, whether it breaks off where its answer was to come)."""
    if "<<" in text:
        text = _CALCULATION.sub("", text)
    return given(without_closing(plain_figures(text)))


def search(text: str, broken_off: bool = False, rules: tuple[str, ...] = RULES) -> Extraction:
    """The answer of a `prepared` text by the first rule that finds one; where it was to come and did not, what stands above is
    none, unless it was announced as one."""
    if broken_off:
        rules = tuple(rule for rule in rules if rule in EXPLICIT_RULES)
    if "answer_tag" in rules and (inner := last_tag(text)) is not None:
        boxed = last_box(inner)
        return Extraction(boxed[0], boxed[1]) if boxed else Extraction(inner, "answer_tag")
    kinds = tuple(rule for rule in STRICT_RULES if rule in rules)
    boxed = last_box(text, kinds) if kinds else None
    if boxed:
        corrected = phrases.corrected_after(text, boxed[2]) if "phrase" in rules else None
        return Extraction(corrected, "phrase") if corrected else Extraction(boxed[0], boxed[1])
    for rule, find in _FINDERS:
        if rule in rules and (answer := find(text)):
            if rule == "hash":  # "#### The answer is 5"
                answer = _after_phrase(answer) or answer
            return Extraction(answer, rule)
    return NO_ANSWER


def cut_reasoning(text: str, thought_ends: tuple[str, ...] = THOUGHT_ENDS) -> str:
    """What follows the last mark that closes a reasoning segment; the whole text when there is none."""
    start = max((text.rfind(mark) + len(mark) for mark in thought_ends if mark and mark in text), default=0)
    return text[start:]


def _after_phrase(text: str) -> str | None:
    found = phrases.after_phrase(text)
    return found[0] if found else None


def _concluded(text: str) -> str | None:
    """The value in the last sentence that draws a conclusion; None where it has none."""
    sentence = phrases.conclusion(text)
    if not sentence:
        return None
    return value_in(sentence) if _WORD.search(sentence) else tidy(sentence)


def value_in(sentence: str) -> str | None:
    """The value that a sentence states: its formula, the number after its last `=` or its verb, or its last number."""
    sentence = without_emphasis(sentence)
    formulas = [span for span in math_spans(sentence) if not _VARIABLE.fullmatch(span[1])]
    if formulas:
        return tidy(side_by_side(sentence, formulas))
    if raw := _RAW_LATEX.search(sentence):
        return tidy(raw.group(1))
    sentence = _without_condition(sentence)
    if "=" in sentence:
        if several := _ASSIGNED.search(sentence[-_BELOW:]):
            return tidy(several.group())
        return _result(sentence) or stated(sentence) or _equation(sentence)
    if value := stated(sentence):
        return value
    numbers = list(_NUMBER.finditer(sentence))
    for verb in reversed(list(_CONCLUDED.finditer(sentence)) if numbers else []):
        if several := _NUMBERS.fullmatch(sentence, verb.end()):
            return tidy(several.group())
        if verb.end() <= numbers[-1].start():
            return _with_unit(sentence, next(found for found in numbers if verb.end() <= found.start()))
    return last_number_in(sentence)


def _last_math(text: str) -> str | None:
    """The last formula, unless a number follows it in a later sentence; one variable alone is none where there is another
    (`so $3$ for $x$`)."""
    raw = _RAW_LATEX.search(text[-_BELOW:])
    if raw:
        return tidy(raw.group(1))
    spans = math_spans(text)
    if not spans:
        return None
    after = text[spans[-1][2] :]
    later = _LATER_SENTENCE.search(after)
    if later and _NUMBER.search(after, later.end()):
        return None
    named = [span for span in spans[-8:] if not _VARIABLE.fullmatch(span[1])]
    return tidy(side_by_side(text, named) if named else spans[-1][1])


def _without_condition(sentence: str) -> str:
    """`the minimum is 5 when x = 2` without its condition."""
    if "=" not in sentence:
        return sentence
    condition = _CONDITION.search(sentence)
    before = sentence[: condition.start()] if condition else ""
    return before if any(map(str.isdigit, before)) else sentence


def stated(sentence: str) -> str | None:
    """What a sentence ends in after its verb, where that is more than a number and no words: `(2, 5)`, `3 and 4`, `3:4`."""
    for verb in reversed(list(_STATES.finditer(sentence[-_BELOW:]))):
        tail = sentence[-_BELOW:][verb.end() :].strip(" :*.")
        if _MATHEMATICS.fullmatch(tail) and any(map(str.isdigit, tail)) and not _NUMBER.fullmatch(tail):
            computed = "=" in tail and any(map(str.isdigit, tail[: tail.index("=")]))
            unpaired = any(tail.count(a) != tail.count(b) for a, b in ("{}", "()")) and "[" not in tail
            return None if computed or unpaired or tail.startswith(("a ", "=", "}")) else tidy(tail)
    return None


def _with_unit(text: str, found: re.Match[str]) -> str:
    """A number with the unit right after it, where that is a known one: a wrong unit is a wrong answer."""
    word = _UNIT_WORD.match(text, found.end())
    known = word and (word.group(1) in ONE or word.group(1).removesuffix("s") in ONE)
    return found.group().strip() + (" " + word.group(1) if word and known else "")


def _last_number(text: str) -> str | None:
    """The last number, but in a last sentence with a calculation its result: `120/24 = 5 hours to read 120 pages`."""
    text = text.rstrip()
    sentences = _LATER_SENTENCE.split(text[-_BELOW:])
    line = next((sentence for sentence in reversed(sentences) if any(map(str.isdigit, sentence))), "")
    line, whole = _without_condition(line), line
    if line.count("=") > 1 and (several := _ASSIGNED.search(line)):
        return tidy(several.group())
    return ("=" in line and _result(line)) or stated(line) or last_number_in(text if line == whole else line)


def _result(line: str) -> str | None:
    """The number right after the last `=` of a line, unless the number goes on as an expression (`= 2x + 1`)."""
    after = _RESULT.match(line, line.rfind("=") + 1)
    return after.group(1).strip() if after else None


def _equation(sentence: str) -> str | None:
    """`y = 2x + 1` out of `the line is y = 2x + 1`; None where words follow."""
    found = _EQUATION.search(sentence[-200:])
    return tidy(found.group()) if found else last_number_in(sentence)


def last_number_in(text: str) -> str | None:
    """The last number of a text, with its sign, currency, percent sign or denominator."""
    before = last = None
    for match in _NUMBER.finditer(text):
        before, last = last, match
    if last and before and _SHARE.search(text, max(before.end(), last.start() - 16), last.start()):
        last = before if not _LATER_SENTENCE.search(text, before.end(), last.start()) else last  # 3 out of 10
    if not text.isascii():
        for other in _CJK_NUMBER.finditer(text, last.end() if last else 0):
            last = other
    return _with_unit(text, last) if last else None


_FINDERS = (
    ("hash", phrases.after_hash),
    ("phrase", _after_phrase),
    ("conclusion", _concluded),
    ("last_math", _last_math),
    ("last_number", _last_number),
)
