"""Files of rows, read as a stream, every row with its place.

JSON lines, JSON, CSV, TSV (each also as .gz) and Parquet. Memory stays at one row (a .json list and a Parquet batch excepted).
A damaged file (cut-off gzip, bytes that are not UTF-8 where rows cannot be told apart) stops the reading; a bad row is handed
on as a `BadRow`, so that the caller decides between an error and a counted skip.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from latentthought.errors import DataError

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read, and why."""

    reason: str


def kind_of(path: Path) -> str | None:
    """`jsonl`, `json`, `csv`, `tsv` or `parquet`, from the file's name; None if it is none of them."""
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix.removeprefix(".")
    return suffix if suffix in ("jsonl", "json", "csv", "tsv", "parquet") else None


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    """Yield (place, row) for every row of a file; place is `<path>, line <n>`. Raises `DataError` for a damaged or empty file."""
    kind = kind_of(path)
    if kind is None:
        raise DataError(f"{path}: unknown kind of file; allowed: {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    reader = {
        "jsonl": _read_jsonl,
        "json": _read_json,
        "csv": _read_csv,
        "tsv": _read_csv,
        "parquet": _read_parquet,
    }
    empty = True
    for item in reader[kind](path):
        empty = False
        yield item
    if empty:
        raise DataError(f"{path}: the file holds no rows")


def _open(path: Path) -> IO[bytes]:
    # told by content, not by name: downloads lose or gain a .gz
    handle = path.open("rb")
    if handle.peek(2)[:2] == b"\x1f\x8b":
        return io.BufferedReader(gzip.GzipFile(fileobj=handle))
    return handle


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Raw lines with their numbers, from 1, without a byte-order mark; a damaged gzip is a `DataError` naming the line."""
    number = 0
    with _open(path) as handle:
        try:
            for number, line in enumerate(handle, 1):
                yield number, line.removeprefix(_BOM) if number == 1 else line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{path}, after line {number}: the gzip file is cut off or damaged ({error})"
            ) from None


def _text(path: Path) -> Iterator[str]:
    for number, line in _lines(path):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: not UTF-8 ({_bytes_at(error)})") from None


def _bytes_at(error: UnicodeDecodeError) -> str:
    return f"byte 0x{error.object[error.start]:02x} at position {error.start + 1} of the line"


def _read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    for number, line in _lines(path):
        if line.strip():
            yield f"{path}, line {number}", _json_row(line)


def _json_row(line: bytes) -> dict[str, Any] | BadRow:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return BadRow(f"not UTF-8 ({_bytes_at(error)})")
    except json.JSONDecodeError as error:
        return BadRow(f"not valid JSON ({error.msg} at column {error.colno})")
    except (RecursionError, ValueError) as error:  # nested too deep; an integer of thousands of digits
        return BadRow(f"not readable JSON ({error})")
    return (
        row if isinstance(row, dict) else BadRow(f"expected an object with fields, got {type(row).__name__}")
    )


def _read_json(path: Path) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    first = next((line.lstrip() for _, line in _lines(path) if line.strip()), b"")
    if not first.startswith(b"["):  # many .json files hold a row a line
        yield from _read_jsonl(path)
        return
    try:
        rows = json.loads("".join(_text(path)))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: not readable JSON ({error})") from None
    for number, row in enumerate(rows, 1):
        good = isinstance(row, dict)
        yield (
            f"{path}, entry {number}",
            row if good else BadRow(f"expected an object, got {type(row).__name__}"),
        )


def _read_csv(path: Path) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    delimiter = "\t" if kind_of(path) == "tsv" else ","
    # the module's limit of 131,072 characters a field is shorter than a long reasoning trace
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(_text(path), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {start}: not valid CSV ({error})") from None
        if cells is None:
            return
        if not cells:
            continue
        if header is None:
            header = [name.strip() for name in cells]
            if len(set(header)) < len(header):
                raise DataError(f"{path}, line {start}: a column name is given twice: {', '.join(header)}")
            continue
        place = f"{path}, line {start}"
        if len(cells) != len(header):
            yield place, BadRow(f"{len(cells)} fields where the header has {len(header)}")
        else:
            yield place, dict(zip(header, cells, strict=True))


def _read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}, after row {number}: the Parquet file is damaged ({error})") from None
