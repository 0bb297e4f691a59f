r"""Texts that give no answer: an empty or cut-off `\boxed{`, `<answer></answer>`, `**Final Answer:**` with nothing after it, and
"I don't know" in a dozen languages.

An announcement that nothing follows says that the answer was still to come, so that what stands above it is no answer either,
unless it was announced as one. What says that there is no value ("no solution", "cannot be determined") is an answer.
"""

from __future__ import annotations

import re

from latentthought.grading.extraction.boxes import without_blanks
from latentthought.grading.normalization.words import ENDLESS, NO_SOLUTION, UNDEFINED, UNDETERMINED

_SENTENCE = 300
_REACH = 2000  # characters at the end in which a refusal is looked for
_TAIL = 120  # characters at the end in which an announcement without an answer is looked for
_MARKS = " \n\t*_:：$.…=#{"
_ANNOUNCING_WORDS = """
answer answers result results solution solutions value is are boxed fbox réponse respuesta resultado antwort lösung est es ist
ответ 答案 结果 是 为 الجواب الإجابة النهائي النهائية النهائيه هو هي उत्तर जवाब है
"""
_ANNOUNCING = tuple(_ANNOUNCING_WORDS.split())
_EMPTY_TAG = re.compile(r"<answer>\s{0,40}(?:</answer>|$)", re.IGNORECASE)
_NOTHING_AFTER = re.compile(
    r"(?:\b(?:answer|result|solution|value|réponse|respuesta|resultado|antwort|lösung|ответ)[\s*_]*"
    r"(?:\b(?:is|are|est|es|ist)\b|[:：=])"
    r"|(?:^|\n)[#*_> ]*(?:(?:the|your) )?(?:final )?(?:answer|result|solution)s?"
    r"|\\(?:boxed|fbox) ?\{?|(?:答案|结果)(?:是|为)?|(?:الجواب|الإجابة)(?: النهائي[ةه]?)?(?: ?(?:هو|هي))?|(?:उत्तर|जवाब)(?: है)?)"
    r"[\s*_:：$.…=]*$",
    re.IGNORECASE,
)
_SUBSTANCE = re.compile(r"[^\W_]|[\\$%∅∞π√]")
_BLANK = re.compile(r"(?:\\(?:text|mathrm|mbox)\s?\{\s*\}|\\[,;:!> ]|\\q?quad|[\s~?_.…$*-])*")

_REFUSAL = re.compile(
    # English
    r"\bI(?:'m| am)? (?:(?:really|simply|just|honestly|afraid|sorry|but|still|I) )*(?:do not|don't|cannot|can't|can not|could not"
    r"|couldn't|am unable to|was unable to|unable to|am not able to|not able to)"
    r" (?:know|answer|solve|determine|help|assist|provide|find|figure|compute|calculate|tell|see|view|give|have enough"
    r"|complete)\b"
    r"|\b(?:no idea|no clue|I give up|unable to (?:determine|answer|solve|find|compute)|don't know)\b"
    r"|\bI need more information\b"
    # Chinese, Japanese
    r"|(?:我|也|抱歉|对不起|對不起|并|真)?(?:不知道|不清楚|不会做|不會做|不太确定)|没有足够"
    r"|我(?:也)?无法确定|无法确定答案|(?:无法|無法|不能|没办法|沒辦法)(?:得出|判断|回答|解答|解决|解決|提供|给出|求解|计算)"
    r"|(?:わかりません|分かりません|わからない|知りません|答えられません)|모르겠습니다|모릅니다"
    # French, Spanish, Portuguese, Italian, German, Russian
    r"|\bje ne (?:sais|connais|peux|suis|parviens|trouve)\b[^.]{0,30}\b(?:pas|sûr)\b|\bje n'ai (?:pas|aucune)\b|\baucune idée\b"
    r"|\bno (?:lo )?sé\b|\bno (?:puedo|conozco)\b|\bnão (?:sei|posso|consigo)\b|\bnon (?:lo )?so\b|\bnon posso\b"
    r"|\bich (?:weiß|kann)\b[^.]{0,40}\bnicht\b|\bkeine Ahnung\b|\bя не (?:знаю|могу)\b|\bне знаю\b"
    # Arabic, Hindi
    r"|(?:لا|لست) (?:أعرف|اعرف|أعلم|اعلم|أستطيع|استطيع|أدري|ادري|يمكنني|متأكد)|ليس لدي"
    r"|नहीं (?:पता|जानता|जानती|मालूम|बता सक|दे सक|कर सक|है पता)|(?:पता|मालूम) नहीं",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"\W*(?:(?:the )?(?:final )?answer(?: is|:)? {0,3})?(?:n/a|idk|h+mm*|unknown|unclear"
    r"|(?:I(?:'m| am) )?not (?:sure|certain)(?: about (?:this|that|it))?|我?不确定)\W*",
    re.IGNORECASE,
)
_WITHOUT_VALUE = re.compile(
    rf"(?<!\w)(?:{NO_SOLUTION}|{UNDEFINED}|{UNDETERMINED}|{ENDLESS})(?!\w)", re.IGNORECASE
)
_VALUELESS_ENDS = """
solution solutions root roots exist exists set dne undefined defined determined found calculated determine tell information data
given provided available many
"""
_VALUELESS = tuple(_VALUELESS_ENDS.split())  # what an answer without a value ends in
_WRAPPING = re.compile(r"\\(?:text|mathrm|textbf)\s?\{|[{}$*]|(?<=\w)\\ ")
_LAST_SENTENCE = re.compile(r"[.!?。]\s+|\n")
_FIGURE = re.compile(r"\d|\b[B-HJ]\b|\$[^$]|\\[(\[a-z]")


