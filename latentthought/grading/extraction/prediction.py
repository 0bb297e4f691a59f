"""What of a prediction is held against a gold answer: the whole of a bare answer, or what the rules of `extraction` find.

The gold answer decides only what kind of thing is looked for (a number, a letter, yes or no, words), never which: a sentence is
read for its number where the gold is a number, and stays a sentence where the gold is one.
"""

from __future__ import annotations

import re

from latentthought.grading.equivalence.choices import choice_index, letter, only_letter
from latentthought.grading.expression.phrases import says_a_set
from latentthought.grading.extraction.afterthoughts import headline, main_part
from latentthought.grading.extraction.rules import (
    EXPLICIT_RULES,
    NO_ANSWER,
    RULES,
    STRICT_RULES,
    THOUGHT_ENDS,
    Extraction,
    cut_reasoning,
    extract_answer,
    last_number_in,
    prepared,
    search,
    value_in,
)
from latentthought.grading.extraction.silence import refuses, without_value
from latentthought.grading.normalization.environments import joined_lines
from latentthought.grading.normalization.numbers import number
from latentthought.grading.normalization.plain import key, normalize
from latentthought.grading.normalization.words import BOOLEANS, NUMBER_WORDS, digits_for_words
from latentthought.grading.policy import GradePolicy

_BARE_LENGTH = 300
_NUMBER_LENGTH = 60
_PROSE_WORDS = """
is are was were so thus hence therefore has have had make makes equal equals get gets got then we she he they it you let because
since need needs cost costs give gives there this that mean means left find can cannot will would maybe think know must should
vaut simplifies reduces becomes yields donc est sont il elle es son der das ist sind
"""
_PROSE = re.compile(rf"\b(?:{'|'.join(_PROSE_WORDS.split())})\b|[.!?]\s+\S|[。；]\s*\S", re.IGNORECASE)
_SUBSTANCE = re.compile(r"[\w\\]|[^\x00-\x7f]")
_LATEX_WORDS = re.compile(r"\\(?:text|mbox|mathrm|textbf)\s*\{[^{}]*\}|\\(?:[a-zA-Z]+|[!,;: ])")
# a letter that stands as an option, not the words "A" and "I"
_LONE_LETTER = re.compile(r"(?:^|[\s(*\"：:])(?:([A-J])(?=$|[).,:;*\"!])|([B-HJ])(?=\s))")
# "answer b", "d is correct", "= 600 m e"
_LAST_LETTER = re.compile(
    r"(?:\b(?:ans(?:wer)?|option|choice|imo)[\s:.-]{0,12}(?:is|choice|option)?|[\s.,])"
    r"[\s:.-]{0,12}\(? ?\b([A-Ja-j]) ?\)?[\s.\"'*]*$"
    r"|\b([A-Ja-j]) is (?:the )?(?:correct )?(?:answer|correct|right|choice|option)(?: choice| answer| option)?[\s.\"']*$"
)
_LETTERS = re.compile(r"[A-Za-z]{2,}")
_WORDY = re.compile(
    r"(?<![\\A-Za-z])[A-Za-z]{3,}[,;:]? +(?:[$€£]?-?[\d.]+ +)?[A-Za-z]{2,}"
    r"|[\u0400-\u04ff\u0600-\u06ff\u0900-\u097f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]{2,}|[\u4e00-\u9fff]\d"
)
_ARITHMETIC = re.compile(r"[\d\s.,+*/()$€£%×÷·−-]+=[^=]*", re.DOTALL)
_LETTER_AND = re.compile(r"\(?([A-J])\)?,\s(?![A-Ja-j]\b|and\b|or\b)")  # C, 42
# Distance = 150; A = 9 pi = 28.27
_QUANTITY = re.compile(
    r"\s*(?:[A-Za-z]+ ){0,4}[A-Za-z]{3,}\s*=|\$*\\(?:int|sum|prod|lim|binom|det)\b[^=]*=|[^=]*=[^=]*=",
    re.DOTALL,
)
_SEPARATED = re.compile(r"[,;，、；]|\b(?:or|and|ou|et|oder|und|o|y)\b|[或和]|أو")
_MATH_END = re.compile(r"(?<!\s)\s*+(?:(?:\\[\])]|\$\$?)\s*+)?$")
_SIDE = re.compile(r"=(?!.*=)\s*(.+)", re.DOTALL)
_SAID = re.compile(r".*\b(?:is|are|was|were|be|equals?)\b:?\s+(.+)", re.DOTALL)  # The winner is Evelyn
_NAMES = re.compile(
    r"\b(?:is|are|was|were)\b:? ([A-Z][\w'-]*(?: [A-Z][\w'-]*){0,3}(?:, (?:the|an?|which|who|where) [^.\n]*)?)[.!]?$"
)
_NAMED = re.compile(r"[A-Za-z]{3,}\.? \d")  # March 5
_APPOSITION = re.compile(r",\s+(?:the|an?|which|who|where|as)\s.*", re.DOTALL)  # Paris, the capital of France
_LABELLED = re.compile(r"\(?[A-J]\)[.:]? +(\S.*)", re.DOTALL)
_CLOCK = re.compile(r"\b\d{1,2}:\d\d(?: ?[ap]\.?m\b\.?)?|\b\d{1,2} ?[ap]\.?m\b\.?", re.IGNORECASE)
_DENIAL_REACH = 16
_DENYING = r"\b(?:not|n't|(?:less|more|fewer|greater|larger|smaller|other) than|at least|at most|between|except(?: for)?)"
_DENIED = re.compile(rf"{_DENYING} [$€£]?$", re.IGNORECASE)
_DENIED_NUMBER = re.compile(rf"{_DENYING} [$€£]?-?\d", re.IGNORECASE)
_SEVERAL_LETTERS = re.compile(r"\b[A-J]\)?(?:,? or| and|,) \(?[A-J]\b\)?[\s.*]*$")
_YES_OR_NO = re.compile(r"\b(not )?(yes|true|false)\b|\b(no)(?=[.,!;*]|\s*$)", re.IGNORECASE)
_FIRST_WORD = re.compile(r"[\s*_\"'(]*([^\W\d_][^\s.,!:;*\"'،。，！)]*)")
_ASKED = re.compile(r"^(?:true or false|yes or no)\s?[:?]\s?", re.IGNORECASE)
_BOTH = re.compile(r"[,\s]*(?:and|or|/) ?(?:yes|no|true|false)\b", re.IGNORECASE)  # yes and no
_NEGATION = re.compile(r"\b(?:not|no|never|either|or|cannot|neither)\b|n't\b", re.IGNORECASE)


