"""Amounts of bytes and of time, as a person reads them."""

from __future__ import annotations


def in_bytes(size: float) -> str:
    """`3.2 GB`, `410 MB`."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.3g} MB"


def in_time(seconds: float) -> str:
    """`2 h 05 min`, `3 min`, `40 s`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
