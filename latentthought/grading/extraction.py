"""Find the answer in a completion, and say which rule found it.

The rules go from the most explicit to the least: an `<answer>` tag, a `\\boxed` or `\\fbox`, a line after `####`, "the
answer is" and its kin, the last formula, the last number. Reasoning before the last `</think>` never counts. A text in
which no rule fires has no answer, which is not the same as a wrong one.

Cost: one pass of a tokenising regular expression for the boxes, a few bounded patterns for the rest; linear in the text.
Rejected: recursive brace patterns and "find the box, then search its end" (quadratic on a megabyte of `\\boxed{`);
joining all boxes of a text (a worked solution may box its intermediate results: only boxes that stand beside each other,
joined by a comma or "and", are one answer).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

RULES = ("answer_tag", "boxed", "fbox", "hash", "phrase", "last_math", "last_number")
STRICT_RULES = ("boxed", "fbox")


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answer's text (None: there is none) and the rule that found it.

    rule: boxed, fbox, answer_tag, hash, phrase, last_math, last_number or none. `grade` adds `bare` for a prediction that
    was taken whole because it is an answer and nothing else.
    """

    answer: str | None
    rule: str


NO_ANSWER = Extraction(None, "none")


def extract_answer(
    text: str, rules: tuple[str, ...] = RULES, thought_ends: tuple[str, ...] = ("</think>",)
) -> Extraction:
    """The final answer of `text`, by the first of `rules` that finds one.

    `thought_ends` are the marks that close a reasoning segment; nothing before the last of them is looked at.
    """
    text = cut_reasoning(text, thought_ends)
    if "answer_tag" in rules and (inner := _last_tag(text)) is not None:
        boxed = _last_box(inner)
        return boxed if boxed.answer else Extraction(inner, "answer_tag")
    if "boxed" in rules or "fbox" in rules:
        boxed = _last_box(text, tuple(rule for rule in ("boxed", "fbox") if rule in rules))
        if boxed.answer is not None:
            return boxed
    for rule, find in _FINDERS:
        if rule in rules and (answer := find(text)):
            return Extraction(answer, rule)
    return NO_ANSWER


def cut_reasoning(text: str, thought_ends: tuple[str, ...] = ("</think>",)) -> str:
    """What follows the last mark that closes a reasoning segment; the whole text when there is none."""
    start = max((text.rfind(mark) + len(mark) for mark in thought_ends if mark and mark in text), default=0)
    return text[start:]


