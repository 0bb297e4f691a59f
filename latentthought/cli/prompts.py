"""What a command is asked: one prompt, or a file of them (a line each, or JSON lines), read, encoded, and found to fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.cli.parser import positive
from latentthought.errors import DataError, MissingFileError

if TYPE_CHECKING:
    from latentthought.cli.models import LoadedModel

QUESTION_KEYS = ("question", "prompt", "problem")


@dataclass(frozen=True, slots=True)
class Request:
    """One question. `id` is the row's own, or its place in the file."""

    id: str
    question: str


def add_prompt_options(options: Any) -> None:
    """What every command that takes prompts is asked with; options: a parser, or a group of one."""
    options.add_argument(
        "--input", metavar="FILE", help="a prompt a line, or JSON lines with `question`; - is standard input"
    )
    options.add_argument(
        "--batch-size", metavar="N", type=positive, default=16, help="prompts at a time (default: 16)"
    )
    options.add_argument(
        "--raw", action="store_true", help="hand the prompt over as it is, without the format of training"
    )


def read_requests(prompt: str | None, file: str | None) -> list[Request]:
    """The requests of a command line: the prompt, or those of a file (`-`: standard input).

    A file ending in .jsonl or .json holds an object a line with `question` (or `prompt`, `problem`), and perhaps `id`; any
    other file holds a prompt a line. Empty lines are passed over. Raises `DataError` naming file and line.
    """
    if prompt is not None:
        if not prompt.strip():
            raise DataError("PROMPT is empty: give a question, or --input FILE")
        return [Request("1", prompt)]
    assert file is not None
    path = Path(file)
    if file != "-" and not path.is_file():
        raise MissingFileError(
            f"--input {file}: {'a folder, not a file' if path.is_dir() else 'no such file'}"
        )
    try:
        text = sys.stdin.read() if file == "-" else path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 (byte {error.start})") from None
    structured = path.suffix.lower() in (".jsonl", ".json")
    requests = list(_rows(text, file) if structured else _lines(text))
    if not requests:
        raise DataError(f"{file}: no prompts in it")
    return requests


def _lines(text: str) -> Iterator[Request]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield Request(str(number), line)


def _rows(text: str, file: str) -> Iterator[Request]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not valid JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object, got {type(row).__name__}")
        key = next(
            (name for name in QUESTION_KEYS if isinstance(row.get(name), str) and row[name].strip()), None
        )
        if key is None:
            raise DataError(
                f"{where}: no text under {', '.join(QUESTION_KEYS)} (the row has {', '.join(map(str, row)) or 'nothing'})"
            )
        yield Request(str(row.get("id") or number), row[key])


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, its prompt's ids, and how many new tokens the model has room for after them and the thoughts, of those asked
    for."""

    request: Request
    prompt: Sequence[int]
    room: int


def ask(
    loaded: LoadedModel,
    requests: Sequence[Request],
    *,
    raw: bool,
    thoughts: Any,
    mix: float | None = None,
    max_new_tokens: int = 1,
) -> list[Asked]:
    """All requests encoded; a prompt that does not fit shows before the first answer (`DataError`).

    Args:
        raw: hand the prompt over as it is, without the format of training.
        thoughts, mix: what `generate` is asked for.
        max_new_tokens: how many tokens are wanted; the context may leave room for fewer, but for one at least.
    """
    from latentthought import Example

    encoder = _encoder(loaded, raw)
    prompts = [encoder.prompt_ids(Example(request.id, request.question, (), "")) for request in requests]
    _warn_of_unknown(loaded.tokenizer, prompts)
    return [
        Asked(request, prompt, min(_room(loaded.model, prompt, request, thoughts, mix), max_new_tokens))
        for request, prompt in zip(requests, prompts, strict=True)
    ]


def thinks(model: Any, thoughts: Any, mix: float | None) -> bool:
    """Whether there are thoughts before the answer."""
    if thoughts is not None:
        return thoughts != 0
    return not mix and model.thought.thoughts > 0


def _room(model: Any, prompt: Sequence[int], request: Request, thoughts: Any, mix: float | None) -> int:
    """New tokens that the context has room for after a prompt and its thoughts."""
    from latentthought.evaluation.models import context_of
    from latentthought.model.policy import read_thoughts

    context = context_of(model)
    if context is None:
        return sys.maxsize
    budget = read_thoughts(thoughts, 1, model.thought.thoughts, True) if thinks(model, thoughts, mix) else [0]
    count = budget[0] if isinstance(budget, list) else budget.maximum
    room = context - len(prompt) - (count + 2 if count else 0)  # two delimiters
    if room < 1:
        after = f" and {count} thoughts" if count else ""
        which = request.id if request.id.startswith("--") else f"prompt {request.id}"  # an option's own
        raise DataError(
            f"{which}: its {len(prompt)} tokens{after} leave no room for an answer in the model's context "
            f"of {context} tokens"
        )
    return room


def _warn_of_unknown(tokenizer: Any, prompts: Sequence[Sequence[int]]) -> None:
    """Say on standard error how much of the prompts the model cannot read: a small vocabulary has no word for most texts."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown == tokenizer.eos_token_id:
        return
    found, total = sum(list(prompt).count(unknown) for prompt in prompts), sum(map(len, prompts))
    if found:
        print(
            f"note: {found} of {total} tokens of the prompts are not in the model's vocabulary",
            file=sys.stderr,
        )


def _encoder(loaded: LoadedModel, raw: bool) -> Any:
    """The format the model was trained with; one that carries none gets its chat template, or the bare prompt."""
    from latentthought.data.encoding import Encoder, FormatConfig

    trained = getattr(loaded.model.config, "prompt_format", None)
    if trained and not raw:
        return Encoder(
            loaded.tokenizer, FormatConfig.parse(trained, "the model's prompt_format"), spans=False
        )
    chat = bool(loaded.tokenizer.chat_template) and not raw
    return Encoder(loaded.tokenizer, FormatConfig(prompt="{question}", chat=chat, eos=False), spans=False)
