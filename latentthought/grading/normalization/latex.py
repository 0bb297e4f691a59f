r"""LaTeX as plain text: `\dfrac{3}{4}\text{ cm}` -> `3/4 cm`, `x^{a+b}` -> `x^(a+b)`, `\sqrt[3]{x}` -> `root(3,x)`.

Braces are paired in one pass, then the tokens are rewritten from left to right, groups by recursion down to a fixed depth; what
is nested deeper, unpaired or unknown stays as it is. Linear in the text times that depth.
Rejected: patterns applied from the inside out until nothing changes (they cannot see that `2^{\frac{1}{2}}` needs parentheses
and `3\frac{1}{2}` a space), a LaTeX parser (model text is seldom whole LaTeX), and `latex2sympy`, which hangs on some of it.
"""

from __future__ import annotations

import re

_DEPTH = 30
_UNBRACED = (
    3  # commands in each other without braces, as in `\sqrt\frac\pi2`: where one fails it is read again
)
_OPTIONAL_REACH = 40  # tokens between the brackets of `\sqrt[3]{x}`

_TOKEN = re.compile(r"\\(?:[a-zA-Z]+|.)|\\|[{}\[\]^_]|\s+|[^\\{}\[\]^_\s]+", re.DOTALL)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TEXT = _names("text textbf textit textrm textsf texttt textnormal mbox hbox emph textup textsc")
_FONTS = _names(
    "mathrm mathbf mathit mathsf mathtt mathnormal boldsymbol bm operatorname boxed fbox underline ensuremath vec "
    "overrightarrow mathop mathord displaylines bf rm it"
)
_FRACTIONS = _names("frac dfrac tfrac cfrac nicefrac sfrac")
_LITERAL = _names("begin end mathbb mathcal mathfrak")  # their group is a name
_DROPPED = _names(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr middle displaystyle textstyle scriptstyle limits "
    "nolimits strut hfill par noindent centering"
)
_DROPPED_WITH_GROUP = _names("hspace vspace phantom hphantom vphantom color label tag")
_WITH_OPTION = _names("textcolor colorbox")
_SPACES = _names("quad qquad thinspace enspace space , ; : > / ~ -") | {" ", "\n", "\t"}
_REPLACED = {
    "leq": r"\le ", "leqslant": r"\le ", "geq": r"\ge ", "geqslant": r"\ge ", "neq": r"\ne ", "lt": "<", "gt": ">",
    "times": "*", "cdot": "*", "ast": "*", "div": "/", "varnothing": r"\emptyset ", "lbrace": r"\{", "rbrace": r"\}",
    "lbrack": "[", "rbrack": "]", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "ldots": "...", "dots": "...",
    "cdots": "...", "dotsc": "...", "colon": ":", "prime": "'", "textdollar": "$", "pounds": "£", "euro": "€", "dollar": "$",
    "textdegree": " degrees ", "degree": " degrees ", "circ": " degrees ", "percent": "%", "infin": r"\infty ",
    "!": "", "$": "$", "%": "%", "#": "#", "&": "&", "_": "_", "(": " ", ")": " ",
    "land": r" \text{and} ", "lor": r" \text{or} ", "bmod": r"\mod ", "textquotesingle": "'", "lnot": r"\neg ",
    "varepsilon": r"\epsilon ", "varphi": r"\phi ", "vartheta": r"\theta ", "implies": r"\Rightarrow ",
}  # fmt: skip
_OPERATORS = _names(
    "leq geq neq lt gt times cdot div le ge ne in cup cap mid pm mp to and or \\ } ] ) % ! , ;"
)
_LENGTH = re.compile(r"-?[\d.]+(?:pt|em|ex|cm|mm|in|ex|mu|baselineskip)")
_GROUP = re.compile(r"\{[^{}]*\}")
_SIMPLE = re.compile(r"\d+(?:\.\d+)?|[A-Za-z]|\\[A-Za-z]+")
_INTEGER_BEFORE = re.compile(r"(?:^|[^\w.^)/\]}*])\s*\d+$")


def plain_latex(text: str) -> str:
    """`text` with its LaTeX commands as plain text; what is not understood stays. Never raises."""
    tokens = _TOKEN.findall(text)
    return _Converter(tokens).convert(0, len(tokens), 0)


