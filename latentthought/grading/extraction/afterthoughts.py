"""What stands around an answer and is not part of it: remarks in parentheses, `i.e.`, `not A, but B`, "I hope this helps".

Each rule cuts at a fixed word, once; what is left is the answer as it was meant. A remark is only dropped where it reads as one:
`5 (mod 7)` and `12 (square inches)` keep their parentheses.
"""

from __future__ import annotations

import re

from latentthought.grading.extraction.sentences import tidy, without_emphasis

_REACH = 400
_CLOSING = re.compile(
    r"(?:(?<=[\s.!?*])|^)(?:let me know|i hope (?:this|that|it)|hope (?:this|that|it) helps|feel free|would you like"
    r"|please let me know|if you (?:have (?:any )?(?:other |more |further )?questions?|need (?:any )?(?:more|further)"
    r"|would like|'d like))\b[^\n]*$",
    re.IGNORECASE,
)
_CLOSING_WORDS = (
    "et me know",
    "hope",
    "eel free",
    "ould you like",
    "f you ",
)  # without the letter that may be a capital
_HEADLINE = re.compile(
    r"([^\n]{1,60})\n\s*[*#_]{0,6}(?:explanation|reasoning|justification|because|here(?:'s| is)|proof|verification|note|check"
    r"|how|why|i hope)\b",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"\s\((?:(?-i:I)(?='| [a-z])|(?:we|you|he|she|it|this|that|these|note|also|not|since|because|as|if|using|from|where|assuming"
    r"|rounded|rounding|approx\w*|about|see|after|before|the|which|but|i\.e|e\.g|equivalently|by|when|found|verified)\b).*",
    re.IGNORECASE | re.DOTALL,
)
_THAT_IS = re.compile(
    r",?\s(?:i\.e\.?|that is(?: to say)?|that's|namely|in other words|or equivalently|equivalently|viz\.?),?:?\s+(?=\S)",
    re.IGNORECASE,
)
_NOT_BUT = re.compile(
    r"(?:(?:it(?:'s| is)|that(?:'s| is)) )?not [^,;.]{1,60},? but (?:rather )?(?=\S)", re.IGNORECASE
)
_TAKEN_BACK = re.compile(
    r"[^?.!]{1,40}(?:\.\.\.|[?!—.-])\s*(?:oh,? )?(?:no|wait|actually|sorry|correction)[,:.!]?\s+(?:no,? )?(?:it(?:'s| is) )?"
    r"(?=[-$\\\d])",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"(?:actually|wait|hmm|well|ok|okay|oh|sure|right|so),\s+(?=\S)"
    r"|(?:(?:i|we|it's|it is) )?(?:probably|perhaps|maybe|possibly|guess|think|believe|say)[,:]?\s+(?:it's |it is )?(?=[-$\\\d(])"
    r"|[*•]\s+(?=\S)",
    re.IGNORECASE,
)
_LABEL = re.compile(r"[^\W\d_]{2,}(?: [^\W\d_]+){0,4}:\s+(?=[-+$€£₹]?[\d\\(.])")
_EMPHASIS = ("`", "_", "<", "*")
_FIGURE = re.compile(r"\d|\\[a-z]|\$|\b[A-J]\b")


def without_closing(text: str) -> str:
    """Without "Let me know if you have questions" at the end."""
    start = max(0, len(text) - _REACH)
    for words in _CLOSING_WORDS:
        if text.find(words, start) >= 0:
            break
    else:
        return text
    closing = _CLOSING.search(text, start)
    return text[: closing.start()].rstrip() or text if closing else text


def headline(text: str) -> str | None:
    """The first line, where an explanation follows it."""
    found = _HEADLINE.match(text) if "\n" in text[:64] else None
    return found.group(1).strip() if found and _FIGURE.search(found.group(1)) else None


def main_part(value: str) -> str:
    """An answer without what was added to it or taken back in it."""
    if value.startswith("|") and value.endswith("|") and value.count("|") > 2:
        cells = [cell for cell in map(str.strip, value.split("|")) if cell]
        value = cells[-1] if cells else value
    for opening in (_OPENING, _NOT_BUT, _TAKEN_BACK, _LABEL):
        if found := opening.match(value):
            value = value[found.end() :]
    if value[:1] in _EMPHASIS:
        value = tidy(without_emphasis(value))
    remark = _REMARK.search(value)
    if remark and remark.start() and _FIGURE.search(value, 0, remark.start()):
        value = value[: remark.start()]
    if again := _THAT_IS.search(value):
        before, after = value[: again.start()], value[again.end() :]
        value = before if _plain(before) or not _FIGURE.search(after) else after
    return value.strip()


def _plain(value: str) -> bool:
    """Whether a text is a figure and no words."""
    return bool(_FIGURE.search(value)) and not re.search(r"(?<!\\)\b[A-Za-z]{3,}", value)
