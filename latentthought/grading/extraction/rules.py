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
from latentthought.grading.extraction.boxes import last_box, last_tag
from latentthought.grading.extraction.sentences import math_spans, tidy, without_emphasis
from latentthought.grading.normalization.unit_names import ONE

RULES = ("answer_tag", "boxed", "fbox", "hash", "phrase", "conclusion", "last_math", "last_number")
STRICT_RULES = ("boxed", "fbox")
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
_NUMBER = re.compile(rf"(?<![\w.]){_DIGITS}")
# not where it goes on as an expression: = 2x + 1
_RESULT = re.compile(rf"\s*((?>{_DIGITS}))(?![\w^(]|\s*[-+*/^(]\s*[\w(\\]|\s*[b-z]\b)")
_EQUATION = re.compile(
    r"(?:\b[A-Za-z](?:\([a-z]\)|_\d)?|\b\d[\w^+*/ -]*) ?=(?: ?(?:[-+*/^(),.\d\\{}]|\b[a-zA-Z]{1,2}\b|sqrt|pi)+)+$"
)
# a formula that nobody put between dollars: "The probability is \\dfrac{4}{9}."
_RAW_LATEX = re.compile(
    r"(?:\b(?:is|are|of|equals|to)\b|[=:])\s*(-?\(?[\d.]*\s?\\(?:d?frac|sqrt|pi|left|begin)\b[^.]*(?:\.\d[^.]*)*)\.?\s*$"
)
_NUMBERS = re.compile(r"[\s:]*-?\d[\d./]*(?:(?:, (?:and |or )?| and | or )-?\d[\d./]*)+\.?")
_WORD = re.compile(
    r"(?<![\\A-Za-z])[A-Za-z]{3,}|\b(?:i[st]|[wh]e)\b|[\u0600-\u06ff\u0900-\u097f\u3040-\u30ff\u4e00-\u9fff]"
)
_UNIT_WORD = re.compile(r"[ -]?((?:[a-z]{3,}|[cmk]m|kg|ft|ml)\b|[\u4e00-\u9fff]{1,2})")
_CJK_NUMBER = re.compile(
    r"(?<=[\u0600-\u06ff\u0900-\u097f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af])\d+(?:\.\d+)?"
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
    text = cut_reasoning(text, thought_ends)
    if "<<" in text:
        text = _CALCULATION.sub("", text)
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
    formulas = [content for _, content, _ in math_spans(sentence) if not _VARIABLE.fullmatch(content)]
    if formulas:
        return tidy(formulas[-1])
    if raw := _RAW_LATEX.search(sentence):
        return tidy(raw.group(1))
    if "=" in sentence:
        return _result(sentence) or _equation(sentence)
    for verb in reversed(list(_CONCLUDED.finditer(sentence))):
        if several := _NUMBERS.fullmatch(sentence, verb.end()):
            return tidy(several.group())
        if after := _NUMBER.search(sentence, verb.end()):
            return _with_unit(sentence, after)
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
    contents = [content for _, content, _ in spans[:-9:-1]]
    return tidy(next((content for content in contents if not _VARIABLE.fullmatch(content)), contents[0]))


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
    return ("=" in line and _result(line)) or last_number_in(text)


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
    last = None
    for last in _NUMBER.finditer(text):  # noqa: B007 - the last one is wanted
        pass
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
