"""Two runs against each other: pairing by question, and refusing what cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latentthought.data.example import ExampleSet
from latentthought.errors import DamagedFileError, DataError, MissingFileError
from latentthought.evaluation import TaskConfig, compare, evaluate, render_comparison


@pytest.fixture
def runs(
    scripted: Any, task: TaskConfig, tokenizer: Any, rows: ExampleSet, tmp_path: Path
) -> tuple[Path, Path]:
    """A with 7 of 10 right, B with those of A but one, and two others, on 10 and 9 rows."""
    a, b = tmp_path / "a", tmp_path / "b"
    evaluate(scripted, task, tokenizer=tokenizer, data=rows, output=a, progress=False)
    scripted.answers[rows[3].question] = "### 3"
    scripted.answers[rows[4].question] = "### 4"
    scripted.answers[rows[6].question] = "### 7"
    evaluate(scripted, task, tokenizer=tokenizer, data=rows, limit=9, output=b, progress=False)
    return a, b


def test_paired(runs: tuple[Path, Path]) -> None:
    found = compare(*runs)
    assert len(found) == 1
    difference = found[0].difference
    assert (difference.n, difference.only_a, difference.only_b, found[0].unmatched) == (9, 1, 2, 1)
    assert difference.difference == pytest.approx(6 / 9 - 7 / 9)
    assert render_comparison(found).row_count == 1
    leaf = runs[0] / "results" / "sums" / "none"
    assert compare(leaf, runs[1] / "results" / "sums" / "none" / "results.json") == found


def test_what_cannot_be_compared(
    runs: tuple[Path, Path], tmp_path: Path, scripted: Any, task: TaskConfig, tokenizer: Any, rows: ExampleSet
) -> None:
    with pytest.raises(MissingFileError, match="no such run"):
        compare(runs[0], tmp_path / "c")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="evaluate"):
        compare(runs[0], tmp_path / "empty")
    evaluate(
        scripted,
        task.replace(version=4),
        tokenizer=tokenizer,
        data=rows,
        output=tmp_path / "c",
        progress=False,
    )
    with pytest.raises(DataError, match=r"version 3 .* version 4"):
        compare(runs[0], tmp_path / "c")
    (runs[0] / "results" / "sums" / "none" / "results.json").write_text("{")
    with pytest.raises(DamagedFileError, match="not JSON"):
        compare(*runs)
