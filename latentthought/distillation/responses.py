"""A teacher's own answers as a training set: sequence-level distillation (Kim and Rush 2016, arXiv 1606.07947), and with
`keep: correct` rejection sampling (RFT, arXiv 2308.01825).

Making and grading the completions is evaluation's work; here they become rows of the `file` source. A completion is cut into
steps and an answer, so that every curriculum and every format can use it: steps are its reasoning without the words that only
announce the answer, which the student's own format writes. `solution` keeps it as it came. Equal completions of a question
are kept once, since a repeated row only weighs more. Beside the rows stands where they came from, written last.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.data.example import Example
from latentthought.data.sources.sentences import split_paragraphs, split_sentences
from latentthought.errors import ConfigError, DamagedFileError, DataError, MissingFileError
from latentthought.grading import Verdict, extract_answer
from latentthought.grading.extraction.rules import EXPLICIT_RULES

if TYPE_CHECKING:
    from latentthought.data.sources import SourceConfig

ROWS, PROVENANCE = "responses.jsonl", "provenance.json"
FORMAT, VERSION = "latentthought-responses", 1
THINK_TAGS = ("<think>", "</think>")

SourceT = TypeVar("SourceT", bound="SourceConfig")


class ResponsesConfig(Config):
    """Completions of the teacher on the recipe's rows.

    path: their folder, which `teacher respond` fills and training reads.
    samples: completions a question. temperature: None is greedy for one sample, 0.7 for several.
    keep: `correct` by the grader only, or `all` that give an answer.
    max_new_tokens: per completion, thoughts not counted. batch_size: rows at once, None by device and free memory.
    steps: how the reasoning is cut. task: the evaluation task by whose rules is graded (puzzles); None is the plain grader.
    policy: settings of the plain grader, see `GradePolicy`.
    """

    path: str | None = Field(None, min_length=1)
    samples: int = Field(1, ge=1)
    temperature: float | None = Field(None, gt=0.0)
    keep: Literal["all", "correct"] = "correct"
    max_new_tokens: int = Field(512, ge=1)
    batch_size: int | None = Field(None, ge=1)
    steps: Literal["lines", "sentences", "paragraphs"] = "lines"
    task: str | None = None
    policy: dict[str, Any] = {}

    @model_validator(mode="after")
    def _holds(self) -> ResponsesConfig:
        if self.task is not None and self.policy:
            raise ValueError(f"policy: the task {self.task!r} brings its own; give one of them")
        return self

    def smoke_changes(self) -> dict[str, Any]:
        """What `--smoke` changes: few short completions, of which a teacher that has learnt nothing gets few right."""
        return {
            **self.dump(),
            "samples": min(self.samples, 2),
            "keep": "all",
            "max_new_tokens": 16,
            "batch_size": None,
        }


class Response(NamedTuple):
    """One graded completion. id: of the example. sample: its number among those of a question. tokens: new ones."""

    id: str
    sample: int
    completion: str
    verdict: Verdict
    tokens: int


class Kept(NamedTuple):
    """rows: contract rows with a `provenance` each. counts: completions by what became of them. questions: with a row."""

    rows: list[dict[str, Any]]
    counts: dict[str, int]
    questions: int


def to_rows(
    examples: Sequence[Example],
    responses: Iterable[Response],
    config: ResponsesConfig,
    provenance: Mapping[str, Any],
    marks: Sequence[tuple[str | None, str]] = (THINK_TAGS,),
) -> Kept:
    """The training rows that a teacher's completions make.

    Args:
        examples: the questions. provenance: what every row says of its origin (teacher, seed, temperature); its own sample
            and verdict are added.
        marks: what opens and closes written reasoning; where a closing one is met, steps are what stands before it.

    A right answer is written as the gold one; a wrong one (`keep: all`) as the teacher gave it.
    """
    questions = {example.id: example for example in examples}
    counts = Counter(dict.fromkeys(("kept", "wrong", "ungradable", "without an answer", "repeated"), 0))
    seen: set[tuple[str, str]] = set()
    rows = []
    for response in responses:
        example, text = questions[response.id], response.completion.strip()
        answer = example.answer if response.verdict.correct else response.verdict.extraction.answer
        if config.keep == "correct" and not response.verdict.correct:
            fate = response.verdict.status
        elif not (answer and answer.strip()):
            fate = "without an answer"
        elif (response.id, text) in seen:
            fate = "repeated"
        else:
            fate = "kept"
            seen.add((response.id, text))
            row = Example(
                id=f"{response.id}/{response.sample}",
                question=example.question,
                steps=steps_of(text, config.steps, marks, answer.strip()),
                answer=answer.strip(),
                solution=text,
                messages=example.messages,
                meta=example.meta,
            ).to_row()
            own = {"sample": response.sample, "tokens": response.tokens}
            judged = {"status": response.verdict.status, "reason": response.verdict.reason}
            rows.append({**row, "provenance": {**provenance, "row": response.id, **own, "verdict": judged}})
        counts[fate] += 1
    return Kept(rows, dict(counts), len({row["provenance"]["row"] for row in rows}))


def steps_of(
    completion: str,
    cut: str,
    marks: Sequence[tuple[str | None, str]] = (THINK_TAGS,),
    answer: str | None = None,
) -> tuple[str, ...]:
    """The reasoning of a completion in steps; a last step that only gives or announces the answer is left out. cut, marks: as
    above."""
    # by place alone: a mark may have no opening, and None does not compare
    closing = max(
        ((completion.rfind(end), begin) for begin, end in marks), key=lambda mark: mark[0], default=(-1, None)
    )
    if closing[0] >= 0:
        reasoning = completion[: closing[0]]
        # the opening mark may stand in the prompt
        return _cut(reasoning.rpartition(closing[1])[2] if closing[1] else reasoning, cut)
    steps = _cut(completion, cut)
    if steps and (steps[-1] == answer or extract_answer(steps[-1]).rule in EXPLICIT_RULES):
        return steps[:-1]
    return steps


def _cut(text: str, how: str) -> tuple[str, ...]:
    if how == "lines":
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    return split_sentences(text) if how == "sentences" else split_paragraphs(text)


def save_responses(folder: Path, kept: Kept, about: Mapping[str, Any]) -> Path:
    """Write the rows, then `provenance.json` with their hash and what `about` says of the whole; each whole or not at all."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept.rows)
    # a lone surrogate cannot be UTF-8, and must not cost the rest
    content = text.encode("utf-8", "replace")
    _write(folder / ROWS, content)
    values = {
        "format": FORMAT,
        "version": VERSION,
        "rows": len(kept.rows),
        "questions": kept.questions,
        "completions": kept.counts,
        "sha256": hashlib.sha256(content).hexdigest(),
        **about,
    }
    _write(folder / PROVENANCE, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())
    return folder / ROWS