def find_gold(gold: str) -> str:
    """A gold is a bare answer; one that is itself a solution with a box or a `####` line is read like a completion."""
    if "\\boxed" in gold or "\\fbox" in gold or "####" in gold:
        return extract_answer(gold, ("boxed", "fbox", "hash")).answer or gold.strip()
    return gold.strip()


def gold_beside(gold: str, answer: str, policy: GradePolicy) -> str:
    """The gold answer as it is held against a bare answer: read like one itself, so that either may be the other."""
    return _focused(Extraction(gold, "bare"), answer, policy).answer or gold


def find(
    prediction: str, gold: str, policy: GradePolicy, thought_ends: tuple[str, ...] = THOUGHT_ENDS
) -> Extraction:
    """The answer in a prediction and the rule that found it; `gold` says what kind of answer is looked for."""
    if policy.strict:
        return extract_answer(prediction, STRICT_RULES, thought_ends)
    rest = cut_reasoning(prediction, thought_ends).strip()
    if not rest:
        return NO_ANSWER
    # the commonest answers need no search
    if rest == gold or (len(rest) <= _NUMBER_LENGTH and not rest[0].isalpha() and number(rest) is not None):
        return Extraction(rest, "bare")
    if len(rest) <= _BARE_LENGTH and says_a_set(normalize(rest)):
        return Extraction(rest, "bare")
    rest, broken_off = prepared(rest)
    extraction = search(rest, broken_off)
    if broken_off and extraction.answer is None:
        return NO_ANSWER
    if len(gold) > policy.maximum_length:  # compared as raw text only
        return extraction
    explicit = extraction.rule in EXPLICIT_RULES
    announced = extraction.answer if explicit and extraction.answer else ""
    refused = refuses(announced, True) if announced and announced.isascii() else refuses(rest)
    if refused and not refuses(gold):
        return NO_ANSWER
    if explicit:
        return _focused(extraction, gold, policy)
    words = _closing_words(rest, gold) if is_prose(gold) else None
    if words:
        return Extraction(words, "phrase")
    if not is_prose(gold) and (reason := without_value(rest)):
        return Extraction(reason, "conclusion")
    if (first := headline(rest)) and not is_prose(first):
        return _focused(Extraction(first, "bare"), gold, policy)
    lettered = bool(policy.choices) or only_letter(gold) is not None
    if _is_bare(rest, gold, lettered):
        return _focused(Extraction(rest, "bare"), gold, policy)
    if lettered:
        return _chosen(rest, extraction, policy)
    return _in_prose(rest, extraction, gold, policy)


