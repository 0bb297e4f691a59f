"""One judged completion, and the append-only file of them.

A run appends whole batches and can be killed at any moment: a torn last line is cut off when the file is opened again, and
every whole line counts. What settings the rows were made under stands beside them in `settings.json`, so that a resumed run
cannot mix two of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latentthought.errors import ConfigError, DamagedFileError, DataError, FolderInUseError, MissingFileError
from latentthought.grading import Extraction, Verdict

SAMPLES, SETTINGS, RESULTS = "samples.jsonl", "settings.json", "results.json"


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion: what was asked (hash of the prompt's ids), what came, what it was judged, what it cost.

    sample: index among the samples of one question. groups: the row's values of the task's groups. scores: further metrics.
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

    def to_row(self) -> dict[str, Any]:
        """The contract row, plain JSON data."""
        row = asdict(self)
        row["verdict"] = {"status": self.verdict.status, "reason": self.verdict.reason}
        return {key: value for key, value in row.items() if value or key not in ("groups", "scores")}

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
    def key(self) -> tuple[str, int]:
        """What a run holds once: question id and sample index."""
        return self.id, self.sample


def read_samples(path: Path) -> list[Sample]:
    """Every whole row of a samples file; a torn last line is left out, any other bad line is a `DamagedFileError`."""
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    lines = path.read_bytes().split(b"\n")
    samples = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or number == len(
            lines
        ):  # without its line end, the last line was not written whole
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DamagedFileError(f"{path}, line {number}: not JSON ({error})") from error
        samples.append(Sample.from_row(row, f"{path}, line {number}"))
    return samples


class SampleFile:
    """The samples of one task under one control, in one folder; no file is made before there is a sample.

    Opening raises `FolderInUseError` for a folder that holds samples unless `resume`, and `ConfigError` when a resumed folder
    was made under other settings. `folder` None keeps the samples in memory only.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], resume: bool):
        self.folder = folder
        self.settings = settings
        self.done: dict[tuple[str, int], Sample] = {}
        if folder is None:
            return
        path = folder / SAMPLES
        if not resume and any((folder / name).exists() for name in (SAMPLES, SETTINGS, RESULTS)):
            raise FolderInUseError(
                f"{folder} holds results already: resume them (--resume) or choose another output folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / SETTINGS).is_file():
            _check_settings(folder / SETTINGS, settings)
        if path.is_file():
            for number, sample in enumerate(read_samples(path), 1):
                for name in ("task", "version", "control", "seed"):
                    if getattr(sample, name) != settings[name]:
                        was = getattr(sample, name)
                        raise ConfigError(
                            f"{path}, line {number}: made under {name} {was!r}, this run has {settings[name]!r}; "
                            "choose another output folder"
                        )
                self.done[sample.key] = sample
            _cut_torn_line(path)

    def check_prompt(self, key: tuple[str, int], prompt_hash: str) -> None:
        """Refuse to resume over a sample whose prompt was another one."""
        if key in self.done and self.done[key].prompt_hash != prompt_hash:
            raise ConfigError(
                f"{self.folder}: the prompt of {key[0]!r} has changed since; choose another output folder"
            )

    def append(self, samples: Iterable[Sample]) -> None:
        """Add the samples that are not there yet, as one write."""
        new = [sample for sample in samples if sample.key not in self.done]
        self.done.update({sample.key: sample for sample in new})
        if self.folder is not None and new:
            if not (self.folder / SETTINGS).is_file():
                write_json(self.folder / SETTINGS, self.settings)
            lines = "".join(json.dumps(sample.to_row(), ensure_ascii=False) + "\n" for sample in new)
            # a lone surrogate cannot be UTF-8, and must not cost the batch
            with (self.folder / SAMPLES).open("ab") as file:
                file.write(lines.encode("utf-8", "replace"))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


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


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    was, now = read_json(path), json.loads(json.dumps(settings))
    changed = [
        f"{name} was {was.get(name)!r}, is {now.get(name)!r}"
        for name in {**was, **now}
        if was.get(name) != now.get(name)
    ]
    if changed:
        raise ConfigError(
            f"{path.parent}: cannot resume, the settings differ: {'; '.join(changed)}; choose another output folder"
        )


def _cut_torn_line(path: Path) -> None:
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
