"""The tiny models of these tests go the way of large ones."""

from __future__ import annotations

import pytest

from latentthought.model import shared_products


@pytest.fixture(autouse=True)
def _weights_count_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_products, "LEAST_ELEMENTS", {"cpu": 0, "elsewhere": 0})