def _in_prose(rest: str, extraction: Extraction, gold: str, policy: GradePolicy) -> Extraction:
    """The answer in sentences that announce none, by the kind of the gold: yes or no, words, a name, a number in words."""
    kind = BOOLEANS.get(key(gold))
    if kind and (said := _yes_or_no(rest)):
        return Extraction(said, "phrase")
    if (_is_text(gold) or _NAMED.match(gold)) and (words := _closing_words(rest, gold)):
        return Extraction(words, "phrase")
    if _is_text(gold) and extraction.answer is None and (named := _NAMES.search(rest[-_BARE_LENGTH:])):
        return _focused(Extraction(named.group(1), "conclusion"), gold, policy)
    if number(gold) is not None and extraction.answer is None and (counted := _in_words(rest)):
        return Extraction(counted, "last_number")
    if extraction.answer and _DENIED.search(rest[: rest.rfind(extraction.answer)][-_DENIAL_REACH:]):
        return NO_ANSWER  # "it is not 5", "more than 5"
    return _focused(extraction, gold, policy)


def _is_bare(text: str, gold: str, lettered: bool) -> bool:
    """Whether a text is an answer and nothing else: one short line, and no sentence unless the gold is one.

    `lettered`: an option is looked for, so that a line with a letter at its end is a sentence.
    """
    if lettered and len(text) > 30 and _LAST_LETTER.search(text[-_BARE_LENGTH:]):
        return False
    short = len(text) <= _BARE_LENGTH and "\n" not in text and bool(_SUBSTANCE.search(text))
    return short and (not is_prose(text.rstrip(". ")) or is_prose(gold))


def is_prose(text: str) -> bool:
    """Whether a line is a sentence with an answer in it, rather than an answer."""
    plain = _LATEX_WORDS.sub(lambda command: " " if "{" in command.group() else "", text)
    return len(_LETTERS.findall(plain)) > 8 or bool(_PROSE.search(plain))


def _is_text(gold: str) -> bool:
    """Whether a gold is words: no digit, no formula, no single letter."""
    plain = normalize(gold)
    return not any(c.isdigit() or c in "\\=$" for c in plain) and len(plain) > 2


def _focused(extraction: Extraction, gold: str, policy: GradePolicy) -> Extraction:
    """The value in a found sentence, where the gold is a value: `The total is 18 dollars` -> `18`."""
    answer = extraction.answer
    if answer is None or len(answer) > 4 * _BARE_LENGTH or answer == gold or says_a_set(normalize(answer)):
        return extraction
    if "=" not in answer and number(answer) is not None:
        return extraction
    if not policy.choices and letter(gold) is None and (labelled := _LABELLED.fullmatch(normalize(answer))):
        return Extraction(labelled.group(1), extraction.rule)
    if (named := _LETTER_AND.match(answer)) and only_letter(gold):
        return Extraction(named.group(1), extraction.rule)
    boxed = extraction.rule in STRICT_RULES
    if not boxed and not is_prose(gold):
        answer = main_part(answer)
    if "\\begin" in answer:
        answer = joined_lines(answer)
    if _CLOCK.fullmatch(gold) and (times := _CLOCK.findall(answer)):
        return Extraction(times[-1].strip(), extraction.rule)
    if BOOLEANS.get(key(gold)):
        answer = _ASKED.sub("", answer)
        first = _first_boolean(answer)
        return Extraction(first or answer, extraction.rule)
    if "=" in answer and "=" not in gold and not boxed:
        result, last = _SIDE.search(answer), re.split(r"\band\b", answer)[-1]
        computed = bool(_ARITHMETIC.fullmatch(last)) or (extraction.rule != "bare" and _has_operator(answer))
        chained = not _SEPARATED.search(answer) and bool(_QUANTITY.match(last))
        if result and (computed or chained) and any(map(str.isdigit, result.group(1))):
            answer = _MATH_END.sub("", result.group(1))
    if extraction.rule == "answer_tag" and is_prose(answer) and not is_prose(gold):
        inner = extract_answer(answer, RULES, thought_ends=())
        answer = inner.answer if inner.rule == "phrase" and inner.answer else answer
    if number(gold) is None and not is_prose(gold) and is_prose(answer) and (said := _SAID.match(answer)):
        answer = said.group(1)
    if _is_text(gold) and "," not in gold:
        answer = _APPOSITION.sub("", answer)
    if _DENIED_NUMBER.search(answer):
        return extraction
    if not policy.choices and _WORDY.search(answer) and number(gold) is not None and number(answer) is None:
        if is_prose(answer) or "=" in answer or len(re.findall(r"\d+(?:[.,]\d+)*", answer)) == 1:
            answer = value_in(answer) or answer
        elif not re.search(r"\b(?:and|or)\b|[,;]", answer):
            answer = last_number_in(answer) or answer
    return extraction if answer == extraction.answer else Extraction(answer, extraction.rule)


