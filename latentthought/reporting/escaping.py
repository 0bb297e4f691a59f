"""Foreign text on a page: seen, never acted upon."""

from __future__ import annotations

import html
import re

# control characters, lone surrogates, and what ends a line or turns its direction: shown by number instead of acted upon
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def visible(text: str) -> str:
    """A text without characters that act instead of being seen: NUL becomes `\\x00`."""
    return _INVISIBLE.sub(
        lambda match: f"\\x{ord(match[0]):02x}" if ord(match[0]) < 256 else f"\\u{ord(match[0]):04x}", text
    )


def safe(text: str) -> str:
    """Text as HTML, also inside an attribute."""
    return html.escape(visible(text))
