"""What an evaluation needs of a model beside `generate`: its name, its tokenizer, its modes, what it wrote, what it held."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from latentthought.errors import ConfigError


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
    return tuple(dict.fromkeys(mark for mark in ("</think>", end_token) if mark))


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


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of new tokens without end and padding; marks of reasoning stay, because the grader cuts at them."""
    dropped = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id}
    return str(tokenizer.decode([token for token in ids if token not in dropped], skip_special_tokens=False))


def cut(text: str, stops: Sequence[str]) -> str:
    """A completion up to the first of the stop texts behind its first word; whole where there is none."""
    begin = len(text) - len(text.lstrip())
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