def _in_words(text: str) -> str | None:
    """The number in a text that writes it out (`There are seven apples.`); `one` says too little."""
    found = [
        match.group()
        for match in NUMBER_WORDS.finditer(text[-_BARE_LENGTH:])
        if match.group().lower() != "one"
    ]
    return digits_for_words(found[-1]) if found else None


def _has_operator(equation: str) -> bool:
    """Whether the left side is a computation (`m^2 + 4 = 66`), rather than the name of what is given (`x = 5`)."""
    return bool(re.search(r"[-+*/^]|\\(?:frac|cdot|times|sqrt)|\d", equation.split("=", 1)[0]))


def _chosen(rest: str, extraction: Extraction, policy: GradePolicy) -> Extraction:
    """The option that a completion ends with: a letter in its last line, an option's text, a letter before."""
    last_line = rest[rest.rfind("\n") + 1 :]
    if _SEVERAL_LETTERS.search(last_line[-_BARE_LENGTH:]):
        return Extraction(last_line, "bare")
    if only := _LAST_LETTER.search(rest[-_BARE_LENGTH:]):
        return Extraction((only.group(1) or only.group(2)).upper(), "phrase")
    for part in (last_line[-_BARE_LENGTH:], rest[-_BARE_LENGTH:]):
        letters = _LONE_LETTER.findall(part)
        if letters:
            return Extraction("".join(letters[-1]), "phrase")
        if extraction.answer and policy.choices and choice_index(extraction.answer, policy) is not None:
            return extraction
    return extraction


def _first_boolean(text: str) -> str | None:
    """`Yes, because ...` -> `Yes`; None for a text that begins with another word."""
    first = _FIRST_WORD.match(text)
    return (
        first.group(1)
        if first
        and key(first.group(1)) in ("true", "false")
        and key(text) != key(first.group(1))
        and not _BOTH.match(text, first.end())
        else None
    )


def _yes_or_no(text: str) -> str | None:
    """The truth value that a completion begins with, or else the last one in it; `not true` is false."""
    first = _FIRST_WORD.match(text)
    if first and key(first.group(1)) in ("true", "false"):
        return first.group(1)
    last = None
    for last in _YES_OR_NO.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    if last is None:
        return None
    word = last.group(2) or last.group(3)
    if last.group(1):
        return "false" if key(word) == "true" else "true"
    return word


def _closing_words(text: str, gold: str) -> str | None:
    """The gold's words at the end of the last sentence (`So the answer must be Evelyn.`), unless something is denied there."""
    line = text.rstrip(" .!*_\"'\n)").rsplit("\n", 1)[-1]
    sentence = re.split(r"[.!?]\s+", line)[-1]
    words = normalize(gold).strip(" .")
    tail = sentence[-len(words) :] if words else ""
    before = sentence[: len(sentence) - len(words)]
    if key(tail) == key(words) and before[-1:] in " *\"'($" and before and not _NEGATION.search(before):
        return tail
    return None
