"""Equivalence on all 12,498 answers of MATH: pairs that differ, answers with one thing changed, answers written another way."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from latentthought.grading import equivalent, normalize
from latentthought.grading.equivalence.lists import split

# the pairs that a person has read and found to be the same
READ = {("5", "x=5"), (r"8\%", "8"), (r"\frac{4}{3}", r"\frac43")}


@pytest.fixture(scope="module")
def answers(data_folder: Path) -> dict[str, list[str]]:
    """Answers by subject."""
    by_subject = defaultdict(list)
    for name in ("math_test", "math_train"):
        with gzip.open(data_folder / "math" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                if row["answer"]:
                    by_subject[row["subject"]].append(row["answer"])
    assert sum(map(len, by_subject.values())) == 12_498
    return by_subject


def _distinct(answers: dict[str, list[str]]) -> list[str]:
    return sorted({answer for group in answers.values() for answer in group})


def test_ten_thousand_random_pairs(answers: dict[str, list[str]]) -> None:
    draw, accepted, done = random.Random(0), set(), 0
    subjects = sorted(answers)
    while done < 10_000:
        a, b = draw.sample(answers[draw.choice(subjects)], 2)
        if a == b:
            continue
        done += 1
        verdict = equivalent(a, b)
        assert verdict == equivalent(b, a), (a, b)
        if verdict[0]:
            accepted.add((a, b))
    assert accepted <= READ


# ------------------------------------------------------------------------------------------------ one thing changed
_DIGIT = re.compile(r"\d")
_SIGN = re.compile(r"[+-]")
_BRACKET = re.compile(r"(?<!\\)[()\[\]]")
_LETTER = re.compile(r"(?<![A-Za-z\\])[a-z](?![A-Za-z])")


def _other_digit(found: str, draw: random.Random) -> str:
    return str((int(found) + draw.randint(1, 9)) % 10)


def _other_letter(found: str, draw: random.Random) -> str:
    return draw.choice([letter for letter in "abkmnpqtuvwxyz" if letter != found])


CHANGES: dict[str, tuple[re.Pattern[str], Callable[[str, random.Random], str], int]] = {
    # 1_2 and 1_6 are one number; two golds are equations between numbers, of which the last side counts
    "digit": (_DIGIT, _other_digit, 4),
    "sign": (_SIGN, lambda found, _: "-" if found == "+" else "+", 0),
    "bracket": (_BRACKET, lambda found, _: dict(zip("()[]", "[]()", strict=True))[found], 0),
    "letter": (_LETTER, _other_letter, 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_thing_changed_is_another_answer(answers: dict[str, list[str]], change: str) -> None:
    pattern, replace, allowed = CHANGES[change]
    draw, accepted, tried = random.Random(1), [], 0
    for answer in _distinct(answers):
        places = list(pattern.finditer(answer))
        if not places or "sqrt[" in answer:
            continue
        place = draw.choice(places)
        changed = answer[: place.start()] + replace(place.group(), draw) + answer[place.end() :]
        tried += 1
        if equivalent(changed, answer)[0]:
            accepted.append((changed, answer))
    assert tried > 400
    assert len(accepted) <= allowed, accepted


# -------------------------------------------------------------------------------------------------- written otherwise
def _reversed_list(answer: str) -> str | None:
    parts = split(normalize(answer))
    return ", ".join(parts.items[::-1]) if len(parts.items) > 1 and not parts.kind else None


def _as_set(answer: str) -> str | None:
    parts = split(normalize(answer))
    return r"\{" + "; ".join(parts.items) + r"\}" if len(parts.items) > 1 and not parts.kind else None


def _as_element(answer: str) -> str | None:
    return rf"x \in {answer}" if re.search(r"\\cup|\\infty", answer) and "=" not in answer else None


def _named(answer: str) -> str | None:
    plain = not re.search(r"[=<>,k]|\\(?:text|mbox|[lg]e|cup|in)|and|or", answer)
    return f"k = {answer}" if plain else None


def _other_brackets(answer: str) -> str | None:
    return answer.replace("pmatrix", "bmatrix") if "pmatrix" in answer else None


def _worked_upon(answer: str) -> str | None:
    """(2a + 4) / 2 - 2."""
    value = not re.search(
        r"[=,<>\[$:A-Z]|text|mbox|\\(?:cup|in|pm|%|[lg]e)|pmatrix|circ|_|and|or|\.$|!", answer
    )
    return rf"\frac{{2({answer})+4}}{{2}} - 2" if value else None


@pytest.mark.parametrize(
    "rewrite", [_reversed_list, _as_set, _as_element, _named, _other_brackets, _worked_upon]
)
def test_written_otherwise_is_the_same_answer(
    answers: dict[str, list[str]], rewrite: Callable[[str], str | None]
) -> None:
    tried, missed = 0, []
    for answer in _distinct(answers):
        other = rewrite(answer)
        if other is None:
            continue
        tried += 1
        if not equivalent(other, answer)[0]:
            missed.append((other, answer))
    assert tried > 80
    assert not missed
