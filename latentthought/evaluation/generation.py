"""Completions for many prompts: length-sorted batches, one call of the model's own `generate` each.

Longest prompts first, so that a batch that does not fit fails at once (backoff.py). The samples of a question stand side by side
and are asked for as `num_return_sequences`, so that its prompt is read once and, unless they vary, its thoughts are thought once.
Beside them stands another question wherever the size allows: a row that is fed another's thoughts must not get those of its own.
Works with any model that has Hugging Face's `generate`; thoughts and controls need a latent one.

Rejected: letting finished rows leave the batch. transformers' token loop keeps its rows to the end; ending it early, so that the
others go on from a gathered cache, would shift torch's draws and every processor that counts. Who writes how long is not known
beforehand, so no order of prompts helps either.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from latentthought.errors import ConfigError, UnsupportedError
from latentthought.evaluation.backoff import Backoff
from latentthought.evaluation.decoding import Decoding, check_decoding, is_latent, overhead
from latentthought.evaluation.models import (
    automatic_batch_size,
    context_of,
    cut,
    decode,
    end_ids_of,
    mixes,
)

UNFIT = "the prompt does not fit into the context"


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to be made: question `index`, which sample of it, and the prompt's ids."""

    index: int
    sample: int
    prompt: Sequence[int]

    @property
    def prompt_hash(self) -> str:
        """16 hex digits over the prompt's ids."""
        return hashlib.sha256(",".join(map(str, self.prompt)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Completion:
    """New tokens up to and with the end token, thoughts before (or among) them, and the row's share of the wall time."""

    ids: list[int]
    thoughts: int
    milliseconds: float
    # why nothing was generated, if nothing was
    problem: str = ""


def batches(requests: Sequence[Request], size: int) -> list[list[Request]]:
    """Batches of at most `size` rows, longest prompts first; a question's samples side by side.

    Where they would leave no room for a second question, the samples of every question are dealt out to several rounds.
    """
    samples = sorted({request.sample for request in requests})
    rounds = -(-len(samples) // max(size // 2, 1))
    made: list[list[Request]] = []
    for number in range(rounds):
        held = samples[number::rounds]
        rows = sorted(
            (request for request in requests if request.sample in held),
            key=lambda request: (-len(request.prompt), request.index, request.sample),
        )
        most = size // len(held) * len(held)
        made += [rows[start : start + most] for start in range(0, len(rows), most)]
    return made


# batches by their number among all of a run
Batches = Mapping[int, list[Request]]


def plan(
    requests: Sequence[Request], size: int, done: Container[Any] = (), rank: int = 0, count: int = 1
) -> Batches:
    """The batches that fall to the `rank`-th of `count` processes; those whose requests are all in `done` (index, sample) are
    passed over, the others dealt out in turn.

    Batches are formed over all requests, so a resumed run sees the same ones as an uninterrupted run, and several processes
    the same as one.
    """
    opened = [
        (number, batch)
        for number, batch in enumerate(batches(requests, size))
        if not all((request.index, request.sample) in done for request in batch)
    ]
    return dict(opened[rank::count])


class Generator:
    """Runs batches of requests through a model.

    tokenizer: for the pad and end tokens, and for `stops`, the texts that end a completion. batch_size None: by the memory that
    a GPU has free, 32 rows on a CPU; halved whenever memory runs out. remembered: the `state` of an interrupted run, whose
    batches are to be formed again; noted: called with the state whenever it changes.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        decoding: Decoding,
        batch_size: int | None = None,
        stops: Sequence[str] = (),
    ):
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size: at least 1 (got {batch_size})")
        check_decoding(model, decoding)
        self.model, self.tokenizer, self.decoding = model, tokenizer, decoding
        self.device = getattr(model, "device", "cpu")
        self.batch_size, self.stops = batch_size, tuple(stops)
        self.end_ids = end_ids_of(model, tokenizer)
        pad = getattr(tokenizer, "pad_token_id", None)
        self.pad_id = pad if pad is not None else min(self.end_ids, default=0)
        self.context = context_of(model)
        self._mixed = mixes(model, decoding.thoughts, decoding.mix_ratio)
        self._overhead = overhead(model, decoding)

    def size_for(self, requests: Sequence[Request]) -> int:
        """Rows at once to begin with."""
        if self.batch_size is not None:
            return self.batch_size
        longest = max((len(request.prompt) for request in requests), default=0)
        positions = longest + self._overhead + self.decoding.max_new_tokens
        return automatic_batch_size(self.model, self.device, min(positions, self.context or positions))

    def run(
        self, requests: Sequence[Request], planned: Batches | None = None, backoff: Backoff | None = None
    ) -> Iterator[list[tuple[Request, Completion]]]:
        """Piece by piece, what came out of the `planned` batches; None: of all. backoff: how many rows fit, from now on or
        before."""
        backoff = backoff or Backoff(self.size_for(requests))
        if planned is None:
            planned = plan(requests, backoff.size)
        for number, batch in planned.items():
            work = partial(self._complete, requests=requests)
            for piece, made in backoff.run(batch, work, lambda request: len(request.prompt), number):
                yield list(zip(piece, made, strict=True))

    def text(self, ids: Sequence[int]) -> str:
        """A completion as text, up to the first stop."""
        marks = [self.model.thought.end_token] if self._opened_by is not None else []
        return cut(decode(self.tokenizer, ids), self.stops, [mark for mark in marks if mark])

    @property
    def _opened_by(self) -> int | None:
        """The token behind which stops count: the end of reasoning that is written, where the model has one."""
        return self.model.thought.end_token_id if self._mixed else None

    def _complete(self, batch: Sequence[Request], requests: Sequence[Request]) -> list[Completion]:
        room = [self._room(request) for request in batch]
        fitting = [request for request, new in zip(batch, room, strict=True) if new >= 1]
        shortest = min((new for new in room if new >= 1), default=0)
        made: dict[tuple[int, int], Completion] = {}
        for rows, samples in self._calls(fitting):
            completions = self._generate(rows, samples, shortest, requests)
            made |= {(row.index, row.sample): one for row, one in zip(rows, completions, strict=True)}
        nothing = Completion([], 0, 0.0, f"{UNFIT} of {self.context} tokens")
        return [made.get((request.index, request.sample), nothing) for request in batch]

    def _calls(self, batch: Sequence[Request]) -> Iterator[tuple[list[Request], int]]:
        """Rows of one call of `generate` each, and how many samples of a question stand side by side in them.

        One call for a whole batch; one for each number of samples where memory cut a batch up. Where several sequences of one
        prompt would be no samples of it, one for each sample index.
        """
        questions = [list(rows) for _, rows in groupby(batch, key=lambda request: request.index)]
        if self._independent:
            for samples in sorted({len(rows) for rows in questions}, reverse=True):
                yield [row for rows in questions if len(rows) == samples for row in rows], samples
        else:
            for sample in sorted({request.sample for request in batch}):
                yield [request for request in batch if request.sample == sample], 1

    @property
    def _independent(self) -> bool:
        """Whether the sequences that `generate` returns for a prompt are samples: those of beams are not, greedy ones are one."""
        usual = getattr(self.model, "generation_config", None)
        options = {"num_beams": getattr(usual, "num_beams", None), **self.decoding.options}
        sampled = self.decoding.temperature is not None and options.get("do_sample", True)
        return bool(sampled) and options["num_beams"] in (None, 1) and "num_return_sequences" not in options

    def _room(self, request: Request) -> int:
        """New tokens that a prompt leaves room for; the same under every control, so that they answer the same questions."""
        if self.context is None:
            return self.decoding.max_new_tokens
        return min(self.decoding.max_new_tokens, self.context - len(request.prompt) - self._overhead)

    def _generate(
        self, batch: list[Request], samples: int, max_new_tokens: int, requests: Sequence[Request]
    ) -> list[Completion]:
        import torch

        from latentthought.model.inputs import left_padded

        questions = batch[::samples]
        if self.decoding.control == "shuffled" and len(questions) == 1:
            questions.append(_companion(batch[0], requests))
        ids, mask = left_padded([request.prompt for request in questions], self.pad_id)
        width = ids.shape[1]
        arguments: dict[str, Any] = {"num_return_sequences": samples} if samples > 1 else {}
        if self.stops:
            from latentthought.evaluation.stopping import until

            arguments["stopping_criteria"] = until(self.tokenizer, self.stops, width, self._opened_by)
        cuda = torch.device(self.device).type == "cuda"
        devices = [torch.device(self.device)] if cuda else []
        # not inference_mode: a buffer that a model caches in it could not be trained through afterwards
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            seed = self._seed(batch[0])
            torch.manual_seed(seed)
            started = time.perf_counter()
            output = self.model.generate(
                ids.to(self.device),
                attention_mask=mask.to(self.device),
                **arguments,
                **self._arguments(max_new_tokens, seed),
            )
            new = output.sequences[:, width:].tolist()  # waits for the device
            counts = output.get("thought_counts")
            thoughts = [0] * len(new) if counts is None else counts.tolist()
            milliseconds = 1000 * max(time.perf_counter() - started, 0.0) / len(new)
        return [Completion(self._cut(new[i]), int(thoughts[i]), milliseconds) for i in range(len(batch))]

    def _seed(self, first: Request) -> int:
        """A call's own seed: independent of what was generated before it, so that resuming changes nothing."""
        text = f"{self.decoding.seed} {first.index} {first.sample}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

    def _arguments(self, max_new_tokens: int, seed: int) -> dict[str, Any]:
        decoding = self.decoding
        arguments: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "return_dict_in_generate": True,
            "pad_token_id": self.pad_id,
        }
        if self.end_ids:
            arguments["eos_token_id"] = sorted(self.end_ids)
        if decoding.temperature is None:
            arguments |= {"do_sample": False}
        else:
            arguments |= {"do_sample": True, "temperature": decoding.temperature}
        if is_latent(self.model):
            arguments |= {"thoughts": decoding.thoughts, "control": decoding.control}
            if decoding.mix_ratio is not None:
                arguments["mix_ratio"] = decoding.mix_ratio
            if decoding.control == "noised" and "thought_sampling" not in decoding.options:
                from latentthought.model.policy import ThoughtSampling

                arguments["thought_sampling"] = ThoughtSampling(seed=seed)
        return {**arguments, **decoding.options}

    def _cut(self, ids: list[int]) -> list[int]:
        """Up to and with the first end token; what follows is padding."""
        end = next((place for place, token in enumerate(ids) if token in self.end_ids), None)
        return ids if end is None else ids[: end + 1]


def _companion(lone: Request, requests: Sequence[Request]) -> Request:
    """Another question to think beside a lone row; its completion is thrown away."""
    others = [request for request in requests if request.index != lone.index]
    if not others:
        raise UnsupportedError(
            "control 'shuffled' feeds a row the thoughts of another question, so it needs at least two"
        )
    return min(others, key=lambda request: (abs(len(request.prompt) - len(lone.prompt)), request.index))
