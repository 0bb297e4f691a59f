"""A recipe small enough to train in a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentthought.config import merge
from latentthought.recipe import Recipe


@pytest.fixture
def make_recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """`make_recipe(training={...})`: a tiny GPT-2 (it has dropout) on rows whose answer is the last word of the question."""
    rows = [
        {
            "question": f"{a} {b} {c}",
            "steps": [f"{a} first", f"{b} second"][: 1 + i % 2],
            "answer": "yes" if i % 4 else "no",
        }
        for i, (a, b, c) in enumerate((a, b, c) for a in "abcd" for b in "efg" for c in "hi")
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values: dict[str, Any] = {
        "seed": 3,
        "model": {
            "scratch": {"architecture": "gpt2", "layers": 1, "width": 16, "heads": 2, "max_positions": 64}
        },
        "data": {"source": "file", "path": str(file)},
        "curriculum": {
            "method": "latent",
            "max_latent_steps": 2,
            "each": {"steps": 6},
            "replay": 0.3,
            "reset_optimizer": True,
        },
        "training": {
            "batch_size": 8,
            "learning_rate": 0.01,
            "warmup_steps": 3,
            "log_every": 4,
            "save_every": 5,
        },
        "engine": {"device": "cpu", "micro_batch_size": 4, "threads": 1},
    }
    return lambda **changes: Recipe.parse(merge(values, changes))
