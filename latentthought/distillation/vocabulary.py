"""Whether two tokenizers mean the same by the same ids, which is what a divergence of distributions compares.

Models of one family pad their output rows differently (152,064 against 151,936 for 151,669 tokens), and a student has thought
tokens after those of its teacher: what counts is the leading ids, up to the last that the teacher's tokenizer knows.
Distributions are compared over those alone, each normalised over them.
"""

from __future__ import annotations

from typing import Any

from latentthought.errors import ConfigError


def shared_vocabulary(student: Any, teacher: Any, student_rows: int, teacher_rows: int) -> int:
    """How many leading ids mean the same token to both tokenizers, all of the teacher's included.

    student_rows, teacher_rows: rows of the models' output layers.
    Raises `ConfigError` naming the first id whose token differs.
    """
    found = difference(student, teacher)
    if found is not None:
        raise ConfigError(
            f"a kl term needs one vocabulary, and {found}: compare hidden states instead (target: teacher), or take a "
            "teacher of the same family"
        )
    return min(max(teacher.get_vocab().values()) + 1, student_rows, teacher_rows)


def difference(student: Any, teacher: Any) -> str | None:
    """The first id of the teacher's tokenizer that is another token to the student's, in words; None where there is none."""
    ours = {index: token for token, index in student.get_vocab().items()}
    for token, index in sorted(teacher.get_vocab().items(), key=lambda entry: entry[1]):
        if ours.get(index) != token:
            return f"id {index} is {ours.get(index)!r} to the student and {token!r} to the teacher"
    return None
