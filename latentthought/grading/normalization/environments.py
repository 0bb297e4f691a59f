r"""Lines of LaTeX as one line: `\begin{aligned} x &= 2 \\ y &= 3 \end{aligned}` -> `x = 2, y = 3`.

A line that begins with a relation goes on with the one above (`A &= 2 \cdot 3 \\ &= 6` is `A = 2 \cdot 3 = 6`); any other is a
statement of its own. Environments are found with `str.find`, so that a text of nothing but `\begin{aligned}` costs one pass.
Left alone: matrices, and `cases` with conditions in a second column, which are one value and not several.
"""

from __future__ import annotations

import re

_LINES = ("aligned", "align", "align*", "gathered", "gather", "gather*", "split", "eqnarray", "eqnarray*")
_BRACED = ("cases", "array")  # a system, where every line of them is a statement
_LONGEST_NAME = 20  # characters from the backslash to the brace
_ROW_END = re.compile(r"\\\\(?:\s?\[[\d.]{1,6}[a-z]{2}\])?|\\newline\b")
_COLUMNS = re.compile(r"\s?\{[clr|@{}\s]{0,20}\}")
_RELATION = re.compile(r"(?:=|<|>|\\(?:leq?|geq?|approx|equiv|Rightarrow|implies|to)\b)")
_CONDITION = re.compile(r"&\s?(?!=|<|>|\\(?:leq?|geq?|approx|equiv)\b)")
_ALIGNMENT = re.compile(r"&(?=\s?(?:=|<|>|\\(?:leq?|geq?|approx|equiv)\b))|(?<!\\)&")
_OPENED = re.compile(r"\\left\s?\\(?:\{|lbrace)\s?$")
_CLOSED = re.compile(r"\s?\\right\s?\.")


def joined_lines(text: str) -> str:
    """`text` with its aligned lines and its systems as lists of statements."""
    at = text.find("\\begin{")
    if at < 0:
        return text
    out: list[str] = []
    done = 0
    while at >= 0:
        close = text.find("}", at, at + _LONGEST_NAME)
        name = text[at + 7 : close] if close >= 0 else ""
        mark = f"\\end{{{name}}}"
        if name not in _LINES and name not in _BRACED:
            at = text.find("\\begin{", at + 7)
            continue
        end = text.find(mark, close)
        if end < 0:
            break
        before, stop = text[done:at], end + len(mark)
        body = text[close + 1 : end]
        opened, closed = _OPENED.search(before[-20:]), _CLOSED.match(text, stop)
        if name == "array" and (columns := _COLUMNS.match(body)):
            body = body[columns.end() :]
        statements = _statements(
            body, braced=name in _BRACED, system=name != "array" or bool(opened and closed)
        )
        if statements is not None:
            if opened and closed:
                before, stop = before[: len(before) - len(opened.group())], closed.end()
            out += [before, statements]
            done = stop
        at = text.find("\\begin{", stop)
    return "".join(out) + text[done:]


def _statements(body: str, braced: bool, system: bool) -> str | None:
    """The lines of an environment as a list; None where they are no statements."""
    if "\\begin{" in body or not system:
        return None
    rows = [row for row in map(str.strip, _ROW_END.split(body)) if row]
    if braced and not all(_RELATION.search(row) and not _CONDITION.search(row) for row in rows):
        return None
    lines: list[str] = []
    for row in rows:
        line = _ALIGNMENT.sub("", row).strip().rstrip(",;")
        if lines and _RELATION.match(line):
            lines[-1] += " " + line
        else:
            lines.append(line)
    return ", ".join(lines)
