"""Why thoughts help, or do not: what the controls of one evaluation say together, in sentences, with what to try next.

A difference counts only when its whole 95 % interval lies on one side of 0; "no difference" is said only where the interval is
narrow enough to mean it (within `EQUIVALENT` points), else the finding is that more questions are needed. First come the
reasons for which no other finding may be believed: no answers found, prompts that did not fit. Where nothing was thought no
control is judged, and where hardly anything is right none is said to cost nothing. docs/diagnosis.md explains every pattern.
Rejected: a score of "how latent" a model is (one number hides which of the four controls moved).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from latentthought.evaluation.results import Results
from latentthought.evaluation.statistics import PairedDifference
from latentthought.evaluation.tables import at_k, percent, signed

Level = Literal["good", "note", "warning", "problem"]
Outcome = Literal["helps", "hurts", "equal", "unclear"]

# a difference of accuracy below which two runs are the same for all that a reader would do
EQUIVALENT = 0.03
_NO_ANSWER = 0.1
_FORMAT_GAP = 0.05
_GUESSED_RULES = ("last_number", "last_math")
_CEILING = 0.99
_CUT_SHORT = 0.95


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the results say, how bad it is, and what to do about it (empty: nothing)."""

    level: Level
    message: str
    advice: str = ""


def diagnose(results: Mapping[str, Results]) -> list[Finding]:
    """What the results of one task say, by control (`none` among them); the most serious findings first.

    A control without `against_none` (a run of its own) is not judged. Empty for no results.
    """
    if not results:
        return []
    plain = results.get("none") or next(iter(results.values()))
    found = [*_answers(plain), *_thinking(plain), *_range(plain)]
    thoughtless = plain.control == "none" and not plain.costs.thoughts
    lost = {name: row.against_none for name, row in results.items() if name != "none" and row.against_none}
    outcomes = {name: outcome_of(difference) for name, difference in lost.items()}
    # nothing is lost where there was nothing to lose
    told = {name: o for name, o in outcomes.items() if o != "equal" or lost[name].a > EQUIVALENT}
    if told and not thoughtless:
        found += _controls(told, results)
    elif not lost and plain.control == "none" and not thoughtless:
        found.append(
            Finding(
                "note",
                "No control was run: this accuracy does not say whether the thoughts had a part in it.",
                "Run evaluate with --control all.",
            )
        )
    found += [*_samples(plain), *_contaminated(plain)]
    order: tuple[Level, ...] = ("problem", "warning", "good", "note")
    return sorted(found, key=lambda finding: order.index(finding.level))


def outcome_of(lost: PairedDifference) -> Outcome:
    """What the difference none - control says of what the control took away: it helps, it hurts, neither, or too few rows."""
    if lost.low > 0:
        return "helps"
    if lost.high < 0:
        return "hurts"
    return "equal" if max(-lost.low, lost.high) <= EQUIVALENT else "unclear"


