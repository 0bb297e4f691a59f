"""Contamination: test questions whose words stand in the training data already.

A row overlaps when a run of n words of its question (13, as Brown et al. 2020, arXiv:2005.14165, app. C) occurs in a training
text, and is counted as copied when most of its runs do: puzzles and word problems share phrases without sharing questions, so
both numbers are given. Words are compared in lower case, without punctuation and typography. A question of fewer than n words
counts only where a whole training text has the same words. A word is a run of letters and digits, so a language written without
spaces has few of them: there a copy is found, a phrase in common is not.

Cost: one pass over the training texts (some 35,000 word problems a second), which may be any iterable and are never held;
memory grows with the test rows alone.
Runs are 64-bit hashes of word numbers: with a million runs against a billion, a false hit has a chance below 1e-4.
Rejected: suffix arrays over the training data (memory), a similarity by embeddings (finds paraphrases, and much else).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from latentthought.config import Config
from latentthought.data.example import Example
from latentthought.errors import ConfigError
from latentthought.evaluation.measures import correctness
from latentthought.evaluation.samples import Sample
from latentthought.evaluation.statistics import Estimate, estimate

WORDS = 13
COPIED = 0.7
_NAMED = 100
_WORD = re.compile(r"\w+")
_UNKNOWN = -1


class Contamination(Config):
    """What a training set holds of a task's questions.

    words: the length of a run. rows: test rows; texts: training texts read. overlapping: rows with at least one run in the
    training data; copied: rows with at least 70 % of their runs there. share: overlapping / rows. ids: the overlapping rows,
    the most copied first (100 at most), with the share of their runs. clean, overlap: accuracy on the rows without and with
    overlap, where samples were given.
    """

    words: int
    rows: int
    texts: int
    overlapping: int
    copied: int
    share: float
    ids: dict[str, float] = {}
    training: str = ""
    clean: Estimate | None = None
    overlap: Estimate | None = None


def overlap(
    tests: Iterable[Example],
    training: Iterable[Example | str],
    words: int = WORDS,
    *,
    samples: Sequence[Sample] = (),
    name: str = "",
) -> Contamination:
    """Look for the questions of `tests` in `training`: texts, or examples (question, and solution or steps, as two texts).

    samples: of a run on the tests, to compare its accuracy on clean and overlapping rows. name: of the training data, for
    reports. Raises `ConfigError` for a run of fewer than 2 words.
    """
    if words < 2:
        raise ConfigError(f"contamination: runs of at least 2 words (got {words})")
    index = _Index(tests, words)
    texts = 0
    for text in _texts(training):
        texts += 1
        index.look_up(text)
    shares = index.shares()
    hit = dict(sorted(shares.items(), key=lambda item: -item[1]))
    right = correctness(samples)
    return Contamination(
        words=words,
        rows=len(index.rows),
        texts=texts,
        overlapping=len(hit),
        copied=sum(share >= COPIED for share in hit.values()),
        share=len(hit) / max(1, len(index.rows)),
        ids={row: round(share, 4) for row, share in islice(hit.items(), _NAMED)},
        training=name,
        clean=estimate({row: values for row, values in right.items() if row not in hit}) if right else None,
        overlap=estimate({row: values for row, values in right.items() if row in hit}) if right else None,
    )


class _Index:
    """The runs of all test questions, and which of them were seen."""

    def __init__(self, tests: Iterable[Example], words: int):
        self.words = words
        self.numbers: dict[str, int] = {}
        self.rows: dict[
            str, set[int]
        ] = {}  # test row -> hashes of its runs; of a short row: of all its words
        self.runs: set[int] = set()
        self.whole: set[int] = set()
        self.seen: set[int] = set()
        for test in tests:
            known = [self.numbers.setdefault(word, len(self.numbers)) for word in _words(test.question)]
            short = len(known) < words
            self.rows[test.id] = {hash(tuple(known))} if short and known else self._runs(known)
            (self.whole if short else self.runs).update(self.rows[test.id])

    def look_up(self, text: str) -> None:
        """Mark the runs that a training text holds."""
        known = [self.numbers.get(word, _UNKNOWN) for word in _words(text)]
        if len(known) < self.words:
            self.seen |= {hash(tuple(known))} & self.whole
        else:
            self.seen |= self._runs(known) & self.runs

    def shares(self) -> dict[str, float]:
        """Share of a row's runs that were seen, for the rows with any; 1.0 for a short row that was seen whole."""
        shares = {row: len(runs & self.seen) / max(1, len(runs)) for row, runs in self.rows.items()}
        return {row: share for row, share in shares.items() if share}

    def _runs(self, known: list[int]) -> set[int]:
        # the hash of a tuple of small integers is the same in every process, that of text is not
        return set(map(hash, zip(*(islice(known, start, None) for start in range(self.words)), strict=False)))


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _texts(training: Iterable[Example | str]) -> Iterator[str]:
    for item in training:
        if isinstance(item, str):
            yield item
        else:
            yield item.question
            rest = item.solution or "\n".join(item.steps)
            if rest:
                yield rest
