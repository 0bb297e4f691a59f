"""Two runs against each other: pairing by question, and refusing what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latentthought.cli import main
from latentthought.data.example import ExampleSet
from latentthought.errors import DamagedFileError, DataError, MissingFileError
from latentthought.evaluation import TaskConfig, compare, evaluate, render_comparison
from latentthought.evaluation.comparison import remarks_on
from tests.judged import answered, judged, result, saved


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
    assert found[0].difference.test == "mcnemar"
    table, costs, *remarks = render_comparison(found).renderables
    assert (table.row_count, costs.row_count) == (1, 1)
    assert "1 questions are in one run only" in remarks[-1]
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


def test_several_samples(tmp_path: Path) -> None:
    """A has 4 samples a question and B 2: pass and maj are compared at the k that both have."""
    a = [s for i in range(8) for s in judged(f"q{i}", "7", "7", "7.0", "8", "9" if i % 2 else "7")]
    b = [s for i in range(8) for s in judged(f"q{i}", "7", "8", "7" if i < 4 else "8")]
    saved(tmp_path / "a", a)
    saved(tmp_path / "b", b)
    (found,) = compare(tmp_path / "a", tmp_path / "b")
    assert set(found.metrics) == {"pass@2", "maj@2"}
    assert (found.difference.a, found.difference.b) == (0.625, 0.25)
    passed = found.metrics["pass@2"]
    assert (passed.a, passed.b) == pytest.approx(((5 / 6 + 1) / 2, 0.5))
    assert found.metrics["maj@2"].b == 0.25
    assert found.difference.p_value is not None and found.difference.p_value < 0.05
    assert (found.costs_a.tokens, found.costs_b.thoughts) == (3, 2)


def test_scores_of_other_questions_are_left_out(tmp_path: Path) -> None:
    for name, scored in (("a", "q0"), ("b", "q1")):
        samples = [
            s for i in ("q0", "q1") for s in judged(i, "7", "7", scores={"s": 1.0} if i == scored else {})
        ]
        saved(tmp_path / name, samples)
    (found,) = compare(tmp_path / "a", tmp_path / "b")
    assert found.metrics == {}


def test_a_folder_of_several_runs_is_not_one_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        saved(tmp_path / "runs" / name, answered([1], 3))
    with pytest.raises(DataError, match=r"several runs lie below it.*sums/none is in .*a.* and in .*b"):
        compare(tmp_path / "runs", tmp_path / "runs" / "a")


def test_what_was_asked_differently_is_said(tmp_path: Path) -> None:
    samples = answered([1], 3)
    for name, settings in (
        ("a", {"seed": 0, "few_shot": [], "model": "x", "format": {"prompt": "Q", "chat": False}}),
        ("b", {"seed": 0, "few_shot": ["p", "q"], "model": "y", "format": {"prompt": "Q", "chat": True}}),
    ):
        saved(tmp_path / name, samples, result(samples, settings=settings))
    (found,) = compare(tmp_path / "a", tmp_path / "b")
    assert found.settings == {"few_shot": ([], ["p", "q"]), "format.chat": (False, True)}
    assert (
        "sums (none): asked differently. few_shot: 0 in A, 2 in B; format.chat: False in A, True in B."
        in remarks_on([found])
    )
    (same,) = compare(tmp_path / "a", tmp_path / "a")
    assert same.settings == {} and "asked differently" not in " ".join(remarks_on([same]))


def test_a_file_of_another_kind_is_the_users_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    assert main(["compare", str(tmp_path / "rows.jsonl"), str(tmp_path)]) == 2
    assert "not a results.json; give the run folder" in capsys.readouterr().err


def test_names_are_not_styles(tmp_path: Path) -> None:
    for name, total in (("a", 3), ("b", 4)):
        samples = answered([1], total, task="[/x]")
        saved(tmp_path / name, samples, result(samples, task="[/x]"))
    from rich.console import Console

    console = Console(width=200, record=True)
    console.print(render_comparison(compare(tmp_path / "a", tmp_path / "b"), "[/a]", "b"))
    text = console.export_text()
    assert "A: [/a]" in text and text.count("[/x]") == 3


def test_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (
        str(saved(tmp_path / name, answered(right, 20)))
        for name, right in (("a", range(12)), ("b", range(5)))
    )
    for ending in ("md", "html", "json"):
        assert main(["compare", a, b, "--output", str(tmp_path / f"new/c.{ending}")]) == 0
    assert "+35.0" in (tmp_path / "new/c.md").read_text()
    page = (tmp_path / "new/c.html").read_text()
    assert "+35.0" in page and "<svg" in page and "7 / 0" in page
    values = json.loads((tmp_path / "new/c.json").read_text())
    assert values[0]["difference"]["difference"] == pytest.approx(0.35)
    assert values[0]["difference"]["p_value"] == pytest.approx(2 / 2**7)
    capsys.readouterr()
    assert main(["compare", a, b, "--json", "--output", str(tmp_path / "c.md")]) == 0
    assert json.loads(capsys.readouterr().out) == values
    assert main(["compare", a, b, "--output", str(tmp_path / "c.pdf")]) == 2
    assert ".md, .html, .json" in capsys.readouterr().err
    assert main(["compare", a, b, "--output", "/no-such-folder/c.html"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "--output /no-such-folder/c.html: no such folder: /no-such-folder" in said.err
    assert not Path("/no-such-folder").exists()
    assert not list(tmp_path.glob("**/*.tmp"))
