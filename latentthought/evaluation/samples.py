"""One judged completion, and the append-only file of them.

A run appends whole batches and can be killed at any moment: a torn last line is cut off when the file is opened again, and
every whole line counts. Several processes append to a file each (`samples.rank-001.jsonl`, ...); the first one merges them in the
end, and a resumed run reads them all, whatever the number of its processes. What settings the rows were made under stands
beside them in `settings.json`, so that a resumed run cannot mix two of them; how large the batches are stands in `batches.json`
until all samples are there. A file that is being written to is locked.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from latentthought.errors import ConfigError, DamagedFileError, DataError, FolderInUseError, MissingFileError
from latentthought.evaluation.resuming import check_settings
from latentthought.grading import Extraction, Verdict

SAMPLES, SETTINGS, RESULTS = "samples.jsonl", "settings.json", "results.json"
_PARTS, _BATCHES = "samples.rank-*.jsonl", "batches*.json"
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion: what was asked (hash of the prompt's ids), what came, what it was judged, what it cost.

    sample: index among the samples of one question. groups: the row's values of the task's groups. scores: further metrics.
    extractions: the verdict's status under `strict` and under `flexible` extraction; the task's own is `verdict`.
    thoughts, tokens: counts (tokens with the end token); milliseconds: the batch's wall time shared among its rows.
    """

    task: str
    version: int
    id: str
    sample: int
    seed: int
    control: str
    prompt_hash: str
    completion: str
    gold: str
    extraction: Extraction
    verdict: Verdict
    thoughts: int
    tokens: int
    milliseconds: float
    groups: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    extractions: Mapping[str, str] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The contract row, plain JSON data."""
        row = asdict(self)
        row["verdict"] = {"status": self.verdict.status, "reason": self.verdict.reason}
        optional = ("groups", "scores", "extractions")
        return {key: value for key, value in row.items() if value or key not in optional}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], where: str) -> Sample:
        """Read a contract row. Raises, starting with `where`, `DataError` for a row of another kind, `DamagedFileError` for a
        row that lacks something."""
        if not isinstance(row, dict) or not {"completion", "verdict"} & row.keys():
            held = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
            raise DataError(
                f"{where}: no row of a samples.jsonl that evaluate wrote (it has {held or 'nothing'})"
            )
        try:
            extraction = Extraction(**row["extraction"])
            verdict = Verdict(row["verdict"]["status"], row["verdict"]["reason"], extraction)
            return cls(**{**row, "extraction": extraction, "verdict": verdict})
        except (KeyError, TypeError) as error:
            raise DamagedFileError(f"{where}: not a sample row ({error})") from error

    @property
    def key(self) -> Key:
        """What a run holds once: question id and sample index."""
        return self.id, self.sample


def read_samples(path: Path) -> list[Sample]:
    """Every whole row of a samples file; a torn last line is left out, any other bad line is a `DamagedFileError`."""
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    lines = path.read_bytes().split(b"\n")
    samples = []
    for number, line in enumerate(lines, 1):
        # without its line end, the last line was not written whole
        if not line.strip() or number == len(lines):
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DamagedFileError(f"{path}, line {number}: not JSON ({error})") from error
        samples.append(Sample.from_row(row, f"{path}, line {number}"))
    return samples


class SampleFile:
    """The samples of one task under one control, in one folder; no file is made before there is a sample.

    Opening raises `FolderInUseError` for a folder that holds samples unless `resume`, or that another evaluation writes to, and
    `ConfigError` when a resumed folder was made under other settings. `folder` None keeps the samples in memory only. The first
    process of a group opens it before the others (`rank` 1, 2, ...), which read nothing and are told what is there: `known`, and
    `batching`, the `state` of an interrupted run's `Backoff`.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], resume: bool, rank: int = 0):
        self.folder, self.settings, self.rank = folder, settings, rank
        self.done: dict[Key, Sample] = {}
        self.known: set[Key] = set()
        self.batching: dict[str, Any] = {}
        self._handle: BinaryIO | None = None
        self._path = folder / (f"samples.rank-{rank:03d}.jsonl" if rank else SAMPLES) if folder else None
        if folder is None or rank:
            return
        if not resume:
            require_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / SETTINGS).is_file():
            check_settings(folder, read_json(folder / SETTINGS), settings)
        for path in (folder / SAMPLES, *self._parts()):
            if path.is_file():
                with _locked(path):
                    self._read(path)
                    _cut_torn_line(path)
        self.known = set(self.done)
        if self.known:
            self.batching = _batching(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def check_prompt(self, key: Key, prompt_hash: str) -> None:
        """Refuse to resume over a sample whose prompt was another one."""
        if key in self.done and self.done[key].prompt_hash != prompt_hash:
            raise ConfigError(
                f"{self.folder}: the prompt of {key[0]!r} has changed since; choose another output folder"
            )

    def remember(self, batching: Mapping[str, Any]) -> None:
        """Keep how the batches are formed, with the samples that come of it."""
        self.batching = dict(batching)
        if self.folder is not None and self._handle is not None and batching:
            name = f"batches.rank-{self.rank:03d}.json" if self.rank else "batches.json"
            write_json(self.folder / name, self.batching)

    def append(self, samples: Iterable[Sample]) -> None:
        """Add the samples that are not there yet, as one write."""
        new = [sample for sample in samples if sample.key not in self.known]
        self.known.update(sample.key for sample in new)
        self.done.update({sample.key: sample for sample in new})
        if self.folder is None or self._path is None or not new:
            return
        if self._handle is None:
            self._handle = _locked(self._path)
            if not (self.folder / SETTINGS).is_file():
                write_json(self.folder / SETTINGS, self.settings, f".rank-{self.rank:03d}.tmp")
            self.remember(self.batching)
        self._handle.write(_lines(new))
        self._handle.flush()

    def merged(self, keys: Sequence[Key]) -> list[Sample]:
        """All samples in the order of `keys`, and so in one `samples.jsonl`, once every process has appended its own."""
        self._close()
        parts = self._parts()
        for path in parts:
            self._read(path)
        ordered = [self.done[key] for key in keys]
        # resumed by another number of processes, the samples are there in another order
        if self._path is not None and (parts or list(self.done) != list(keys)):
            write_bytes(self._path, _lines(ordered))
            for path in parts:
                path.unlink()
        if self.folder is not None:
            # of a process that was killed between writing and renaming; and what only an unfinished run needs
            for path in (*self.folder.glob("*.tmp"), *self.folder.glob(_BATCHES)):
                path.unlink()
        return ordered

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob(_PARTS)) if self.folder is not None else []

    def _read(self, path: Path) -> None:
        for number, sample in enumerate(read_samples(path), 1):
            for name in ("task", "version", "control", "seed"):
                was = getattr(sample, name)
                if was != self.settings[name]:
                    raise ConfigError(
                        f"{path}, line {number}: made under {name} {was!r}, this run has {self.settings[name]!r}; "
                        "choose another output folder"
                    )
            # a kill while the files were being merged leaves a sample in two of them
            self.done.setdefault(sample.key, sample)

    def _close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def require_free(folder: Path) -> None:
    """Raise `FolderInUseError` for a folder that holds samples or results of an evaluation."""
    if any((folder / name).exists() for name in (SAMPLES, SETTINGS, RESULTS)) or any(folder.glob(_PARTS)):
        raise FolderInUseError(
            f"{folder} holds results already: resume them (--resume) or choose another output folder"
        )


