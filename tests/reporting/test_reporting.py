"""Metrics, figures and reports."""

from __future__ import annotations

import builtins
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from latentthought.errors import DamagedFileError, MissingExtraError, MissingFileError, UserError
from latentthought.reporting.experiment import Experiment, Line, Shown, write_report
from latentthought.reporting.metrics import read_metrics
from latentthought.reporting.plots import COLOURS, DASHES, plot_runs

ROWS = [
    {"step": 10, "stage": "text", "loss": 2.0, "loss_ce": 1.5, "loss_hidden": 5.0, "mix_ratio": 0.0},
    {
        "step": 20,
        "stage": "transition",
        "loss": 1.0,
        "loss_ce": 0.5,
        "loss_hidden": 5.0,
        "mix_ratio": 0.2,
        "thought_rms_ratio": 1.1,
    },
    {
        "step": 30,
        "stage": "mixed",
        "loss": 0.5,
        "loss_ce": 0.1,
        "loss_hidden": 4.0,
        "mix_ratio": 0.5,
        "thought_rms_ratio": None,
    },
]


def make_run(folder: Path, rows: list[dict[str, Any]] = ROWS, tail: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return folder


def test_metrics_are_read_with_a_torn_last_line(tmp_path: Path) -> None:
    run = read_metrics(make_run(tmp_path / "run", tail='{"step": 4'))
    assert run.series("loss") == ([10, 20, 30], [2.0, 1.0, 0.5])
    assert run.series("thought_rms_ratio") == ([20], [1.1]), "null is no number"
    assert run.stages() == [(10, "text"), (20, "transition"), (30, "mixed")]
    assert run.keys("loss") == ["loss", "loss_ce", "loss_hidden"]
    assert run.last("loss") == 0.5
    assert run.last("absent") is None


def test_metrics_damage_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = run / "metrics.jsonl"
    file.write_text("{bad}\n" + file.read_text())
    with pytest.raises(DamagedFileError, match=r"metrics.jsonl, line 1"):
        read_metrics(run)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DamagedFileError, match="not UTF-8"):
        read_metrics(run)
    with pytest.raises(MissingFileError, match="no such folder"):
        read_metrics(tmp_path / "absent")


def test_figures_hold_the_numbers(tmp_path: Path) -> None:
    files = plot_runs(
        [make_run(tmp_path / "a" / "run"), make_run(tmp_path / "b" / "run")], tmp_path / "figures"
    )
    assert {file.name for file in files} == {
        f"{name}.{suffix}" for name in ("loss", "mix_ratio", "scale") for suffix in ("png", "svg", "csv")
    }
    with (tmp_path / "figures/loss.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 3
    assert {row["run"] for row in rows} == {"a/run", "b/run"}, "two runs of one name are told apart"
    hidden = [float(row["value"]) for row in rows if row["key"] == "loss_hidden" and row["run"] == "a/run"]
    assert hidden == [5.0, 5.0, 4.0]
    assert [row["stage"] for row in rows[:3]] == ["text", "transition", "mixed"]
    first = (tmp_path / "figures/loss.svg").read_bytes()
    assert b"loss: hidden" in first
    plot_runs([tmp_path / "a" / "run", tmp_path / "b" / "run"], tmp_path / "figures")
    assert (tmp_path / "figures/loss.svg").read_bytes() == first, "the same numbers give the same file"


def test_panels_share_the_steps_and_name_only_visible_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    drawn: list[Any] = []
    monkeypatch.setattr(plt, "close", drawn.append)
    rows = [*ROWS, {"step": 40, "stage": "mixed", "train_accuracy": 0.5, "validation_accuracy": 0.5}]
    plot_runs([make_run(tmp_path / "run", rows=rows)], tmp_path / "figures")
    limits = {axis.get_xlim() for figure in drawn for axis in figure.axes if axis.get_visible()}
    assert len(limits) == 1, "numbers that begin late are drawn where they belong"
    ((left, right),) = limits
    assert left <= 0 < 40 <= right
    for figure in drawn:
        for axis in figure.axes:
            assert all(left <= text.xy[0] <= right for text in axis.texts)
    monkeypatch.undo()
    for figure in drawn:
        plt.close(figure)


def test_nothing_to_draw_and_no_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="nothing to draw"):
        plot_runs([make_run(tmp_path / "empty", rows=[{"step": 1}])], tmp_path / "figures")
    real = builtins.__import__

    def without_matplotlib(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    monkeypatch.setattr("importlib.import_module", without_matplotlib)
    with pytest.raises(MissingExtraError, match=r"latentthought\[plot\]"):
        plot_runs([make_run(tmp_path / "run")], tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_lines_differ_in_colour_and_dash() -> None:
    """Okabe and Ito's palette without its yellow; dashes for a grey printer."""
    published = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert set(COLOURS) == published - {"#F0E442"}
    assert len({str(dash) for dash in DASHES}) == len(DASHES) >= 5


def test_report_escapes_what_a_model_wrote(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>| **x**\n# heading"
    line = Line("thoughts", "5 thoughts", 0.99, 0.98, 0.995, 2000, 5.0, 2.0, 1.5, 3000, 120.0)
    shown = Shown(evil, evil, "a b", ((("</pre><script>", 0.9),),))
    experiment = Experiment(
        "title",
        "intro",
        [line],
        [shown],
        facts=[("seed", "1")],
        commands=["latentthought <x>"],
        remarks=["remark"],
    )
    markdown, page = (path.read_text() for path in write_report(experiment, tmp_path))
    assert "| thoughts | 5 thoughts | 99.0 % | 98.0 to 99.5 | 5.0 | 2.0 | 1.5 | 3,000 | 120 s |" in markdown
    assert all(
        text.startswith("    ")
        for text in markdown.splitlines()
        if "script" in text or text.strip() == "# heading"
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "99.0 %" in page
