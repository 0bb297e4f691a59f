"""What announces an answer, in a dozen languages: "the answer is", `**Answer:**`, 答案是, "la réponse est".

A table of patterns, each with the words without one of which it is not looked for: a completion holds few of them, and the search
for a word is a hundred times cheaper than that for a pattern.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

# what announces an answer, by the words without one of which it is not looked for (lower case); `weak` ones may also stand
# in the middle of a solution
_PLAIN = tuple(
    (words, re.compile(pattern, re.IGNORECASE))
    for words, pattern in (
        (
            ("ans",),
            r"(?:\b|_)(?:answers?|ans)\b[^.\n:=$\d]{0,60}?(?:\b(?:is|are|be|equals|was|comes out to)\b|[:：=])",
        ),
        (
            ("final", "correct", "right", "best", "overall"),
            r"\b(?:final|correct|right|best|overall) (?:choice|option|(?P<weak>result|value|total|solution|amount))s?\b"
            r"[^.\n:=$\d]{0,60}?(?:\b(?:is|are|be|equals|was)\b|[:：=])",
        ),
        (("answer", "result"), r"(?:^|\n)[#*_ >]{0,20}(?:final )?(?:answer|result)[*_ ]*(?=\n)"),
        (("a:", "a：", "a*"), r"(?:^|\n)[#*_ >]{0,20}a[*_ ]*[:：](?=[*_ ]*[^\s*_])"),
        (
            ("result", "conclusion", "solution"),
            r"(?:^|\n)[#*_ >]{0,20}(?P<weak>result|conclusion|solution)[*_ ]*[:：](?=[*_ ]*[^\s*_])"
            r"|\b(?P<weaker>the (?:result|solutions?|solution set)) (?:is|are)\b(?: then)?",
        ),
        (("ans",), r"(?:^|\n|[.,] )[ *_(]{0,9}ans(?:wer)?[ *_]*(?=\(?[A-J]\)?[.*_ \"]*(?:\n|$))"),
        (
            ("choose", "select", "pick", "chose", "go with"),
            r"\b(?:choose|select|pick|chose|go with)\b(?: the)?(?: (?:option|choice|answer|letter))?:?"
            r"(?=[ *_]*\(?(?-i:[A-J])\b)",
        ),
        (("विकल्प",), r"विकल्प[ *_]*(?=\(?[A-J]\b)"),
        (("option", "choice"), r"\b(?:option|choice)(?=[ *_]*\(?(?-i:[A-J])\b[).*_ ]*(?:is|seems|\n|$))"),
        (
            ("correct", "right", "best", "answer"),
            r"(?=(?:\([A-J]\)|\b(?-i:[A-J])\)?) (?:is|seems) (?:the )?(?:correct|right|best|answer))",
        ),
        (
            ("答", "结果", "结论", "選", "选"),
            r"(?:答案|结果|正确选项|结论)\s*(?:应该|应当|就)?(?:(?:是|为|選|选)\s*[:：]?|[:：=])\s*|(?:^|\n|[。，\s])答[:：]"
            r"|(?:所以|因此|故|应|應)?(?:选择?|選擇?)(?:项|項)?\s*(?:[:：]\s*)?(?=[(（]?(?-i:[A-J])(?![A-Za-z]))",
        ),
        (("答え", "解答", "正解", "答"), r"(?:答え|解答|正解|答)(?:は|：|:)"),
        (("답",), r"(?:정답|답)(?:은|:)"),
        (
            ("الجواب", "جابة", "الناتج", "النتيجة", "الحل"),
            r"(?:الجواب|الإجابة|الاجابة|الناتج|النتيجة|الحل)(?: (?:النهائي[ةه]?|الصحيح[ةه]?))*\s*(?:هو|هي|[:：=])?",
        ),
        (
            ("उत्तर", "जवाब"),
            r"(?:उत्तर|जवाब)\s*(?:है(?:\s*[:：])?(?=\s*[\d$\\(०-९*])|होगा\s*[:：]|[:：=])?(?=[^।\n])",
        ),
    )
)
# in these languages a comma marks the decimals
_WITH_DECIMAL_COMMA = tuple(
    (words, re.compile(pattern, re.IGNORECASE))
    for words, pattern in (
        (("réponse",), r"\bréponse(?: (?:finale|correcte|est la))*\s*(?:est(?: donc)?|:|=)"),
        (("le résultat",), r"\b(?P<weak>le) résultat(?: final)? est(?: donc)?"),
        (
            ("on obtient", "on trouve"),
            r"\b(?P<weak>on) (?:obtient|trouve)(?: donc| finalement)?(?=[ :$\\]*[-\d$\\])",
        ),
        (("respuesta",), r"\brespuesta(?: final| correcta)*\s*(?:es|:|=)"),
        (("resultado",), r"\b(?P<weak>[eo]l?) resultado(?: final)? (?:es|é)\b"),
        (("antwort", "lösung"), r"\b(?:Antwort|Lösung)\s*(?:ist|lautet|:|=)"),
        (("ergebnis",), r"\b(?P<weak>Ergebnis) (?:ist|lautet|beträgt)"),
        (("resposta", "risposta"), r"\b(?:resposta|risposta)(?: final[e]?| corret[t]?a)*\s*(?:é|è|:|=)"),
        (("ответ",), r"\bответ(?:ом является)?\s*[:：—=-]"),
    )
)


_KINDS = tuple(
    (comma, words, pattern)
    for comma, kinds in ((False, _PLAIN), (True, _WITH_DECIMAL_COMMA))
    for words, pattern in kinds
)
_IN_ASCII = tuple(
    (comma, tuple(filter(str.isascii, words)), pattern)
    for comma, words, pattern in _KINDS
    if any(map(str.isascii, words))
)


def announcements(text: str, most: int) -> Iterator[tuple[re.Match[str], bool]]:
    """The last `most` announcements of each kind, and whether a comma marks decimals in their language; an announcement with a
    group that took part is a weak one."""
    lower = text.lower()
    for comma, words, pattern in _IN_ASCII if text.isascii() else _KINDS:
        for word in words:  # a loop, for any() would take most of the time
            if word in lower:
                for match in deque(pattern.finditer(text), maxlen=most):
                    yield match, comma
                break