def given(text: str) -> tuple[str, bool]:
    """(text up to an announcement that nothing follows, whether there is one); boxes without content are taken out."""
    cut = text.startswith("<think>") and "</think>" not in text
    if "\\boxed" in text or "\\fbox" in text:
        text, broken = without_blanks(text, is_blank)
        cut = cut or broken
    if "<" in text and (tag := _EMPTY_TAG.search(text)):
        text, cut = text[: tag.start()] + text[tag.end() :], True
    said = text[-_TAIL:].rstrip(_MARKS).lower()
    if said.endswith(_ANNOUNCING) and (nothing := _NOTHING_AFTER.search(text, max(0, len(text) - _TAIL))):
        return text[: nothing.start()].rstrip(), True
    return text, cut


def is_blank(value: str) -> bool:
    """Whether the content of a box or a tag is nothing but spaces and marks: `\\text{ }`, `?`, `___`."""
    return len(value) < 80 and _BLANK.fullmatch(value) is not None


def says_something(value: str) -> bool:
    """Whether a text has a letter, a digit or a formula in it."""
    return _SUBSTANCE.search(value) is not None


def refuses(text: str, announced: bool = False) -> bool:
    """Whether a text ends in "I don't know" or the like, and no figure follows; one that was `announced` has to begin so."""
    last = text[-1:]
    if last.isdigit() or (last in ("}", ")") and announced and "text" not in text):
        return False
    end = text[-_REACH:]
    if announced:
        end = _WRAPPING.sub("", end)
        return bool(_REFUSAL.match(end) or _UNKNOWN.fullmatch(end))
    if len(end) < 60 and _UNKNOWN.fullmatch(end):
        return True
    end = end[max(map(end.rfind, "0123456789")) + 1 :]  # a refusal before a figure is none
    found = None
    for found in _REFUSAL.finditer(end):  # noqa: B007 - the last one is wanted
        pass
    return found is not None and not _FIGURE.search(end, found.end())


def without_value(text: str) -> str | None:
    """What the last sentence says instead of a value: `no solution` of "so the equation has no solution."; None for others."""
    end = text[-_SENTENCE:].rstrip(" .!。।*\n")
    if end.isascii() and not end.lower().endswith(_VALUELESS):
        return None
    sentence = _LAST_SENTENCE.split(end)[-1]
    found = _WITHOUT_VALUE.search(sentence)
    return found.group() if found and found.end() == len(sentence) and not _FIGURE.search(sentence) else None
