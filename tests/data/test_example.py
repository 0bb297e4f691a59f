"""The row contract."""

from __future__ import annotations

import copy
import json

import pytest

from latentthought.data.example import Example, ExampleSet
from latentthought.errors import DataError

FULL = Example(
    "7", "2+2?", ("2+2=4",), "4", "It is 4.", ({"role": "user", "content": "2+2?"},), {"level": "1"}
)


@pytest.mark.parametrize("example", [FULL, Example("1", "q", (), "a")])
def test_row_survives_json(example: Example) -> None:
    assert Example.from_row(json.loads(json.dumps(example.to_row())), "here") == example


def test_row_holds_only_what_is_there() -> None:
    assert Example("1", "q", (), "a").to_row() == {"id": "1", "question": "q", "steps": [], "answer": "a"}


def test_examples_can_be_copied() -> None:
    # what worker processes do to them; a mapping proxy as meta could not
    assert copy.deepcopy(FULL) == FULL


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"answer": "a"}, "field 'question' is missing (the row has answer)"),
        ({"question": " ", "answer": "a"}, "field 'question' is empty"),
        ({"question": "q", "answer": None}, "field 'answer' is null"),
        ({"question": "q", "answer": ["a"]}, "field 'answer' must be text, got ['a']"),
        ({"question": "q", "answer": "a", "steps": [1]}, "field 'steps' must be a list of text"),
        ({"question": "q", "answer": "a", "steps": {"a": 1}}, "field 'steps' must be a list of text"),
        (
            {"question": "q", "answer": "a", "messages": [{"role": "user"}]},
            "field 'messages' must be a list of {role",
        ),
        ({"question": "q", "answer": "a", "meta": 3}, "field 'meta' must be a mapping"),
    ],
)
def test_bad_row_says_where_and_what(row: dict, says: str) -> None:
    with pytest.raises(DataError) as caught:
        Example.from_row(row, "rows.jsonl, line 3")
    assert str(caught.value).startswith("rows.jsonl, line 3: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(("value", "text"), [(4, "4"), (0.5, "0.5"), (True, "True"), (" x ", "x")])
def test_plain_values_become_text(value: object, text: str) -> None:
    assert Example.from_row({"question": "q", "answer": value}, "here").answer == text


def test_steps_may_be_one_text_with_a_step_a_line() -> None:
    assert Example.from_row({"question": "q", "answer": "a", "steps": "one\n\n two \n"}, "here").steps == (
        "one",
        "two",
    )


def test_set_is_a_sequence_that_remembers_what_was_left_out() -> None:
    rows = ExampleSet(
        [Example(str(i), "q", (), "a") for i in range(5)],
        skipped=["f, line 2: bad", "f, line 9: bad", "f, line 4: worse"],
        origin="f",
    )
    assert len(rows) == 5
    assert rows[1].id == "1"
    assert [example.id for example in rows[3:]] == ["3", "4"]
    assert isinstance(rows[1:2], ExampleSet)
    assert rows.skip_counts == {"bad": 2, "worse": 1}
    assert "5 rows from f" in repr(rows)


def test_fingerprint_follows_content_and_order() -> None:
    first, second = Example("1", "q", (), "a"), Example("2", "q", (), "a")
    same = ExampleSet([first, second]).fingerprint
    assert len(same) == 64
    assert ExampleSet([first, second], origin="elsewhere").fingerprint == same
    assert ExampleSet([second, first]).fingerprint != same
    assert ExampleSet([first]).fingerprint != same
