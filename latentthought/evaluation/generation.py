"""Completions for many prompts: length-sorted batches, one call of the model's own `generate` each.

Longest prompts first, so that a batch that does not fit fails at once; then it is halved, and stays halved. Rows of one batch
are different questions (samples of one question go into different batches): a row that is fed another's thoughts must not get
those of its own question. Works with any model that has Hugging Face's `generate`; thoughts and controls need a latent one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from latentthought.errors import ConfigError, LatentThoughtError, UnsupportedError, unknown
from latentthought.evaluation.models import context_of, end_ids_of

UNFIT = "the prompt does not fit into the context"
CONTROLS = ("none", "no-thought", "pause", "shuffled", "noised")
_BATCH = {"cpu": 32, "cuda": 128}
# of an allocator that raises a plain RuntimeError: older CUDA and MPS, the CPU's, cuBLAS's own workspace
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


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


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to generate: handed to `model.generate` as it is. temperature None is greedy."""

    max_new_tokens: int
    thoughts: Any = None
    mix_ratio: float | None = None
    control: str = "none"
    temperature: float | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.control not in CONTROLS:
            raise ConfigError(unknown("control", self.control, [*CONTROLS, "all"]))
        if self.temperature is not None and self.temperature <= 0:
            raise ConfigError(f"temperature: above 0, or none for greedy decoding (got {self.temperature})")


def is_latent(model: Any) -> bool:
    """Whether the model thinks, or can only write."""
    return hasattr(model, "think")


def controls_for(model: Any, thoughts: Any = None, mix_ratio: float | None = None) -> tuple[str, ...]:
    """The controls that mean something for this model under these settings: a text model has none but `none`.

    A pause-token model has no states to shuffle or noise; mixed decoding feeds states among words and can only be noised.
    """
    config = getattr(model, "thought", None)
    mixed = (
        mix_ratio
        if mix_ratio is not None
        else (getattr(config, "mix_ratio", 0.0) if thoughts is None else 0.0)
    )
    if mixed:
        return ("none", "noised")
    count = getattr(config, "thoughts", 0) if thoughts is None else thoughts
    if not is_latent(model) or (isinstance(count, int) and count == 0):
        return ("none",)
    if getattr(config, "fill", "latent") == "pause":
        return ("none", "no-thought")
    if getattr(config, "thought_token_id", 0) is None:
        return ("none", "no-thought", "shuffled", "noised")
    return CONTROLS


def check_decoding(model: Any, decoding: Decoding) -> None:
    """Refuse thoughts and controls on a model that has none."""
    if is_latent(model):
        return
    if decoding.control != "none":
        raise UnsupportedError(
            f"control {decoding.control!r} needs a model with latent thoughts; this one is a plain language model"
        )
    if decoding.thoughts not in (None, 0) or decoding.mix_ratio:
        raise UnsupportedError(
            "thoughts need a model with latent thoughts; this one is a plain language model (thoughts=0)"
        )


def batches(requests: Sequence[Request], size: int) -> list[list[Request]]:
    """Length-sorted batches, longest first; each holds one sample index only, so no question twice."""
    made: list[list[Request]] = []
    for sample in sorted({request.sample for request in requests}):
        rows = sorted((r for r in requests if r.sample == sample), key=lambda r: (-len(r.prompt), r.index))
        made += [rows[start : start + size] for start in range(0, len(rows), size)]
    return made


