"""The axes that a figure drew, to look at what cannot be read from its table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Filled with the visible axes of every figure that is written; they stay open until the test ends."""
    plt = pytest.importorskip("matplotlib.pyplot")
    drawn: list[Any] = []
    found: list[Any] = []

    def keep(figure: Any) -> None:
        drawn.append(figure)
        found.extend(axis for axis in figure.axes if axis.get_visible())

    monkeypatch.setattr(plt, "close", keep)
    yield found
    monkeypatch.undo()
    for figure in drawn:
        plt.close(figure)
