"""Whether two tokenizers mean the same by the same ids, which is what a divergence of distributions compares.

Models of one family pad their output rows differently (152,064 against 151,936 for 151,669 tokens), and a student has thought
tokens after those of its teacher: what counts is the leading ids, up to the last that the teacher's tokenizer knows.
Distributions are compared over those alone, each normalised over them. The logits of a cache are kept over the same ids, and
the cache knows them by a hash, since the teacher may be on another machine by then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from latentthought.distillation.cache.spec import VocabularyIdentity
from latentthought.errors import ConfigError

_ADVICE = "compare hidden states instead (target: teacher), or take a teacher of the same family"


def shared_vocabulary(student: Any, teacher: Any, student_rows: int, teacher_rows: int) -> int:
    """How many leading ids mean the same token to both tokenizers, all of the teacher's included.

    student_rows, teacher_rows: rows of the models' output layers.
    Raises `ConfigError` naming the first id whose token differs.
    """
    found = difference(student, teacher)
    if found is not None:
        raise ConfigError(f"a kl term needs one vocabulary, and {found}: {_ADVICE}")
    return min(leading_ids(teacher, teacher_rows), student_rows)


def leading_ids(teacher: Any, rows: int) -> int:
    """How many leading ids of a teacher count: up to the last that its tokenizer knows. rows: of its output layer."""
    return min(max(teacher.get_vocab().values()) + 1, rows)


def difference(student: Any, teacher: Any) -> str | None:
    """The first id of the teacher's tokenizer that is another token to the student's, in words; None where there is none."""
    ours = _by_id(student)
    for index, token in sorted(_by_id(teacher).items()):
        if ours.get(index) != token:
            mine = repr(ours[index]) if index in ours else "no token"
            return f"id {index} is {mine} to the student and {token!r} to the teacher"
    return None


def identity(teacher: Any, rows: int) -> VocabularyIdentity:
    """What a cache keeps of its teacher's vocabulary. rows: of the teacher's output layer."""
    size, tokens = leading_ids(teacher, rows), _by_id(teacher)
    unused = tuple(index for index in range(size) if index not in tokens)
    return VocabularyIdentity(size=size, tokens=_digest(tokens, size, unused), unused=unused)


def check_vocabulary(student: Any, student_rows: int, kept: VocabularyIdentity, teacher: Any = None) -> None:
    """Raise `ConfigError` where a student means something else by the ids that a cache's logits are about.

    teacher: its tokenizer, where it is here; the error then names the first id whose token differs.
    """
    found = None
    if _digest(_by_id(student), kept.size, kept.unused) != kept.tokens:
        found = None if teacher is None else difference(student, teacher)
        found = found or (
            f"the cache's logits are about the {kept.size - len(kept.unused)} tokens with the ids 0 to {kept.size - 1} of its "
            "teacher, which are others to the student"
        )
    elif student_rows < kept.size:
        found = f"the student's output layer has {student_rows} rows for the cache's {kept.size} tokens"
    if found is not None:
        raise ConfigError(f"a kl term needs one vocabulary, and {found}: {_ADVICE}")


def _by_id(tokenizer: Any) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items()}


def _digest(tokens: Mapping[int, str], size: int, unused: tuple[int, ...]) -> str:
    left_out = set(unused)
    some = [[index, tokens.get(index)] for index in range(size) if index not in left_out]
    return hashlib.sha256(json.dumps(some).encode()).hexdigest()
