"""Puzzles whose answer has parts: who is a knight, which attribute belongs in which cell.

A puzzle is right only as a whole; the share of right parts (`cell_accuracy`) shows how far off it was. For knights and knaves
the statements are read back from the question, so `consistency` says whether an answer breaks no clue, checked by program
and without the gold. Zebra clues are free text, and are not checked.
Cost: linear in the text. Rejected: asking a solver (a second dependency for statements of at most two clauses).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from latentthought.data.example import Example
from latentthought.grading import Extraction, GradePolicy, Verdict, extract_answer, normalize
from latentthought.grading.extraction.rules import NO_ANSWER, cut_reasoning

_CLAIM = r"(?P<name{0}>\w+) is (?P<not{0}>not )?a (?P<kind{0}>knight|knave)\b"
_CLAUSE = re.compile(
    rf"(?P<if>[Ii]f )?\b{_CLAIM.format(1)}(?: (?P<link>and|or|if and only if|then) {_CLAIM.format(2)})?"
)
_SAID = re.compile(
    r"\b(\w+) (?:is|was|must be) (?:also )?(?:definitely )?(not )?an? \**(knight|knave)\b", re.IGNORECASE
)
_MAXIMUM_JSON = 50_000


class Judgement(NamedTuple):
    """A verdict, and what else was measured on the answer (metric -> value in [0, 1])."""

    verdict: Verdict
    scores: dict[str, float]


class Statement(NamedTuple):
    """What a speaker says: one or two claims (name, is a knight), joined by and, or, then, if and only if.

    speaker None: the narrator, who is always right.
    """

    speaker: str | None
    claims: tuple[tuple[str, bool], ...]
    link: str | None

    def holds(self, knights: Mapping[str, bool]) -> bool:
        """Whether the statement is as true as its speaker is honest."""
        values = [knights[name] == knight for name, knight in self.claims]
        said = {
            None: values[0],
            "and": all(values),
            "or": any(values),
            "then": not values[0] or values[-1],
            "if and only if": values[0] == values[-1],
        }[self.link]
        return said == (self.speaker is None or knights[self.speaker])


def judge_knights(
    completion: str, example: Example, policy: GradePolicy, thought_ends: tuple[str, ...]
) -> Judgement:
    """Judge `Amelia is a knight, Ethan is a knave`; `example.meta["solution"]` maps each name to its kind."""
    solution = {str(name): kind == "knight" for name, kind in example.meta["solution"].items()}
    extraction = extract_answer(completion, thought_ends=thought_ends)
    text = extraction.answer if extraction.rule in ("boxed", "fbox", "answer_tag", "hash") else None
    rule = extraction.rule
    if text is None and not policy.strict:
        text, rule = cut_reasoning(completion, thought_ends), "phrase"
    people = {name.lower(): name for name in solution}
    given: dict[str, bool] = {}
    for name, negated, kind in _SAID.findall(normalize(text) if text else ""):
        if name.lower() in people:  # the last thing said of somebody counts
            given[people[name.lower()]] = (kind.lower() == "knight") != bool(negated)
    if not given:
        return Judgement(Verdict("ungradable", "no answer found"), {"cell_accuracy": 0.0, "consistency": 0.0})
    answer = ", ".join(f"{name} is a {'knight' if knight else 'knave'}" for name, knight in given.items())
    right = sum(given.get(name) == knight for name, knight in solution.items())
    verdict = Verdict(
        "correct" if right == len(solution) else "wrong",
        f"{right} of {len(solution)} people",
        Extraction(answer, rule),
    )
    scores = {"cell_accuracy": right / len(solution)}
    statements = read_statements(example.question, tuple(solution))
    if statements is not None:
        complete = len(given) == len(solution)
        scores["consistency"] = float(complete and all(statement.holds(given) for statement in statements))
    return Judgement(verdict, scores)


def read_statements(quiz: str, names: tuple[str, ...]) -> list[Statement] | None:
    """The statements of a knights-and-knaves text; None when one of them cannot be read."""
    known = "|".join(map(re.escape, names))
    speaker_after = re.compile(rf'[,.]?"?[,.]?\s*-?\s*\b({known})\b(?: \w+)?\.')
    names_in = re.compile(rf"\b({known})\b")
    statements, place = [], 0
    for match in _CLAUSE.finditer(quiz):
        part = match.groupdict()
        if part["name1"].lower() == "who":  # the question itself
            continue
        claims = [(part["name1"], (part["kind1"] == "knight") != bool(part["not1"]))]
        if part["link"]:
            claims.append((part["name2"], (part["kind2"] == "knight") != bool(part["not2"])))
        if (part["link"] == "then") != bool(part["if"]) or any(name not in names for name, _ in claims):
            return None
        # who speaks stands before the words, in their own sentence, or right after them
        before = re.split(r"[.?!]\"?\s", quiz[place : match.start()])[-1]
        place = match.end()
        speakers = names_in.findall(before)
        speaker = speakers[-1] if speakers else None
        if speaker is None and (after := speaker_after.match(quiz, place)) and '"' in before:
            speaker, place = after.group(1), after.end()
        statements.append(Statement(speaker, tuple(claims), part["link"]))
    return statements if len(statements) == len(names) else None


def judge_zebra(
    completion: str, example: Example, policy: GradePolicy, thought_ends: tuple[str, ...]
) -> Judgement:
    """Judge a grid given as JSON (`{"House 1": {"Name": ...}}`, or header and rows); `example.meta["solution"]` is the gold."""
    header, rows = example.meta["solution"]["header"], example.meta["solution"]["rows"]
    gold = {
        (str(row[0]), _plain(key)): _plain(cell)
        for row in rows
        for key, cell in zip(header[1:], row[1:], strict=True)
    }
    text = cut_reasoning(completion, thought_ends)
    found = _last_json(text)
    given = _cells(found) if found is not None else {}
    if not given:
        return Judgement(Verdict("ungradable", "no grid found", NO_ANSWER), {"cell_accuracy": 0.0})
    right = sum(given.get(cell) == value for cell, value in gold.items())
    answer = json.dumps(found, ensure_ascii=False)[:4000]
    extraction = Extraction(answer, "hash" if "###" in text else "bare")
    verdict = Verdict(
        "correct" if right == len(gold) else "wrong", f"{right} of {len(gold)} cells", extraction
    )
    return Judgement(verdict, {"cell_accuracy": right / len(gold)})


def _plain(value: Any) -> str:
    return " ".join(str(value).lower().replace("_", " ").split())


def _cells(found: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Whatever the form, as (house number, attribute) -> value."""
    for wrapper in ("solution", "answer"):
        if isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    header, rows = found.get("header"), found.get("rows")
    if isinstance(header, list) and isinstance(rows, list):
        good = [row for row in rows if isinstance(row, list) and len(row) == len(header) > 1]
        return {
            (str(row[0]), _plain(key)): _plain(cell)
            for row in good
            for key, cell in zip(header[1:], row[1:], strict=True)
        }
    cells = {}
    for house, attributes in found.items():
        number = re.search(r"\d+", str(house)[:40])
        if number and isinstance(attributes, Mapping):
            cells.update({(number.group(), _plain(key)): _plain(value) for key, value in attributes.items()})
    return cells


def _last_json(text: str) -> Mapping[str, Any] | None:
    """The last whole `{...}` of a text that reads as JSON; brackets are matched in one pass."""
    text = text[-_MAXIMUM_JSON:]
    opened: list[int] = []
    outer: list[tuple[int, int]] = []
    for match in re.finditer(r'"(?:[^"\\\n]|\\.)*"|[{}]', text):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            start = opened.pop()
            while outer and outer[-1][0] > start:
                outer.pop()
            outer.append((start, match.end()))
    for start, end in reversed(outer[-8:]):
        try:
            found = json.loads(text[start:end])
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None
