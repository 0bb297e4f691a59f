"""What each pattern of controls is taken to mean."""

from __future__ import annotations

import pytest

from latentthought.evaluation.contamination import Contamination
from latentthought.evaluation.diagnosis import diagnose, outcome_of, render_findings
from latentthought.evaluation.results import Counts
from latentthought.evaluation.statistics import Estimate, PairedDifference
from tests.judged import answered, by_control, judged, result

N = 1000
HALF, MOST = range(N // 2), range(int(0.9 * N))
SAME = MOST


def difference(low: float, high: float) -> PairedDifference:
    middle = (low + high) / 2
    return PairedDifference(n=100, a=0.5 + middle, b=0.5, difference=middle, low=low, high=high)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.01, 0.2, "helps"),
        (-0.2, -0.01, "hurts"),
        (-0.02, 0.03, "equal"),
        (-0.02, 0.04, "unclear"),
        (0.0, 0.02, "equal"),
        (-0.3, 0.3, "unclear"),
    ],
)
def test_outcomes(low: float, high: float, outcome: str) -> None:
    assert outcome_of(difference(low, high)) == outcome


@pytest.mark.parametrize(
    ("right", "level", "words"),
    [
        ({"no-thought": HALF, "shuffled": HALF, "pause": HALF}, "good", "what is thought matters"),
        ({"no-thought": HALF, "shuffled": SAME, "pause": HALF}, "warning", "what kind of task it is"),
        ({"no-thought": HALF, "shuffled": SAME, "pause": SAME}, "warning", "constant does as well"),
        ({"no-thought": HALF, "pause": SAME}, "warning", "extra computation"),
        ({"no-thought": HALF, "shuffled": HALF, "pause": SAME}, "warning", "read, and not needed"),
        ({"no-thought": HALF, "shuffled": SAME}, "warning", "their content is not used"),
        ({"no-thought": SAME, "shuffled": SAME, "pause": SAME}, "problem", "answers from the question"),
        ({"no-thought": range(950)}, "problem", "better without its own thoughts"),
        ({"shuffled": SAME, "noised": HALF}, "warning", "look familiar"),
        ({"shuffled": HALF, "noised": SAME}, "good", "bear noise"),
        ({"no-thought": HALF, "shuffled": SAME, "pause": SAME}, "note", "positions are needed"),
    ],
)
def test_patterns(right: dict[str, range], level: str, words: str) -> None:
    found = diagnose(by_control({"none": MOST, **right}, N))
    matching = [finding for finding in found if words in finding.message]
    assert [finding.level for finding in matching] == [level], found


def test_nothing_is_said_of_content_that_is_not_needed() -> None:
    found = diagnose(by_control({"none": MOST, "no-thought": SAME, "pause": SAME, "shuffled": SAME}, N))
    assert len(found) == 1


def test_a_constant_that_does_as_well_is_no_praise() -> None:
    found = diagnose(by_control({"none": MOST, "no-thought": HALF, "shuffled": HALF, "pause": SAME}, N))
    assert "good" not in [finding.level for finding in found]


def test_nothing_is_lost_where_there_was_nothing() -> None:
    """At 2 % right, and without any thought, every control costs nothing, which says nothing."""
    rare = by_control({"none": range(20), "no-thought": range(20), "pause": range(20)}, N)
    assert rare["pause"].against_none is not None and outcome_of(rare["pause"].against_none) == "equal"
    assert ["Hardly anything is right" in finding.message for finding in diagnose(rare)] == [True]
    results = by_control({"none": MOST, "no-thought": SAME}, N)
    results["none"] = results["none"].replace(costs={**results["none"].costs.dump(), "thoughts": 0.0})
    assert ["No thought was thought" in finding.message for finding in diagnose(results)] == [True]


def test_too_few_questions_are_not_evidence_of_nothing() -> None:
    found = diagnose(by_control({"none": range(10), "no-thought": range(9), "shuffled": range(9)}, 20))
    assert [finding.level for finding in found] == ["note"]
    assert "Too few questions" in found[0].message
    needed = int(found[0].advice.split("about ")[1].split(" ")[0].replace(",", ""))
    row = by_control({"none": range(10), "shuffled": range(9)}, 20)["shuffled"].against_none
    assert row is not None
    half = (row.high - row.low) / 2
    assert 20 * (half / 0.015) ** 2 <= needed <= 1.2 * 20 * (half / 0.015) ** 2


def test_the_most_serious_comes_first() -> None:
    results = by_control({"none": MOST, "no-thought": range(950), "shuffled": HALF}, N)
    assert [finding.level for finding in diagnose(results)] == ["problem", "good"]


def test_a_model_that_says_nothing() -> None:
    samples = [s for i in range(20) for s in judged(f"q{i}", "7", "")]
    found = diagnose({"none": result(samples, settings={"max_new_tokens": 3})})
    assert found[0].level == "problem"
    assert "20 of 20 completions hold no answer" in found[0].message
    assert found[0].advice == "Raise --max-new-tokens."
    assert any("Hardly anything is right" in finding.message for finding in found)
    free = diagnose({"none": result(samples, settings={"max_new_tokens": 300})})
    assert "Read some completions" in free[0].advice


def test_reasons_to_doubt_a_number() -> None:
    plain = result(answered(range(10), 20))
    assert diagnose({}) == []
    assert ["No control was run" in finding.message for finding in diagnose({"none": plain})] == [True]

    unfit = plain.replace(counts=Counts(correct=10, wrong=4, ungradable=6, no_answer=6, unfit=6).dump())
    assert "6 of 20 prompts do not fit" in diagnose({"none": unfit})[0].message
    assert len(diagnose({"none": unfit})) == 2, "those that did not fit are not blamed on the form too"

    silent = plain.replace(costs={**plain.costs.dump(), "thoughts": 0.0})
    assert "No thought was thought" in diagnose({"none": silent})[0].message

    assert "no question" in diagnose({"none": result([])})[0].message
    assert any("Nearly everything" in f.message for f in diagnose({"none": result(answered(range(20), 20))}))

    def accuracy(value: float) -> dict[str, float]:
        return Estimate(value=value, low=0.0, high=1.0, n=20).dump()

    boxed = plain.replace(
        extractions={"strict": accuracy(0.2), "flexible": accuracy(0.5)},
        rules={"boxed": 5, "last_number": 15},
    )
    messages = " ".join(finding.message for finding in diagnose({"none": boxed}))
    assert "Strict extraction gives 20.0 %, flexible 50.0 %" in messages
    assert "15 of 20 answers are only the last number" in messages

    found = Contamination(words=13, rows=20, texts=9, overlapping=4, copied=1, share=0.2)
    assert (
        "4 of 20 test rows share 13 words"
        in diagnose({"none": plain.replace(contamination=found.dump())})[0].message
    )


def test_samples_that_a_vote_does_not_find() -> None:
    samples = [s for i in range(10) for s in judged(f"q{i}", "7", "7", "8", "8")]
    messages = [finding.message for finding in diagnose({"none": result(samples)})]
    assert any(
        "100.0 % of questions have a right answer among 3 samples, the vote finds 0.0 %" in m
        for m in messages
    )


def test_shown_in_a_terminal() -> None:
    from rich.console import Console

    console = Console(width=100, record=True)
    console.print(render_findings(diagnose(by_control({"none": MOST, "no-thought": SAME}, N))))
    text = console.export_text()
    assert text.startswith("problem  Nothing is lost without any thoughts")
    assert "-> Check that training replaced steps" in text