class Generator:
    """Runs batches of requests through a model.

    tokenizer: for the pad and end tokens only. batch_size None: 32 rows on a CPU, 128 on a GPU; halved whenever memory runs out.
    """

    def __init__(self, model: Any, tokenizer: Any, decoding: Decoding, batch_size: int | None = None):
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size: at least 1 (got {batch_size})")
        check_decoding(model, decoding)
        self.model, self.decoding = model, decoding
        self.device = getattr(model, "device", "cpu")
        self.batch_size = batch_size or _BATCH.get(str(self.device).split(":")[0], 32)
        self.end_ids = end_ids_of(model, tokenizer)
        pad = getattr(tokenizer, "pad_token_id", None)
        self.pad_id = pad if pad is not None else min(self.end_ids, default=0)
        self.context = context_of(model)

    def plan(
        self, requests: Sequence[Request], done: Any = (), rank: int = 0, count: int = 1
    ) -> list[list[Request]]:
        """The batches that fall to the `rank`-th of `count` processes; those whose requests are all in `done` (index, sample)
        are passed over, the others dealt out in turn.

        Batches are formed over all requests, so a resumed run sees the same ones as an uninterrupted run, and several
        processes the same as one.
        """
        open_batches = [
            batch
            for batch in batches(requests, self.batch_size)
            if not all((request.index, request.sample) in done for request in batch)
        ]
        return open_batches[rank::count]

    def run(
        self, requests: Sequence[Request], planned: Sequence[list[Request]] | None = None
    ) -> Iterator[list[tuple[Request, Completion]]]:
        """Batch by batch, what came out of the `planned` ones; None: of all."""
        for batch in self.plan(requests) if planned is None else planned:
            yield from self._with_backoff(batch, requests)

    def _with_backoff(
        self, batch: list[Request], requests: Sequence[Request]
    ) -> Iterator[list[tuple[Request, Completion]]]:
        pieces = [batch]
        while pieces:
            piece = pieces.pop(0)
            if len(piece) > self.batch_size:
                pieces[:0] = [
                    piece[start : start + self.batch_size] for start in range(0, len(piece), self.batch_size)
                ]
                continue
            made = self._attempt(piece, requests)
            if made is None:
                if len(piece) == 1:
                    raise LatentThoughtError(
                        f"out of memory with a batch of one row ({len(piece[0].prompt)} prompt tokens); "
                        "lower max_new_tokens, or use a smaller dtype"
                    )
                self.batch_size = max(1, len(piece) // 2)
                pieces.insert(0, piece)
                continue
            yield list(zip(piece, made, strict=True))

    def _attempt(self, batch: list[Request], requests: Sequence[Request]) -> list[Completion] | None:
        """The batch's completions; None when memory ran out."""
        import torch

        room = [self._room(request) for request in batch]
        fitting = [request for request, new in zip(batch, room, strict=True) if new >= 1]
        try:
            made = iter(
                self._generate(fitting, min((new for new in room if new >= 1), default=0), requests)
                if fitting
                else []
            )
        except torch.OutOfMemoryError:
            made = None
        except RuntimeError as error:
            if not any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
                raise
            made = None
        if made is None:  # outside of the handler, so that the traceback no longer holds the tensors
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return None
        nothing = Completion([], 0, 0.0, f"{UNFIT} of {self.context} tokens")
        return [next(made) if new >= 1 else nothing for new in room]

    def _room(self, request: Request) -> int:
        """New tokens that a prompt leaves room for."""
        if self.context is None:
            return self.decoding.max_new_tokens
        config = getattr(self.model, "thought", None)
        thoughts = (
            self.decoding.thoughts
            if isinstance(self.decoding.thoughts, int)
            else getattr(config, "thoughts", 0)
        )
        overhead = thoughts + 2 if thoughts else 0
        return min(self.decoding.max_new_tokens, self.context - len(request.prompt) - overhead)

    def _generate(
        self, batch: list[Request], max_new_tokens: int, requests: Sequence[Request]
    ) -> list[Completion]:
        import torch

        rows = list(batch)
        if self.decoding.control == "shuffled" and len(rows) == 1:
            rows.append(_companion(batch[0], requests))
        width = max(len(request.prompt) for request in rows)
        ids = torch.full((len(rows), width), self.pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for row, request in enumerate(rows):
            ids[row, width - len(request.prompt) :] = torch.tensor(request.prompt, dtype=torch.long)
            mask[row, width - len(request.prompt) :] = 1
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
                **self._arguments(max_new_tokens, seed),
            )
            new = output.sequences[:, width:].tolist()  # waits for the device
            counts = output.get("thought_counts")
            thoughts = [0] * len(rows) if counts is None else counts.tolist()
            milliseconds = 1000 * (time.perf_counter() - started) / len(rows)
        return [Completion(self._cut(new[i]), int(thoughts[i]), milliseconds) for i in range(len(batch))]

    def _seed(self, first: Request) -> int:
        """A batch's own seed: independent of what was generated before it, so that resuming changes nothing."""
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