class _Converter:
    """The tokens of one text and where each opened brace is closed."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.closing: dict[int, int] = {}
        self.unbraced = 0  # commands open now that are arguments without braces
        opened: list[int] = []
        for index, token in enumerate(tokens):
            if token == "{":
                opened.append(index)
            elif token == "}" and opened:
                self.closing[opened.pop()] = index

    def convert(self, start: int, stop: int, depth: int) -> str:
        """Tokens start..stop as plain text."""
        if depth > _DEPTH:
            return "".join(self.tokens[start:stop])
        out: list[str] = []
        at = start
        while at < stop:
            token = self.tokens[at]
            if token == "\\over" and depth:  # {1 \over 3}
                bottom = self.convert(at + 1, stop, depth + 1).strip()
                return _fraction("".join(out), bottom[1:-1] if _GROUP.fullmatch(bottom) else bottom, "", "(")
            if token[0] == "\\" and len(token) > 1:
                at = self._command(token[1:], at + 1, stop, depth, out)
            elif token in "^_" and token:
                at = self._script(token, at + 1, stop, depth, out)
            elif token == "{" and self.closing.get(at, stop) < stop:
                inside = self.convert(at + 1, self.closing[at], depth + 1)
                whole = "\\over" in self.tokens[at : self.closing[at]] or _GROUP.fullmatch(inside.strip())
                out.append(inside if whole or not inside.strip() else f"{{{inside}}}")
                at = self.closing[at] + 1
            else:
                out.append(token.replace("~", " "))
                at += 1
        return "".join(out)

    # -------------------------------------------------------------------------------------------------- commands
    def _command(self, name: str, at: int, stop: int, depth: int, out: list[str]) -> int:
        """Append what `\\name` and its arguments say; returns the token after them."""
        if name in _FRACTIONS:
            top, middle = self._argument(at, stop, depth)
            bottom, end = self._argument(middle, stop, depth) if top is not None else (None, at)
            if top is None:
                out.append("\\frac")
                return at
            if bottom is None:  # what was read is not read again, or each nesting would double the work
                out.append(f"\\frac{{{top}}}")
                return middle
            out.append(_fraction(top, bottom, _tail(out), self._next(end, stop)))
            return end
        if name == "sqrt":
            return self._root(at, stop, depth, out)
        if name in _TEXT or name in _FONTS:
            inside, end = self._argument(at, stop, depth)
            if inside is None:
                return at
            spaced = name in _TEXT or len(inside) > 1
            after = "" if self._next(end, stop) == "^" else " "  # \\text{cm}^2
            out.append(inside if inside[:1].isspace() or not spaced else f" {inside.rstrip()}{after}")
            return end
        if name in _LITERAL and at < stop and self.closing.get(at, stop) < stop:
            end = self.closing[at] + 1
            out.append(f"\\{name}" + "".join(self.tokens[at:end]))
            return end
        if name in _DROPPED:
            if at < stop and self.tokens[at].startswith(".") and name in ("left", "right"):
                self.tokens[at] = self.tokens[at][1:] or " "
            return at
        if name in _DROPPED_WITH_GROUP:
            return self._argument(at, stop, depth)[1]
        if name in _WITH_OPTION:
            return self._argument(at, stop, depth)[1]
        if name in _SPACES:
            out.append(" ")
        elif name in _REPLACED:
            out.append(_REPLACED[name])
        elif name == "\\":
            out.append("\\\\")
            space = self.tokens[at : at + 3]
            if (
                len(space) == 3 and space[0] == "[" and space[2] == "]" and _LENGTH.fullmatch(space[1])
            ):  # \\[2pt]
                return at + 3
        elif not name.isalpha():
            out.append("\\" + name)
        else:
            following = self._next(at, stop)
            out.append(f"\\{name}" + (" " if following.isalnum() else ""))
        return at

    def _root(self, at: int, stop: int, depth: int, out: list[str]) -> int:
        degree, start = "", at
        if at < stop and self.tokens[at] == "[":
            reach = range(at + 1, min(at + _OPTIONAL_REACH, stop))
            close = next((index for index in reach if self.tokens[index] == "]"), None)
            if close is not None:
                degree, at = self.convert(at + 1, close, depth + 1).strip(), close + 1
        gap = " " if _tail(out)[-1:].isalpha() else ""
        following = self._skip_space(at, stop)
        plain = (
            re.match(r"\(|\d+(?:\.\d+)?", self.tokens[following]) if following < stop and not degree else None
        )
        if plain and plain.group() == "(":  # \sqrt(2): not LaTeX, but clear
            out.append(f"{gap}sqrt")
            return following
        if plain:  # \sqrt12 is meant as the root of twelve
            out.append(f"{gap}sqrt({plain.group()})")
            self.tokens[following] = self.tokens[following][plain.end() :] or " "
            return following
        inside, end = self._argument(at, stop, depth)
        if inside is None:
            out.append("\\sqrt")
            return start
        inside = _without_parentheses(inside.strip())
        out.append(f"{gap}root({degree},{inside})" if degree else f"{gap}sqrt({inside})")
        return end

    def _script(self, mark: str, at: int, stop: int, depth: int, out: list[str]) -> int:
        """`^{..}`, `_{..}`, `^\\circ`, `^\\frac12`; a bare character stays as it is."""
        first = self._skip_space(at, stop)
        if first >= stop or self.tokens[first][0] not in "{\\" or self.tokens[first] in ("\\\\", "\\"):
            out.append(mark)
            return at
        inside, end = self._argument(first, stop, depth)
        if inside is None:
            out.append(mark)
            return at
        inside = inside.strip()
        word = inside.strip("{} ").lower()
        if (
            word in ("degrees", "degree", "o", "deg")
            and mark == "^"
            and (word != "o" or _tail(out)[-1:].isdigit())
        ):
            out.append(" degrees ")
        elif word in ("st", "nd", "rd", "th", "'", "''") and mark == "^":
            out.append(word)
        elif not inside:
            pass
        elif re.fullmatch(r"-?\d+|\w|\\[a-zA-Z]+" if mark == "^" else r"\w+", inside):
            joined = inside[-1:].isdigit() and self._next(end, stop, spaces=True)[:1].isdigit()
            out.append(f"{mark}({inside})" if joined else mark + inside)
            if inside[0] == "\\" and self._next(end, stop).isalpha():
                out.append(" ")
        else:
            out.append(f"{mark}({_without_parentheses(inside)})")
        return end

    # ------------------------------------------------------------------------------------------------- arguments
    def _skip_space(self, at: int, stop: int) -> int:
        while at < stop and self.tokens[at].isspace():
            at += 1
        return at

    def _argument(self, at: int, stop: int, depth: int) -> tuple[str | None, int]:
        """The argument that begins at a token (a group, a command, or one character) and the token after it."""
        at = self._skip_space(at, stop)
        if at >= stop or self.tokens[at] in "}]^_":
            return None, at
        token = self.tokens[at]
        if token == "{":
            close = self.closing.get(at, stop)
            if close >= stop:
                return None, at
            return self.convert(at + 1, close, depth + 1), close + 1
        if token[0] == "\\":
            if depth >= _DEPTH or self.unbraced >= _UNBRACED:
                return None, at
            inside: list[str] = []
            self.unbraced += 1
            end = self._command(token[1:], at + 1, stop, depth + 1, inside)
            self.unbraced -= 1
            return "".join(inside).strip() or None, end
        if token == "[":
            return None, at
        if len(token) > 1:  # one character of it; the rest is what follows
            self.tokens[at] = token[1:]
            return token[0], at
        return token, at + 1

    def _next(self, at: int, stop: int, spaces: bool = False) -> str:
        """What follows, as far as a neighbour needs to know: a character, or `\\name`."""
        if not spaces:
            at = self._skip_space(at, stop)
        if at >= stop:
            return ""
        token = self.tokens[at]
        return token if token[0] == "\\" else token[0]


def _tail(out: list[str]) -> str:
    """The end of what has been written: enough to see an integer there."""
    last = ""
    for piece in reversed(out):
        last = piece[-24:] + last
        if len(last) >= 24:
            break
    return last


def _atom(text: str) -> str:
    """The text, in parentheses unless it is one number or one name."""
    text = text.strip()
    return text if _SIMPLE.fullmatch(text) else f"({_without_parentheses(text)})"


def _without_parentheses(text: str) -> str:
    """`(a+b)` -> `a+b`; `(a)(b)` stays."""
    if len(text) > 2 and text[0] == "(" and text[-1] == ")" and not re.search(r"[()]", text[1:-1]):
        return text[1:-1].strip() if "," not in text else text
    return text


def _fraction(top: str, bottom: str, before: str, following: str) -> str:
    """`top/bottom`, in parentheses where a neighbour would be read into it; after an integer a mixed number."""
    top, bottom = top.strip(), bottom.strip()
    integers = top.isdigit() and bottom.isdigit()
    sign = re.fullmatch(r"-\d+(?:\.\d+)?", top)
    fraction = f"{top if sign else _atom(top)}/{_atom(bottom)}"
    if integers and _INTEGER_BEFORE.search(before) and not before[-1:].isspace():
        return f" {fraction}"
    if integers and before[-1:].isspace() and _INTEGER_BEFORE.search(before.rstrip()):
        return fraction
    bare = before.rstrip()[-1:]
    command = following[1:] if following.startswith("\\") else ""
    joined = following[:1].isalnum() or following.startswith(("(", "^", "{", "!"))
    joined = joined or (
        command != "" and command not in _OPERATORS and command not in _TEXT and command not in _SPACES
    )
    if joined or bare.isalnum() or bare in tuple(")]}^/_*") or (sign and bare in ("+", "-")):
        return f"({fraction})"
    return fraction
