"""Plain documents: text without a question, for healing a model after it was cut, where what counts is how dense the text is."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from latentthought.data.example import Example, optional_text, text_field
from latentthought.data.sources.base import HubLocation, Source


class Text(Source):
    """`text` is needed; `id` is read where it is there. The document is the answer to an empty question."""

    name = "text"

    @property
    def names(self) -> tuple[str, ...]:
        return ("text", "id")

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        return Example(
            optional_text(row, "id", where) or "",
            question="",
            steps=(),
            answer=text_field(row, "text", where),
        )

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        draws = random.Random(f"text {seed}")
        return [{"text": " ".join(_sentence(draws) for _ in range(draws.randint(2, 6)))} for _ in range(n)]


class Cosmopedia(Text):
    """Synthetic textbooks, stories and articles (Cosmopedia, subset web_samples_v2); rows are fetched as they are read."""

    name = "cosmopedia"
    hub = HubLocation("HuggingFaceTB/cosmopedia", {"train": (("web_samples_v2", "train"),)}, streaming=True)


class FineWeb(Text):
    """Text of the web, filtered and deduplicated (FineWeb, sample of 10 B tokens); rows are fetched as they are read."""

    name = "fineweb"
    hub = HubLocation("HuggingFaceFW/fineweb", {"train": (("sample-10BT", "train"),)}, streaming=True)


def _sentence(draws: random.Random) -> str:
    things = ("a river", "a tree", "the sun", "a stone", "the wind", "a bird", "a town", "the sea")
    deeds = ("carries", "hides", "warms", "shapes", "follows", "needs", "feeds", "meets")
    first, second = draws.sample(things, 2)
    return f"{first[0].upper()}{first[1:]} {draws.choice(deeds)} {second}."
