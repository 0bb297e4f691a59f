"""Numbers, truth values and dates written in words, brought into one form: `twenty-one` -> `21`, `three quarters` -> `3/4`.

English in full, Chinese numerals in full, and the first numbers of a few languages where they are the whole answer. Every word
of an answer is looked up once; nothing here knows what the answer is about, so `one of them` becomes `1 of them` on both sides.
"""

from __future__ import annotations

import re

_SMALL = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
"""
_UNITS = {word: value for value, word in enumerate(_SMALL.split())}
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fourty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = {
    "first": 1, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
    "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15, "sixteenth": 16, "seventeenth": 17,
    "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30, "fortieth": 40, "fiftieth": 50, "hundredth": 100,
    "thousandth": 1000,
}  # fmt: skip
_PARTS = {word: value for word, value in _ORDINALS.items() if value > 2} | {
    "half": 2,
    "halve": 2,
    "quarter": 4,
}
_PARTS_WORDS = {plural: value for word, value in _PARTS.items() for plural in (word, word + "s")}

_CARDINAL = "|".join(sorted([*_UNITS, *_TENS, *_SCALES], key=len, reverse=True))
NUMBER_WORDS = re.compile(rf"\b(?:{_CARDINAL})\b(?:(?:[ -]| and )(?:{_CARDINAL})\b)*", re.IGNORECASE)
_NUMBER_WORD = re.compile(
    rf"\b(?:{_CARDINAL}|half|quarter|third|{'|'.join(_ORDINALS)}|minus|negative)", re.IGNORECASE
)
_PARTS_PATTERN = "|".join(sorted(_PARTS_WORDS, key=len, reverse=True))
_PART = re.compile(rf"\b(\d+)(?: and (?:(\d+)[ -]|an? )|[ -])({_PARTS_PATTERN})\b", re.IGNORECASE)
_ORDINAL = re.compile(rf"\b(?:(\d*[2-9]0)[ -])?({'|'.join(_ORDINALS)})\b", re.IGNORECASE)
_SIGN = re.compile(r"\b(?:minus|negative) (?=\d)", re.IGNORECASE)
_POINT = re.compile(r"\b(\d+) point (\d)((?: \d)*)(?!\d)", re.IGNORECASE)
_WHOLE = {
    "half": "1/2",
    "a half": "1/2",
    "a third": "1/3",
    "a quarter": "1/4",
    "second": "2nd",
    "twice": "2",
    "a dozen": "12",
}
_FOREIGN = """
un 1, une 1, deux 2, trois 3, quatre 4, cinq 5, sept 7, huit 8, neuf 9, dix 10, onze 11, douze 12, treize 13, quatorze 14,
quinze 15, seize 16, vingt 20, trente 30, cent 100, uno 1, dos 2, tres 3, cuatro 4, cinco 5, seis 6, siete 7, ocho 8, nueve 9,
diez 10, once 11, doce 12, veinte 20, eins 1, zwei 2, drei 3, vier 4, fünf 5, sechs 6, sieben 7, acht 8, neun 9, zehn 10,
elf 11, zwölf 12, zwanzig 20, واحد 1, اثنان 2, اثنين 2, ثلاثة 3, أربعة 4, خمسة 5, ستة 6, سبعة 7, ثمانية 8, تسعة 9, عشرة 10,
عشرون 20, مئة 100, مائة 100, صفر 0,
एक 1, दो 2, तीन 3, चार 4, पाँच 5, पांच 5, छह 6, छः 6, सात 7, आठ 8, नौ 9, दस 10, ग्यारह 11, बारह 12,
बीस 20, सौ 100, शून्य 0
"""
_WHOLE |= dict(pair.strip().rsplit(" ", 1) for pair in _FOREIGN.split(","))

_LONGEST_WITHOUT_VALUE = 60
NO_SOLUTION = (
    r"(?:there (?:is|are|exists?) |has )?no (?:(?:real|integer|such|valid|possible) )*(?:solutions?|roots?)(?: exists?)?"
    r"|(?:the )?empty set|无解|無解|方程无解|没有解|aucune solution|pas de solution|sin solución|keine Lösung|لا يوجد حل"
    r"|ليس له حل|कोई हल नहीं(?: है)?"
)
UNDEFINED = (
    r"DNE|(?:it )?does(?: not|n't) exist|do(?: not|n't) exist|(?:is )?undefined|(?:is )?not defined|不存在|无定义|n'existe pas"
    r"|non défini|no existe|existiert nicht|غير موجود[ةه]?|غير معرف"
)
UNDETERMINED = (
    r"(?:it )?(?:cannot|can ?not|can't) be (?:determined|found|calculated)"
    r"|(?:it is )?(?:impossible|not possible) to (?:determine|tell)"
    r"|(?:there is )?(?:not enough|insufficient) (?:information|data)(?: (?:is )?(?:given|provided|available))?"
    r"|无法确定|無法確定|不能确定|信息不足"
)
ENDLESS = r"(?:there are )?(?:infinitely many(?: solutions)?|infinite solutions)"
_WITHOUT_VALUE = tuple(
    (one, re.compile(wordings, re.IGNORECASE))
    for one, wordings in (
        ("no solution", NO_SOLUTION),
        ("undefined", UNDEFINED),
        ("cannot be determined", UNDETERMINED),
        ("infinitely many solutions", ENDLESS),
    )
)

_TRUE = """
yes true oui vrai 是 是的 对 正确 真 نعم صحيح صواب हाँ हां सही सत्य sí verdadero cierto
ja wahr richtig sim verdadeiro はい да верно
"""
_FALSE = """
no false non faux 否 不 不是 错 错误 假 لا خطأ خاطئ नहीं गलत असत्य
falso nein falsch não いいえ нет неверно
"""
BOOLEANS = {**dict.fromkeys(_TRUE.split(), "true"), **dict.fromkeys(_FALSE.split(), "false")}

_NAMES = "january february march april may june july august september october november december monday tuesday wednesday "
_NAMES += "thursday friday saturday sunday"
SHORT_NAMES = {name[:3]: name for name in _NAMES.split()} | {
    "sept": "september",
    "tues": "tuesday",
    "thurs": "thursday",
}

_CHINESE_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000}
_CHINESE_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HAN = "(?:[零〇一二两兩三四五六七八九十百万萬亿億]|千(?![米克瓦卡]))"  # 千米 is a kilometer
_CHINESE = re.compile(
    rf"(负|負)?(?:百分之({_HAN}{{1,24}})|({_HAN}{{1,24}})分之({_HAN}{{1,24}})|({_HAN}{{1,24}})(?:点([零〇一二三四五六七八九]+))?)"
)


def digits_for_words(text: str) -> str:
    """`text` with its number words as digits: `twenty-one dollars` -> `21 dollars`, `十二` -> `12`."""
    whole = _WHOLE.get(text.strip().lower())
    if whole is not None:
        return whole
    if not text.isascii():
        text = _CHINESE.sub(_chinese, text)
    if not _NUMBER_WORD.search(text):
        return text
    text = NUMBER_WORDS.sub(lambda match: _cardinals(match.group()), text)
    text = _PART.sub(_part, text)
    text = _ORDINAL.sub(_ordinal, text)
    text = _POINT.sub(
        lambda match: f"{match.group(1)}.{match.group(2)}{match.group(3).replace(' ', '')}", text
    )
    return _SIGN.sub("-", text)


def without_value(text: str) -> str | None:
    """One wording for each answer that says why there is no value (`DNE`, `no real solutions`); None for other texts."""
    if len(text) > _LONGEST_WITHOUT_VALUE:
        return None
    bare = text.strip(" .!。।")
    return next((one for one, wordings in _WITHOUT_VALUE if wordings.fullmatch(bare)), None)


def _part(match: re.Match[str]) -> str:
    """`2 thirds` -> `2/3`, `2 and a half` -> `2 1/2`; `20-third` is an ordinal, and `2 and 1/2` two numbers."""
    whole, top, word = match.groups()
    bottom = _PARTS_WORDS[word.lower()]
    if " and " in match.group():
        return f"{whole} {top or 1}/{bottom}"
    if whole != "1" and not word.lower().endswith(("s", "half", "quarter")):
        return match.group()
    return f"{whole}/{bottom}"


def _cardinals(run: str) -> str:
    """A run of number words as the numbers it consists of: `one hundred and five` -> `105`, `one two` -> `1 2`."""
    out: list[str] = []
    words = run.lower().replace("-", " ").split()
    at = 0
    while at < len(words):
        value, used = _cardinal(words, at)
        if not used:  # an "and", or a "million" that counts nothing: it scales the digits before it
            out.append(words[at])
            used = 1
        else:
            out.append(str(value))
        at += used
    return " ".join(out)


def _cardinal(words: list[str], start: int) -> tuple[int, int]:
    """(value, words read) of the longest number that begins at `words[start]`."""
    total, current, used = 0, 0, 0
    room, highest, last_scale = 0, True, 10**15  # what may still be added: below 10, below 100, ...
    for index in range(start, len(words)):
        word = words[index]
        if word == "and":
            following = words[index + 1] if index + 1 < len(words) else ""
            if not used or room < 100 or not (following in _UNITS or following in _TENS):
                break
            continue
        if word in _UNITS and (highest or (0 < _UNITS[word] < room)):
            current += _UNITS[word]
            room, highest = 0, False
        elif word in _TENS and (highest or room >= 100):
            current += _TENS[word]
            room, highest = 10, False
        elif word == "hundred" and 0 < current < 100:
            current *= 100
            room, highest = 100, False
        elif word in _SCALES and word != "hundred" and current and _SCALES[word] < last_scale:
            total, current = total + current * _SCALES[word], 0
            last_scale = _SCALES[word]
            room, highest = 1000, True
        else:
            break
        used = index + 1 - start
    return total + current, used


def _ordinal(match: re.Match[str]) -> str:
    value = int(match.group(1) or 0) + _ORDINALS[match.group(2).lower()]
    return f"{value}{ordinal_ending(value)}"


def ordinal_ending(value: int) -> str:
    """`st`, `nd`, `rd` or `th`."""
    return "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")


def _chinese(match: re.Match[str]) -> str:
    sign = "-" if match.group(1) else ""
    percentage, bottom, top = match.group(2, 3, 4)
    if percentage:
        return f"{sign}{_chinese_value(percentage)}%"
    if bottom:
        return f"{sign}{_chinese_value(top)}/{_chinese_value(bottom)}"
    if match.group(5) in _CHINESE_MYRIADS:  # 5万: a scale, not a number
        return match.group()
    after = "".join(str(_CHINESE_DIGITS[c]) for c in match.group(6) or "")
    return f"{sign}{_chinese_value(match.group(5))}" + (f".{after}" if after else "")


def _chinese_value(numeral: str) -> int:
    """十二 -> 12, 三百零五 -> 305, 二〇二四 -> 2024."""
    if all(c in _CHINESE_DIGITS for c in numeral):
        return int("".join(str(_CHINESE_DIGITS[c]) for c in numeral))
    total, section, digit = 0, 0, 0
    for c in numeral:
        if c in _CHINESE_DIGITS:
            digit = _CHINESE_DIGITS[c]
        elif c in _CHINESE_SCALES:
            section += (digit or 1) * _CHINESE_SCALES[c]
            digit = 0
        else:
            total += (section + digit or 1) * _CHINESE_MYRIADS[c]
            section = digit = 0
    return total + section + digit