def in_use(path: Path) -> bool:
    """Whether an evaluation is writing to a file of samples that is there."""
    try:
        _locked(path).close()
    except FolderInUseError:
        return True
    return False


def _locked(path: Path) -> BinaryIO:
    """The file, open for appending, for this process alone."""
    handle = path.open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise FolderInUseError(f"{path.parent}: another evaluation is writing to this folder") from None
    except OSError:  # a file system without locks
        pass
    return handle


def _lines(samples: Iterable[Sample]) -> bytes:
    lines = "".join(json.dumps(sample.to_row(), ensure_ascii=False) + "\n" for sample in samples)
    # a lone surrogate cannot be UTF-8, and must not cost the batch
    return lines.encode("utf-8", "replace")


def write_json(path: Path, values: Mapping[str, Any], temporary: str = ".tmp") -> None:
    """Write values as JSON, whole or not at all; `temporary` is put behind the name until it is whole."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8"), temporary)


def write_bytes(path: Path, content: bytes, temporary: str = ".tmp") -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + temporary)
    partial.write_bytes(content)
    os.replace(partial, path)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises `MissingFileError` or `DamagedFileError`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"no such file: {path}") from None
    except ValueError as error:
        raise DamagedFileError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise DamagedFileError(f"{path}: expected a mapping, got {type(values).__name__}")
    return values


def _batching(folder: Path) -> dict[str, Any]:
    """How the processes of an interrupted run formed their batches: the size of all, and where it was halved."""
    states = {path: read_json(path) for path in sorted(folder.glob(_BATCHES))}
    for path, state in states.items():
        if not (isinstance(state.get("size"), int) and isinstance(state.get("halved"), list)):
            raise DamagedFileError(f"{path}: expected the size of batches and where it was halved")
    halved = sorted(place for state in states.values() for place in state["halved"])
    return {"size": next(iter(states.values()))["size"], "halved": halved} if states else {}


def _cut_torn_line(path: Path) -> None:
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
