"""Lines, sentences and formulas of a completion: where each ends, and what stands around an answer in it."""

from __future__ import annotations

import re

REACH = 4000  # characters looked at after a mark

FULL_STOP = (
    r"(?<!\bRs)(?<!approx)(?<!\bMr)(?<!\bDr)(?<!\bMrs)(?<!\bSt)(?<!\bsq)(?<!\bft)(?<!\bi\.e)(?<!\be\.g)(?<!\b[ap]\.m)\.(?=\s|$|\*|\"|')"
    r"|[!?](?=\s|$|\")|[。؟।？！]"
)
_MARKUP = re.compile(r"</?(?:b|strong|i|em|u|p|code|mark|span|br) ?/?>", re.IGNORECASE)
SENTENCE_END = re.compile(FULL_STOP)
_CONDITION = re.compile(
    r"\b(?:attained|achieved|reached|occurs|obtained|when|where|at|if)\s(?:at\s|when\s|for\s)?$"
)
_JOINT = re.compile(r"\s{0,3}(?:[,;、，]\s{0,3})?(?:(?:and|or|et|ou|y|und|oder)\b\s{0,3}|[和或])?")
_MATH_TOKEN = re.compile(r"\\.|\$\$|\$", re.DOTALL)
# what begins after a price: "5 and pays ", "200 + ", "40.00>>40.00\nIf he makes "
_PRICE = re.compile(
    r"\s?[\d.,]++(?=\D)(?:[^\\]*\s|[^\\\n]*[-+*/=<>×÷]|[\d.,]*\s+[a-z]{2,}.*|.*>>.*)$", re.DOTALL
)


def end_of(pattern: re.Pattern[str], line: str, math: list[tuple[int, str, int]]) -> int:
    """Where a pattern first ends a line; a full stop in a formula ends none."""
    for match in pattern.finditer(line):
        if not any(start <= match.start() < stop for start, _, stop in math):
            return match.start()
    return len(line)


def first_line(text: str) -> str:
    """Up to the first line end that stands in no brace: `90\\text{ square` goes on in the next line."""
    lines = text[:REACH].split("\n", 4)
    line = lines[0]
    for following in lines[1:4]:
        if line.count("{") <= line.count("}"):
            break
        line += " " + following
    return line


def without_emphasis(line: str) -> str:
    """Without Markdown's `**`, which never stands for a power here: `2**3` keeps it."""
    if "<" in line:
        line = _MARKUP.sub("", line)
    return re.sub(r"(?<![\w)])\*\*|\*\*(?![\w(])|`", "", line) if "*" in line or "`" in line else line


def tidy(value: str) -> str:
    """Without the marks of emphasis, quotation and sentence end around it."""
    value = value.strip().strip("*_`").strip()
    if value.endswith((".", "。")) and not value.endswith("..."):
        value = value[:-1].rstrip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1].strip()
    return value.strip("*_`").strip()


def side_by_side(text: str, spans: list[tuple[int, str, int]]) -> str:
    """The last formula, with those that stand beside it: `$x=3$ and $y=4$` -> `x=3, y=4`."""
    while len(spans) > 1 and _CONDITION.search(text, max(spans[-2][2], spans[-1][0] - 24), spans[-1][0]):
        spans = spans[:-1]  # the maximum is $5$, attained at $x = 1$
    first = len(spans) - 1
    while first and _JOINT.fullmatch(text, spans[first - 1][2], spans[first][0]):
        first -= 1
    return ", ".join(content for _, content, _ in spans[first:])


def math_spans(text: str) -> list[tuple[int, str, int]]:
    """Formulas between `$`, `$$`, `\\(..\\)` and `\\[..\\]`, as (start, content, end); not what stands between two prices."""
    if "$" not in text and "\\" not in text:
        return []
    spans: list[tuple[int, str, int]] = []
    opened: tuple[str, int, int] | None = None
    closers = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
    for match in _MATH_TOKEN.finditer(text):
        token = match.group()
        if opened is not None and token == closers[opened[0]]:
            content = text[opened[2] : match.start()]
            price = token == "$" and (text[match.end() : match.end() + 1].isdigit() or _PRICE.match(content))
            if content.strip() and "\n\n" not in content.strip() and not price:
                spans.append((opened[1], content.strip(), match.end()))
                opened = None
            else:
                opened = (token, match.start(), match.end()) if token in closers else None
        elif token in closers and opened is None:
            opened = (token, match.start(), match.end())
    return spans
