"""Splitting an answer into parts."""

from __future__ import annotations

import pytest

from latentthought.grading.equivalence.lists import Parts, split


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1, 2", Parts(("1", "2"))),
        ("1, 2, and 3", Parts(("1", "2", "3"))),
        ("(1, 2)", Parts(("1", "2"), "(", ")")),
        ("[0, 1)", Parts(("0", "1"), "[", ")")),
        (r"\{1; 2\}", Parts(("1", "2"), "{", "}")),
        ("(1, 2), (3, 4)", Parts(("(1, 2)", "(3, 4)"))),
        ("((1), 2)", Parts(("(1)", "2"), "(", ")")),
        ("(1)(2)", Parts(("(1)(2)",))),
        ("f(1, 2) or 3", Parts(("f(1, 2)", "3"))),
        ("salt and pepper", Parts(("salt", "pepper"))),
        ("sandy", Parts(("sandy",))),
        ("(a and b)", Parts(("a and b",), "(", ")")),
        (",,", Parts(())),
        ("(", Parts(("(",))),
        ("", Parts(())),
    ],
)
def test_parts(text: str, parts: Parts) -> None:
    assert split(text) == parts
