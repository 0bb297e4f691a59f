"""The console that tables are printed on."""

from __future__ import annotations

from typing import Any

# a table of results needs about so much; rich would squeeze its columns to nothing in a pipe, which it takes to be 80 wide
LEAST_WIDTH = 120


def console() -> Any:
    """A rich console at least `LEAST_WIDTH` wide: a narrow terminal wraps a table, which is still readable."""
    from rich.console import Console

    made = Console(highlight=False)
    return made if made.width >= LEAST_WIDTH else Console(highlight=False, width=LEAST_WIDTH)
