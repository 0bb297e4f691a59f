"""What `summarize` makes of samples, and that results files of before still read."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from latentthought.errors import ConfigError
from latentthought.evaluation.measures import at_k_names, extraction_correctness
from latentthought.evaluation.results import Results, find_results, summarize
from latentthought.evaluation.statistics import wilson
from latentthought.evaluation.tables import (
    memory,
    p_value,
    render,
    render_extractions,
    render_groups,
    render_samples,
)
from tests.judged import answered, judged, result, saved


def shown(*tables: Any) -> str:
    from rich.console import Console

    console = Console(width=120, record=True)
    console.print(*tables)
    return console.export_text()


def test_single_samples() -> None:
    found = summarize(answered([0, 1, 2], 10), ["accuracy"], peak_memory=2**31)
    assert (found["accuracy"].value, found["accuracy"].n, found["accuracy"].method) == (0.3, 10, "wilson")
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx(wilson(3, 10))
    assert found["metrics"] == {}
    assert found["rules"] == {"bare": 10}
    assert (found["costs"].thoughts, found["costs"].tokens, found["costs"].seconds) == (
        2,
        3,
        pytest.approx(0.04),
    )
    assert memory(found["costs"].peak_memory) == "2.0 GiB"


def test_a_table_is_no_wider_than_the_terminal() -> None:
    """First it does without the memory, then the intervals go below their numbers; no number is cut."""
    from rich.console import Console

    from latentthought.evaluation.statistics import paired_difference

    found = result(answered([0, 1, 2], 10)).dump()
    found |= {
        "task": "knights",
        "metrics": {"cell_accuracy": found["accuracy"], "consistency": found["accuracy"]},
    }
    found["costs"] |= {"tokens": 1024.5, "milliseconds": 12345.6, "peak_memory": 2**36}
    lost = paired_difference({n: [1.0] for n in range(9)}, {n: [n % 2] for n in range(9)})
    rows = [
        Results.parse(found),
        Results.parse({**found, "control": "no-thought", "against_none": lost.dump()}),
    ]
    for width, parts in (
        (200, ["64.0 GiB", "30.0 % (10.8 to 60.3)"]),
        (130, ["30.0 % (10.8 to 60.3)"]),
        (120, ["30.0 %", "(10.8 to 60.3)"]),
    ):
        console = Console(width=width, record=True)
        console.print(render(rows, width=width))
        said = console.export_text()
        assert max(map(len, said.splitlines())) <= width
        assert all(part in said for part in [*parts, "12345.6", "1024.5", "no-thought"])
        assert ("64.0 GiB" in said) == (width == 200)
        assert "…" not in said


def test_several_samples() -> None:
    """Against a walk over all pairs of three samples."""
    questions = {
        "a": ["7", "7", "8"],
        "b": ["8", "9", "7"],
        "c": ["8", "8.0", "7"],
        "d": ["no", "", "7"],
    }
    samples = [
        s
        for id, texts in questions.items()
        for s in judged(id, "7", *(rf"\boxed{{{text}}}" if text else "" for text in texts))
    ]
    found = summarize(samples, ["accuracy", "maj@2", "avg@2"])["metrics"]
    assert set(found) == {"maj@2", "avg@2", "avg@3", "pass@2", "pass@3", "maj@3"}
    assert found["avg@3"].value == found["avg@2"].value == pytest.approx((2 + 1 + 1 + 1) / 12)
    right = {id: [t == "7" for t in texts] for id, texts in questions.items()}
    passed = [sum(map(any, combinations(hits, 2))) / 3 for hits in right.values()]
    assert found["pass@2"].value == pytest.approx(sum(passed) / 4)
    assert found["pass@3"].value == 1.0
    assert found["maj@3"].value == pytest.approx((1 + 1 / 3 + 0 + 1 / 2) / 4), (
        "an empty completion does not vote"
    )
    assert found["maj@3"].method == "bootstrap"
    assert found["pass@3"].method == "wilson"


def test_more_samples_than_there_are() -> None:
    samples = [*judged("a", "7", "7", "7"), *judged("b", "7", "7")]
    with pytest.raises(ConfigError, match=r"pass@2: needs 2 samples a question, and 'b' has 1"):
        summarize(samples, ["accuracy", "pass@2"])
    assert at_k_names(1) == []


def test_a_vote_follows_the_policy_of_the_row() -> None:
    from latentthought.grading import GradePolicy

    samples = judged("a", "7", *(rf"\boxed{{{t}}}" for t in (r"50\%", "0.5", "7", "7", r"50\%")))
    strict = summarize(samples, [], lambda sample: GradePolicy(percent="sign"))["metrics"]
    merged = summarize(samples, [], lambda sample: GradePolicy(percent="value"))["metrics"]
    assert (strict["maj@5"].value, merged["maj@5"].value) == (0.5, 0.0)


def test_extractions_beside_each_other() -> None:
    samples = answered([0, 1], 4)
    assert extraction_correctness(samples, "strict") == {}, "files of before do not say"
    assert summarize(samples, [])["extractions"] == {}
    status = {"strict": "ungradable", "flexible": "correct"}
    said = [replace(sample, extractions={**status, "flexible": sample.verdict.status}) for sample in samples]
    said[0] = replace(said[0], extractions={"strict": "correct", "flexible": "correct"})
    found = summarize(said, [])["extractions"]
    assert (found["strict"].value, found["flexible"].value) == (0.25, 0.5)


def test_nothing_at_all() -> None:
    found = summarize([], ["accuracy", "pass@4"])
    assert found["accuracy"].n == 0
    assert found["metrics"] == {}
    results = result([])
    assert "-" in shown(render([results]))
    assert render_samples(results) is None
    assert render_extractions(results) == []


def test_earlier_files_still_read(tmp_path: Path) -> None:
    folder = saved(tmp_path, answered([1], 3))
    path = folder / "results.json"
    values = Results.load(path).dump()
    for new in ("extractions", "rules", "contamination"):
        del values[new]
    del values["costs"]["peak_memory"]
    del values["accuracy"]["method"]
    assert Results.parse(values).accuracy == Results.load(path).accuracy
    assert list(find_results(tmp_path)) == [path]


def test_tables_fit_and_show_all() -> None:
    samples = [
        replace(s, groups={"subject": "[red]sets[/x]"})
        for i in range(6)
        for s in judged(f"q{i}", "7", "7", "8", "7")
    ]
    results = result(samples, model="[red]m[/y]", task="[/t]")
    text = shown(
        render([results, result(samples)]),
        *render_groups(results),
        *render_extractions(results),
        render_samples(results),
    )
    for name in ("[red]sets[/x]", "[red]m[/y]", "[/t]"):
        assert name in text, "a name is not a style"
    assert "…" not in text
    assert "66.7 %" in text and "maj@k" in text and "bare" in text


def test_small_p_values() -> None:
    assert [p_value(value) for value in (None, 1.0, 0.0123, 1e-9)] == ["", "1", "0.012", "< 0.0001"]
