"""From judged samples to one value a question, for every metric a task can name: the input of all intervals and tests.

A metric is `accuracy`, a score that the task's judge gives (`cell_accuracy`, `consistency`), or one over several samples:
`avg@K`, `pass@K`, `maj@K`. avg@K does not depend on K (the mean over all samples is the mean over all K-subsets of them), so it
only asks that there be K samples.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from latentthought.errors import ConfigError
from latentthought.evaluation.samples import Sample
from latentthought.evaluation.voting import Ballot, ballot, counts_of_samples, maj_at_k, pass_at_k
from latentthought.grading import GradePolicy

AT_K = re.compile(r"(avg|pass|maj)@([1-9][0-9]{0,5})")
PolicyOf = Callable[[Sample], GradePolicy]
Questions = Mapping[str, Sequence[Sample]]
# one question's value of an avg, pass or maj metric from its ballot and k
_OVER_SAMPLES: dict[str, Callable[[Ballot, int], float]] = {
    "avg": lambda votes, k: votes.right / votes.samples,
    "pass": lambda votes, k: pass_at_k(votes.samples, votes.right, k),
    "maj": maj_at_k,
}


def by_question(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Question id -> its samples, in order."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample.id].append(sample)
    return dict(found)


def correctness(samples: Iterable[Sample]) -> dict[Any, list[float]]:
    """Question id -> 1.0 or 0.0 for each of its samples."""
    return {key: [float(s.verdict.correct) for s in rows] for key, rows in by_question(samples).items()}


def extraction_correctness(samples: Iterable[Sample], kind: str) -> dict[Any, list[float]]:
    """The same under `strict` or `flexible` extraction, over the samples that say; {} for files that do not."""
    found: dict[Any, list[float]] = defaultdict(list)
    for sample in samples:
        status = (getattr(sample, "extractions", None) or {}).get(kind)
        if status is not None:
            found[sample.id].append(float(status == "correct"))
    return dict(found)


def samples_a_question(questions: Questions) -> int:
    """How many samples every question has at least; 0 without questions."""
    return min(map(len, questions.values()), default=0)


def at_k_names(samples: int) -> list[str]:
    """The metrics over several samples that are always reported: avg@n, and pass@k and maj@k for k = 2, 4, ... and n.

    At k = 1 all three are the same number."""
    if samples < 2:
        return []
    counts = [k for k in counts_of_samples(samples) if k > 1]
    return [f"avg@{samples}", *(f"pass@{k}" for k in counts), *(f"maj@{k}" for k in counts)]


def check_samples(metrics: Iterable[str], samples: int) -> None:
    """Raise `ConfigError` for a metric over more samples than there are to be a question."""
    for name in metrics:
        match = AT_K.fullmatch(name)
        if match and int(match[2]) > samples:
            raise ConfigError(
                f"metric {name}: needs {match[2]} samples a question, and there is to be {samples}; ask for more samples"
            )


def measure(
    samples: Sequence[Sample], metrics: Iterable[str], policy_of: PolicyOf | None = None
) -> dict[str, dict[Any, list[float]]]:
    """Metric -> question id -> values, for the named metrics but accuracy and those that several samples always have.

    policy_of: the grading policy of a sample's question, by which answers vote together (None: the default policy). Raises
    `ConfigError` for a metric over more samples than a question has. A score that no sample has is left out.
    """
    questions = by_question(samples)
    least = samples_a_question(questions)
    wanted = dict.fromkeys([*metrics, *at_k_names(least)])
    votes: dict[str, Ballot] = {}
    found: dict[str, dict[Any, list[float]]] = {}
    for name in wanted:
        match = AT_K.fullmatch(name)
        if match is None:
            if name != "accuracy":
                found[name] = _scores(samples, name)
            continue
        kind, k = match[1], int(match[2])
        if not questions:
            continue
        if k > least:
            short = next(key for key, rows in questions.items() if len(rows) == least)
            raise ConfigError(
                f"metric {name}: needs {k} samples a question, and {short!r} has {least}; ask for more samples"
            )
        if not votes:
            votes = {
                key: ballot(rows, policy_of(rows[0]) if policy_of else GradePolicy())
                for key, rows in questions.items()
            }
        found[name] = {key: [_OVER_SAMPLES[kind](vote, k)] for key, vote in votes.items()}
    return {name: values for name, values in found.items() if values}


def _scores(samples: Iterable[Sample], name: str) -> dict[Any, list[float]]:
    found: dict[Any, list[float]] = defaultdict(list)
    for sample in samples:
        if name in sample.scores:
            found[sample.id].append(sample.scores[name])
    return dict(found)