def render_findings(findings: Iterable[Finding]) -> Any:
    """A rich group: a line per finding with its level in front, its advice below."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    lines: list[Any] = []
    for finding in findings:
        lines.append(Text(f"{finding.level:<8} {finding.message}"))
        if finding.advice:
            lines.append(Padding(Text(f"-> {finding.advice}"), (0, 0, 0, 9)))
    return Group(*lines)


def _answers(plain: Results) -> Iterator[Finding]:
    """Whether the model answers at all, in a form that is found for good reasons."""
    counts = plain.counts
    total = max(1, counts.correct + counts.wrong + counts.ungradable)
    if counts.unfit:
        length = f" (the longest has {n:,} tokens)" if (n := plain.data.get("longest_prompt")) else ""
        yield Finding(
            "problem",
            f"{counts.unfit} of {total} prompts do not fit into the context with their thoughts{length}: counted as wrong.",
            "Use fewer thoughts or few-shot examples, or a model with a longer context.",
        )
    missing = counts.no_answer - counts.unfit
    if missing > _NO_ANSWER * total:
        limit = plain.settings.get("max_new_tokens")
        cut = isinstance(limit, int) and plain.costs.tokens >= _CUT_SHORT * limit
        yield Finding(
            "problem",
            f"{missing} of {total} completions hold no answer, so the accuracy measures the format first"
            + (" (most stop only at the limit of new tokens)." if cut else "."),
            "Raise --max-new-tokens."
            if cut
            else "Read some completions; prompt the model as it was trained, or name the wanted form in the task's prompt.",
        )
    strict, flexible = plain.extractions.get("strict"), plain.extractions.get("flexible")
    if strict and flexible and plain.rules.get("boxed") and flexible.value - strict.value > _FORMAT_GAP:
        yield Finding(
            "note",
            f"Strict extraction gives {percent(strict.value)}, flexible {percent(flexible.value)}: "
            "the model knows answers that it does not box.",
            "Say with every number which extraction it is from.",
        )
    guessed = sum(plain.rules.get(rule, 0) for rule in _GUESSED_RULES)
    if guessed > total / 2:
        yield Finding(
            "note",
            f"{guessed} of {total} answers are only the last number or formula of the text.",
            "Check in the samples that these are meant as answers.",
        )


def _thinking(plain: Results) -> Iterator[Finding]:
    if plain.control != "none" or plain.costs.thoughts or (plain.counts.unfit and not plain.costs.tokens):
        return
    yield Finding(
        "warning",
        "No thought was thought: this is the accuracy of the text alone.",
        "Give --thoughts N, or a model that was trained with thoughts.",
    )


def _range(plain: Results) -> Iterator[Finding]:
    """Accuracies at which no control could show anything."""
    accuracy = plain.accuracy
    if not accuracy.n:
        yield Finding("problem", "There is no question in these results.")
    elif accuracy.value <= EQUIVALENT:
        yield Finding(
            "warning",
            f"Hardly anything is right ({percent(accuracy.value)}): no control can cost what is not there.",
            "Look at an easier task or at the training loss first.",
        )
    elif accuracy.value >= _CEILING:
        yield Finding(
            "note", f"Nearly everything is right ({percent(accuracy.value)}): a harder task would show more."
        )


def _controls(outcomes: Mapping[str, Outcome], results: Mapping[str, Results]) -> Iterator[Finding]:
    said = {name: _difference(results[name]) for name in outcomes}
    hurt = [name for name, outcome in outcomes.items() if outcome == "hurts"]
    if hurt:
        yield Finding(
            "problem",
            f"The model is better without its own thoughts: {_listed(hurt, said)}.",
            "Compare thought_rms_ratio with 1 in the training metrics, think as often as in training, and evaluate "
            "by the sequential passes that training should end with.",
        )
    yield from _necessity(outcomes, said)
    if outcomes.get("no-thought") != "equal":  # what is not needed at all has no content to ask for
        yield from (*_content(outcomes, said), *_robustness(outcomes, said))
    unclear = [name for name, outcome in outcomes.items() if outcome == "unclear"]
    if unclear:
        yield Finding(
            "note",
            f"Too few questions to tell: {_listed(unclear, said)}.",
            f"Evaluate about {max(_questions_needed(results[name]) for name in unclear):,} questions: with so many, "
            f"a difference of {100 * EQUIVALENT:.0f} points is told from none.",
        )


def _necessity(outcomes: Mapping[str, Outcome], said: Mapping[str, str]) -> Iterator[Finding]:
    """What `no-thought` says: whether the positions are needed at all."""
    outcome = outcomes.get("no-thought")
    if outcome == "equal":
        yield Finding(
            "problem",
            f"Nothing is lost without any thoughts ({said['no-thought']}): the model answers from the question.",
            "Check that training replaced steps (the last stages, how many a stage), and that the task needs steps: "
            "a model trained without reasoning should do worse.",
        )
    if outcome == "helps" and "helps" not in (outcomes.get("shuffled"), outcomes.get("pause")):
        yield Finding(
            "note",
            f"The thought positions are needed ({said['no-thought']}): so they would be, whatever they hold.",
        )


def _content(outcomes: Mapping[str, Outcome], said: Mapping[str, str]) -> Iterator[Finding]:
    """What `shuffled` and `pause` say: whether it matters what is thought."""
    shuffled, pause = outcomes.get("shuffled"), outcomes.get("pause")
    if pause == "equal" and shuffled in ("equal", "helps", None):
        beside = ": what helps, if anything, is the extra computation"
        if shuffled == "helps":
            beside = f", though another question's do not ({said['shuffled']}): they are read, and not needed"
        yield Finding(
            "warning",
            f"A constant does as well as the thoughts ({said['pause']}){beside}.",
            "Report pause tokens as the baseline (on ProsQA they reach 96.6 where Coconut reaches 97.0), "
            "or choose a task whose steps depend on each other.",
        )
    elif shuffled == "helps":
        yield Finding(
            "good",
            f"Another question's thoughts cost accuracy ({said['shuffled']}): what is thought matters.",
            "Train a pause arm too: a control shows what this model relies on, not what another could do without.",
        )
    elif shuffled == "equal" and pause == "helps":
        yield Finding(
            "warning",
            f"Any question's thoughts will do ({said['shuffled']}), a constant will not ({said['pause']}): "
            "the thoughts say what kind of task it is, or only look familiar; what this question needs is not in them.",
            "Weaken what else could carry the answer: more latent steps a stage, a later answer, "
            "harder questions; or give the thoughts targets of their own.",
        )
    elif shuffled == "equal":
        yield Finding(
            "warning",
            f"Another question's thoughts do as well ({said['shuffled']}): their content is not used.",
            "Read what the thoughts decode to (generate --show-thoughts)"
            + ("; run the pause control too." if pause is None else "."),
        )


def _robustness(outcomes: Mapping[str, Outcome], said: Mapping[str, str]) -> Iterator[Finding]:
    """What `noised` says beside `shuffled`: whether the content is precise, and whether the states are merely fragile."""
    noised, shuffled = outcomes.get("noised"), outcomes.get("shuffled")
    if noised == "helps" and shuffled == "equal":
        yield Finding(
            "warning",
            f"Noise costs accuracy ({said['noised']}) though another question's thoughts do not: "
            "the model needs states that look familiar, not what they say.",
            "Read nothing about content out of the noise control alone.",
        )
    if noised == "equal" and shuffled == "helps":
        yield Finding(
            "good",
            f"The thoughts bear noise of their own size ({said['noised']}) and yet are the question's own.",
        )


def _samples(plain: Results) -> Iterator[Finding]:
    """What several samples say: whether the right answer is there, and whether a vote finds it."""
    counts = at_k(plain)
    if not counts:
        return
    voted, passed = (plain.metrics.get(f"{kind}@{counts[-1]}") for kind in ("maj", "pass"))
    if voted is None or passed is None or passed.value - voted.value < 0.1:
        return
    yield Finding(
        "note",
        f"{percent(passed.value)} of questions have a right answer among {counts[-1]} samples, "
        f"the vote finds {percent(voted.value)}.",
        "A verifier, or votes weighted by one, could choose better; more samples alone will not close the gap.",
    )


def _contaminated(plain: Results) -> Iterator[Finding]:
    found = plain.contamination
    if found is None or not found.overlapping:
        return
    yield Finding(
        "warning" if found.copied else "note",
        f"{found.overlapping} of {found.rows} test rows share {found.words} words in a row with the training data, "
        f"{found.copied} of them most of their words.",
        "Report the accuracy on the clean rows beside the whole."
        if found.clean and found.clean.n
        else "Look at the listed rows; templates overlap without being the same question.",
    )


def _difference(row: Results) -> str:
    assert row.against_none is not None
    return f"{row.control}: {signed(row.against_none)} points lost"


def _listed(names: Iterable[str], said: Mapping[str, str]) -> str:
    return "; ".join(said[name] for name in names)


def _questions_needed(row: Results) -> int:
    """Questions at which an interval like this one reaches half of `EQUIVALENT` to either side; its width falls with their
    root."""
    assert row.against_none is not None
    half = (row.against_none.high - row.against_none.low) / 2
    needed = row.against_none.n * (2 * half / EQUIVALENT) ** 2
    digits = max(0, len(str(int(needed))) - 2)
    return int(round(needed / 10**digits + 0.5) * 10**digits)
