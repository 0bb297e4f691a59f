"""Recovery against ratios by hand, seeds, files of lm-eval, and perplexities kept apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.errors import ConfigError, DamagedFileError, DataError, MissingFileError
from latentthought.evaluation.recovery import recovery
from latentthought.evaluation.scores import read_scores
from latentthought.evaluation.statistics import paired_difference
from tests.judged import answered, result, saved

TOTAL = 40
KL = {"term": "kl", "weight": 0.5}
HIDDEN = {"term": "hidden", "weight": 0.1, "target": "teacher"}


def made(folder: Path, right: range, objective: list | None = None) -> Path:
    samples = answered(right, TOTAL)
    recipe = {"objective": objective} if objective else None
    saved(folder, samples, result(samples, recipe=recipe))
    return folder


def test_one_run_is_the_ratio_with_the_interval_of_the_pairs(tmp_path: Path) -> None:
    whole, small = made(tmp_path / "whole", range(32)), made(tmp_path / "small", range(4, 34))
    (row,) = recovery(whole, {"small": [small]}).rows
    assert (row.original, row.value) == (pytest.approx(32 / 40), pytest.approx(30 / 40))
    assert row.percent == pytest.approx(100 * 30 / 32) and row.questions == TOTAL
    right = {
        name: {f"q{i}": [float(i in which)] for i in range(TOTAL)}
        for name, which in {"small": range(4, 34), "whole": range(32)}.items()
    }
    pairs = paired_difference(right["small"], right["whole"])
    assert row.low == pytest.approx(100 * (1 + pairs.low / 0.8), abs=0.5)
    assert row.high == pytest.approx(100 * (1 + pairs.high / 0.8), abs=0.5)


def test_seeds_of_one_arm_are_averaged_and_widen_the_interval(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", range(40))
    even = [made(tmp_path / f"even{n}", range(30)) for n in range(3)]
    apart = [made(tmp_path / f"apart{n}", range(stop)) for n, stop in enumerate((20, 30, 40))]
    report = recovery(whole, {"even": even, "apart": apart})
    rows = {row.arm: row for row in report.rows}
    assert rows["even"].percent == pytest.approx(75) and rows["apart"].percent == pytest.approx(75)
    assert rows["even"].seeds == 3
    assert rows["apart"].high - rows["apart"].low > 2 * (rows["even"].high - rows["even"].low)
    assert report.means == {}, "of one task there is no mean"


def test_the_arm_with_logits_alone_is_known(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", range(40))
    ce = {"term": "ce", "weight": 1.0}
    arms = {
        "ce": made(tmp_path / "a", range(20), [ce]),
        "logits": made(tmp_path / "b", range(30), [ce, KL, {**HIDDEN, "weight": 0}]),
        "all": made(tmp_path / "c", range(30), [ce, KL, HIDDEN]),
    }
    assert recovery(whole, {arm: [run] for arm, run in arms.items()}).logits_only == ("logits",)


def lm_eval(folder: Path, **tasks: dict) -> Path:
    folder.mkdir(parents=True)
    file = folder / "results_2026-11-30.json"
    file.write_text(json.dumps({"results": tasks, "config": {}}))
    return folder


def test_files_of_lm_eval_and_perplexities_apart(tmp_path: Path) -> None:
    arc = {"acc,none": 0.5, "acc_stderr,none": 0.01, "acc_norm,none": 0.6, "acc_norm_stderr,none": 0.02}
    lambada = {
        "perplexity,none": 5.0,
        "perplexity_stderr,none": 0.1,
        "acc,none": 0.8,
        "acc_stderr,none": 0.01,
    }
    whole = lm_eval(tmp_path / "whole", arc_easy=arc, lambada_openai=lambada)
    small = lm_eval(
        tmp_path / "small",
        arc_easy={**arc, "acc_norm,none": 0.54, "acc_norm_stderr,none": 0.03},
        lambada_openai={**lambada, "perplexity,none": 7.5, "acc,none": 0.6},
    )
    report = recovery(whole, {"small": [small]})
    rows = {row.task: row for row in report.rows}
    assert rows["arc_easy"].percent == pytest.approx(90) and rows["lambada_openai"].percent == pytest.approx(
        75
    )
    half = 1.959964 * (0.02**2 + 0.03**2) ** 0.5 / 0.6 * 100
    assert rows["arc_easy"].low == pytest.approx(90 - half) and rows["arc_easy"].high == pytest.approx(
        90 + half
    )
    assert report.means == {"small": pytest.approx(82.5)}, "perplexity is no part of it"
    (text,) = report.perplexities
    assert (text.task, text.original, text.value) == ("lambada_openai perplexity", 5.0, 7.5)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, small = made(tmp_path / "whole", range(32)), made(tmp_path / "small", range(30))
    output = tmp_path / "report"
    assert main(["recovery", str(whole), f"cut={small}", "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "93.8 %" in shown and "no run has compared" not in shown, "nothing is known of its objective"
    assert {path.name for path in output.iterdir()} == {"recovery.json", "recovery.csv", "recovery.md"}
    assert json.loads((output / "recovery.json").read_text())["rows"][0]["percent"] == pytest.approx(93.75)
    (line,) = csv.DictReader((output / "recovery.csv").open())
    assert float(line["percent"]) == pytest.approx(93.75) and line["arm"] == "cut"
    assert "| sums | cut | 80.0 % | 75.0 % | 93.8 %" in (output / "recovery.md").read_text()


def test_what_cannot_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = made(tmp_path / "whole", range(32))
    none = made(tmp_path / "none", range(0))
    with pytest.raises(MissingFileError, match="no such run"):
        recovery(whole, {"a": [tmp_path / "absent"]})
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="no results under control none"):
        recovery(whole, {"a": [tmp_path / "empty"]})
    with pytest.raises(DataError, match="nothing to recover"):
        recovery(none, {"a": [whole]})
    other = lm_eval(tmp_path / "other", arc_easy={"acc,none": 0.5})
    with pytest.raises(DataError, match="a: none of the tasks of the original, which has sums"):
        recovery(whole, {"a": [other]})
    assert main(["recovery", str(whole), f"a={whole}", f"a={whole}"]) == 2
    assert "is given twice" in capsys.readouterr().err
    lm_eval(tmp_path / "x" / "same", arc_easy={"acc,none": 0.5})
    assert main(["recovery", str(whole), str(tmp_path / "x" / "same"), str(tmp_path / "y" / "same")]) == 2
    assert "would both be called same" in capsys.readouterr().err
    # several runs below one folder, and what is no number
    for number in (1, 2):
        lm_eval(tmp_path / "many" / str(number), arc_easy={"acc,none": number / 4})
        made(tmp_path / "own" / str(number), range(number))
    for folder in ("many", "own"):
        with pytest.raises(DataError, match="several runs lie below one folder"):
            read_scores(tmp_path / folder)
    with pytest.raises(ConfigError, match=r"unknown control 'noisd'. Did you mean noised"):
        read_scores(whole, "noisd")
    with pytest.raises(MissingFileError, match=r"no such run: .*whol; did you mean .*whole"):
        read_scores(tmp_path / "whol")
    lm_eval(tmp_path / "percent", arc_easy={"acc,none": 57.0})
    with pytest.raises(DamagedFileError, match=r"acc,none is 57.0; an accuracy lies between 0 and 1"):
        read_scores(tmp_path / "percent")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(
        DamagedFileError, match=r"neither what evaluate writes \(results.json\) nor what lm-eval does"
    ):
        read_scores(tmp_path / "other.json")
    lm_eval(tmp_path / "nan", arc_easy={"acc,none": float("nan")})
    with pytest.raises(DamagedFileError, match="arc_easy: acc,none is nan"):
        read_scores(tmp_path / "nan")


def test_seeds_of_lm_eval_widen_the_interval_as_those_of_ones_own_runs_do(tmp_path: Path) -> None:
    accuracy = {"acc_stderr,none": 0.01}
    whole = lm_eval(tmp_path / "whole", arc_easy={"acc,none": 0.8, **accuracy})
    runs = [
        lm_eval(tmp_path / f"seed{n}", arc_easy={"acc,none": value, **accuracy})
        for n, value in enumerate((0.5, 0.65, 0.8))
    ]
    (row,) = recovery(whole, {"a": runs}).rows
    over_seeds = 4.302653 * 0.15 / 3**0.5
    half = ((1.959964 * 0.01) ** 2 * 2 + over_seeds**2) ** 0.5
    assert row.percent == pytest.approx(81.25) and row.high - row.percent == pytest.approx(
        100 * half / 0.8, rel=1e-4
    )


def test_a_file_without_errors_has_the_interval_of_its_seeds(tmp_path: Path) -> None:
    whole = lm_eval(tmp_path / "whole", arc_easy={"acc,none": 0.8, "acc_stderr,none": "N/A"})
    runs = [
        lm_eval(tmp_path / f"s{n}", arc_easy={"acc,none": 0.5 + n / 10, "acc_stderr,none": "N/A"})
        for n in (0, 1)
    ]
    (row,) = recovery(whole, {"a": runs}).rows
    assert row.high - row.percent == pytest.approx(100 * 12.7062 * 0.05 / 0.8, rel=1e-4)
    (alone,) = recovery(whole, {"a": runs[:1]}).rows
    assert (alone.low, alone.high) == (None, None)


def test_a_task_without_a_right_answer_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    easy, hard = {"acc,none": 0.5}, {"acc,none": 0.0}
    whole = lm_eval(tmp_path / "whole", easy=easy, hard=hard)
    small = lm_eval(tmp_path / "small", easy={"acc,none": 0.4}, hard=hard)
    report = recovery(whole, {"a": [small]})
    assert [(row.task, row.percent) for row in report.rows] == [("easy", pytest.approx(80))]
    assert report.nothing_to_recover == ("hard",)
    assert main(["recovery", str(whole), str(small)]) == 0
    assert "left out, since the original has no answer right: hard" in capsys.readouterr().out


def test_of_questions_that_the_original_never_got_right_nothing_is_recovered(tmp_path: Path) -> None:
    """The run answered only the second half, of which the original has nothing right."""
    whole = made(tmp_path / "whole", range(20))
    half = [sample for sample in answered(range(30, 40), TOTAL) if int(sample.id.removeprefix("q")) >= 20]
    saved(tmp_path / "half", half, result(half))
    easy = {"acc,none": 0.5}
    for folder in ("whole", "half"):
        lm_eval(tmp_path / folder / "lm", easy=easy)
    report = recovery(whole, {"a": [tmp_path / "half"]})
    assert [row.task for row in report.rows] == ["easy"]
    assert report.nothing_to_recover == ("sums",)


def test_questions_that_a_run_left_out_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = made(tmp_path / "whole", range(32))
    fewer = [sample for sample in answered(range(20), TOTAL) if int(sample.id.removeprefix("q")) < 25]
    saved(tmp_path / "fewer", fewer, result(fewer))
    (row,) = recovery(whole, {"fewer": [tmp_path / "fewer"]}).rows
    assert (row.questions, row.asked, row.percent) == (25, TOTAL, pytest.approx(80))
    assert main(["recovery", str(whole), str(tmp_path / "fewer")]) == 0
    assert "25 of 40" in capsys.readouterr().out


def test_own_results_are_known_under_any_name(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", range(8)) / "results" / "sums" / "none"
    (folder / "results.json").rename(folder / "put-away.json")
    assert sum(map(sum, read_scores(folder / "put-away.json").answers["sums"].values())) == 8


def test_a_score_under_another_filter_counts(tmp_path: Path) -> None:
    """lm-eval's gsm8k has no filter `none`; the stricter of the two that it has is taken."""
    gsm8k = {
        "exact_match,flexible-extract": 0.5,
        "exact_match_stderr,flexible-extract": 0.1,
        "exact_match,strict-match": 0.4,
        "exact_match_stderr,strict-match": 0.02,
    }
    scores = read_scores(lm_eval(tmp_path / "run", gsm8k=gsm8k, other={"exact_match,first-number": 0.3}))
    assert scores.means["gsm8k"] == (0.4, 0.02)
    assert scores.means["other"][0] == 0.3


def test_perplexities_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = lm_eval(tmp_path / "whole", wikitext={"word_perplexity,none": 10.0})
    small = lm_eval(tmp_path / "small", wikitext={"word_perplexity,none": 12.0})
    assert main(["recovery", str(whole), str(small), "--output", str(tmp_path / "out")]) == 0
    assert "12.00" in capsys.readouterr().out
    assert (
        "| wikitext word_perplexity | small | 10.00 | 12.00 |"
        in (tmp_path / "out" / "recovery.md").read_text()
    )


def test_nothing_counts_twice(tmp_path: Path) -> None:
    """A group beside its tasks, a task that lm-eval ran again, and one that has answers too."""
    run = made(tmp_path / "run", range(30))
    (run / "results_a.json").write_text(
        json.dumps({"results": {"sums": {"acc,none": 0.1}, "sub": {"acc,none": 0.2}}})
    )
    again = {"results": {"sub": {"acc,none": 0.4}, "all": {"acc,none": 0.4}}, "groups": {"all": {}}}
    (run / "results_b.json").write_text(json.dumps(again))
    scores = read_scores(run)
    assert scores.tasks == ["sub", "sums"] and scores.means["sub"][0] == 0.4 and "sums" not in scores.means
