"""Times of day and dates: `3:30 PM` is `15:30`, `11:30` may be `11:30 AM`, `Jan 2, 2024` is `2024-01-02`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from latentthought.grading.normalization.words import SHORT_NAMES

_TIME = re.compile(r"(\d{1,2})(?::(\d\d))?(?::(\d\d))? ?([ap]\.? ?m\.?)?", re.IGNORECASE)
_HALF_DAY = 12 * 3600
_NUMBERED = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
_MONTH_FIRST = re.compile(r"([a-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})")
_DAY_FIRST = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?(?: of)? ([a-z]{3,9})\.?,? (\d{4})")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAMES = {"noon": (720, "pm"), "midnight": (0, "am")}


@dataclass(frozen=True, slots=True)
class Time:
    """seconds since midnight; half: `am`, `pm`, `24h` for an hour that only a day of 24 has, or "" where nothing says it."""

    seconds: int
    half: str


def time_of_day(plain: str) -> Time | None:
    """The time that a normalised text denotes; None for everything else, a ratio such as `3:1` included."""
    if plain.lower() in _NAMES:
        minutes, half = _NAMES[plain.lower()]
        return Time(60 * minutes, half)
    match = _TIME.fullmatch(plain)
    if match is None or not (match.group(2) or match.group(4)):
        return None
    hour, minute, second = int(match.group(1)), int(match.group(2) or 0), int(match.group(3) or 0)
    half = re.sub("[. ]", "", match.group(4) or "").lower()
    if hour > (12 if half else 24) or minute > 59 or second > 59 or (half and not hour):
        return None
    if half:
        hour = hour % 12 + 12 * (half == "pm")
    elif hour == 0 or hour > 12:
        half = "24h"
    return Time((hour % 24 * 60 + minute) * 60 + second, half)


def same_time(a: Time, b: Time) -> bool:
    """Whether two times may be one: 3:30 is 3:30 AM or PM, but not 15:30."""
    halves = {a.half, b.half}
    if "" in halves and halves & {"am", "pm"}:
        return a.seconds % _HALF_DAY == b.seconds % _HALF_DAY
    return a.seconds == b.seconds


def date(plain: str) -> tuple[int, int, int] | None:
    """(year, month, day) of a normalised text that is a date with its year; None for every other one."""
    text = plain.lower()
    if match := _NUMBERED.fullmatch(text):
        year, month, day = int(match[1]), int(match[3]), int(match[4])
    elif match := _MONTH_FIRST.fullmatch(text):
        year, month, day = int(match[3]), _month(match[1]), int(match[2])
    elif match := _DAY_FIRST.fullmatch(text):
        year, month, day = int(match[3]), _month(match[2]), int(match[1])
    else:
        return None
    return (year, month, day) if 1 <= month <= 12 and 1 <= day <= 31 else None


def _month(name: str) -> int:
    """1 to 12; 0 for another word."""
    full = SHORT_NAMES.get(name[:3], "")
    return _MONTHS.index(name[:3]) + 1 if name[:3] in _MONTHS and full.startswith(name[:4]) else 0
