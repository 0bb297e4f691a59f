"""Bars with intervals as inline SVG: positions in percent of the width, so text keeps its size on every screen.

Shares run from 0 to 100 %; differences run both ways from a line at 0, to the next round number of points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latentthought.reporting.escaping import safe

_ROUND = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Bar:
    """One value with its interval, all in shares of 1. text: the numbers as they are shown beside it; note: what it is of."""

    name: str
    value: float
    low: float
    high: float
    text: str
    note: str = ""
    difference: bool = False


def bars(rows: Sequence[Bar]) -> str:
    """The bars as HTML; nothing for no rows. All on one scale: differences when any row is one."""
    if not rows:
        return ""
    least, most = 0.0, 1.0
    if any(row.difference for row in rows):
        reach = max(max(abs(row.low), abs(row.high)) for row in rows)
        most = next((end for end in _ROUND if reach <= end), 1.0)
        least = -most
    drawn = "\n".join(_bar(row, least, most) for row in rows)
    ends = (least, (least + most) / 2, most)
    unit = "" if least else " %"
    labels = "".join(
        f"<span>{100 * end:+.3g}</span>" if least and end else f"<span>{100 * end:.0f}{unit}</span>"
        for end in ends
    )
    return f'<div class="bars">\n{drawn}\n<div class="bar axis"><span></span><div class="plot">{labels}</div></div>\n</div>'


def _bar(row: Bar, least: float, most: float) -> str:
    def place(value: float) -> float:
        return 100 * (min(max(value, least), most) - least) / (most - least)

    start, end = sorted((place(0.0), place(row.value)))
    low, high, zero = place(row.low), place(row.high), place(0.0)
    name, text = safe(row.name), safe(row.text)
    note = f" <small>{safe(row.note)}</small>" if row.note else ""
    whiskers = "".join(f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="28%" y2="72%"/>' for x in (low, high))
    return (
        f'<div class="bar"><span class="name">{name}{note}</span><div class="plot">'
        f'<svg role="img" aria-label="{name}: {text}"><rect class="track" width="100%" height="100%" rx="3"/>'
        f'<rect x="{start:.2f}%" width="{end - start:.2f}%" y="15%" height="70%" rx="2"/>'
        f'<line class="zero" x1="{zero:.2f}%" x2="{zero:.2f}%" y1="0" y2="100%"/>'
        f'<line x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%"/>{whiskers}</svg></div>'
        f'<span class="value">{text}</span></div>'
    )
