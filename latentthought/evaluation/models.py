"""What an evaluation needs of a model beside `generate`: its name, its tokenizer, its modes, what it wrote, what it holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from latentthought.errors import ConfigError
from latentthought.grading.extraction.rules import THOUGHT_ENDS
from latentthought.memory import free_memory

_BATCH = {"cpu": 32, "cuda": 128}
_MOST_ROWS = 512


def name_of(model: Any) -> str:
    """Where a model came from, else what it is."""
    return str(getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__)


def tokenizer_of(model: Any) -> Any:
    """The tokenizer beside a model. Raises `ConfigError` for a model that does not say where it came from."""
    from transformers import AutoTokenizer

    name = getattr(getattr(model, "config", None), "name_or_path", "")
    if not name:
        raise ConfigError("tokenizer: this model does not say where it came from; give its tokenizer")
    return AutoTokenizer.from_pretrained(name)


def thought_ends_of(model: Any) -> tuple[str, ...]:
    """What closes the reasoning in a completion: R1's mark, and the model's own end token."""
    end_token = getattr(getattr(model, "thought", None), "end_token", None)
    return tuple(dict.fromkeys(mark for mark in (*THOUGHT_ENDS, end_token) if mark))


def end_ids_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """End tokens by the model's generation config and the tokenizer."""
    given = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = set(given) if isinstance(given, (list, tuple)) else {given}
    found.add(getattr(tokenizer, "eos_token_id", None))
    return frozenset(token for token in found if token is not None)


def context_of(model: Any) -> int | None:
    """Positions that a model has; None for one that does not say."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    return found if isinstance(found, int) and found > 0 else None


def mixes(model: Any, thoughts: Any = None, mix_ratio: float | None = None) -> bool:
    """Whether `generate` with these arguments decodes mixed, and so writes its reasoning among the new tokens."""
    if mix_ratio is not None or thoughts is not None:
        return bool(mix_ratio)
    return bool(getattr(getattr(model, "thought", None), "mix_ratio", 0.0))


def positions_taken(model: Any, thoughts: Any = None) -> int:
    """Positions that thoughts (None: as trained) and their delimiters take at most; 0 where there are none.

    Raises `ConfigError` for what is no number of thoughts.
    """
    from latentthought.model.policy import ThoughtPolicy, read_thoughts

    thought = getattr(model, "thought", None)
    if thought is None:
        return 0
    budget = read_thoughts(thoughts, 1, thought.thoughts, thought.end_token_id is not None)
    most = budget.maximum if isinstance(budget, ThoughtPolicy) else budget[0]
    delimiters = sum(token is not None for token in (thought.start_token_id, thought.end_token_id))
    return most + delimiters if most else 0


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of new tokens without end and padding; marks of reasoning stay, because the grader cuts at them."""
    dropped = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id}
    return str(tokenizer.decode([token for token in ids if token not in dropped], skip_special_tokens=False))


def cut(text: str, stops: Sequence[str], opened_by: Sequence[str] = ()) -> str:
    """A completion up to the first of the stop texts behind its first word; whole where there is none.

    opened_by: marks behind which stop texts count (the ends of written reasoning, which may hold any text); without any of them
    in the text there is nothing to cut. Empty: from the start.
    """
    ends = [place + len(mark) for mark in opened_by if (place := text.rfind(mark)) >= 0]
    if opened_by and not ends:
        return text
    opened = max(ends, default=0)
    begin = opened + len(text[opened:]) - len(text[opened:].lstrip())
    places = [place for stop in stops if (place := text.find(stop, begin)) >= 0]
    return text[: min(places)] if places else text


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode; every module's own mode comes back afterwards."""
    modules = list(model.modules()) if hasattr(model, "modules") else []
    modes = [module.training for module in modules]
    if modules:
        model.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


@contextmanager
def plain_greedy(model: Any) -> Iterator[None]:
    """A model whose greedy words are its likeliest ones: of its generation config (repetition_penalty, suppressed tokens, ...)
    only the special tokens count. What it had comes back afterwards."""
    from transformers import GenerationConfig

    both: list[Any] = [model, getattr(model, "base", None)]
    owners = [one for one in both if hasattr(one, "generation_config")]
    before = [one.generation_config for one in owners]
    for one, own in zip(owners, before, strict=True):
        special = ("bos_token_id", "eos_token_id", "pad_token_id")
        one.generation_config = GenerationConfig(**{name: getattr(own, name, None) for name in special})
    try:
        yield
    finally:
        for one, own in zip(owners, before, strict=True):
            one.generation_config = own


def default_batch_size(device: Any) -> int:
    """Rows at once on a kind of device, where nothing more is known."""
    return _BATCH.get(str(device).partition(":")[0], _BATCH["cpu"])


def automatic_batch_size(model: Any, device: Any, positions: int) -> int:
    """Rows of so many positions that a GPU has memory for, a power of two; the device's default where it cannot be told.

    Only the key-value cache is reckoned, with half of what is free: the rest is for activations, and a batch that does not
    fit all the same is halved.
    """
    free = free_memory(device) if str(device).startswith("cuda") else None
    each = _cache_bytes(model)
    if free is None or each is None:
        return default_batch_size(device)
    rows = free // 2 // (each * max(1, positions))
    return 1 << max(0, min(rows, _MOST_ROWS).bit_length() - 1)


def _cache_bytes(model: Any) -> int | None:
    """Bytes of keys and values for one position, as full attention has them; None for a model that does not say."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers, width = getattr(text, "num_hidden_layers", None), getattr(text, "hidden_size", None)
    heads = getattr(text, "num_attention_heads", None)
    if not (layers and width and heads):
        return None
    head_width = getattr(text, "head_dim", None) or width // heads
    shared = getattr(text, "num_key_value_heads", None) or heads
    return int(2 * layers * shared * head_width * getattr(getattr(model, "dtype", None), "itemsize", 4))


class PeakMemory:
    """The most bytes that a model's device held since this was made: a GPU's allocations, of a CPU run the whole process."""

    def __init__(self, device: Any):
        import torch

        self._device = torch.device(device)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def read(self) -> int | None:
        """Bytes; None on a device that does not count."""
        import torch

        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        if self._device.type != "cpu":
            return None
        import resource

        # macOS counts in bytes, Linux in KiB
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
