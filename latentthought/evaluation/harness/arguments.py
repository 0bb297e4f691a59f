"""What lm-eval hands over, read: the model's arguments, and the settings of a generation under their many names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latentthought.errors import ConfigError
from latentthought.evaluation.decoding import is_latent
from latentthought.evaluation.models import default_batch_size

_MAXIMUM_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class GenerationRequest:
    """lm-eval's `gen_kwargs`, read: temperature None is greedy; `options` go to `model.generate` as they are."""

    until: tuple[str, ...]
    max_new_tokens: int
    temperature: float | None
    options: Mapping[str, Any]

    @classmethod
    def read(cls, given: Mapping[str, Any], maximum: int) -> GenerationRequest:
        """Settings from one request's `gen_kwargs`; `maximum`: new tokens where they do not say.

        As lm-eval's own: greedy unless there is a temperature above 0 or `do_sample`; `do_sample: false` wins over a temperature.
        """
        options = dict(given)
        until = options.pop("until", None) or ()
        until = (until,) if isinstance(until, str) else tuple(until)
        named = [value for name in _MAXIMUM_NAMES if (value := options.pop(name, None)) is not None]
        sample, temperature = options.pop("do_sample", None), float(options.pop("temperature", None) or 0)
        if temperature < 0:
            raise ConfigError(f"temperature: 0 or more (got {temperature})")
        if sample and not temperature:
            temperature = 1.0
        return cls(
            until=tuple(text for text in until if text),
            max_new_tokens=int(named[0]) if named else maximum,
            temperature=temperature if temperature and sample is not False else None,
            options=options,
        )

    def cut(self, text: str) -> str:
        """The text before its first stop string."""
        for stop in self.until:
            text = text.partition(stop)[0]
        return text


def open_model(pretrained: Any, device: str | None, dtype: Any) -> tuple[Any, Any]:
    """The model, wrapped if it is a plain one, and its tokenizer or what names it."""
    if isinstance(pretrained, str):
        import torch

        from latentthought.model.loading import load_model

        if str(device).startswith("cuda") and not torch.cuda.is_available():
            device = None  # lm-eval says cuda:0 where the user said nothing; its `hf` model takes what there is, too
        loaded = load_model(pretrained, device, dtype)
        return loaded.model, loaded.tokenizer
    from latentthought.model.modeling import LatentThoughtForCausalLM

    name = getattr(getattr(pretrained, "config", None), "name_or_path", "")
    model = pretrained if is_latent(pretrained) else LatentThoughtForCausalLM.from_base(pretrained)
    return model.eval(), name


def open_tokenizer(given: Any, found: Any) -> Any:
    """The tokenizer: an object or a name, as given or else as found beside the model."""
    wanted = found if given is None else given
    if not wanted:
        raise ConfigError("tokenizer: this model does not say where it came from; give its tokenizer")
    if isinstance(wanted, str):
        from latentthought.data.tokenizer import load_tokenizer

        return load_tokenizer(wanted)
    return wanted


def first_batch_size(given: int | str | None, most: int | None, device: str) -> int:
    """`batch_size`, or for `auto` (lm-eval also writes `auto:N`) where to begin before memory runs out."""
    if given is None or str(given).partition(":")[0] == "auto":
        return int(most or default_batch_size(device))
    if not str(given).isdigit() or int(given) < 1:
        raise ConfigError(f"batch_size: a number of rows from 1, or auto (got {given!r})")
    return int(given)
