"""`latentthought inspect` on a tiny trained run: what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.evaluation.inspection.results import Faithfulness
from tests.cli.test_commands import QUESTION, said
from tests.reporting.test_evaluation_report import checked

OTHER = "a c c b b d d f f e e g g h h i i j j l l k k a ? c"


def test_a_page_of_a_prompt(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "thoughts.html"
    shown = said(capsys, ["inspect", str(trained_run), QUESTION, "--html", str(page)])
    assert shown.strip() == str(page)
    text = page.read_text("utf-8")
    checked(text)
    assert QUESTION in text and "Thought 5" in text and "no other prompt" in text
    said(
        capsys,
        ["inspect", str(trained_run), QUESTION, "--other", OTHER, "--html", str(page), "--thoughts", "2"],
    )
    text = page.read_text("utf-8")
    assert OTHER in text and "Thought 2" in text and "Thought 3" not in text
    assert page.stat().st_size < 200_000


def test_a_page_of_several_prompts(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    evil = "<script>alert(1)</script> a b ? a"
    rows.write_text(
        "".join(json.dumps({"id": f"<{n}>", "question": q}) + "\n" for n, q in enumerate([QUESTION, evil]))
    )
    page = tmp_path / "thoughts.html"
    said(capsys, ["inspect", str(trained_run), "--input", str(rows), "--html", str(page), "--draws", "1"])
    text = page.read_text("utf-8")
    checked(text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; a b ? a" in text
    assert "Prompt &lt;1&gt;" in text
    assert text.count("Swapped thoughts come from the prompt") == 2


def test_a_task(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "inspected"
    command = [
        "inspect",
        str(trained_run),
        "--task",
        "hops",
        "--limit",
        "90",
        "--max-new-tokens",
        "4",
        "--draws",
        "1",
        "--output",
        str(folder),
    ]
    shown = said(capsys, command)
    assert "90 rows of hops" in shown and "answers that change" in shown and "read off the thoughts" in shown
    assert "\u2026" not in shown, "no column is cut off"
    assert sorted(file.name for file in folder.iterdir()) == [
        "effects.csv",
        "inspection.html",
        "inspection.json",
        "probes.csv",
    ]
    found = Faithfulness.parse(json.loads((folder / "inspection.json").read_text("utf-8")))
    assert (found.rows, found.thoughts, found.per_step) == (90, 5, 1)
    kinds = {(effect.kind, effect.reach) for effect in found.effects}
    assert len(kinds) == 8 and len(found.effects) == 40
    assert found.effect(3, "swapped", "total").led.n == 90
    assert {probe.thought for probe in found.probes} == {1, 2, 3, 4, 5}
    checked((folder / "inspection.html").read_text("utf-8"))
    refused = said(capsys, command, 2)
    assert "not empty" in refused


def test_a_task_without_steps_has_no_probes(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"question": q, "answer": "b"}) + "\n" for q in (QUESTION, OTHER, QUESTION))
    )
    folder = tmp_path / "inspected"
    said(
        capsys,
        [
            "inspect",
            str(trained_run),
            "--task",
            "file",
            "--data",
            str(rows),
            "--max-new-tokens",
            "4",
            "--output",
            str(folder),
        ],
    )
    found = Faithfulness.parse(json.loads((folder / "inspection.json").read_text("utf-8")))
    assert found.rows == 3 and not found.probes
    assert "no steps" in found.remarks[0]
    assert "no steps" in (folder / "inspection.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "--html", "x.html"], "PROMPT is empty"),
        ([QUESTION], "--html FILE"),
        (["--html", "x.html"], "give a PROMPT, --input FILE or --task NAME"),
        (
            [QUESTION, "--html", "x.html", "--thoughts", "0"],
            "nothing to inspect: .* trained with 5; .*--thoughts N",
        ),
        ([QUESTION, "--html", "absent/x.html"], "--html absent/x.html: there is no folder absent"),
        ([QUESTION, "--html", "."], "this is a folder"),
        ([QUESTION, "--html", "/proc/x.html"], "--html /proc: nothing can be written there"),
        ([QUESTION, "--html", "x.html", "--other", 40 * QUESTION], "error: --other: its .* leave no room"),
        ([QUESTION, "--html", "x.html", "--thoughts", "2000"], "2000 thoughts leave no room"),
        ([QUESTION, "--html", "x.html", "--other", " "], "--other is empty"),
        ([QUESTION, "--html", "x.html", "--limit", "3"], "--limit is about the rows of a task"),
        ([QUESTION, "--task", "hops"], "PROMPT does not go with --task"),
        (["--task", "hosp"], "Did you mean hops"),
        (["--task", "hops", "--data", "absent.jsonl"], "no such file"),
        (["--task", "hops", "--smoke", "--thoughts", "2000", "--output", "o"], "0 of its 16 rows fit"),
        (["--task", "hops", "--smoke", "--thoughts", "0", "--output", "o"], "nothing to inspect"),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    message: str,
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(trained_run), *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error, re.DOTALL), error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == [], "nothing half-written"
