"""Reading files: formats, places in errors, damage, folders, field maps."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from latentthought.data.example import DATA_FOLDER
from latentthought.data.sources import SourceConfig, load_examples
from latentthought.errors import ConfigError, DataError, MissingFileError, UserError

ROWS = [{"question": f"What is {i} + 1?", "steps": [f"{i} + 1"], "answer": str(i + 1)} for i in range(4)]


def lines(rows: list) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def load(path: Path, **settings: object):
    return load_examples(SourceConfig.parse({"source": "file", "path": str(path), **settings}))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def write_parquet(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


def write_csv(path: Path, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, delimiter=delimiter)
        writer.writerow(["question", "steps", "answer"])
        writer.writerows([row["question"], row["steps"][0], row["answer"]] for row in ROWS)
    return path


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    content = lines(ROWS)
    files = [
        write(tmp_path / "a.jsonl", content),
        write(tmp_path / "b.jsonl.gz", gzip.compress(content)),
        write(tmp_path / "c.json", json.dumps(ROWS, indent=1).encode()),
        write(tmp_path / "d.json", content),
        write(tmp_path / "e.jsonl", b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n") + b"\r\n\r\n"),
        write(tmp_path / "gz-without-the-name.jsonl", gzip.compress(content)),
        write_csv(tmp_path / "f.csv"),
        write_csv(tmp_path / "g.tsv", "\t"),
        write_parquet(tmp_path / "h.parquet"),
    ]
    files.append(write(tmp_path / "i.csv.gz", gzip.compress(b"\xef\xbb\xbf" + files[6].read_bytes())))
    fingerprints = {file.name: load(file).fingerprint for file in files}
    assert len(set(fingerprints.values())) == 1, fingerprints


def test_csv_cells_may_hold_lines_and_be_long(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(
            [["question", "steps", "answer"], ["q\nr", "a\nb", "1"], ["x" * 200_000, "", "2"]]
        )
    rows = load(path)
    assert rows[0].question == "q\nr"
    assert rows[0].steps == ("a", "b")
    assert len(rows[1].question) == 200_000


BAD_ROWS = {
    "not JSON": (b'{"question": "q"', "line 2: not valid JSON"),
    "a list": (b"[1, 2]", "line 2: expected an object with fields, got list"),
    "not UTF-8": (b'{"question": "caf\xe9", "answer": "1"}', "line 2: not UTF-8 (byte 0xe9"),
    "no answer": (b'{"question": "q"}', "line 2: field 'answer' is missing"),
    "too deep": (b'{"question": ' + b"[" * 200_000, "line 2: not"),
    "a huge number": (b'{"question": "q", "answer": ' + b"9" * 5000 + b"}", "line 2: not readable JSON"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_is_an_error_with_file_and_line_or_a_counted_skip(tmp_path: Path, case: str) -> None:
    bad, says = BAD_ROWS[case]
    path = write(tmp_path / "rows.jsonl", lines(ROWS[:1]) + bad + b"\n" + lines(ROWS[1:]))
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    rows = load(path, on_bad_row="skip")
    assert [row.answer for row in rows] == ["1", "2", "3", "4"]
    assert len(rows.skipped) == 1
    assert f"{path}, {says[:6]}" in rows.skipped[0]


def test_csv_row_of_another_length_is_bad(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", b'question,answer\nq,1\n"two\nlines",2\nq\nq,4\n')
    with pytest.raises(DataError, match=r"line 5: 1 fields where the header has 2"):
        load(path)
    assert [row.answer for row in load(path, on_bad_row="skip")] == ["1", "2", "4"]


DAMAGED = {
    "empty.jsonl": (b"", "the file is empty"),
    "blank.jsonl": (b"\n\n", "the file holds no rows"),
    "cut.jsonl.gz": (gzip.compress(lines(ROWS * 2000))[:-2000], "the gzip file is cut off or damaged"),
    "garbled.jsonl.gz": (gzip.compress(lines(ROWS))[:20] + b"\0" * 40, "the gzip file is cut off or damaged"),
    "not.parquet": (b"PAR1 no", "the Parquet file is damaged"),
    "twice.csv": (b"question,question\na,b\n", "a column name is given twice"),
    "quote.csv": (b'question,answer\n"q,1\n', "not valid CSV"),
    "latin.csv": (b"question,answer\ncaf\xe9,1\n", "line 2: not UTF-8"),
    "broken.json": (b'[{"question": "q"},\n oops]', "line 2: not valid JSON"),
    "what.txt": (b"hello", "unknown kind of file; allowed: .jsonl"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_file_stops_even_when_bad_rows_are_skipped(tmp_path: Path, name: str) -> None:
    content, says = DAMAGED[name]
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        load(path, on_bad_row="skip")
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_nothing_left_is_an_error_that_counts_the_reasons(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", b'{"question": "q"}\n{"question": "r"}\n')
    with pytest.raises(DataError, match=r"no row is left .*2 x field 'answer' is missing"):
        load(path, on_bad_row="skip")


def test_field_map_reaches_into_nested_data(tmp_path: Path) -> None:
    row = {"problem": "q", "gold": {"value": 3}, "turns": [{"text": "s"}], "a.b": "literal", "kind": "sum"}
    path = write(tmp_path / "rows.jsonl", lines([row]))
    fields = {"question": "problem", "answer": "gold.value", "steps": "turns.0.text", "id": "a.b"}
    example = load(path, fields=fields, options={"meta": ["kind"]})[0]
    assert (example.id, example.question, example.steps, example.answer) == ("literal", "q", ("s",), "3")
    assert example.meta == {"kind": "sum"}


def test_missing_field_names_file_line_and_what_there_is(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", lines([{"problem": "q", "answer": "1"}]))
    with pytest.raises(
        DataError, match=r"rows\.jsonl, line 1: no field 'problm'; did you mean problem\? \(the row has"
    ):
        load(path, fields={"question": "problm"})


@pytest.mark.parametrize(("how", "count"), [("lines", 2), ("sentences", 3), ("paragraphs", 2)])
def test_one_text_of_steps_is_cut_as_asked(tmp_path: Path, how: str, count: int) -> None:
    path = write(
        tmp_path / "rows.jsonl", lines([{"question": "q", "answer": "1", "steps": "One. Two.\n\nThree."}])
    )
    assert len(load(path, options={"steps": how})[0].steps) == count


def test_ids_do_not_move_with_limit_start_or_skips(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", lines([*ROWS[:1], {"question": "bad"}, *ROWS[1:]]))
    whole = load(path, on_bad_row="skip")
    assert [row.id for row in whole] == ["file/train/0", "file/train/2", "file/train/3", "file/train/4"]
    assert [row.id for row in load(path, limit=1)] == ["file/train/0"]
    assert [row.id for row in load(path, start=3)] == ["file/train/3", "file/train/4"]


def test_id_given_twice_is_a_bad_row(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", lines([{**ROWS[0], "id": "x"}, {**ROWS[1], "id": "x"}]))
    with pytest.raises(DataError, match="line 2: id 'x' is given twice"):
        load(path)


def test_min_steps_leaves_out_and_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", lines([{**ROWS[0], "steps": []}, *ROWS[1:]]))
    rows = load(path, min_steps=1)
    assert len(rows) == 3
    assert rows.skip_counts == {"fewer than 1 steps": 1}


def test_missing_path_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", lines(ROWS))
    with pytest.raises(
        MissingFileError, match=r"no such file: .*trian\.jsonl \(did you mean .*train\.jsonl\?\)"
    ):
        load(tmp_path / "trian.jsonl")


def test_folder_is_searched_for_the_split(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", lines(ROWS))
    write(tmp_path / "dev.jsonl", lines(ROWS[:2]))
    assert len(load(tmp_path)) == 4
    assert len(load(tmp_path, split="validation")) == 2
    with pytest.raises(
        ConfigError, match=r"cannot tell which file .* is the test split \(found dev.jsonl, train.jsonl\)"
    ):
        load(tmp_path, split="test")


def test_folder_of_shards_is_read_in_order(tmp_path: Path) -> None:
    for number in (1, 0):
        write(tmp_path / f"train-0000{number}-of-00002.jsonl", lines(ROWS[2 * number : 2 * number + 2]))
    assert [row.answer for row in load(tmp_path)] == ["1", "2", "3", "4"]


def test_folder_uses_the_names_of_the_source(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k_test.jsonl", lines([{"question": "q", "answer": "so\n#### 5"}]))
    write(tmp_path / "other.jsonl", lines(ROWS))
    config = SourceConfig(source="gsm8k", split="test", path=str(tmp_path))
    assert [row.answer for row in load_examples(config)] == ["5"]


def test_data_folder_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_FOLDER, str(tmp_path / "gone"))
    with pytest.raises(MissingFileError, match="names a folder that does not exist"):
        load_examples(SourceConfig(source="gsm8k"))


def test_a_file_needs_a_path_but_for_made_up_rows() -> None:
    with pytest.raises(ConfigError, match="source 'file' needs a path"):
        load_examples(SourceConfig(source="file"))
    assert len(load_examples(SourceConfig(source="file", limit=3), smoke=True)) == 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": "gsm8"}, "unknown source 'gsm8'. Did you mean gsm8k"),
        ({"source": "gsm8k", "split": "valid"}, "did you mean validation?"),
        (
            {"source": "gsm8k", "options": {"calculator_mark": "keep"}},
            "calculator_mark: unknown key; did you mean",
        ),
        ({"source": "hops", "path": "x.jsonl"}, "makes its own rows and takes no path"),
        ({"source": "gsm8k", "limit": 0}, "limit: "),
        ({"source": "gsm8k", "pth": "x"}, "pth: unknown key; did you mean path"),
        ({"source": "hops", "options": {"symbols": 8, "links": 8}}, "links (8) must be below symbols (8)"),
    ],
)
def test_settings_that_do_not_hold(settings: dict, says: str) -> None:
    with pytest.raises(UserError) as caught:
        SourceConfig.parse(settings, "recipe")
    assert says in str(caught.value)