# ------------------------------------------------------------------------------------------------ tags and boxes
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_BOX_TOKEN = re.compile(r"\\(boxed|fbox)(?![a-zA-Z])|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"\s*([^\s{}$\\,;]+)")
_JOINT = re.compile(
    r"[\s$]*(?:\\\)|\\\()?[\s$]*(?:,|;|、|，|\band\b|\bor\b|\bet\b|\bou\b|和|或|\\text\{ *(?:and|or) *\})"
    r"\s*(?:and|or)?[\s$]*(?:\\\()?[\s$]*"
)


def _last_tag(text: str) -> str | None:
    opened, inner = None, None
    for match in _TAG.finditer(text):
        if not match.group(1):
            opened = match.end()
        elif opened is not None:
            inner = text[opened : match.start()].strip() or inner
            opened = None
    return inner


@dataclass(slots=True)
class _Box:
    """A box command: where it begins, where its content lies, where it ends."""

    kind: str
    start: int
    content: int
    stop: int = 0
    end: int = 0


def _boxes(text: str) -> list[_Box]:
    """Outermost boxes in order; an unclosed one (the text was cut off) is none. Offsets only, so nesting costs nothing."""
    found: list[_Box] = []
    braces: list[_Box | None] = []  # per open brace: the box it belongs to
    pending: _Box | None = None  # a box command whose brace has not come yet
    for match in _BOX_TOKEN.finditer(text):
        token = match.group()
        if (
            pending is not None
            and not text[pending.content : match.start()].isspace()
            and match.start() > pending.content
        ):
            _close_bare(text, pending, found)
            pending = None
        if match.group(1):
            pending = _Box(match.group(1), match.start(), match.end())
        elif token == "{":
            if pending is not None:
                pending.content = match.end()
            braces.append(pending)
            pending = None
        elif token == "}" and braces:
            box = braces.pop()
            if box is not None:
                while found and found[-1].start > box.start:  # boxes inside this one
                    found.pop()
                box.stop, box.end = match.start(), match.end()
                found.append(box)
    if pending is not None:
        _close_bare(text, pending, found)
    return found


def _close_bare(text: str, box: _Box, found: list[_Box]) -> None:
    """`\\boxed 5`: the one token that follows is the content."""
    match = _BARE_BOX.match(text, box.content)
    if match:
        box.content, box.stop = match.span(1)
        box.end = box.stop
        found.append(box)


def _last_box(text: str, kinds: tuple[str, ...] = ("boxed", "fbox")) -> Extraction:
    if not any(f"\\{kind}" in text for kind in kinds):
        return NO_ANSWER
    boxes = [box for box in _boxes(text) if box.kind in kinds and not text[box.content : box.stop].isspace()]
    boxes = [box for box in boxes if box.stop > box.content]
    if not boxes:
        return NO_ANSWER
    first = len(boxes) - 1
    while first and boxes[first].start - boxes[first - 1].end <= 24:
        if not _JOINT.fullmatch(text, boxes[first - 1].end, boxes[first].start):
            break
        first -= 1
    contents = [text[box.content : box.stop].strip() for box in boxes[first:]]
    return Extraction(", ".join(contents), boxes[-1].kind)


# ------------------------------------------------------------------------------------------- marks and phrases
_HEADING = re.compile(
    r"(?:\*\*)?\s*(?:step|solution|explanation|final answer|answer|conclusion|problem|part|case|reasoning|verification|\d+\.\s)",
    re.IGNORECASE,
)
_PHRASES = re.compile(
    r"\b(?:answers?|(?:final|correct|right|best) (?:answer|result|choice|option|value|total)s?)\b[^.\n:=$\d]{0,60}?"
    r"(?:\b(?:is|are|be|equals|was)\b|[:=：])(?:\s*(?:therefore|thus|simply|just|indeed|clearly|option|choice|[:：])\b)?"
    r"|(?:最终)?答案\s*(?:是|为|为：|[:：=])|(?:所以|因此)?(?:选择?)\s*(?=[A-J]\b)"
    r"|\bla réponse(?: finale)? (?:est|:)|\bréponse(?: finale)?\s*:"
    r"|(?:الجواب|الإجابة)(?: النهائي[ةه]?| الصحيح[ةه]?)?\s*(?:هو|هي|[:：=])?"
    r"|(?:अंतिम )?उत्तर\s*(?:है|[:：=])",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"\.(?=\s|$|\*)|[。!?؟।](?=\s|$)|。|,?\s+(?:because|since|which|so that|as we)\b", re.IGNORECASE
)


def _after_hash(text: str) -> str | None:
    """The line after the last `####` (GSM8K), or after the last `###` that is not a heading (this package's own rows)."""
    at = text.rfind("####")
    if at >= 0:
        line = _first_line(text[at:].lstrip("#"))
        if line.strip():
            return _tidy(line)
    for match in reversed(list(re.finditer(r"^[ \t]*###[ \t]*([^#\n]+)$", text, re.MULTILINE))):
        if not _HEADING.match(match.group(1).strip()):
            return _tidy(_first_line(text[match.start(1) :]))
    return None


def _after_phrase(text: str) -> str | None:
    last = None
    for last in _PHRASES.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    if last is None:
        return None
    rest = text[last.end() : last.end() + 4000].lstrip(" \t*:：=_")
    line = _first_line(rest.lstrip("\n\r "))
    if line.lstrip().startswith(("\\[", "$$")):  # a displayed formula may go over lines
        line = rest.strip().split("\n\n", 1)[0]
    math = _math_spans(line)
    if math and line[: math[0][0]].strip(" *:") == "":
        return _tidy(math[0][1])
    end = _SENTENCE_END.search(line)
    value = _tidy(line[: end.start()] if end else line)
    if math and len(value.split()) > 8:
        return _tidy(math[-1][1])
    return value or None


def _first_line(text: str) -> str:
    """Up to the first line end that stands in no brace: `90\\text{ square` goes on in the next line."""
    lines = text[:4000].split("\n", 4)
    line = lines[0]
    for following in lines[1:4]:
        if line.count("{") <= line.count("}"):
            break
        line += " " + following
    return line


def _tidy(value: str) -> str:
    """Without the marks of emphasis, quotation and sentence end around it."""
    value = value.strip().strip("*_`").strip()
    if value.endswith((".", "。")) and not value.endswith("..."):
        value = value[:-1].rstrip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1].strip()
    return value.strip("*_`").strip()


# ---------------------------------------------------------------------------------------- the last thing there is
_MATH_TOKEN = re.compile(r"\\.|\$\$|\$", re.DOTALL)
_NUMBER = re.compile(
    r"(?<![\w.])[-+−]?\s?[$€£¥₹]?\s?"
    r"(?:\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?:\s?/\s?\d+)?(?:\s?\\?%)?"
)


def _math_spans(text: str) -> list[tuple[int, str]]:
    """Formulas between `$`, `$$`, `\\(..\\)` and `\\[..\\]`, as (start, content)."""
    spans: list[tuple[int, str]] = []
    opened: tuple[str, int, int] | None = None
    closers = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
    for match in _MATH_TOKEN.finditer(text):
        token = match.group()
        if opened is not None and token == closers[opened[0]]:
            content = text[opened[2] : match.start()].strip()
            if content and "\n\n" not in content:
                spans.append((opened[1], content))
                opened = None
            else:
                opened = (token, match.start(), match.end()) if token in closers else None
        elif token in closers and opened is None:
            opened = (token, match.start(), match.end())
    return spans


def _last_math(text: str) -> str | None:
    spans = _math_spans(text)
    if not spans:
        return None
    content = spans[-1][1]
    # two dollar amounts look like one formula: "$5 and pays $"
    if re.match(r"[\d.,]+\s+[a-z]{2,}", content):
        return None
    return _tidy(content)


def _last_number(text: str) -> str | None:
    last = None
    for last in _NUMBER.finditer(text):  # noqa: B007
        pass
    return last.group().strip() if last else None


_FINDERS = (
    ("hash", _after_hash),
    ("phrase", _after_phrase),
    ("last_math", _last_math),
    ("last_number", _last_number),
)
