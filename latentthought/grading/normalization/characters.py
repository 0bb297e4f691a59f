"""Unicode signs as the ASCII or LaTeX that means the same: `−` -> `-`, `½` -> ` 1/2`, `√2` -> `\\sqrt{2}`, `١٢` -> `12`."""

from __future__ import annotations

import re
import unicodedata

_GREEK = "αβγδεζηθκλμνξρστφχψωΓΔΘΛΞΠΣΦΨΩ"
_GREEK_NAMES = """
alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega
Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega
"""
_SIGNS = {
    "−": "-", "–": "-", "—": "-", "﹣": "-", "‐": "-", "‑": "-", "×": "*", "⋅": "*", "·": "*", "∗": "*", "•": "*", "÷": "/",
    "∕": "/", "⁄": "/", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ",
    "±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "∈": r"\in ", "∉": r"\notin ", "≈": r"\approx ",
    "≃": r"\approx ", "∼": "~", "∖": r"\setminus ", "°": r"^\circ ", "º": r"^\circ ", "˚": r"^\circ ", "℃": r"^\circ C",
    "℉": r"^\circ F", "′": "'", "″": "''", "’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
    "「": '"', "」": '"', "『": '"', "』": '"', "、": ", ", "，": ", ", "،": ", ", "。": ".", "।": ".", "：": ":", "∶": ":",
    "；": ";", "؛": ";", "؟": "?", "（": "(", "）": ")", "【": "[", "】": "]", "［": "[", "］": "]", "｛": "{", "｝": "}",
    "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ", "٫": ".", "٬": ",", "％": "%", "٪": "%",
    "→": r"\to ", "⇒": r"\Rightarrow ", "⟹": r"\Rightarrow ", "∴": r"\therefore ",
    "…": "...", "⋯": "...", "∣": "|", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "∧": r"\text{ and }", "∨": r"\text{ or }", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "⌈": r"\lceil ", "⌉": r"\rceil ", "∠": r"\angle ", "△": r"\triangle ", "＄": "$", "￥": "¥", "µ": "u", "ﬁ": "fi",
    # what is seen as nothing: joiners, direction marks, a soft hyphen
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff", ""),
    **{letter: rf"\{name} " for letter, name in zip(_GREEK, _GREEK_NAMES.split(), strict=True)},
}  # fmt: skip
_TABLE = str.maketrans(_SIGNS)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿˣ", "0123456789-+nx")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿˣ]+")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[A-Za-z])?")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_THIN_SPACED = re.compile(
    r"(?<![\d.,])(?<!\d[\u00a0\u2007-\u200a\u202f])(\d{1,3})((?:[\u00a0\u2007\u2008\u2009\u200a\u202f]\d{3})+)(?!\d)"
)
_WIDE_COMMA = re.compile(r"(?<=\d)，(?=\d{3}(?!\d))")
_PICTURE = re.compile("[\u2705\u2714\u2713\u2611\u27a1\u2b50\ufe0f\U0001f300-\U0001faff]")
_GREEK_WORD = re.compile("[\u0370-\u03ff]{2,}")


def plain_characters(text: str) -> str:
    """`text` in NFKC, its signs, digits, superscripts and fractions as ASCII or LaTeX; ASCII text comes back at once."""
    if text.isascii():
        return text
    text = _THIN_SPACED.sub(lambda match: match.group(1) + re.sub(r"\D", "", match.group(2)), text)
    text = _WIDE_COMMA.sub(",", text)
    if _PICTURE.search(text):
        text = _PICTURE.sub("", text).strip() or text  # ✅ 42 🎉
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _SUBSCRIPT_RUN.sub(lambda run: "_{" + run.group().translate(_SUBSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda sign: " " + unicodedata.normalize("NFKC", sign.group()), text)
    text = _ROOT.sub(_root, text)
    if _GREEK_WORD.search(text):  # Greek prose, not symbols
        text = "".join(
            character if "\u0370" <= character <= "\u03ff" else _SIGNS.get(character, character)
            for character in text
        )
    text = unicodedata.normalize("NFKC", text.translate(_TABLE))
    if text.isascii():
        return text
    return "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in text)


def _root(match: re.Match[str]) -> str:
    degree = {"√": "", "∛": "[3]", "∜": "[4]"}[match.group(1)]
    return rf"\sqrt{degree}{{{match.group(2)}}}" if match.group(2) else rf"\sqrt{degree}"
