"""Puzzles whose clues a program can check: graphs of classes (ProsQA) and tables of links (Hops).

`consistency` is 1 when an answer is given, and it and every written step follow from the clues. It is read from the question
alone, never from the gold, so it tells a right answer with made-up steps from one that follows. (For knights and knaves the
same measure is in puzzles.py.)
Cost: linear in question and completion. Rejected: comparing the steps with the gold steps (other ways are as good).
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise

from latentthought.data.example import Example
from latentthought.grading.extraction.rules import cut_reasoning

_IS_A = re.compile(r"\b(?:Every |Each )?(\w+) is an? (\w+)", re.IGNORECASE)
_LONGEST = 20_000
_ANSWER_MARK = re.compile(r"#{2,}|\\boxed|<answer>|\banswer\b", re.IGNORECASE)


def graph_consistency(
    completion: str, answer: str | None, example: Example, thought_ends: tuple[str, ...]
) -> float:
    """Whether the named class can be reached from the individual (`example.meta["individual"]`), and every `A is a B` that is
    written follows from the question's sentences."""
    graph: dict[str, set[str]] = defaultdict(set)
    for child, parent in _IS_A.findall(example.question):
        graph[child.lower()].add(parent.lower())
    classes = {parent for parents in graph.values() for parent in parents}
    named = [word for word in re.findall(r"\w+", (answer or "").lower()) if word in classes]
    individual = str(example.meta["individual"]).lower()
    if not named or named[-1] not in _reached(graph, individual):
        return 0.0
    said = _IS_A.findall(cut_reasoning(completion, thought_ends)[-_LONGEST:])
    return float(all(parent.lower() in _reached(graph, child.lower()) for child, parent in set(said)))


def chain_consistency(
    completion: str, answer: str | None, example: Example, thought_ends: tuple[str, ...]
) -> float | None:
    """Whether the answer lies as many links from the start as the row has steps, and the symbols that are written in front of it
    are links of the table one after the other. None for a row without steps, which does not say how many links."""
    if not example.steps:
        return None
    links, start = _links(example)
    end = _followed(links, start, len(example.steps))
    if answer is None or answer.strip().lower() != end:
        return 0.0
    text = cut_reasoning(completion, thought_ends)[-_LONGEST:]
    marks = list(_ANSWER_MARK.finditer(text))
    written = re.findall(r"\b\w\b", text[: marks[-1].start()] if marks else "")
    # the last step is the answer already
    path = written if written and written[-1] == end else [*written, end]
    return float(all(links.get(here) == there for here, there in pairwise(path)))


def chain_leads(example: Example, step: int, symbol: str) -> str | None:
    """The answer that follows from a row's own table if its step `step` (0-based) had led to `symbol`; None where that leads
    nowhere."""
    links, _ = _links(example)
    return _followed(links, symbol, len(example.steps) - 1 - step)


def _links(example: Example) -> tuple[dict[str, str], str]:
    """A row's table, and the symbol to start from."""
    table, _, start = example.question.rpartition("?")
    symbols = re.findall(r"\w", table)
    return dict(zip(symbols[::2], symbols[1::2], strict=False)), start.strip()


def _followed(links: dict[str, str], start: str, count: int) -> str | None:
    """Where so many links lead; None where one is missing."""
    end: str | None = start
    for _ in range(count):
        end = links.get(end or "")
    return end


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """All classes that something is, by one link or more."""
    found: set[str] = set()
    open_nodes = [start]
    while open_nodes:
        for parent in graph.get(open_nodes.pop(), ()):
            if parent not in found:
                found.add(parent)
                open_nodes.append(parent)
    return found
