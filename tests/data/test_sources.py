"""What each source makes of its own rows, its smoke rows, and the hub."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from latentthought.data.example import DATA_FOLDER, Example
from latentthought.data.sources import SOURCES, GeneratedSource, SourceConfig, hub, load_examples
from latentthought.data.sources.sentences import last_boxed, split_sentences
from latentthought.data.sources.text import Text
from latentthought.errors import DataError, HubUnreachableError, NotFoundError

TRACE = {
    "problem": "p",
    "thinking": "a\n\nb",
    "response": r"So \boxed{3}",
    "gt_answer": "3",
    "is_correct": True,
}
ZEBRA = SOURCES["zebra"].smoke_rows(1, 0)[0]
PROSQA = {"question": "Tom is a a1. Is Tom a a1 or b1?", "steps": ["Tom is a a1."], "answer": "Tom is a a1."}


def parse(name: str, row: dict, **options: object) -> Example:
    return SOURCES[name].configured(options).parse(row, "here")


def test_gsm8k_takes_lines_as_steps_and_strips_calculator_marks() -> None:
    row = {
        "question": "q",
        "answer": "She has 2*3=$<<2*3=6>>6.\n\nTimes 200 is <<6*200=1200>>1,200.\n#### 1,200",
    }
    example = parse("gsm8k", row)
    assert example.steps == ("She has 2*3=$6.", "Times 200 is 1,200.")
    assert example.answer == "1200"
    assert "<<" not in (example.solution or "")
    assert parse("gsm8k", row, calculator_marks="keep").steps[0] == "She has 2*3=$<<2*3=6>>6."


def test_gsm8k_aug_reads_both_public_forms() -> None:
    steps = ("<<1+1=2>>", "<<2*2=4>>")
    assert parse("gsm8k-aug", {"question": "q", "steps": list(steps), "answer": "4"}).steps == steps
    assert parse("gsm8k-aug", {"question": "q", "cot": " ".join(steps), "answer": "#### 4"}).steps == steps
    assert parse("gsm8k-aug", {"question": "q", "cot": "", "answer": "4"}).steps == ()


def test_math_takes_the_box_where_no_answer_is_given() -> None:
    row = {
        "problem": "p",
        "solution": r"We see $x=1.$ So \boxed{\frac{1}{2}}.",
        "level": "Level 3",
        "type": "Algebra",
    }
    example = parse("math", row)
    assert example.answer == r"\frac{1}{2}"
    assert example.steps == ("We see $x=1.$", r"So \boxed{\frac{1}{2}}.")
    assert example.meta == {"subject": "Algebra", "level": "3"}


def test_choices_are_listed_in_the_question_and_kept() -> None:
    row = {"question": "q", "options": ["A)1", "B) 2,5"], "rationale": "x\ny", "correct": "B"}
    example = parse("aqua", row)
    assert example.question.endswith("A) 1\nB) 2,5")
    assert (example.answer, example.steps, example.meta["choices"]) == ("B", ("x", "y"), ("1", "2,5"))


@pytest.mark.parametrize(
    "options",
    ["a ) 1 , b ) 2 , 5 , c ) 3 , d ) 4 , e ) none", "['a ) 1', 'b ) 2 , 5', 'c ) 3', 'd ) 4', 'e ) none']"],
)
def test_mathqa_options_in_one_text(options: str) -> None:
    row = {"Problem": "q", "options": options, "Rationale": '"so b"', "correct": "b", "category": "gain"}
    example = parse("mathqa", row)
    assert example.meta == {"subject": "gain", "choices": ("1", "2 , 5", "3", "4", "none")}
    assert example.answer == "B"


def test_prosqa_keeps_the_two_classes() -> None:
    example = parse("prosqa", PROSQA)
    assert example.meta == {"individual": "Tom", "choices": ("a1", "b1"), "target": "a1", "level": "1"}


def test_knights_answer_is_one_plain_sentence() -> None:
    row = {"quiz": "q", "names": ["Ann", "Bob"], "solution": [True, False], "cot_steps": ["s"]}
    example = parse("knights-knaves", row)
    assert example.answer == "Ann is a knight, Bob is a knave"
    assert example.meta == {"solution": {"Ann": "knight", "Bob": "knave"}, "level": "2"}


def test_zebra_answer_is_the_grid_as_json_and_clues_are_kept() -> None:
    example = parse("zebra", ZEBRA)
    grid = json.loads(example.answer)
    assert list(grid) == ["House 1", "House 2", "House 3"]
    assert list(grid["House 1"].values()) == ZEBRA["solution"]["rows"][0][1:]
    assert '"House 1": {"Name": "...", "Pet": "..."}' in example.question
    assert len(example.meta["clues"]) == 4
    assert example.meta["level"] == "3x2"


def test_traces_of_both_forms() -> None:
    example = parse("r1-traces", TRACE)
    assert (example.steps, example.answer, example.solution) == (("a", "b"), "3", r"So \boxed{3}")
    assert example.meta == {"trace_answer": "3", "correct": True}
    hub_row = {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
        "reasoning": "a\n\nb",
        "answer": r"So \boxed{3}",
    }
    same = parse("r1-traces", hub_row)
    assert (same.question, same.steps, same.answer, same.solution) == ("p", ("a", "b"), "3", r"So \boxed{3}")
    assert same.messages == ({"role": "system", "content": "s"}, {"role": "user", "content": "p"})


def test_unfinished_and_wrong_traces_are_left_out(tmp_path: Path) -> None:
    rows = [
        TRACE,
        {**TRACE, "response": None},
        {**TRACE, "is_correct": False},
        {**TRACE, "response": "no box"},
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = SourceConfig(source="r1-traces", path=str(path))
    finished = load_examples(config)
    assert len(finished) == 2
    assert finished.skip_counts == {
        "the trace is not finished (no response)": 1,
        "the response has no boxed answer": 1,
    }
    assert len(load_examples(config.replace(options={"keep": "correct"}))) == 1


BAD = [
    ("gsm8k", {"question": "q", "answer": "no mark"}, "no '#### answer'"),
    ("gsm8k", {"question": "q", "answer": "x ####"}, "no '#### answer'"),
    ("math", {"problem": "p", "solution": "no box"}, "has no \\boxed{}"),
    ("aqua", {"question": "q", "options": ["A)1"], "rationale": "r", "correct": "C"}, "allowed: one of A"),
    (
        "aqua",
        {"question": "q", "options": "A)1", "rationale": "r", "correct": "A"},
        "field 'options' must be a list",
    ),
    (
        "mathqa",
        {"Problem": "q", "options": "a ) 1", "Rationale": "r", "correct": "a"},
        "cannot be told apart",
    ),
    ("prosqa", {**PROSQA, "answer": "Tom is a c1."}, "allowed: Tom is a a1 or b1."),
    ("prosqa", {**PROSQA, "question": "Who is Tom?"}, "does not end in"),
    ("prontoqa", {"question": "q", "steps": [], "answer": "Yes"}, "allowed: True, False"),
    ("knights-knaves", {"quiz": "q", "names": ["a"], "solution": []}, "two lists of the same length"),
    ("knights-knaves", {"quiz": "q", "names": ["a"], "solution": [1]}, "must hold true (knight)"),
    ("zebra", {**ZEBRA, "solution": {"header": ["House", "Name"], "rows": [["___", "___"]]}}, "is masked"),
    ("zebra", {**ZEBRA, "solution": {"header": ["House", "Name"], "rows": [["1"]]}}, "the header's 2 cells"),
    ("zebra", {**ZEBRA, "solution": None}, "must have a 'header' and 'rows'"),
    ("r1-traces", {**TRACE, "thinking": None}, "field 'thinking' is null"),
    ("r1-traces", {"messages": [], "reasoning": "r", "answer": r"\boxed{1}"}, "has no user turn"),
]


@pytest.mark.parametrize(("name", "row", "says"), BAD)
def test_bad_row_names_its_place_and_field(name: str, row: dict, says: str) -> None:
    with pytest.raises(DataError) as caught:
        SOURCES[name].parse(row, "here")
    assert str(caught.value).startswith("here: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("name", SOURCES)
def test_no_field_of_a_row_can_be_left_out_or_null_without_a_message(name: str) -> None:
    row = SOURCES[name].smoke_rows(1, 0)[0]
    for key in row:
        for broken in ({k: v for k, v in row.items() if k != key}, {**row, key: None}, {**row, key: [{}]}):
            try:
                SOURCES[name].parse(broken, "here")
            except DataError as error:
                assert str(error).startswith("here: ")  # noqa: PT017 - a field may also be optional


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "file"])
def test_smoke_rows_go_through_the_source_offline(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_FOLDER, raising=False)
    config = SourceConfig(source=name, limit=20)
    rows = load_examples(config, smoke=True)
    assert len(rows) == 20
    assert not rows.skipped
    assert rows.fingerprint == load_examples(config, smoke=True).fingerprint
    assert rows.fingerprint != load_examples(config, seed=1, smoke=True).fingerprint
    assert rows.fingerprint != load_examples(config.replace(split="test"), smoke=True).fingerprint
    documents = isinstance(SOURCES[name], Text)  # which ask nothing
    assert all(row.answer and bool(row.question) != documents for row in rows)
    assert name == "zebra" or all(bool(row.steps) != documents for row in rows)
    assert len({row.id for row in rows}) == 20


def test_smoke_reads_a_path_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(TRACE))
    assert load_examples(SourceConfig(source="r1-traces", path=str(path)), smoke=True)[0].question == "p"


def test_knights_smoke_puzzles_have_the_solution_they_state() -> None:
    for row in SOURCES["knights-knaves"].smoke_rows(20, 3):
        kinds = dict(zip(row["names"], row["solution"], strict=True))
        for speaker, about in zip(row["names"], row["names"][1:], strict=False):
            said = f'{speaker} said, "{about} is a knight"' in row["quiz"]
            assert (said == kinds[about]) == kinds[speaker]


def test_every_source_names_a_public_place_or_makes_its_rows() -> None:
    for name, source in SOURCES.items():
        assert source.name == name
        made = isinstance(source, GeneratedSource) or name in ("file", "text")
        assert made or source.hub or source.local_files


def test_split_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_FOLDER, raising=False)
    with pytest.raises(
        NotFoundError, match=r"no validation rows on the hub \(it has train, test\); give a local file"
    ):
        load_examples(SourceConfig(source="gsm8k", split="validation"))
    with pytest.raises(NotFoundError, match=r"no hub set.*data.path=FILE; or source: prosqa-generated"):
        load_examples(SourceConfig(source="prosqa"))


def test_unreachable_hub_is_one_line_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (DATA_FOLDER, "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    start = time.monotonic()
    with pytest.raises(HubUnreachableError) as caught:
        load_examples(SourceConfig(source="gsm8k"))
    assert time.monotonic() - start < 15  # most of it importing `datasets`
    message = str(caught.value)
    assert "\n" not in message
    assert all(
        part in message for part in ("openai/gsm8k", "no answer within 5 s", "data.path=", DATA_FOLDER)
    )


def test_offline_switch_is_named_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.delenv(DATA_FOLDER, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(HubUnreachableError, match="HF_HUB_OFFLINE is set"):
        load_examples(SourceConfig(source="gsm8k"))
    assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    "name", ["gsm8k", "gsm8k-aug", "math", "aqua", "mathqa", "knights-knaves", "r1-traces", "cosmopedia"]
)
def test_hub_rows_pass_through_the_same_parser(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCES[name]
    assert source.hub
    asked = []

    def load_dataset(
        repo: str, configuration: str | None, split: str, revision: str | None, streaming: bool
    ) -> list[dict]:
        assert streaming == (name == "cosmopedia"), "of a set of that size only what is read is fetched"
        asked.append((repo, configuration, split))
        return source.smoke_rows(2, len(asked))

    monkeypatch.delenv(DATA_FOLDER, raising=False)
    monkeypatch.setattr(hub, "offline_reason", lambda: None)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    rows = load_examples(SourceConfig(source=name))
    assert [(source.hub.repo, *place) for place in source.hub.splits["train"]] == asked
    assert len(rows) == 2 * len(asked)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("no such set\nmore"), NotFoundError),
        (ConnectionError("went away"), HubUnreachableError),
        (ValueError("bad split"), DataError),
    ],
)
def test_hub_errors_become_ours(
    error: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_dataset(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.delenv(DATA_FOLDER, raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "offline_reason", lambda: None)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(kind, match="openai/gsm8k") as caught:
        load_examples(SourceConfig(source="gsm8k"))
    assert "\n" not in str(caught.value)
    assert "data.path=FILE" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("One. Two.", ("One.", "Two.")),
        ("It is 3.5 m. Then more.", ("It is 3.5 m.", "Then more.")),
        ("So $x = 3.$ Then $y. Z$ holds.", ("So $x = 3.$", "Then $y. Z$ holds.")),
        (r"See \[a. B\] here. Next.", (r"See \[a. B\] here.", "Next.")),
        ("It costs \\$5. That is it.", ("It costs \\$5.", "That is it.")),
        ("A, i.e. B, holds.", ("A, i.e. B, holds.",)),
        ("[asy] draw. X; [/asy] Done.", ("[asy] draw. X; [/asy] Done.",)),
        ("open $x\n\nNext. Last.", ("open $x", "Next.", "Last.")),
        ("", ()),
    ],
)
def test_sentences_keep_formulas_whole(text: str, steps: tuple[str, ...]) -> None:
    assert split_sentences(text) == steps


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{3}", "3"),
        (r"\boxed 7", "7"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{5} and \boxed{never closed", "5"),
        (r"\boxed{}", ""),
        (r"\boxed{1 + \boxed{2}}", "2"),
        (r"\frac{1}{2} } \boxed{4}", "4"),
        ("none", None),
    ],
)
def test_last_boxed(text: str, box: str | None) -> None:
    assert last_boxed(text) == box


def test_scans_stay_linear() -> None:
    start = time.monotonic()
    last_boxed(r"\boxed{" * 50_000)
    split_sentences("$x. Y" * 50_000)
    split_sentences("[asy] " * 50_000)
    assert time.monotonic() - start < 3


def test_sources_can_be_mixed_each_with_settings_of_its_own() -> None:
    also = [{"source": "aqua", "limit": 3}, {"source": "math", "min_steps": 0}]
    mixed = load_examples(
        SourceConfig.parse({"source": "gsm8k", "limit": 5, "also": also}, "data"), smoke=True
    )
    assert [example.id.split("/")[0] for example in mixed] == ["gsm8k"] * 5 + ["aqua"] * 3 + ["math"] * 5
    twice = SourceConfig.parse({"source": "gsm8k", "also": [{"source": "gsm8k"}]}, "data")
    with pytest.raises(DataError, match="two sources have a row with the id 'gsm8k/train/0'"):
        load_examples(twice, smoke=True)
