"""The one table of promised figures: met, missed and skipped, by benchmark, in print, JSON and document."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.agreement import Disagreement
from benchmarks.findings import Findings
from benchmarks.report import Floor, Report, Row, Target, as_markdown
from benchmarks.settings import Settings
from benchmarks.summary import lines_of, summary_markdown
from benchmarks.workload import Sizes

WHERE = command.circumstances("python -m benchmarks", Settings()) | {"disturbed": False}
TARGETS = [
    Target.at_most("ours", "time over the floor", 1.2, 1.3),
    Target.at_least("ours", "speed over a rival", 1.2, 1.3),
    Target.at_most("ours", "memory", None, 0.7, "no room"),
]
REPORTS = [
    Findings("first", "", [], TARGETS, skipped={"the long shape": "no room"}),
    Findings("second", "", [], [], skipped={"second": "needs 12 GiB"}),
]


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_line_for_each_figure_and_for_what_was_skipped():
    found = [(line.benchmark, line.measured, line.wanted, line.verdict) for line in lines_of(REPORTS)]
    assert found == [
        ("first", 1.2, "at most 1.3", "met"),
        ("first", 1.2, "at least 1.3", "MISSED"),
        ("first", None, "at most 0.7", "skipped: no room"),
        ("second", None, "", "skipped: needs 12 GiB"),
    ]
    table = summary_markdown(WHERE, REPORTS)
    assert "Promised figures: 1 of 3 met, 1 missed" in table
    assert "| ours: speed over a rival | first | 1.200 | at least 1.3 | **MISSED** |" in table


def test_tiny_sizes_are_not_judged():
    verdicts = [line.verdict for line in lines_of(REPORTS, quick=True)]
    assert verdicts == ["not judged", "not judged", "skipped: no room", "skipped: needs 12 GiB"]
    assert "MISSED" not in summary_markdown(WHERE | {"quick": True}, REPORTS)


def test_an_unsteady_floor_is_told():
    def report(spread: float) -> Report:
        row = Row("a", "floor", (1.0,), 1.0, spread, 1.0, 1.0, "x/s", None, "", "")
        return Report("contest", "", Floor(1, 1), [row])

    assert "not to be relied on" not in summary_markdown(WHERE, [report(0.1)])
    assert "not to be relied on" not in as_markdown(WHERE, [report(0.1)])
    assert "the floor varied by more than 10% in contest.**" in summary_markdown(WHERE, [report(0.2)])
    assert "The floor itself varied by ±20% from round to round" in as_markdown(WHERE, [report(0.2)])
    busy = WHERE | {"disturbed": True, "load_before": 1.5}
    assert "busy with other work (cores in use: 1.5); the floor varied" in summary_markdown(
        busy, [report(0.2)]
    )


@pytest.fixture
def stand_ins(monkeypatch):
    """Two benchmarks that take no time."""
    made = {report.name: lambda settings, report=report: report for report in REPORTS}
    monkeypatch.setattr(command, "BENCHMARKS", made)
    return made


@pytest.mark.parametrize(("names", "written"), [([], True), (["first"], False)])
def test_the_document_gets_it_when_all_were_run(stand_ins, monkeypatch, tmp_path, capsys, names, written):
    blocks = []
    monkeypatch.setattr(command, "write_block", lambda path, name, content: blocks.append(name))
    file = tmp_path / "results.json"
    assert command.main([*names, "--threads", "1", "--write-docs", "--output", str(file)]) == 0
    assert ("benchmarks summary" in blocks) == written
    assert capsys.readouterr().out.count("Promised figures") == 1
    summary = json.loads(file.read_text())["summary"]
    assert summary[1] == {
        "benchmark": "first",
        "what": "ours: speed over a rival",
        "measured": 1.2,
        "wanted": "at least 1.3",
        "verdict": "MISSED",
    }
    # with what runs only when named, where nothing was named
    assert (summary[-1]["benchmark"], summary[-1]["verdict"]) == (
        ("first", "skipped: no room") if names else ("fp8", "skipped: runs only when named")
    )
    assert command.summary_block("cuda") == "benchmarks summary cuda"


def test_a_disagreement_names_benchmark_and_sides(stand_ins, capsys):
    def disagrees(settings):
        raise Disagreement("ours: loss 1, theirs 2")

    stand_ins["second"] = disagrees
    assert command.main(["--threads", "1"]) == 1
    shown = capsys.readouterr()
    assert "error: second: sides that must agree do not: ours: loss 1, theirs 2" in shown.err
    assert "Promised figures" not in shown.out


def test_a_benchmark_that_could_not_run_has_no_floor_to_show():
    report = Report("train_step", "", Floor(1, 1), [], {"train_step": "needs 60 GiB"})
    assert "| train_step | train_step | skipped: needs 60 GiB |" in as_markdown(WHERE, [report])
    assert Sizes().of("1b").training_bytes > 32 * 10**9
