"""Times of day: `3:30 PM` is `15:30`, and `11:30` may be `11:30 AM`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TIME = re.compile(r"(\d{1,2})(?::(\d\d))?(?::(\d\d))? ?([ap]\.? ?m\.?)?", re.IGNORECASE)
_HALF_DAY = 12 * 3600
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
