"""Figures in running text as English writes them: `1 250,50 €` -> `1250.50 €` in French, `12,34,567` -> `1234567` in Hindi.

Whether `2,5` is one number or two depends on the language of the sentence, which its commonest words tell; an English word among
them settles it the other way. Nothing in brackets or formulas is touched: `(2,5)` is a point in every language.
"""

from __future__ import annotations

import re

_REACH = 20_000  # characters at the end whose words tell the language
_SUSPECT = re.compile(r"\d(?:[ \u00a0\u202f]\d{3}(?!\d)|,\d)")
_INDIAN = re.compile(r"(?<![\d,.(\[{])\d{1,2}(?:,\d{2}){1,4},\d{3}(?![\d,)\]}])")
_COMMA_LANGUAGE = re.compile(
    r"\b(?:est|donc|sont|vaut|les|des|une|du|il y a|elles?|ils|nous|paie|coûte|reste|faut|environ|soit|prix"
    r"|der|das|ist|sind|beträgt|und|ungefähr|also ergibt|kostet"
    r"|el|los|las|una|son|cuesta|precio|área|total es|è|della|sono|il|são|é|uma|custa|wynosi|jest|bedraagt|het)\b"
    r"|\b[ldLD]'[a-zàâéèêîôûçA-Z]|[\u0400-\u04ff]{3}|\d ?€",
    re.IGNORECASE,
)
_ENGLISH = re.compile(
    r"\b(?:the|is|are|of|and|was|were|has|have|so|this|which|with|total of|therefore|thus)\b", re.IGNORECASE
)
_SPACED = re.compile(
    r"(?<![\d.,(\[{])(?<![\d,][ \u00a0\u202f])(\d{1,3})((?:[ \u00a0\u202f]\d{3})+)(?!\d| \d)"
)
_POINTED = re.compile(r"(?<![\d.,(\[{])(\d{1,3}(?:\.\d{3})+),(\d{1,2})(?![\d,.]\d|\d)")  # 1.250,50
_COMMA = re.compile(
    r"(?<![\d.,(\[{])(\d{1,12}),(\d{1,2}|\d{4,9})(?=[°%€$£]|\s?[^\W\d_]|[.!?;:*)\"»]*(?:\s|$))(?!\s(?:et|y|und|e|o|ou|oder|и)\s\d|,)"
)


def plain_figures(text: str) -> str:
    """`text` with the numbers of its sentences in digits and points only, where its language writes them otherwise."""
    if "\u066b" in text or "\u066c" in text:  # the marks of Arabic digits
        text = text.replace("\u066b", ".").replace("\u066c", "")
    if not _SUSPECT.search(text):
        return text
    text = _INDIAN.sub(lambda match: match.group().replace(",", ""), text)
    end = max(0, len(text) - _REACH)
    if "$" in text or "\\" in text or _ENGLISH.search(text, end) or not _COMMA_LANGUAGE.search(text, end):
        return text
    text = _SPACED.sub(lambda match: match.group(1) + re.sub(r"\D", "", match.group(2)), text)
    text = _POINTED.sub(lambda match: f"{match.group(1).replace('.', '')}.{match.group(2)}", text)
    return _COMMA.sub(r"\1.\2", text)