def training_source(config: ResponsesConfig, data: SourceT, fingerprint: str | None = None) -> SourceT:
    """`data` with the teacher's rows in place of its own.

    Args:
        fingerprint: of the rows that `data` names; compared with those that were answered.

    Raises `MissingFileError` where nothing was answered yet, `DamagedFileError` for rows that have changed since, `ConfigError`
    for answers to other questions, `DataError` when no completion was kept.
    """
    if config.path is None:
        raise ConfigError("teacher.responses.path: say where the teacher's answers are")
    folder = Path(config.path)
    about = read_provenance(folder)
    rows = folder / ROWS
    if not rows.is_file() or hashlib.sha256(rows.read_bytes()).hexdigest() != about.get("sha256"):
        state = "is not what its provenance.json says" if rows.is_file() else "is missing"
        raise DamagedFileError(
            f"{rows} {state}; make it again: latentthought teacher respond RECIPE --resume"
        )
    answered = about.get("data", {}).get("fingerprint")
    if fingerprint is not None and answered != fingerprint:
        raise ConfigError(
            f"teacher.responses.path {folder}: these are answers to other rows than the recipe's data; "
            "answer these with latentthought teacher respond, into another folder"
        )
    if not about.get("rows"):
        raise DataError(
            f"{rows}: no completion was kept (keep: {about.get('settings', {}).get('keep')}), of {about.get('completions')}"
        )
    changes = {"source": "file", "path": str(rows), "split": "train", "start": 0, "limit": None}
    return data.replace(**changes, fields={}, options={}, also=())


def read_provenance(folder: Path) -> dict[str, Any]:
    """What `provenance.json` says. Raises `MissingFileError`, `DamagedFileError`, `ConfigError` for another version."""
    path = folder / PROVENANCE
    if not path.is_file():
        raise MissingFileError(
            f"{folder}: no answers of a teacher here yet (no {PROVENANCE}); make them: latentthought teacher respond RECIPE"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFileError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DamagedFileError(f"{path}: not the provenance of a teacher's answers")
    if values.get("version") != VERSION:
        raise ConfigError(
            f"{path}: written in version {values.get('version')}, this release reads version {VERSION}"
        )
    return values


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
